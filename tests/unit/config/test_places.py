"""Places: the workspace root, the store, what is hidden, and where a capsule's looks are kept."""

import os
from pathlib import Path
from typing import Any

import pytest

from capsula.config.places import (
    default_store,
    find_root,
    find_store,
    hidden_directories,
    memory_path,
    upwards,
)
from capsula.core.glob import VAULT_MARK
from capsula.core.recipe import Recipe
from capsula.errors import NotAvailable


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "b" / "c"
    path.mkdir(parents=True)
    return path


def recipe(root: "Path | str", cwd: "Path | str", **more: Any) -> Recipe:
    return Recipe(**{"capsule_id": "x", "argv": ("x",), "root": str(root), "cwd": str(cwd), **more})


# ---------------------------------------------------------------------------------------------------- the root


def test_upwards() -> None:
    assert upwards("/a/b/c") == ["/a/b/c", "/a/b", "/a", "/"]
    assert upwards("/") == ["/"]


@pytest.mark.parametrize("mark", ["capsula.toml", ".git"])
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
@pytest.mark.parametrize("where", [".", "..", "../.."])
def test_the_root_is_the_nearest_directory_with_a_mark(deep: Path, mark: str, kind: str, where: str) -> None:
    place = Path(os.path.normpath(deep / where))
    if kind == "file":
        (place / mark).touch()  # a worktree of git has a file
    elif kind == "directory":
        (place / mark).mkdir()
    else:
        (place / mark).symlink_to(deep)
    assert find_root(None, str(deep)) == str(place)
    (place.parent / ".git").mkdir()
    assert find_root(None, str(deep)) == str(place)


def test_without_a_mark_the_root_is_the_current_directory(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsula.config.places.upwards", lambda cwd: [cwd])  # above, there may be one
    assert find_root(None, str(deep)) == str(deep)


def test_a_link_to_nowhere_is_no_mark(deep: Path) -> None:
    (deep.parent / "capsula.toml").touch()
    (deep / ".git").symlink_to("nowhere")
    assert find_root(None, str(deep)) == str(deep.parent)


@pytest.mark.parametrize(
    ("given", "root"), [("..", ".."), (".", "."), ("../../x/..", "../.."), ("x", "x"), ("../../b/", "..")]
)
def test_a_root_that_is_given_is_relative_to_the_current_directory(deep: Path, given: str, root: str) -> None:
    (deep / ".git").mkdir()
    assert find_root(given, str(deep)) == os.path.normpath(deep / root)
    assert find_root(str(deep / given), "/") == os.path.normpath(deep / root)


def test_a_root_that_is_given_through_a_link_is_the_real_one(deep: Path) -> None:
    (deep / "link").symlink_to(deep.parent)
    assert find_root("link", str(deep)) == str(deep.parent)


# ---------------------------------------------------------------------------------------------------- the store


def test_the_store_is_in_the_cache_of_the_user() -> None:
    assert default_store({b"XDG_CACHE_HOME": b"/c", b"HOME": b"/h"}) == "/c/capsula"
    assert default_store({b"HOME": b"/h"}) == "/h/.cache/capsula"
    assert default_store({b"HOME": b"/h/"}) == "/h/.cache/capsula"
    assert default_store({b"HOME": b"/"}) == "/.cache/capsula"
    assert default_store({b"XDG_CACHE_HOME": b"/"}) == "/capsula"
    assert default_store({b"HOME": b"/\xff"}) == "/\udcff/.cache/capsula"
    # The specification of base directories says to ignore a relative one.
    assert default_store({b"XDG_CACHE_HOME": b"c", b"HOME": b"/h"}) == "/h/.cache/capsula"
    assert default_store({b"XDG_CACHE_HOME": b"", b"HOME": b"/h"}) == "/h/.cache/capsula"


@pytest.mark.parametrize("environ", [{}, {b"HOME": b""}, {b"HOME": b"relative"}, {b"XDG_CACHE_HOME": b"c"}])
def test_without_a_home_there_is_no_place(environ: dict[bytes, bytes]) -> None:
    with pytest.raises(NotAvailable, match="no place for the store") as caught:
        find_store(None, "/w", "/w", environ)
    assert "--store" in caught.value.hint


def test_a_store_that_is_given_needs_no_home() -> None:
    for given, expected in (
        ("s", "/w/app/s"),
        ("../s/", "/w/s"),
        ("/s", "/s"),
        ("//s", "/w/s"),
        ("//a/../s", "/w/s"),
    ):
        assert find_store(given, "/w/app", "/w", {}) == expected


# ---------------------------------------------------------------------------------------------------- hidden


def test_our_stores_are_hidden_wherever_they_are(tmp_path: Path) -> None:
    """Also outside the root: `-i '../**'` would otherwise find what each run changes."""
    environ = {b"XDG_CACHE_HOME": os.fsencode(tmp_path / "cache")}
    hidden = hidden_directories(str(tmp_path / "w" / "s"), recipe(tmp_path / "w", tmp_path / "w"), environ)
    assert set(hidden) >= {str(tmp_path / "w" / "s"), str(tmp_path / "cache" / "capsula")}


def test_a_store_that_is_reached_through_a_link_is_hidden_by_its_real_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    hidden = hidden_directories(str(tmp_path / "link" / "s"), recipe(tmp_path, tmp_path), {})
    assert str(tmp_path / "real" / "s") in hidden


def test_without_a_store_and_a_home_there_is_nothing_to_hide(tmp_path: Path) -> None:
    assert hidden_directories("", recipe(tmp_path, tmp_path), {}) == ()


def test_a_vault_is_known_by_its_mark(tmp_path: Path) -> None:
    cwd = tmp_path / "app"
    for place in (tmp_path, cwd):
        (place / "vault").mkdir(parents=True)
    asked = recipe(tmp_path, cwd)
    assert hidden_directories("", asked, {}) == ()
    (cwd / "vault" / VAULT_MARK).touch()
    assert hidden_directories("", asked, {}) == (str(cwd / "vault"),)
    (tmp_path / "vault" / VAULT_MARK).touch()
    assert set(hidden_directories("", asked, {})) == {str(cwd / "vault"), str(tmp_path / "vault")}


# ---------------------------------------------------------------------------------------------------- memory


def test_every_capsule_in_every_place_has_its_own_memory() -> None:
    base = {"root": "/w", "cwd": "/w/a"}
    paths = [
        memory_path("/s", recipe(**base)),
        memory_path("/s", recipe(**base, outputs=("o",))),
        memory_path("/s", recipe(**base, outputs=("o", "p"))),
        memory_path("/s", recipe(**base, outputs=("\udcff",))),
        memory_path("/s", recipe(root="/w", cwd="/w/b")),
        memory_path("/s", recipe(root="/w/a", cwd="/w/a")),
        memory_path("/s", recipe(**base, capsule_id="y")),
    ]
    assert len(set(paths)) == len(paths)
    assert all(path.startswith("/s/state/") for path in paths)


def test_what_may_change_from_run_to_run_is_one_memory() -> None:
    one = recipe("/w", "/w", outputs=("o",), inputs=("a",), tags=("t",))
    other = recipe("/w", "/w", outputs=("o",), inputs=("b",), argv=("y",), environment=("X",))
    assert memory_path("/s", one) == memory_path("/s", other)
