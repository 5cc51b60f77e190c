"""Making room: what goes, and what stays."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.digest import digest_of
from capsula.core.reapi import (
    Action,
    ActionResult,
    Command,
    Directory,
    DirectoryNode,
    FileNode,
    OutputDirectory,
    OutputFile,
    Tree,
)
from capsula.core.wire import encode
from capsula.errors import StoreError
from capsula.store import sweep
from capsula.store.disk import DiskStore
from capsula.store.layout import GRACE, blob_path, entry_path
from capsula.store.upkeep import verify
from unit.store.aged import LONG_AGO, NOW, add, age, age_everything, broken_entries, names

# ------------------------------------------------------------------------------------------------ what goes


def test_an_empty_store_is_swept(store: DiskStore) -> None:
    swept = sweep.sweep(store.root)
    assert swept is not None
    assert (swept.entries, swept.blobs, swept.bytes) == (0, 0, 0)


def test_the_least_recently_used_go_first(store: DiskStore) -> None:
    actions = [add(store, str(n), b"%d" % n * 1000, used=LONG_AGO + n) for n in range(10)]
    store.lookup(actions[0])
    swept = sweep.sweep(store.root, 8000)
    assert swept is not None
    left = [n for n, action in enumerate(actions) if store.touch(action)]
    assert left == [0, 6, 7, 8, 9]
    assert (swept.entries, swept.entries_deleted) == (5, 5)
    assert (swept.blobs, swept.blobs_deleted) == (5, 5)
    assert swept.bytes == sum(path.stat().st_size for path in Path(store.root).glob("[ac]*/*/*"))
    assert len(names(store, "cas")) == 5


def test_within_the_limit_all_stay_also_above_the_low_water_mark(store: DiskStore) -> None:
    for number in range(9):
        add(store, str(number), b"%d" % number * 900)
    sweep.sweep(store.root, 10_000)
    assert len(names(store, "ac")) == 9


def test_a_blob_that_two_entries_share_counts_once_and_stays_for_the_newer(store: DiskStore) -> None:
    shared = b"s" * 5000
    add(store, "old", shared, b"only old", used=LONG_AGO)
    kept = add(store, "new", shared, b"only new", used=LONG_AGO + 1)
    sweep.sweep(store.root, 10_000)
    assert len(names(store, "ac")) == 2
    sweep.sweep(store.root, 5200)
    assert names(store, "ac") == set()
    kept = add(store, "new", shared, b"only new", used=LONG_AGO + 1)
    add(store, "old", shared, b"y" * 2000, used=LONG_AGO)
    sweep.sweep(store.root, 7000)
    assert names(store, "ac") == {kept.hash}
    assert broken_entries(store) == []
    assert digest_of(shared).hash in names(store, "cas")


def test_without_a_limit_only_what_nothing_reaches_goes(store: DiskStore) -> None:
    kept = add(store, "kept", b"k" * 5000)
    stray = store.put(b"stray")
    age(blob_path(store.root, stray.hash))
    swept = sweep.sweep(store.root, 0)
    assert swept is not None
    assert swept.blobs_deleted == 1
    assert not store.has(stray)
    assert names(store, "ac") == {kept.hash}


def test_a_young_blob_stays_although_nothing_reaches_it(store: DiskStore) -> None:
    young, old = store.put(b"young"), store.put(b"old")
    age(blob_path(store.root, young.hash), time.time() - GRACE + 60)
    age(blob_path(store.root, old.hash), time.time() - GRACE - 60)
    sweep.sweep(store.root, 1)
    assert store.has(young)
    assert not store.has(old)


def test_an_entry_that_can_never_fit_does_not_push_out_the_others(store: DiskStore) -> None:
    small = [add(store, str(n), b"%d" % n * 100, used=LONG_AGO + n) for n in range(3)]
    for size in (20_000, 9_000):
        large = add(store, "large", b"l" * size, used=LONG_AGO + 100)
        swept = sweep.sweep(store.root, 9_300)
        assert swept is not None
        assert swept.too_large == 1
        assert not store.touch(large)
        assert all(store.touch(action) for action in small)


def test_a_large_entry_stays_as_long_as_all_fit(store: DiskStore) -> None:
    large = add(store, "large", b"l" * 9_000)
    sweep.sweep(store.root, 10_000)
    assert store.touch(large)


def test_an_entry_that_is_broken_goes_and_what_it_had_goes_too(store: DiskStore) -> None:
    whole = add(store, "whole", b"whole")
    add(store, "broken", b"there", b"gone")
    os.unlink(blob_path(store.root, digest_of(b"gone").hash))
    add(store, "short", b"cut short")
    os.chmod(blob_path(store.root, digest_of(b"cut short").hash), 0o600)
    os.truncate(blob_path(store.root, digest_of(b"cut short").hash), 3)
    age(blob_path(store.root, digest_of(b"cut short").hash))
    unreadable = add(store, "unreadable", b"x")
    Path(entry_path(store.root, unreadable.hash)).write_bytes(b"garbage")
    swept = sweep.sweep(store.root)
    assert swept is not None
    assert swept.damaged == 3
    assert names(store, "ac") == {whole.hash}
    assert names(store, "cas") == {digest_of(b"whole").hash}


def test_what_a_result_reaches(store: DiskStore) -> None:
    """Every way in which a result can name a blob."""
    blobs = {
        name: store.put(name.encode()) for name in ("file", "out", "err", "root", "deep", "listed", "sub")
    }
    tree = Tree(
        root=Directory(files=(FileNode(name="r", digest=blobs["root"]),)),
        children=(Directory(files=(FileNode(name="d", digest=blobs["deep"]),)),),
    )
    sub = store.put(encode(Directory(files=(FileNode(name="s", digest=blobs["sub"]),))))
    listed = Directory(
        files=(FileNode(name="l", digest=blobs["listed"]),),
        directories=(DirectoryNode(name="s", digest=sub),),
    )
    result = ActionResult(
        output_files=(OutputFile(path="file", digest=blobs["file"]),),
        stdout_digest=blobs["out"],
        stderr_digest=blobs["err"],
        output_directories=(
            OutputDirectory(path="tree", tree_digest=store.put(encode(tree))),
            OutputDirectory(path="listed", root_directory_digest=store.put(encode(listed))),
        ),
    )
    store.store(digest_of(b"action"), result)
    store.put(b"stray")
    age_everything(store)
    before = names(store, "cas") - {digest_of(b"stray").hash}
    sweep.sweep(store.root, 0)
    assert names(store, "cas") == before
    for name in before:
        held = Path(blob_path(store.root, name)).read_bytes()
        os.unlink(blob_path(store.root, name))
        store.store(digest_of(b"action"), result)
        swept = sweep.sweep(store.root, 0)
        assert swept is not None
        assert swept.damaged == 1, held
        for content in (b.encode() for b in blobs):
            store.put(content)
        store.put(held)
        assert store.put(encode(tree)).hash in before
        assert store.put(encode(listed)).hash in before
        store.put(encode(Directory(files=(FileNode(name="s", digest=blobs["sub"]),))))


def test_what_an_action_reaches_stays_with_its_entry_and_goes_with_it(store: DiskStore) -> None:
    leaf = Directory(files=(FileNode(name="input", digest=digest_of(b"contents of inputs aren't stored")),))
    root = Directory(directories=(DirectoryNode(name="leaf", digest=store.put(encode(leaf))),))
    command = Command(arguments=("make",))
    action = Action(command_digest=store.put(encode(command)), input_root_digest=store.put(encode(root)))
    key = store.put(encode(action))
    lost = Action(command_digest=digest_of(b"lost"), input_root_digest=digest_of(b"lost too"))
    other = store.put(encode(lost))
    for each in (key, other, digest_of(b"without any")):
        store.store(each, ActionResult())
    store.put(b"contents of inputs aren't stored")
    age_everything(store)
    sweep.sweep(store.root, 0)
    assert names(store, "cas") == {
        digest_of(encode(m)).hash  # type: ignore[arg-type]
        for m in (leaf, root, command, action, lost)
    }
    assert len(names(store, "ac")) == 3
    store.remove(key)
    sweep.sweep(store.root, 0)
    assert names(store, "cas") == {other.hash}


def test_stamps_from_the_future_are_pulled_back(store: DiskStore) -> None:
    """The clock was a year ahead once: such blobs don't stay for ever, nor go from under a run."""
    stray = store.put(b"stray")
    age(blob_path(store.root, stray.hash), NOW + 365 * 86400)
    first = add(store, "first", b"f" * 1000, used=NOW + 365 * 86400)
    sweep.sweep(store.root)
    assert store.has(stray)
    assert os.stat(blob_path(store.root, stray.hash)).st_mtime == pytest.approx(time.time(), abs=60)
    assert os.stat(entry_path(store.root, first.hash)).st_mtime == pytest.approx(time.time(), abs=60)
    sweep.sweep(store.root, now=lambda: time.time() + 2 * GRACE)
    assert not store.has(stray)


