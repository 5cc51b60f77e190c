"""The tool `capsula`, through the installed commands: its command line, and which store it is about."""

import json
import os
import re

import pytest

from cli.desk import Desk

# ---------------------------------------------------------------------------------------------------- the command line


def test_it_tells_its_version_and_its_verbs(desk: Desk) -> None:
    assert re.fullmatch(r"capsula \d+\.\d+\.\d+\S*\n", desk.tool("--version"))
    assert desk.tool("--version").split()[1] == desk.run("capsule", "--version").stdout.split()[1]
    about = desk.tool("--help")
    assert "cache" in about
    assert "history" in about
    verbs = desk.tool("cache", "--help")
    for verb in "stats", "gc", "verify", "clear", "trash":
        assert re.search(rf"^ +{verb} +\w", verbs, re.MULTILINE)
        assert f"usage: capsula cache {verb}" in desk.tool("cache", verb, "-h")
    for page in about, verbs:
        assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("words", [(), ("cache",)])
def test_without_a_verb_it_lists_the_verbs_and_fails(desk: Desk, words: tuple[str, ...]) -> None:
    assert desk.refused(*words).startswith("usage: capsula")


@pytest.mark.parametrize(
    ("line", "wrong", "hint"),
    [
        ("cahce stats", "cahce", "did you mean cache?"),
        ("histroy", "histroy", "did you mean history?"),
        ("cache stat", "stat", "did you mean stats?"),
        ("cache trash restroe x", "restroe", "did you mean restore?"),
        ("cache xyzzy", "xyzzy", "one of: stats, gc, verify, clear, doctor, push, show, trash"),
        ("cache stats --jsn", "--jsn", "did you mean --json?"),
        ("history --outcome hits", "hits", "did you mean hit?"),
        ("history -n few", "few", "capsula history --help"),
        ("history --since 2x", "2x", "capsula history --help"),
        ("cache gc --max-size 1Q", "1Q", "capsula cache gc --help"),
        ("cache clear more", "more", "capsula cache clear --help"),
        ("cache trash restore", "ID", "capsula cache trash restore --help"),
        ("-i src -- make", "runs no command", "capsule [options] -- command"),
        ("-- make", "runs no command", "capsule [options] -- command"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_meant(desk: Desk, line: str, wrong: str, hint: str) -> None:
    what, blank, hinted = desk.refused(*line.split()).splitlines()
    assert what.startswith("capsula: ")
    assert wrong in what
    assert blank == ""
    assert hinted.startswith("hint: ")
    assert hint in hinted


def test_underscores_and_hyphens_are_the_same(desk: Desk) -> None:
    desk.copy()
    assert "limit of 1 B" in desk.tool("cache", "gc", "--max_size=1")
    assert "limit of 1 B" in desk.tool("cache", "gc", "--max-size", "1")


# ---------------------------------------------------------------------------------------------------- which store


def test_a_store_that_is_not_there_yet_is_empty_and_stays_away(desk: Desk) -> None:
    for line in "cache stats", "cache gc", "cache verify", "cache clear --yes", "cache trash", "history":
        done = desk.run("capsula", *line.split())
        assert done.returncode == 0, done
    assert not desk.store.exists()
    assert "To begin:\n\n  capsule " in desk.tool("cache", "stats")
    assert "To begin:\n\n  capsule " in desk.run("capsula", "history").stderr
    assert desk.tool("history") == ""


def test_it_is_the_store_that_capsule_uses_there(desk: Desk) -> None:
    own, variable, local = desk.home / "own", desk.home / "variable", desk.work / "local"
    (desk.home / ".capsules.toml").write_text(f'store = "{own}"\nstore_size = "3GiB"\n')
    assert desk.numbers()["store"] == str(own)
    assert desk.numbers()["limit"] == 3 << 30
    desk.copy()
    assert desk.numbers()["entries"]["count"] == 1
    (desk.work / "Capsule.toml").write_text('store = "local"\n[one]\n[two]\nstore = "two"\n')
    assert desk.numbers()["store"] == str(local)
    desk.environ["CAPSULE_ARGS"] = "-f Capsule.toml:two"
    assert desk.numbers()["store"] == str(desk.work / "two")
    desk.environ["CAPSULE_ARGS"] = f"--store {variable} --store_size 0"
    assert desk.numbers()["store"] == str(variable)
    assert desk.numbers()["limit"] == 0
    assert desk.numbers("--store", "given")["store"] == str(desk.work / "given")
    del desk.environ["CAPSULE_ARGS"]
    assert f'"store": "{own}"' in desk.tool("cache", "stats", "--json", CAPSULE_ARGS="-c anything")


def test_the_store_may_be_named_before_the_verb(desk: Desk) -> None:
    for line in (
        "--store x cache stats --json",
        "cache --store x stats --json",
        "cache stats --json --store=x",
    ):
        assert json.loads(desk.tool(*line.split()))["store"] == str(desk.work / "x")


def test_wrong_settings_are_told_with_their_place(desk: Desk) -> None:
    file = desk.home / ".capsules.toml"
    file.write_text('\nstoer = "x"\n')
    said = desk.refused("cache", "stats")
    assert f"{file}:2: stoer" in said
    assert "hint: did you mean store?" in said
    file.unlink()
    assert "CAPSULE_ARGS: there is no option --stoer" in desk.refused("history", CAPSULE_ARGS="--stoer x")
    assert "CAPSULE_ARGS: the ' at" in desk.refused("history", CAPSULE_ARGS="--store 'x")
    assert "HOME" in desk.refused("cache", "stats", code=1, HOME=None)


@pytest.mark.parametrize(
    "line", ["cache clear --all --yes", "cache gc", "cache verify", "cache stats", "history"]
)
def test_a_directory_that_is_no_store_is_left_alone(desk: Desk, line: str) -> None:
    other = desk.work / "project"
    for name in "state/mine", "ids/mine", "recall/mine", "tmp/mine":
        (other / name).parent.mkdir(parents=True)
        (other / name).write_text("mine")
        os.utime(other / name, (0, 0))
    assert f"{other} is no store" in desk.refused(*line.split(), "--store", other, code=1)
    assert sum(path.is_file() for path in other.rglob("*")) == 4
    assert "is no directory" in desk.refused(*line.split(), "--store", other / "ids" / "mine", code=1)
