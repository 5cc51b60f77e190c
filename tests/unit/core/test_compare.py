"""Comparing: each fact of an action that changed is named, once, in words; and results by their outputs."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core import compare
from capsula.core.action import Keyed, key
from capsula.core.compare import Difference, actions, first_difference, results
from capsula.core.context import Context
from capsula.core.digest import Digest, digest_of
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.recipe import Recipe
from capsula.core.tree import Leaves, build, leaves
from capsula.errors import BlobMissing, StoreError, WireError

A, B = digest_of(b"a"), digest_of(b"b")
FILES = {"src/a.c": A, "src/sub/b.c": A, "top": A}


def tree(
    files: dict[str, Digest], executable: str = "", links: "dict[str, str] | None" = None
) -> dict[str, Leaves]:
    folders: dict[str, tuple[list[Any], list[Any]]] = {}
    for path, digest in files.items():
        folder, _, name = path.rpartition("/")
        row = (name, digest.hash, digest.size_bytes, path == executable)
        folders.setdefault(folder, ([], []))[0].append(row)
    for path, target in (links or {}).items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, ([], []))[1].append((name, target))
    return {folder: leaves(files, links, declared=folder != "") for folder, (files, links) in folders.items()}


def made(*, folders: "dict[str, Leaves] | None" = None, **changes: Any) -> Keyed:
    root, directories = build(tree(FILES) if folders is None else folders)
    asked: dict[str, Any] = {"capsule_id": "x", "argv": ("cc", "-c"), "root": "/w", "cwd": "/w"}
    facts: dict[str, Any] = {"input_root": root, "directories": directories, "system": ("linux", "x86_64")}
    for name, value in changes.items():
        (facts if name in Context.__slots__ and name != "environment" else asked)[name] = value
    if "environment" in asked:
        facts["environment"] = tuple(sorted(asked["environment"].items()))
        asked["environment"] = tuple(asked["environment"])
    return key(Recipe(**asked), Context(**facts))


def reader(*keyed: Keyed) -> Callable[[Digest], bytes]:
    blobs = {name: content for one in keyed for name, content in one.blobs.items()}

    def read(digest: Digest) -> bytes:
        try:
            return blobs[digest.hash]
        except KeyError:
            raise BlobMissing("gone") from None

    return read


def told(old: Keyed, new: Keyed) -> list[str]:
    return [str(difference) for difference in actions(old.digest, new.digest, reader(old, new))]


def files(**changes: "Digest | None") -> dict[str, Digest]:
    """FILES with some changed; None takes one away."""
    merged = {
        **FILES,
        **{name.replace("__", "/").replace("_", "."): digest for name, digest in changes.items()},
    }
    return {name: digest for name, digest in merged.items() if digest is not None}


ENV: dict[str, "str | None"] = {"CC": "gcc"}

CASES: dict[str, tuple[Keyed, Keyed, list[str]]] = {
    "nothing": (made(), made(), []),
    "edited": (made(), made(folders=tree(files(src__a_c=B))), ["src/a.c was edited"]),
    "added": (made(), made(folders=tree(files(new=B))), ["new was added"]),
    "removed": (made(), made(folders=tree(files(top=None))), ["top was removed"]),
    "deep": (made(), made(folders=tree(files(src__sub__b_c=B))), ["src/sub/b.c was edited"]),
    "directory added": (made(), made(folders=tree(files(lib__x=B))), ["lib/x was added"]),
    "directory removed": (made(), made(folders=tree(files(src__sub__b_c=None))), ["src/sub/b.c was removed"]),
    "empty directory": (
        made(),
        made(folders={**tree(FILES), "e": leaves([], [], declared=True)}),
        ["e/ was added"],
    ),
    "empty directory gone": (
        made(folders={**tree(FILES), "e": leaves([], [], declared=True)}),
        made(),
        ["e/ was removed"],
    ),
    "mode": (made(), made(folders=tree(FILES, executable="top")), ["top became executable"]),
    "mode back": (made(folders=tree(FILES, executable="top")), made(), ["top is no longer executable"]),
    "link": (made(), made(folders=tree(FILES, links={"l": "x"})), ["l was added (a link)"]),
    "link gone": (made(folders=tree(FILES, links={"l": "x"})), made(), ["l was removed (a link)"]),
    "link turned": (
        made(folders=tree(FILES, links={"l": "x"})),
        made(folders=tree(FILES, links={"l": "a\nb"})),
        ["l points to a\\nb now"],
    ),
    "file to link": (
        made(),
        made(folders=tree(files(top=None), links={"top": "x"})),
        ["top was removed", "top was added (a link)"],
    ),
    "file to directory": (
        made(),
        made(folders=tree(files(top=None, top__f=A))),
        ["top was removed", "top/f was added"],
    ),
    "odd name": (made(), made(folders=tree({**FILES, "\udcff\n": A})), ["\\xff\\n was added"]),
    "argument": (made(), made(argv=("cc", "-O2")), ["argv [1] was '-c', is '-O2'"]),
    "more arguments": (made(), made(argv=("cc", "-c", "f")), ["argv was 'cc -c', is 'cc -c f'"]),
    "secret argument": (
        made(argv=("cc", "--token=one")),
        made(argv=("cc", "--token=two")),
        ["argv [1] changed (in a part that isn't shown)"],
    ),
    "secret arguments": (
        made(argv=("cc", "--token=one")),
        made(argv=("cc", "--token=two", "x")),
        ["argv was 'cc --token=***', is 'cc --token=*** x'"],
    ),
    "working directory": (made(), made(cwd="/w/sub"), ["option working directory was '.', is 'sub'"]),
    "variable": (made(environment=ENV), made(environment={"CC": "tcc"}), ["variable CC was 'gcc', is 'tcc'"]),
    "secret variable": (
        made(environment={"API_TOKEN": "one"}),
        made(environment={"API_TOKEN": "two"}),
        ["variable API_TOKEN changed"],
    ),
    "variable unset": (
        made(environment=ENV),
        made(environment={"CC": None}),
        ["variable CC is no longer set"],
    ),
    "variable set": (made(environment={"CC": None}), made(environment=ENV), ["variable CC is set now"]),
    "variable emptied": (
        made(environment=ENV),
        made(environment={"CC": ""}),
        ["variable CC was 'gcc', is ''"],
    ),
    "variable declared": (made(), made(environment=ENV), ["variable CC is set now"]),
    "unset variable declared": (made(), made(environment={"CC": None}), ["variable CC is declared now"]),
    "unset variable forgotten": (
        made(environment={"CC": None}),
        made(),
        ["variable CC is no longer declared"],
    ),
    "tag": (made(tags=("v1",)), made(tags=("v2",)), ["tag v1 was removed", "tag v2 was added"]),
    "output": (made(outputs=("a",)), made(outputs=("a", "b")), ["output pattern 'b' is declared now"]),
    "tool": (
        made(tools=(("cc -v", 0, "1"),)),
        made(tools=(("cc -v", 0, "2"),)),
        ["tool 'cc -v' prints something else"],
    ),
    "id": (made(), made(capsule_id="y"), ["id was 'x', is 'y'"]),
    "system": (made(), made(system=("linux", "arm")), ["system was 'linux x86_64', is 'linux arm'"]),
    "capture": (made(), made(captures=(True, False)), ["option stderr is no longer captured"]),
    "stdin": (made(stdin="1"), made(stdin="2"), ["stdin is another file"]),
    "stdin new": (made(), made(stdin="2"), ["stdin is a file now"]),
    "outside": (made(outside=(("/x", "1"),)), made(outside=(("/x", "2"),)), ["/x was edited"]),
    "outside gone": (made(outside=(("/x", "1"),)), made(), ["/x was removed"]),
    "behind a link": (
        made(linked=(("l", "1"),)),
        made(linked=(("l", "2"),)),
        ["l leads to another content"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_changed_is_named(case: str) -> None:
    old, new, expected = CASES[case]
    shown = told(old, new)
    if (
        case == "output"
    ):  # its prefix is in the command too, which says nothing that a user would want to know
        assert expected[0] in shown
    else:
        assert shown == expected


@pytest.mark.parametrize("case", CASES)
def test_different_actions_always_differ_in_something(case: str) -> None:
    old, new, _ = CASES[case]
    assert bool(told(old, new)) == (old.digest != new.digest)
    assert bool(told(new, old)) == (old.digest != new.digest)


SMALL = st.dictionaries(
    st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "f/a"]), st.sampled_from([A, B]), max_size=5
)


@settings(max_examples=80, deadline=None)
@given(SMALL, SMALL)
def test_the_files_that_differ_are_exactly_those_named(
    before: dict[str, Digest], after: dict[str, Digest]
) -> None:
    shown = set(told(made(folders=tree(before)), made(folders=tree(after))))
    expected = {f"{path} was added" for path in after.keys() - before.keys()}
    expected |= {f"{path} was removed" for path in before.keys() - after.keys()}
    expected |= {f"{path} was edited" for path in before.keys() & after.keys() if before[path] != after[path]}
    assert shown == expected


def test_of_very_many_changes_there_is_an_end() -> None:
    many = {f"d{n}/{m}": A for n in range(100) for m in range(3)}
    found = told(made(folders=tree({})), made(folders=tree(many)))
    assert compare.ENOUGH <= len(found) < compare.ENOUGH + 5


def test_what_did_not_change_is_not_read() -> None:
    old, new = made(), made(folders=tree(files(top=B)))
    read, seen = reader(old, new), []

    def counted(digest: Digest) -> bytes:
        seen.append(digest)
        return read(digest)

    actions(old.digest, new.digest, counted)
    assert len(seen) == 4  # two actions, two roots


def test_what_the_store_says_is_passed_on() -> None:
    old, new = made(), made(folders=tree(files(top=B)))
    with pytest.raises(BlobMissing):
        actions(old.digest, new.digest, reader(new))

    def failing(digest: Digest) -> bytes:
        raise StoreError("no disk")

    with pytest.raises(StoreError, match="no disk"):
        actions(old.digest, new.digest, failing)
    with pytest.raises(WireError):
        actions(old.digest, new.digest, lambda digest: b"\xff")


def test_a_command_that_was_not_kept_is_explained_without() -> None:
    old, new = made(argv=("cc", "--token=one")), made(argv=("cc", "--token=two"), tags=("t",))
    assert len(old.secret) == 1
    old.blobs.pop(*old.secret)
    shown = told(old, new)
    assert len(shown) == 2
    assert "argv" in shown[0]
    assert "secret" in shown[0]
    assert shown[1] == "tag t was added"


def test_long_values_are_cut() -> None:
    shown = told(made(argv=("x" * 1000,)), made(argv=("y" * 1000,)))[0]
    assert len(shown) < 160
    assert "…" in shown


# ---------------------------------------------------------------------------------------------------- results


def file(digest: Digest = A, mode: int = 0o644) -> Node:
    return Node(FILE, mode=mode, digest=digest)


@pytest.mark.parametrize(
    ("cached", "now", "expected"),
    [
        ({"a": file()}, {"a": file()}, []),
        ({"a": file()}, {"a": file(B)}, [("content", "a")]),
        ({"a": file()}, {"a": file(mode=0o755)}, [("file", "a has mode 755, 644 in the cached result")]),
        ({"a": file()}, {}, [("file", "a is missing: the cached result has it")]),
        ({}, {"a": file()}, [("file", "a is new: the cached result doesn't have it")]),
        (
            {"a": file()},
            {"a": Node(LINK, target="x")},
            [("file", "a is a link, a file in the cached result")],
        ),
        (
            {"a": Node(LINK, target="x")},
            {"a": Node(LINK, target="y")},
            [("link", "a points to y, to x in the cached result")],
        ),
        (
            {"a": Node(DIRECTORY, mode=0o755)},
            {"a": Node(DIRECTORY, mode=0o700)},
            [("file", "a has mode 700, 755 in the cached result")],
        ),
        ({"b": file(), "a": file()}, {"b": file(B), "a": file(B)}, [("content", "a"), ("content", "b")]),
    ],
)
def test_how_two_results_differ(
    cached: dict[str, Node], now: dict[str, Node], expected: list[tuple[str, str]]
) -> None:
    found = results(cached, now)
    assert [(d.kind, str(d) if d.kind != "content" else d.name) for d in found] == expected


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_the_first_difference(shared: bytes, left: bytes, right: bytes) -> None:
    one, other = shared + left, shared + right
    if one == other:
        return
    pairs = enumerate(zip(one, other, strict=False))
    expected = next((at for at, (mine, its) in pairs if mine != its), min(len(one), len(other)))
    assert first_difference(one, other) == expected


def test_differences_are_values() -> None:
    assert Difference("file", "a", "was added") == Difference("file", "a", "was added")
    assert Difference("file", "a", "was added") != Difference("file", "b", "was added")
    assert Difference("file", "a", "was added") != Difference("outside", "a", "was added")
    assert len({Difference("file", "a", "was added"), Difference("file", "a", "was added")}) == 1
