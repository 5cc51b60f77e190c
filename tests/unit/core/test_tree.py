"""The Merkle tree of directories, held against the generic encoder and against a naive one of its own."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core.digest import EMPTY, Digest, digest_of
from capsula.core.names import to_text
from capsula.core.reapi import Directory, DirectoryNode, FileNode, SymlinkNode
from capsula.core.tree import Leaves, build, leaves
from capsula.core.wire import decode, encode

FILE = digest_of(b"content")

# A tree for the tests: a name leads to (digest, executable), a target, or another tree.
Tree = dict[str, "tuple[Digest, bool] | str | Tree"]

NAMES = st.one_of(
    st.sampled_from(
        ["a", "a.b", "a-b", "a b", "A", "b", "\n", "é", "🙂", "\udcff", "\U0010fe80", "-x", "*", "z" * 130]
    ),
    st.binary(min_size=1, max_size=5)
    .filter(lambda raw: not set(raw) & {0, 47} and raw not in (b".", b".."))
    .map(os.fsdecode),
)
DIGESTS = st.sampled_from([EMPTY, FILE, Digest("f" * 64, 300), Digest("0" * 64, 1 << 40)])
TREES = st.recursive(
    st.one_of(
        st.tuples(DIGESTS, st.booleans()), st.sampled_from(["target", "../up", "\udcff", ""]), st.just({})
    ),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
ROOTS = st.dictionaries(NAMES, TREES, max_size=5)


def folders_of(tree: Tree, path: str = "", found: "dict[str, Leaves] | None" = None) -> dict[str, Leaves]:
    """What a survey would hand over: every folder with its own files and links; empty ones are declared."""
    found = {} if found is None else found
    files = [
        (name, node[0].hash, node[0].size_bytes, node[1])
        for name, node in tree.items()
        if isinstance(node, tuple)
    ]
    links = [(name, node) for name, node in tree.items() if isinstance(node, str)]
    found[path] = leaves(files, links, declared=path != "")
    for name, node in tree.items():
        if isinstance(node, dict):
            folders_of(node, f"{path}/{name}" if path else name, found)
    return found


def naive(tree: Tree, blobs: dict[str, bytes]) -> Digest:
    """The definition: a Directory message of its children, in the order of their names, by the generic encoder."""
    names = sorted(tree, key=to_text)
    message = Directory(
        files=tuple(
            FileNode(name=to_text(name), digest=node[0], is_executable=node[1])
            for name in names
            if isinstance(node := tree[name], tuple)
        ),
        directories=tuple(
            DirectoryNode(name=to_text(name), digest=naive(node, blobs))
            for name in names
            if isinstance(node := tree[name], dict)
        ),
        symlinks=tuple(
            SymlinkNode(name=to_text(name), target=to_text(node))
            for name in names
            if isinstance(node := tree[name], str)
        ),
    )
    content = encode(message)
    digest = digest_of(content)
    blobs[digest.hash] = content
    return digest


@settings(max_examples=60, deadline=None)
@given(ROOTS)
def test_it_is_the_tree_of_the_api(tree: Tree) -> None:
    blobs: dict[str, bytes] = {}
    assert build(folders_of(tree)) == (naive(tree, blobs), blobs)


@settings(max_examples=40, deadline=None)
@given(ROOTS, st.randoms(use_true_random=False))
def test_the_order_of_looking_does_not_matter(tree: Tree, chance: random.Random) -> None:
    def mixed(tree: Tree) -> Tree:
        names = list(tree)
        chance.shuffle(names)
        return {name: mixed(node) if isinstance(node := tree[name], dict) else node for name in names}

    folders = list(folders_of(mixed(tree)).items())
    chance.shuffle(folders)
    assert build(dict(folders)) == build(folders_of(tree))


@settings(max_examples=40, deadline=None)
@given(ROOTS, ROOTS)
def test_different_trees_have_different_digests(left: Tree, right: Tree) -> None:
    assert (build(folders_of(left))[0] == build(folders_of(right))[0]) == (left == right)


@settings(max_examples=40, deadline=None)
@given(ROOTS)
def test_every_directory_can_be_walked_from_the_root(tree: Tree) -> None:
    root, blobs = build(folders_of(tree))

    def walked(digest: Digest) -> Tree:
        content = blobs[digest.hash]
        assert digest_of(content) == digest
        message = decode(Directory, content)
        assert encode(message) == content
        found: Tree = {node.name: (node.digest or Digest(), node.is_executable) for node in message.files}
        found.update({node.name: node.target for node in message.symlinks})
        found.update({node.name: walked(node.digest or Digest()) for node in message.directories})
        return found

    def as_text(tree: Tree) -> Tree:
        return {
            to_text(name): as_text(node)
            if isinstance(node, dict)
            else to_text(node)
            if isinstance(node, str)
            else node
            for name, node in tree.items()
        }

    assert walked(root) == as_text(tree)


def test_no_folder_at_all_is_the_empty_directory() -> None:
    assert build({}) == (EMPTY, {EMPTY.hash: b""})
    assert build({"": leaves([], [], declared=False)}) == build({})


def test_a_folder_that_holds_nothing_and_is_not_declared_is_left_out() -> None:
    nothing = leaves([], [], declared=False)
    assert build({"": nothing, "a": nothing, "a/b": nothing}) == build({})


def test_an_empty_folder_that_is_declared_is_part_of_the_tree() -> None:
    declared = leaves([], [], declared=True)
    assert build({"a": declared})[0] == naive({"a": {}}, {})
    assert build({"a/b/c": declared})[0] == naive({"a": {"b": {"c": {}}}}, {})


def test_missing_parents_are_made() -> None:
    one = leaves([("f", FILE.hash, FILE.size_bytes, False)], [], declared=False)
    assert build({"a/b/c": one})[0] == naive({"a": {"b": {"c": {"f": (FILE, False)}}}}, {})
    assert build({"a/b/c": one, "": one})[0] == naive(
        {"a": {"b": {"c": {"f": (FILE, False)}}}, "f": (FILE, False)}, {}
    )


@pytest.mark.parametrize(
    "other",
    [
        {"d": {"f": (FILE, True)}},
        {"d": {"g": (FILE, False)}},
        {"d": {"f": (EMPTY, False)}},
        {"d": {"f": "target"}},
        {"d": {"f": {}}},
        {"e": {"f": (FILE, False)}},
        {"f": (FILE, False)},
        {"d": {"f": (FILE, False)}, "e": {}},
        {},
    ],
)
def test_everything_declared_shows_in_the_digest(other: Tree) -> None:
    assert build(folders_of(other))[0] != build(folders_of({"d": {"f": (FILE, False)}}))[0]


def test_names_are_sorted_as_bytes_and_not_as_paths() -> None:
    """`a-b` and `a.b` come before `a/`, whatever a sort of whole paths would say."""
    tree: Tree = {"a": {"x": (FILE, False)}, "a-b": {"x": (FILE, False)}, "a.b": {"x": (FILE, False)}}
    root, blobs = build(folders_of(tree))
    assert [node.name for node in decode(Directory, blobs[root.hash]).directories] == ["a", "a-b", "a.b"]


def test_a_deep_tree_needs_no_deep_stack() -> None:
    root, blobs = build(
        {"/".join(["d"] * 3000): leaves([("f", FILE.hash, FILE.size_bytes, False)], [], declared=True)}
    )
    assert len(blobs) == 3001
    assert root.hash in blobs