@pytest.mark.parametrize("by", [sweep.sweep, verify])
@pytest.mark.parametrize("anew", [False, True])
def test_blobs_in_directories_of_two_characters_are_moved_up(
    store: DiskStore, anew: bool, by: Callable[[str], object]
) -> None:
    """As they were before the first release. One that was put again meanwhile is younger, and stays."""
    digest = store.put(b"content")
    path = Path(blob_path(store.root, digest.hash))
    old = Path(store.root, "cas", digest.hash[:2], digest.hash)
    old.parent.mkdir()
    path.rename(old)
    if anew:
        age(str(old))
        store.put(b"content")
    before = path.stat().st_ino if anew else old.stat().st_ino
    by(store.root)
    assert store.read(digest) == b"content"
    assert path.stat().st_ino == before
    assert not old.parent.exists()


def test_strange_files_are_left_alone(store: DiskStore) -> None:
    digest = store.put(b"x")
    folder = Path(blob_path(store.root, digest.hash)).parent
    strange = [folder / "README", folder / ("0" * 64), folder.parent / "lost+found"]
    for path in strange:
        path.write_bytes(b"")
        age(str(path))
    sweep.sweep(store.root)
    assert all(path.exists() for path in strange)


# ------------------------------------------------------------------------------------------------ tidying


