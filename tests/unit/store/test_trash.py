"""The trash: nothing of the user's is ever lost on its way in, while it is there, or on its way out."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.errors import OutputError, StoreError, UsageError
from capsula.store import trash

NOW = 1_763_796_000.25
DAY = 86400.0
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than tmp_path."""
    for base in ("/dev/shm", "/run", "/var/tmp", os.path.expanduser("~")):
        if (
            os.path.isdir(base)
            and os.access(base, os.W_OK)
            and os.stat(base).st_dev != tmp_path.stat().st_dev
        ):
            with tempfile.TemporaryDirectory(dir=base) as folder:
                yield Path(folder)
            return
    pytest.skip("there is only one file system here")


def make_tree(place: Path) -> Path:
    """A directory with everything in it that people have."""
    tree = place / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "file").write_bytes(b"content")
    (tree / "script").write_bytes(b"#!/bin/sh\n")
    (tree / "script").chmod(0o755)
    (tree / "large").write_bytes(b"large" * 500_000)
    (tree / "link").symlink_to("file")
    (tree / "dangling").symlink_to("/nowhere/at all")
    (tree / "sub" / "new\nline and 'quotes'").write_bytes(b"")
    os.link(tree / "file", tree / "sub" / "twin")
    raw = os.fsencode(tree) + b"/not utf8 \xff\xfe"
    with open(raw, "wb") as file:
        file.write(b"bytes")
    for path in (tree / "file", tree / "sub", raw):
        os.utime(path, (1_000_000_000, 1_000_000_000.5))
    return tree


def picture(tree: str | Path) -> dict[bytes, object]:
    """Everything about a tree that has to come back."""
    found: dict[bytes, object] = {}
    tree = os.fsencode(tree)
    for folder, folders, files in os.walk(tree):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            look = os.lstat(path)
            content: object = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read(), look.st_mtime_ns
            found[path[len(tree) :]] = (look.st_mode, content)
    return found


# ------------------------------------------------------------------------------------------------ in and out


def test_a_file_goes_and_comes_back(root: str, work: Path) -> None:
    (work / "notes.txt").write_bytes(b"precious")
    item = trash.bury(
        root, str(work / "notes.txt"), now=NOW, why="not an output of this result", capsule="build"
    )
    assert not (work / "notes.txt").exists()
    assert (item.path, item.when, item.why, item.capsule) == (
        str(work / "notes.txt"),
        NOW,
        "not an output of this result",
        "build",
    )
    (listed,) = trash.items(root)
    assert {name: getattr(listed, name) for name in trash.Item.__slots__} == {
        name: getattr(item, name) for name in trash.Item.__slots__
    }
    assert (listed.kind, listed.size) == ("file", 8)
    assert trash.restore(root, item.id) == str(work / "notes.txt")
    assert (work / "notes.txt").read_bytes() == b"precious"
    assert trash.items(root) == []
    assert os.listdir(f"{root}/trash") == []


def test_a_tree_goes_and_comes_back_as_it_was(root: str, work: Path) -> None:
    tree = make_tree(work)
    before = picture(tree)
    item = trash.bury(root, str(tree), now=NOW)
    assert not tree.exists()
    assert item.kind == "directory"
    assert item.size == sum(
        os.lstat(p).st_size for p in Path(root).glob("trash/*/item/**/*") if not p.is_dir() or p.is_symlink()
    )
    assert trash.restore(root, item.id) == str(tree)
    assert picture(tree) == before


def test_a_link_is_moved_and_not_what_it_leads_to(root: str, work: Path) -> None:
    (work / "target").mkdir()
    (work / "link").symlink_to("target")
    item = trash.bury(root, str(work / "link") + "/", now=NOW)
    assert item.kind == "link"
    assert (work / "target").is_dir()
    assert not os.path.lexists(work / "link")
    trash.restore(root, item.id)
    assert os.readlink(work / "link") == "target"


def test_names_that_are_not_utf8_work(root: str, work: Path) -> None:
    path = os.fsdecode(os.fsencode(work) + b"/caf\xe9 \xff")
    Path(path).write_bytes(b"x")
    item = trash.bury(root, path, now=NOW)
    (listed,) = trash.items(root)
    assert listed.path == path
    assert trash.restore(root, item.id) == path
    assert Path(path).read_bytes() == b"x"


