"""The action: what is in the key, what isn't, and where."""

from collections.abc import Callable
from typing import Any

import pytest

from capsula.core.action import Keyed, inputs_hash, key
from capsula.core.context import Context
from capsula.core.digest import digest_of
from capsula.core.reapi import Action, Command, Directory
from capsula.core.recipe import Recipe
from capsula.core.tree import build, leaves
from capsula.core.wire import decode

A, B = digest_of(b"a"), digest_of(b"b")


def recipe(**changes: Any) -> Recipe:
    asked: dict[str, Any] = {
        "capsule_id": "make",
        "argv": ("make", "all"),
        "root": "/w",
        "cwd": "/w/app",
        "inputs": ("src/**",),
        "outputs": ("dist", "log/*"),
        "environment": ("CC",),
        "tags": ("v1",),
        "tool_commands": ("cc -v",),
    }
    return Recipe(**{**asked, **changes})


def context(**changes: Any) -> Context:
    root, directories = build({"app/src": leaves([("f", A.hash, 1, False)], [], declared=True)})
    found: dict[str, Any] = {
        "input_root": root,
        "directories": directories,
        "system": ("linux", "x86_64"),
        "outside": (("/lib/a", A.hash),),
        "linked": (("app/src/l", A.hash),),
        "environment": (("CC", "gcc"),),
        "tools": (("cc -v", 0, A.hash),),
        "stdin": "",
    }
    return Context(**{**found, **changes})


def tree(*args: Any, **options: Any) -> dict[str, Any]:
    root, directories = build({"app/src": leaves(*args, declared=True, **options)})
    return {"input_root": root, "directories": directories}


BASE = key(recipe(), context())


def keyed(asked: dict[str, Any], found: dict[str, Any]) -> Keyed:
    return key(recipe(**asked), context(**found))


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "argv": ({"argv": ("make", "al")}, {}),
    "one argument or two": ({"argv": ("make all",)}, {}),
    "an empty argument": ({"argv": ("make", "all", "")}, {}),
    "id": ({"capsule_id": "other"}, {}),
    "working directory": ({"cwd": "/w/lib"}, {}),
    "output pattern": ({"outputs": ("dist", "log/**")}, {}),
    "output exclude": ({"outputs": ("dist", "log/*", "!log/x")}, {}),
    "tag": ({"tags": ("v2",)}, {}),
    "another tag": ({"tags": ("v1", "v2")}, {}),
    "capture": ({"captures": (True, False)}, {}),
    "name of the inputs hash": ({"hash_variable": "X"}, {}),
    "content": ({}, tree([("f", B.hash, 1, False)], [])),
    "name": ({}, tree([("g", A.hash, 1, False)], [])),
    "executable": ({}, tree([("f", A.hash, 1, True)], [])),
    "link": ({}, tree([("f", A.hash, 1, False)], [("l", "x")])),
    "outside content": ({}, {"outside": (("/lib/a", B.hash),)}),
    "outside name": ({}, {"outside": (("/lib/b", A.hash),)}),
    "outside file gone": ({}, {"outside": ()}),
    "content behind a link": ({}, {"linked": (("app/src/l", B.hash),)}),
    "value of a variable": ({}, {"environment": (("CC", "clang"),)}),
    "empty variable": ({}, {"environment": (("CC", ""),)}),
    "unset variable": ({}, {"environment": (("CC", None),)}),
    "one more variable": ({}, {"environment": (("CC", "gcc"), ("X", ""))}),
    "output of a tool": ({}, {"tools": (("cc -v", 0, B.hash),)}),
    "exit code of a tool": ({}, {"tools": (("cc -v", 1, A.hash),)}),
    "another tool": ({}, {"tools": (("cc -V", 0, A.hash),)}),
    "operating system": ({}, {"system": ("darwin", "x86_64")}),
    "architecture": ({}, {"system": ("linux", "aarch64")}),
    "file on standard input": ({}, {"stdin": A.hash}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_may_change_a_result_changes_the_key(change: str) -> None:
    assert keyed(*CHANGES[change]).digest != BASE.digest


def test_no_two_changes_give_the_same_key() -> None:
    digests = [keyed(*change).digest for change in CHANGES.values()]
    assert len(set(digests)) == len(digests)


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another checkout": ({"root": "/elsewhere", "cwd": "/elsewhere/app"}, {}),
    "order of tags": ({"tags": ("v1", "v1")}, {}),
    "order of outputs": ({"outputs": ("log/*", "dist", "dist")}, {}),
    "how the inputs are written": ({"inputs": ("//app/src/**", "./src/f")}, {}),
    "names of declared variables, for the values are found": ({"environment": ("CC", "CC")}, {}),
}


