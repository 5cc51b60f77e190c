"""Surveys: what patterns find in a real directory."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core.glob import matches
from capsula.core.recipe import Area, Recipe, place
from capsula.errors import InputError
from capsula.worktree.survey import Survey, join, survey


def area(base: Path, *patterns: str) -> Area:
    return place(Recipe(capsule_id="x", argv=(), root=str(base), cwd=str(base)), patterns)[0]


def look(base: Path, *patterns: str, hidden: tuple[str, ...] = ()) -> Survey:
    return survey(area(base, *patterns), hidden)


def plant(base: Path, *names: str) -> None:
    for name in names:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.touch()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    plant(
        base,
        "a.c",
        "b.h",
        ".dot",
        "src/c.c",
        "src/sub/d.c",
        "src/sub/.x",
        "empty/",
        "src/void/",
        "-n",
        "we ird\n",
    )
    return base


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), []),
        (("a.c",), ["a.c"]),
        (("*.c",), ["a.c"]),
        (("*",), ["-n", ".dot", "a.c", "b.h", "we ird\n"]),
        (("**/*.c",), ["a.c", "src/c.c", "src/sub/d.c"]),
        (("src",), ["src/c.c", "src/sub/.x", "src/sub/d.c"]),
        (("src/",), ["src/c.c", "src/sub/.x", "src/sub/d.c"]),
        (("src/**", "!src/sub"), ["src/c.c"]),
        (("src/**", "!**/.x"), ["src/c.c", "src/sub/d.c"]),
        (("src/*", "src/c.c", "./src/c.c"), ["src/c.c"]),
        ((".",), ["-n", ".dot", "a.c", "b.h", "src/c.c", "src/sub/.x", "src/sub/d.c", "we ird\n"]),
        (("nothing", "src/nothing", "a.c/x", "no*"), []),
        (("we ird\n", "-n"), ["-n", "we ird\n"]),
    ],
)
def test_what_patterns_find(base: Path, patterns: tuple[str, ...], expected: list[str]) -> None:
    assert look(base, *patterns).paths() == expected


def test_empty_directories_are_found(base: Path) -> None:
    found = look(base, "**")
    assert {path for path, folder in found.folders.items() if folder.declared} == {
        "src",
        "src/sub",
        "src/void",
        "empty",
    }
    assert not look(base, "*.c").folders[""].declared
    assert look(base, "empty").folders["empty"].declared


def test_patterns_that_find_nothing_are_named_as_written(base: Path) -> None:
    found = look(base, "./a.c", "./x/../no", "!b.h", "*.zig", "empty", "src/void/", "empty/*")
    assert found.unmatched() == ("./x/../no", "*.zig", "empty/*")


def test_git_and_our_half_made_ones_are_passed_over_unless_spelled(base: Path) -> None:
    plant(base, ".git/config", "src/.git/config", "src/.capsula-stage-1-2/x")
    assert not [path for path in look(base, "**").paths() if ".git" in path or "stage" in path]
    assert look(base, ".git/config").paths() == [".git/config"]
    assert look(base, "src/.git").paths() == ["src/.git/config"]
    assert look(base, "**/.git/*").paths() == [".git/config", "src/.git/config"]


def test_hidden_directories_are_found_only_when_they_are_spelled(base: Path) -> None:
    plant(base, "store/cas/x", "src/vault/y")
    hidden = (str(base / "store"), str(base / "src/vault"), "/elsewhere")
    for patterns in (("**",), ("**", "!nothing"), ("*/**",), ("src", "*/cas/x")):
        paths = look(base, *patterns, hidden=hidden).paths()
        assert "src/c.c" in paths
        assert not [path for path in paths if "store" in path or "vault" in path], patterns
    assert look(base, "store/cas/x", hidden=hidden).paths() == ["store/cas/x"]
    assert look(base, "*.c", "store/cas/x", hidden=hidden).paths() == ["a.c", "store/cas/x"]
    assert "src/vault/y" in look(base, "**", "src/vault", hidden=hidden).paths()
    assert "store/cas/x" not in look(base, "**", "src/vault", hidden=hidden).paths()


@pytest.mark.parametrize("patterns", [("**",), ("**", "!nothing"), ("**/y",), ("src/*/y", "a.c")])
def test_a_vault_is_passed_over_wherever_it_is_unless_it_is_spelled(
    base: Path, patterns: tuple[str, ...]
) -> None:
    plant(base, "src/runs/.capsula-vault", "src/runs/run/y", "src/runs/y", "src/other/y")
    found = look(base, *patterns)
    assert "src/other/y" in found.paths()
    assert not [path for path in found.paths() if "runs" in path]
    assert found.vault_marks == (str(base / "src/runs/.capsula-vault"),)
    assert "src/runs/y" in look(base, *patterns, "src/runs/y").paths()
    assert "src/runs/run/y" not in look(base, *patterns, "src/runs/y").paths()
    (base / "src/runs/.capsula-vault").unlink()
    assert "src/runs/y" in look(base, *patterns).paths()


def test_a_link_is_an_entry_and_its_directory_is_not_walked(base: Path) -> None:
    (base / "src/l").symlink_to("../a.c")
    (base / "src/d").symlink_to("../empty")
    (base / "src/broken").symlink_to("nowhere")
    plant(base, "empty/inside")
    for patterns in (("src",), ("src/**", "!x")):
        found = look(base, *patterns)
        assert {"src/l", "src/d", "src/broken"} <= set(found.paths())
        assert "src/d/inside" not in found.paths()
        assert found.followed["src/d"] == ()
        assert found.followed["src/broken"] is None
        assert found.followed["src/l"] is not None
        assert any("link to a directory" in note for note in found.notes)


def test_a_link_on_the_way_is_gone_when_the_pattern_spells_it(base: Path) -> None:
    (base / "pkg").symlink_to("src")
    assert look(base, "pkg/sub/**").paths() == ["pkg/sub/.x", "pkg/sub/d.c"]
    assert look(base, "pkg/sub/**").followed == {"pkg": ()}
    assert look(base, "*/sub/**").paths() == ["src/sub/.x", "src/sub/d.c"]
    (base / "loop").symlink_to("loop")
    assert look(base, "loop/x").paths() == []
    (base / "file").symlink_to("a.c")
    assert look(base, "file/x").paths() == []


def test_a_directory_that_a_star_does_not_reach_into_is_mentioned(base: Path) -> None:
    assert any("src is a directory" in note for note in look(base, "*").notes)


@pytest.mark.parametrize("patterns", [("src",), ("src/**", "!src/x"), ("src/c.c",), ("src/*",)])
@pytest.mark.parametrize("change", ["new", "gone", "edited", "to-dir", "to-link"])
def test_a_second_look_sees_what_changed(base: Path, patterns: tuple[str, ...], change: str) -> None:
    before = look(base, *patterns)
    assert look(base, *patterns).same_as(before)
    if change == "new":
        plant(base, "src/new.c")
    else:
        (base / "src/c.c").unlink()
    if change == "edited":
        (base / "src/c.c").write_bytes(b"x")
    elif change == "to-dir":
        (base / "src/c.c").mkdir()
    elif change == "to-link":
        (base / "src/c.c").symlink_to("x")
    seen = change != "new" or patterns != ("src/c.c",)
    assert look(base, *patterns).same_as(before) is not seen


def test_what_is_not_declared_may_come_and_go(base: Path) -> None:
    patterns = ("src/*.c", "src/*/d.c")
    before = look(base, *patterns)
    plant(base, "src/notes.txt", "src/other/e.c", "top")
    (base / "src/sub/.x").unlink()
    after = look(base, *patterns)
    assert after.paths() == before.paths()
    assert after.folders["src"].same_as(before.folders["src"])


def test_what_a_link_leads_to_is_part_of_the_look(base: Path) -> None:
    (base / "src/l").symlink_to("../a.c")
    before = look(base, "src")
    (base / "a.c").write_bytes(b"edited")
    assert not look(base, "src").same_as(before)


def test_a_base_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It always is there: that it isn't means that what was seen of it proves nothing."""
    with pytest.raises(InputError, match="vanished"):
        look(tmp_path / "nowhere", "**")