def test_ids_sort_by_time_also_within_the_same_moment(root: str, work: Path) -> None:
    buried = []
    for moment in (NOW, NOW, NOW, NOW + 0.5, NOW + 3600):
        (work / "file").write_bytes(b"%d" % len(buried))
        buried.append(trash.bury(root, str(work / "file"), now=moment).id)
    assert buried == sorted(set(buried))
    assert [item.id for item in trash.items(root)] == buried
    assert all(name.replace("-", "").replace("T", "").isalnum() for name in buried)


def test_it_can_be_put_elsewhere_and_missing_parents_are_made(root: str, work: Path) -> None:
    (work / "sub").mkdir()
    (work / "sub" / "file").write_bytes(b"1")
    first = trash.bury(root, str(work / "sub" / "file"), now=NOW)
    (work / "sub").rmdir()
    trash.restore(root, first.id)
    assert (work / "sub" / "file").read_bytes() == b"1"
    second = trash.bury(root, str(work / "sub" / "file"), now=NOW)
    assert trash.restore(root, second.id, str(work / "other" / "name")) == str(work / "other" / "name")
    assert (work / "other" / "name").read_bytes() == b"1"


@pytest.mark.parametrize("there", ["file", "link", "directory", "full directory"])
@pytest.mark.parametrize("buried", ["file", "link", "directory"])
def test_restoring_never_overwrites(root: str, work: Path, there: str, buried: str) -> None:
    make(work / "thing", buried)
    item = trash.bury(root, str(work / "thing"), now=NOW)
    make(work / "thing", there)
    before = (os.lstat(work / "thing"), picture(work))
    with pytest.raises(OutputError, match="there already"):
        trash.restore(root, item.id)
    assert (os.lstat(work / "thing"), picture(work)) == before
    assert len(trash.items(root)) == 1
    trash.restore(root, item.id, str(work / "thing.old"))
    assert os.path.lexists(work / "thing.old")


def make(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_bytes(b"file")
    elif kind == "link":
        path.symlink_to("dangling")
    else:
        path.mkdir()
        if kind != "directory":
            (path / "inside").write_bytes(b"x")


def test_somebody_who_fills_the_place_meanwhile_is_not_overwritten(
    root: str, work: Path, monkeypatch
) -> None:
    (work / "thing").mkdir()
    item = trash.bury(root, str(work / "thing"), now=NOW)
    real = os.mkdir

    def mkdir(path, mode=0o777):  # type: ignore[no-untyped-def]
        real(path, mode)
        if str(path) == str(work / "thing"):
            (work / "thing" / "theirs").write_bytes(b"theirs")

    monkeypatch.setattr(trash.os, "mkdir", mkdir)
    with pytest.raises(OutputError):
        trash.restore(root, item.id)
    monkeypatch.undo()
    assert (work / "thing" / "theirs").read_bytes() == b"theirs"
    assert len(trash.items(root)) == 1


@pytest.mark.parametrize("name", ["nothing", "", ".", "..", "../cas", "20251122T072000-000000/item"])
def test_an_id_that_is_not_there_is_refused(root: str, work: Path, name: str) -> None:
    (work / "file").write_bytes(b"1")
    trash.bury(root, str(work / "file"), now=NOW)
    with pytest.raises(UsageError):
        trash.restore(root, name)


# ------------------------------------------------------------------------------------------------ other file systems


def test_a_tree_goes_to_another_file_system_and_back(work: Path, elsewhere: Path) -> None:
    tree = make_tree(work)
    before = picture(tree)
    root = str(elsewhere / "store")
    item = trash.bury(root, str(tree), now=NOW)
    assert not tree.exists()
    assert picture(f"{root}/trash/{item.id}/item") == before
    assert trash.restore(root, item.id) == str(tree)
    assert picture(tree) == before
    assert sorted(os.listdir(work)) == ["tree"]
    assert os.listdir(f"{root}/trash") == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_link_goes_to_another_file_system_and_back(work: Path, elsewhere: Path, kind: str) -> None:
    make(work / "thing", kind)
    root = str(elsewhere / "store")
    before = picture(work)
    item = trash.bury(root, str(work / "thing"), now=NOW)
    assert os.listdir(work) == []
    make(work / "thing", "file")
    with pytest.raises(OutputError, match="there already"):
        trash.restore(root, item.id)
    (work / "thing").unlink()
    trash.restore(root, item.id)
    assert picture(work) == before
    assert os.listdir(f"{root}/trash") == []


@pytest.fixture
def far(monkeypatch) -> None:
    """As if the trash were on another file system."""
    real = os.rename

    def rename(source, target, **kwargs):  # type: ignore[no-untyped-def]
        if ("/trash/" in str(source)) != ("/trash/" in str(target)):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target, **kwargs)

    monkeypatch.setattr(trash.os, "rename", rename)