@pytest.mark.parametrize("change", SAME)
def test_what_cannot_change_a_result_does_not_change_the_key(change: str) -> None:
    assert keyed(*SAME[change]).digest == BASE.digest


def test_the_order_in_which_facts_were_found_does_not_matter() -> None:
    facts = {
        "outside": (("/a", A.hash), ("/b", B.hash)),
        "linked": (("l", A.hash), ("m", B.hash)),
        "tools": (("t", 0, A.hash), ("u", 0, A.hash)),
    }
    turned = {name: tuple(reversed(rows)) for name, rows in facts.items()}
    assert key(recipe(), context(**facts)).digest == key(recipe(), context(**turned)).digest


def test_unset_and_empty_and_undeclared_are_three_things() -> None:
    keys = {
        keyed({"environment": names}, {"environment": found}).digest
        for names, found in ((("CC",), (("CC", None),)), (("CC",), (("CC", ""),)), ((), ()))
    }
    assert len(keys) == 3


def test_facts_cannot_be_taken_for_one_another() -> None:
    """A tag that looks like other facts, or holds their punctuation, stays a tag."""
    keys = {
        keyed({"tags": tags, "capsule_id": capsule}, {}).digest
        for tags, capsule in (
            (("a", "b"), "make"),
            (("a,)2(3:tag,1:b",), "make"),
            (("ab",), "make"),
            (("a",), "b"),
            (("a",), "make"),
        )
    }
    assert len(keys) == 5


def test_every_blob_of_the_action_is_there() -> None:
    action = decode(Action, BASE.blobs[BASE.digest.hash])
    assert action.command_digest is not None
    command = decode(Command, BASE.blobs[action.command_digest.hash])
    assert command.arguments == ("make", "all")
    assert command.working_directory == "app"
    assert command.output_paths == ("dist", "log")
    assert action.input_root_digest is not None
    assert decode(Directory, BASE.blobs[action.input_root_digest.hash]).directories[0].name == "app"
    assert all(digest_of(content).hash == name for name, content in BASE.blobs.items())


HASH_CHANGES = [
    "content",
    "name",
    "executable",
    "link",
    "outside content",
    "outside name",
    "content behind a link",
]
HASH_CHANGES += ["tag", "another tag", "output of a tool", "exit code of a tool", "file on standard input"]


@pytest.mark.parametrize("change", CHANGES)
def test_the_inputs_hash_is_of_inputs_and_tags_alone(change: str) -> None:
    asked, found = CHANGES[change]
    changed = inputs_hash(recipe(**asked), context(**found)) != BASE.inputs_hash
    assert changed == (change in {*HASH_CHANGES, "outside file gone", "another tool"})
    assert keyed(asked, found).inputs_hash == inputs_hash(recipe(**asked), context(**found))


@pytest.mark.parametrize(
    ("field", "value"),
    [("argv", ("\udcff",)), ("tags", ("\udcff",)), ("capsule_id", "\udcff"), ("outputs", ("\udcff",))],
)
def test_a_text_that_is_no_utf8_has_a_key_of_its_own(field: str, value: object) -> None:
    other = ("\U0010feff",) if isinstance(value, tuple) else "\U0010feff"
    make: Callable[[object], Keyed] = lambda given: key(recipe(**{field: given}), context())  # noqa: E731
    assert make(value).digest != make(other).digest