def test_a_directory_that_cannot_be_read_is_an_error(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, skipped: object, *, unseen: bool) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("capsula.worktree.survey.list_folder", refused)
    with pytest.raises(InputError, match="Permission denied"):
        look(base, "src")


def test_a_directory_that_vanishes_in_between_is_an_error(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from capsula.worktree import survey as module

    real = module.list_folder

    def vanishing(path: str, skipped: tuple[str, ...], *, unseen: bool) -> object:
        if path.endswith("/sub"):
            raise FileNotFoundError(2, "No such file", path)
        return real(path, skipped, unseen=unseen)

    monkeypatch.setattr(module, "list_folder", vanishing)
    with pytest.raises(InputError, match="vanished"):
        look(base, "src")


def test_joining() -> None:
    assert join("", "a") == "a"
    assert join("a", "") == "a"
    assert join("a", "b") == "a/b"
    assert join("/", "b") == "/b"


NAMES = st.sampled_from(["a", "b", "a.c", "b.c", ".x", "d"])
PATTERNS = st.lists(
    st.sampled_from(
        [
            "a",
            "d",
            "*",
            "*.c",
            "**",
            "d/**",
            "d/*",
            "**/*.c",
            "**/d",
            "d/",
            "a/b",
            "?",
            ".",
            "a/**/b",
            "[ab]*",
        ]
        + ["!a", "!d", "!*.c", "!**/b", "!d/*", "!**/d/**"]
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8), PATTERNS)
def test_a_walk_finds_what_matches_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]], patterns: list[str]
) -> None:
    base = tmp_path_factory.mktemp("base")
    for parts in paths:
        path = base.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except (NotADirectoryError, FileExistsError):
            continue
    asked = area(base, *patterns)
    found = survey(asked)
    files, folders = set(), set()
    for folder, names, plain in os.walk(base):
        inside = os.path.relpath(folder, base)
        files |= {os.path.normpath(f"{inside}/{name}") for name in plain}
        folders |= {os.path.normpath(f"{inside}/{name}") for name in names}
    assert set(found.paths()) == {path for path in files if matches(asked.patterns, path, is_dir=False)}
    declared = {path for path, folder in found.folders.items() if folder.declared}
    assert declared == {path for path in folders if matches(asked.patterns, path, is_dir=True)}