@pytest.mark.usefixtures("far")
def test_a_file_that_changes_while_it_is_copied_stays(root: str, work: Path, monkeypatch) -> None:
    tree = make_tree(work)
    real = trash._copy_file

    def copy_file(source, target, mode):  # type: ignore[no-untyped-def]
        real(source, target, mode)
        if source.endswith("script"):
            (tree / "file").write_bytes(b"edited meanwhile")

    monkeypatch.setattr(trash, "_copy_file", copy_file)
    with pytest.raises(OutputError, match="changed"):
        trash.bury(root, str(tree), now=NOW)
    assert (tree / "file").read_bytes() == b"edited meanwhile"
    assert (tree / "large").exists()
    assert trash.items(root) == []
    assert os.listdir(f"{root}/trash") == []


@pytest.mark.usefixtures("far")
def test_a_file_that_is_added_while_the_original_is_deleted_stays(root: str, work: Path, monkeypatch) -> None:
    tree = make_tree(work)
    real = os.unlink

    def unlink(path, **kwargs):  # type: ignore[no-untyped-def]
        (tree / "added").write_bytes(b"added")
        real(path, **kwargs)

    monkeypatch.setattr(trash.os, "unlink", unlink)
    with pytest.raises(OutputError):
        trash.bury(root, str(tree), now=NOW)
    monkeypatch.undo()
    assert (tree / "added").read_bytes() == b"added"
    (item,) = trash.items(root)
    trash.restore(root, item.id, str(work / "back"))
    assert (work / "back" / "file").read_bytes() == b"content"


@pytest.mark.usefixtures("far")
def test_what_cannot_be_copied_stays_whole(root: str, work: Path) -> None:
    tree = make_tree(work)
    os.mkfifo(tree / "pipe")
    before = picture(tree)
    with pytest.raises(OutputError, match="a socket, a pipe or a device"):
        trash.bury(root, str(tree), now=NOW)
    assert picture(tree) == before
    assert os.listdir(f"{root}/trash") == []


