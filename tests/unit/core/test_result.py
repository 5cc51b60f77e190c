"""Results: nodes to messages and back, and what a hostile store may not make of them."""

import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core.digest import EMPTY, Digest, digest_of
from capsula.core.names import to_text
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.reapi import (
    ActionResult,
    Directory,
    DirectoryNode,
    FileNode,
    NodeProperties,
    OutputDirectory,
    OutputFile,
    OutputSymlink,
    SymlinkNode,
    Tree,
)
from capsula.core.result import checked_name, checked_path, from_result, to_result
from capsula.core.wire import decode, encode
from capsula.errors import BlobMissing, EntryCorrupt, WireError

A = digest_of(b"a")

NAMES = st.one_of(
    st.sampled_from(["a", "b", "a b", "-", "\n", "é", "🙂", "\udcff", "*", "..."]),
    st.binary(min_size=1, max_size=4)
    .filter(lambda raw: not set(raw) & {0, 47} and raw not in (b".", b".."))
    .map(os.fsdecode),
)
MODES = st.integers(0, 0o777)
LEAVES = st.one_of(
    st.builds(lambda mode, digest: Node(FILE, mode=mode, digest=digest), MODES, st.sampled_from([A, EMPTY])),
    st.builds(
        lambda target: Node(LINK, target=target), st.sampled_from(["x", "../..", "/etc", "\udcff", "a/b"])
    ),
)
# A tree: a name leads to a node, or to (mode, tree).
INNER = st.recursive(
    LEAVES,
    lambda inner: st.tuples(MODES, st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=10,
)
LEADS = st.sampled_from(["", "dist", "a/b", "..", "../..", "../../x", "/abs"])


def flat(path: str, tree: "Node | tuple[int, dict[str, object]]", nodes: dict[str, Node]) -> None:
    if isinstance(tree, Node):
        nodes[path] = tree
        return
    nodes[path] = Node(DIRECTORY, mode=tree[0])
    for name, below in tree[1].items():
        flat(f"{path}/{name}" if path else name, below, nodes)


@st.composite
def node_maps(draw: st.DrawFn) -> dict[str, Node]:
    """Some outputs, each a file, a link or a whole directory, as a survey finds them."""
    nodes: dict[str, Node] = {}
    for lead in draw(st.sets(LEADS, max_size=2)):
        if draw(st.booleans()):
            nodes[lead] = Node(DIRECTORY, mode=draw(MODES))
        for name, tree in draw(st.dictionaries(NAMES, INNER, max_size=3)).items():
            path = f"{lead}/{name}" if lead else name
            if path not in ("a", "dist"):  # another lead may be there
                flat(path, tree, nodes)
    return nodes


def reader(blobs: dict[str, bytes]) -> Callable[[Digest], bytes]:
    def read(digest: Digest) -> bytes:
        if digest.hash not in blobs:
            raise BlobMissing("not there")
        return blobs[digest.hash]

    return read


@settings(max_examples=80, deadline=None)
@given(node_maps(), st.integers(0, 255))
def test_what_goes_in_comes_out(nodes: dict[str, Node], code: int) -> None:
    result, blobs = to_result(nodes, code)
    # Through its bytes, as a store keeps it.
    result = decode(ActionResult, encode(result))
    assert result.exit_code == code
    assert from_result(result, reader(blobs)) == nodes


@settings(max_examples=40, deadline=None)
@given(node_maps(), st.randoms(use_true_random=False))
def test_equal_outputs_have_equal_bytes(nodes: dict[str, Node], chance: object) -> None:
    mixed = list(nodes.items())
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    first, others = to_result(nodes, 0), to_result(dict(mixed), 0)
    assert encode(first[0]) == encode(others[0])
    assert first[1] == others[1]


def test_a_directory_is_one_output_and_what_is_beside_it_its_own() -> None:
    nodes = {
        "dist": Node(DIRECTORY, mode=0o755),
        "dist/app": Node(FILE, mode=0o755, digest=A),
        "dist/sub": Node(DIRECTORY, mode=0o700),
        "dist-info": Node(FILE, mode=0o644, digest=A),
        "link": Node(LINK, target="dist/app"),
    }
    result, blobs = to_result(nodes, 3)
    assert [file.path for file in result.output_files] == ["dist-info"]
    assert [link.path for link in result.output_symlinks] == ["link"]
    assert [directory.path for directory in result.output_directories] == ["dist"]
    assert len(blobs) == 1
    assert not result.output_files[0].is_executable
    assert result.exit_code == 3


def test_the_base_itself_can_be_an_output() -> None:
    nodes = {
        "": Node(DIRECTORY, mode=0o755),
        "a": Node(FILE, mode=0o644, digest=A),
        "d": Node(DIRECTORY, mode=0o755),
        "d/b": Node(FILE, mode=0o600, digest=A),
    }
    result, blobs = to_result(nodes, 0)
    assert len(result.output_directories) == 1
    assert from_result(result, reader(blobs)) == nodes


def test_what_is_above_or_elsewhere_is_not_part_of_the_working_directory() -> None:
    """`-o . -o ../lib -o /abs`, and `-o ..`, of which the working directory is a part."""
    file, directory = Node(FILE, mode=0o644, digest=A), Node(DIRECTORY, mode=0o755)
    nodes = {
        "": directory,
        "f": file,
        "..": directory,
        "../g": file,
        "../../lib": directory,
        "../../lib/h": file,
        "../../k": file,
        "/abs": directory,
        "/abs/i": file,
        "/j": file,
    }
    result, blobs = to_result(nodes, 0)
    assert [directory.path for directory in result.output_directories] == ["", "..", "../../lib", "/abs"]
    assert from_result(result, reader(blobs)) == nodes


def test_an_output_below_a_directory_that_is_none_stands_for_itself() -> None:
    """`-o . -o .git/HEAD`: `.git` itself is no output, so no tree can hold it."""
    nodes = {
        "": Node(DIRECTORY, mode=0o755),
        "a": Node(FILE, mode=0o644, digest=A),
        ".git/HEAD": Node(FILE, mode=0o644, digest=A),
    }
    result, blobs = to_result(nodes, 0)
    assert [file.path for file in result.output_files] == [".git/HEAD"]
    assert from_result(result, reader(blobs)) == nodes


def test_equal_directories_are_listed_once() -> None:
    nodes = {"d": Node(DIRECTORY, mode=0o755)}
    for name in ("one", "two", "three"):
        nodes[f"d/{name}"] = Node(DIRECTORY, mode=0o755)
        nodes[f"d/{name}/same"] = Node(FILE, mode=0o644, digest=A)
    result, blobs = to_result(nodes, 0)
    assert len(decode(Tree, next(iter(blobs.values()))).children) == 1
    assert from_result(result, reader(blobs)) == nodes


def test_special_mode_bits_are_dropped() -> None:
    assert Node(FILE, mode=0o104755, digest=A).mode == 0o755
    hostile = OutputFile(path="f", digest=A, node_properties=NodeProperties(unix_mode=0o106777))
    assert from_result(ActionResult(output_files=(hostile,)), reader({}))["f"].mode == 0o777
    root = Directory(
        files=(FileNode(name="f", digest=A, node_properties=NodeProperties(unix_mode=0o4711)),),
        node_properties=NodeProperties(unix_mode=0o3777),
    )
    nodes = of_tree(Tree(root=root))
    assert nodes["d"].mode == 0o777
    assert nodes["d/f"].mode == 0o711


def test_without_a_mode_there_is_the_usual_one() -> None:
    """Entries of other engines tell no more than whether a file is executable."""
    nodes = of_tree(
        Tree(
            root=Directory(
                files=(FileNode(name="f", digest=A), FileNode(name="x", digest=A, is_executable=True))
            )
        )
    )
    assert {path: node.mode for path, node in nodes.items()} == {"d": 0o755, "d/f": 0o644, "d/x": 0o755}
    result = ActionResult(output_files=(OutputFile(path="g", digest=A, is_executable=True),))
    assert from_result(result, reader({}))["g"].mode == 0o755


def test_links_of_older_engines_are_links_too() -> None:
    result = ActionResult(
        output_file_symlinks=(OutputSymlink(path="a", target="x"),),
        output_directory_symlinks=(OutputSymlink(path="b", target="y"),),
    )
    assert from_result(result, reader({})) == {"a": Node(LINK, target="x"), "b": Node(LINK, target="y")}


# ---------------------------------------------------------------------------------------------------- hostile


def of_tree(tree: Tree, path: str = "d") -> dict[str, Node]:
    content = encode(tree)
    digest = digest_of(content)
    result = ActionResult(output_directories=(OutputDirectory(path=path, tree_digest=digest),))
    return from_result(result, reader({digest.hash: content}))


BAD_NAMES = ["", ".", "..", "a/b", "/", "/etc", "../x", "a\0b", "\0", "a/", to_text("..")]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_impossible_name_in_a_tree_is_refused(name: str) -> None:
    child = encode(Directory())
    for root in (
        Directory(files=(FileNode(name=name, digest=A),)),
        Directory(symlinks=(SymlinkNode(name=name, target="x"),)),
        Directory(directories=(DirectoryNode(name=name, digest=digest_of(child)),)),
    ):
        with pytest.raises(EntryCorrupt):
            of_tree(Tree(root=root, children=(Directory(),)))
    with pytest.raises(EntryCorrupt):
        checked_name(name)


@pytest.mark.parametrize(
    "text", ["\U0010fe2f", "a\U0010fe2fb", "\U0010fe2e", "\U0010fe2e\U0010fe2e", "\U0010fe00"]
)
def test_a_name_that_becomes_hostile_when_it_is_decoded_is_refused(text: str) -> None:
    """The private characters stand for bytes, and those of `/`, `.` and NUL are bytes too."""
    with pytest.raises(EntryCorrupt):
        checked_name(text)
    if text not in ("\U0010fe2f", "a\U0010fe2fb", "\U0010fe2e\U0010fe2e"):
        with pytest.raises(EntryCorrupt):
            checked_path(text)


@pytest.mark.parametrize(
    "path",
    [
        ".",
        "a/..",
        "a/../b",
        "./a",
        "a/.",
        "a//b",
        "a/",
        "a\0",
        "/a/../b",
        "/a/./b",
        "../a/../b",
        "/..",
        "/../x",
        "../",
        "../../",
        "/",
        "//a",
        "//..",
    ],
)
def test_an_impossible_path_is_refused(path: str) -> None:
    with pytest.raises(EntryCorrupt):
        checked_path(path)
    for result in (
        ActionResult(output_files=(OutputFile(path=path, digest=A),)),
        ActionResult(output_symlinks=(OutputSymlink(path=path, target="x"),)),
    ):
        with pytest.raises(EntryCorrupt):
            from_result(result, reader({}))
    with pytest.raises(EntryCorrupt):
        of_tree(Tree(root=Directory()), path)


@pytest.mark.parametrize(
    "path", ["a", "a/b", "../a", "../../a/b", "..", "../..", "/a/b", "...", "a/..b", "", "\n", "-"]
)
def test_a_path_that_can_be_declared_is_let_through(path: str) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_may_lie_below_a_file_or_a_link(kind: str) -> None:
    below = OutputFile(path="a/b/c", digest=A)
    if kind == "file":
        result = ActionResult(output_files=(below, OutputFile(path="a", digest=A)))
    else:
        result = ActionResult(
            output_files=(below,), output_symlinks=(OutputSymlink(path="a", target="/etc"),)
        )
    with pytest.raises(EntryCorrupt, match="below 'a'"):
        from_result(result, reader({}))


def test_a_tree_can_be_replaced_by_a_link_only_with_nothing_left_below() -> None:
    content = encode(Tree(root=Directory(files=(FileNode(name="f", digest=A),))))
    result = ActionResult(
        output_directories=(OutputDirectory(path="d", tree_digest=digest_of(content)),),
        output_symlinks=(OutputSymlink(path="d", target="/etc"),),
    )
    with pytest.raises(EntryCorrupt):
        from_result(result, reader({digest_of(content).hash: content}))


@pytest.mark.parametrize(
    "root",
    [
        Directory(files=(FileNode(name="n", digest=A), FileNode(name="n", digest=EMPTY))),
        Directory(files=(FileNode(name="n", digest=A),), symlinks=(SymlinkNode(name="n", target="/etc"),)),
        Directory(symlinks=(SymlinkNode(name="n", target="x"), SymlinkNode(name="n", target="y"))),
        Directory(
            directories=(DirectoryNode(name="n", digest=EMPTY),),
            symlinks=(SymlinkNode(name="n", target="/etc"),),
        ),
        Directory(
            files=(FileNode(name="n", digest=A),), directories=(DirectoryNode(name="n", digest=EMPTY),)
        ),
    ],
    ids=["files", "file-and-link", "links", "directory-and-link", "file-and-directory"],
)
def test_a_name_that_stands_twice_in_a_directory_is_refused(root: Directory) -> None:
    with pytest.raises(EntryCorrupt):
        of_tree(Tree(root=root, children=(Directory(),)))


def test_a_path_that_stands_twice_in_a_result_is_refused() -> None:
    for result in (
        ActionResult(output_files=(OutputFile(path="a", digest=A), OutputFile(path="a", digest=EMPTY))),
        ActionResult(
            output_files=(OutputFile(path="a", digest=A),),
            output_symlinks=(OutputSymlink(path="a", target="x"),),
        ),
    ):
        with pytest.raises(EntryCorrupt):
            from_result(result, reader({}))


def test_a_tree_without_one_of_its_directories_is_refused() -> None:
    missing = DirectoryNode(name="sub", digest=A)
    with pytest.raises(EntryCorrupt, match="lacks"):
        of_tree(Tree(root=Directory(directories=(missing,))))
    with pytest.raises(EntryCorrupt, match="lacks"):
        of_tree(Tree(root=Directory(directories=(DirectoryNode(name="sub"),))))


def test_an_output_without_a_digest_is_refused() -> None:
    with pytest.raises(EntryCorrupt, match="digest"):
        from_result(ActionResult(output_files=(OutputFile(path="a"),)), reader({}))
    with pytest.raises(EntryCorrupt, match="tree"):
        from_result(ActionResult(output_directories=(OutputDirectory(path="a"),)), reader({}))


def test_a_tree_blob_that_is_missing_or_no_tree_is_an_error_of_the_store() -> None:
    result = ActionResult(output_directories=(OutputDirectory(path="a", tree_digest=A),))
    with pytest.raises(BlobMissing):
        from_result(result, reader({}))
    with pytest.raises(WireError):
        from_result(result, reader({A.hash: b"\xff\xff"}))


def test_links_of_two_generations_of_engines_may_both_be_there() -> None:
    link = OutputSymlink(path="a", target="x")
    result = ActionResult(output_symlinks=(link,), output_file_symlinks=(link,))
    assert from_result(result, reader({})) == {"a": Node(LINK, target="x")}


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a")])
def test_a_tree_that_grows_without_end_is_refused(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty directories, each with the next one twice: a billion paths in some kilobytes."""
    monkeypatch.setattr("capsula.core.result.MOST_NODES", 5000)
    children = [Directory(files=(FileNode(name="f", digest=A),))]
    for _ in range(40):
        below = digest_of(encode(children[-1]))
        children.append(
            Directory(
                directories=tuple(DirectoryNode(name=name, digest=below) for name in names),
            )
        )
    with pytest.raises(EntryCorrupt, match=r"more than|twice"):
        of_tree(Tree(root=children[-1], children=tuple(children[:-1])))


def a_chain(depth: int, name: str) -> bytes:
    below, children = Directory(), []
    for _ in range(depth):
        children.append(below)
        node = DirectoryNode(name=name, digest=digest_of(encode(below)))
        below = Directory(directories=(node,))
    return encode(Tree(root=below, children=tuple(children)))


@pytest.mark.parametrize(("depth", "name"), [(3000, "a"), (300, "a" * 200)])
def test_a_path_that_is_longer_than_any_can_be_is_refused(depth: int, name: str) -> None:
    """Some hundred kilobytes of a tree would be gigabytes of paths, and hours of looking at what is above them."""
    tree = a_chain(depth, name)
    result = ActionResult(output_directories=(OutputDirectory(path="out", tree_digest=digest_of(tree)),))
    with pytest.raises(EntryCorrupt, match="longer than any can be"):
        from_result(result, lambda _: tree)
    alone = ActionResult(output_files=(OutputFile(path="a/" * 3000 + "b", digest=EMPTY),))
    with pytest.raises(EntryCorrupt, match="longer than any can be"):
        from_result(alone, lambda _: tree)


def test_what_is_in_a_deep_tree_comes_back() -> None:
    tree = a_chain(1000, "a")
    result = ActionResult(output_directories=(OutputDirectory(path="out", tree_digest=digest_of(tree)),))
    assert max(from_result(result, lambda _: tree), key=len) == "out" + "/a" * 1000


def test_all_paths_together_are_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsula.core.result._MOST_LETTERS", 5000)
    tree = a_chain(200, "a")
    result = ActionResult(output_directories=(OutputDirectory(path="out", tree_digest=digest_of(tree)),))
    with pytest.raises(EntryCorrupt, match="more than"):
        from_result(result, lambda _: tree)