def leave(store: DiskStore, name: str, days: float) -> Path:
    path = Path(store.root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left")
    age(str(path), time.time() - days * 86400)
    return path


def test_what_was_left_behind_goes_in_time(store: DiskStore) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    stays = [
        leave(store, f"tmp/{os.getpid()}-0-1", 0.9),
        leave(store, f"tmp/{dead.pid}-0-1", 0.001),
        leave(store, f"quarantine/{'a' * 64}-1-1-1", 6),
        leave(store, "recall/ab/record", 29),
        leave(store, "state/record", 29),
        leave(store, "ids/record", 29),
        leave(store, "journal/2020", 1000),
        leave(store, "locks/" + "b" * 64, 29),
        leave(store, "locks/sweep", 1000),
    ]
    goes = [
        leave(store, f"tmp/{os.getpid()}-0-2", 1.1),
        leave(store, f"tmp/{dead.pid}-0-2", 0.1),
        leave(store, "tmp/strange", 0.1),
        leave(store, f"quarantine/{'a' * 64}-1-1-2", 8),
        leave(store, "recall/ab/old", 31),
        leave(store, "state/old", 31),
        leave(store, "ids/old", 31),
        leave(store, "locks/" + "c" * 64, 31),
    ]
    sweep.sweep(store.root)
    assert [path.name for path in stays if not path.exists()] == []
    assert [path.name for path in goes if path.exists()] == []


def test_a_store_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StoreError):
        sweep.sweep(str(tmp_path / "store"))


def test_a_large_store_is_swept_in_reasonable_time(store: DiskStore) -> None:
    """2,000 entries that share their inputs, 5 outputs each: linear in what there is."""
    folders = tuple(
        DirectoryNode(name=str(n), digest=store.put(encode(Directory(files=(FileNode(name=f"{n}"),)))))
        for n in range(200)
    )
    root = store.put(encode(Directory(directories=folders)))
    for place in range(2000):
        key = store.put(encode(Action(input_root_digest=root, salt=b"%d" % place)))
        outputs = tuple(
            OutputFile(path=str(n), digest=store.put(b"%d %d" % (place, n) * 50)) for n in range(5)
        )
        store.store(key, ActionResult(output_files=outputs))
    age_everything(store)
    began = time.process_time()
    swept = sweep.sweep(store.root, 1_000_000)
    took = time.process_time() - began
    assert swept is not None
    assert swept.entries_deleted > 500
    assert broken_entries(store) == []
    assert took < 10