@pytest.mark.usefixtures("far")
def test_a_full_disk_while_copying_leaves_the_original(root: str, work: Path, monkeypatch) -> None:
    tree = make_tree(work)
    before = picture(tree)

    def full(fd: int, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    trash.bury(root, str(make_file(work / "other")), now=NOW)
    monkeypatch.setattr(trash.files, "_clone", lambda *_: False)
    real = trash.files.write_all
    monkeypatch.setattr(
        trash.files,
        "write_all",
        lambda fd, content: full(fd, content) if len(content) > 200 else real(fd, content),
    )
    with pytest.raises(StoreError, match="disk is full"):
        trash.bury(root, str(tree), now=NOW)
    assert picture(tree) == before
    assert len(os.listdir(f"{root}/trash")) == 1


def make_file(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


# ------------------------------------------------------------------------------------------------ refusals and kills


def test_what_is_not_there_cannot_be_buried(root: str, work: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        trash.bury(root, str(work / "nothing"), now=NOW)
    assert os.listdir(f"{root}/trash") == []


def test_the_store_does_not_swallow_itself(root: str, tmp_path: Path) -> None:
    os.mkdir(root)
    with pytest.raises(OutputError, match="store itself"):
        trash.bury(root, str(tmp_path), now=NOW)


def test_a_trash_that_cannot_be_made_is_an_error_and_the_file_stays(work: Path) -> None:
    (work / "store").write_bytes(b"")
    (work / "file").write_bytes(b"x")
    with pytest.raises(StoreError):
        trash.bury(str(work / "store"), str(work / "file"), now=NOW)
    assert (work / "file").read_bytes() == b"x"


def run_as_user(code: str) -> None:
    """Modes don't bind root, so as root the code runs as somebody else, who may not even read our modules."""
    drop = "os.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n" if IS_ROOT else ""
    first = f"""
import sys
sys.path[:0] = {sys.path!r}
import json, os, time
from pathlib import Path
from capsula.store import trash
"""
    subprocess.run([sys.executable, "-c", first + drop + code], check=True)


def test_directories_that_may_not_be_written_are_moved_back_and_forth_and_deleted() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        run_as_user(f"""
place = Path({folder!r})
(place / "locked" / "deep").mkdir(parents=True)
(place / "locked" / "deep" / "file").write_bytes(b"x")
(place / "locked" / "deep").chmod(0o555)
(place / "locked").chmod(0o555)
root = str(place / "store")
item = trash.bury(root, str(place / "locked"), now={NOW})
trash.restore(root, item.id)
assert (place / "locked").stat().st_mode & 0o777 == 0o555
assert (place / "locked" / "deep" / "file").read_bytes() == b"x"
trash.bury(root, str(place / "locked"), now={NOW})
assert trash.empty(root, now={NOW}) == (1, 1)
assert os.listdir(root + "/trash") == []
""")


def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path, work: Path) -> None:
    """Before every call to the system in turn, on one file system and between two."""
    for far in (False, True):
        for moment in range(200):
            root = str(tmp_path / f"store {far} {moment}")
            tree = work / f"{far}{moment}"
            tree.mkdir()
            (tree / "file").write_bytes(b"precious")
            (tree / "link").symlink_to("file")
            child = os.fork()
            if child == 0:
                trash.os = trash.files.os = Dying(moment, far)  # type: ignore[assignment]
                trash.bury(root, str(tree), now=NOW)
                os._exit(0)
            ended = os.waitpid(child, 0)[1]
            for item in trash.items(root):
                kept = Path(root, "trash", item.id, "item")
                if os.path.lexists(kept / "file") and item.path == str(tree):
                    assert (kept / "file").read_bytes() == b"precious"
                    break
            else:
                assert (tree / "file").read_bytes() == b"precious", moment
                assert os.readlink(tree / "link") == "file"
            trash.trim(root, now=time.time() + 1e9, older_than=DAY, larger_than=None)
            assert not os.path.exists(f"{root}/trash") or os.listdir(f"{root}/trash") == []
            if ended == 0:
                break
        assert ended == 0
        assert moment > 4


class Dying:
    """Stands for the module os, and ends the process at the given call."""

    def __init__(self, moment: int, far: bool) -> None:
        self.left = moment
        self.far = far

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in (
            "mkdir",
            "open",
            "rename",
            "unlink",
            "rmdir",
            "lstat",
            "symlink",
            "chmod",
            "utime",
            "listdir",
        ):
            return real

        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            if self.left == 0:
                os._exit(9)
            self.left -= 1
            if name == "rename" and self.far and ("/trash/" in args[0]) != ("/trash/" in args[1]):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return real(*args, **kwargs)

        return call


# ------------------------------------------------------------------------------------------------ emptying


def bury_some(root: str, work: Path, *sizes: int) -> list[str]:
    """One a day, the last of them now."""
    ids = []
    for number, size in enumerate(sizes):
        (work / "file").write_bytes(b"x" * size)
        ids.append(trash.bury(root, str(work / "file"), now=NOW - DAY * (len(sizes) - 1 - number)).id)
    return ids


def left(root: str) -> list[str]:
    return [item.id for item in trash.items(root)]


def test_emptying(root: str, work: Path) -> None:
    assert trash.empty(root, now=NOW) == (0, 0)
    ids = bury_some(root, work, 10, 20, 30, 40)
    assert trash.empty(root, now=NOW, older_than=1.5 * DAY) == (2, 30)
    assert left(root) == ids[2:]
    assert trash.empty(root, now=NOW - 100 * DAY) == (2, 70)
    assert left(root) == []


def test_the_oldest_go_while_there_is_too_much(root: str, work: Path) -> None:
    ids = bury_some(root, work, 10, 20, 30, 40)
    assert trash.trim(root, now=NOW, older_than=7 * DAY, larger_than=100) == (0, 0)
    assert trash.trim(root, now=NOW, older_than=7 * DAY, larger_than=75) == (2, 30)
    assert left(root) == ids[2:]


def test_emptying_follows_no_link(root: str, work: Path) -> None:
    (work / "outside").mkdir()
    (work / "outside" / "file").write_bytes(b"x")
    (work / "tree").mkdir()
    (work / "tree" / "link").symlink_to(work / "outside")
    trash.bury(root, str(work / "tree"), now=NOW)
    trash.empty(root, now=NOW)
    assert (work / "outside" / "file").read_bytes() == b"x"


def test_a_damaged_note_hides_the_item_but_not_from_the_clock(root: str, work: Path) -> None:
    (ident,) = bury_some(root, work, 10)
    Path(root, "trash", ident, "item.json").write_bytes(b"{")
    assert trash.items(root) == []
    trash.trim(root, now=time.time() + 8 * DAY, older_than=7 * DAY, larger_than=None)
    assert os.listdir(f"{root}/trash") == []
