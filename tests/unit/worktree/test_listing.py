"""Looks: every change shows in them, and the clock says whether they can be trusted."""

import os
from pathlib import Path

import pytest

from capsula.worktree.listing import COARSE_TICK_NS, TICK_NS, is_fresh, list_folder, list_names, look

NOW = 1_700_000_000_123_456_789


def seen(path: Path) -> tuple[int, ...]:
    s = path.lstat()
    return (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode)


def test_a_folder_lists_looks_and_directories(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"123")
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("nowhere")
    (tmp_path / "to-d").symlink_to("d")
    (tmp_path / ".hidden").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"\xff\n")).touch()
    listing = list_folder(str(tmp_path))
    assert listing == {
        name: () if name == "d" else seen(tmp_path / name)
        for name in map(os.fsdecode, os.listdir(os.fsencode(tmp_path)))
    }
    assert listing["f"][0] == 3


def test_skipped_names_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    assert set(list_folder(str(tmp_path), ("b", "c"))) == {"a"}


def test_what_is_no_readable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for name in ("f", "nothing"):
        with pytest.raises(OSError):  # noqa: PT011 - whichever it is
            list_folder(str(tmp_path / name))


def test_only_the_names_asked_for(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "d").mkdir()
    assert list_names(str(tmp_path), ("d", "f", "absent")) == {"d": (), "f": seen(tmp_path / "f")}
    assert list_names(str(tmp_path / "f"), ("x",)) == {}
    assert list_names(str(tmp_path / "absent"), ("x",)) == {}


def test_a_listing_of_names_equals_that_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("f")
    (tmp_path / "d").mkdir()
    assert list_names(str(tmp_path), ("f", "l", "d")) == list_folder(str(tmp_path))


def test_a_look_follows_links(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    (tmp_path / "l").symlink_to("f")
    (tmp_path / "d").symlink_to(".")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert look(str(tmp_path / "l")) == look(str(tmp_path / "f")) == seen(tmp_path / "f")
    assert look(str(tmp_path / "d")) == ()
    for name in ("broken", "loop", "absent", "f/x"):
        assert look(str(tmp_path / name)) is None


@pytest.mark.parametrize(
    "change", ["content", "mode", "replaced", "touched", "back in time", "linked", "to a directory", "gone"]
)
def test_every_change_shows(change: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.utime(path, ns=(1, 1))
    # What a change leaves behind has another time, or it is too fresh to be trusted: here the look is made old.
    before = list_folder(str(tmp_path))
    if change == "content":
        path.write_bytes(b"new!")
    elif change == "mode":
        path.chmod(0o700)
    elif change == "replaced":
        (tmp_path.parent / "other").write_bytes(b"new")
        os.utime(tmp_path.parent / "other", ns=(1, 1))
        (tmp_path.parent / "other").rename(path)
    elif change == "touched":
        path.touch()
    elif change == "back in time":
        os.utime(path, ns=(0, 0))
    elif change == "linked":
        path.unlink()
        path.symlink_to("abc")
    elif change == "to a directory":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
    assert list_folder(str(tmp_path)) != before


@pytest.mark.parametrize(
    ("mtime", "ctime", "fresh"),
    [
        (NOW - 10**12, NOW - 10**12, False),
        (NOW - TICK_NS - 1000, NOW - TICK_NS - 1000, False),
        (NOW - TICK_NS + 1000, NOW - TICK_NS + 1000, True),
        (NOW, NOW, True),
        (NOW + 10**12, NOW - 10**12, True),  # a time in the future proves nothing
        (NOW - 10**12, NOW + 10**12, True),  # nor does a clock that went back
        (1, NOW - 1000, True),  # `touch -d` sets one of the two only
        (NOW - 1000, 1, True),
    ],
)
def test_what_changed_just_now_proves_nothing(mtime: int, ctime: int, fresh: bool) -> None:
    assert is_fresh((0, mtime, ctime, 1, 0o100644), NOW) is fresh


def test_whole_seconds_are_the_sign_of_a_coarse_clock() -> None:
    second = NOW // 10**9 * 10**9
    assert is_fresh((0, second, second, 1, 0o100644), second + 2 * 10**9)
    assert not is_fresh((0, second, second, 1, 0o100644), second + COARSE_TICK_NS + 1)
    # The time of modification is set by hand, or by tar; only the other one tells what the clock can do.
    assert not is_fresh((0, second - 1, second - 999_999_999, 1, 0o100644), second + 10**9)


def test_a_directory_is_never_fresh() -> None:
    assert not is_fresh((), NOW)
