"""The store in a directory: what is in it, what it costs, and how old what is in it is."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsula.core.digest import EMPTY, digest_of
from capsula.core.reapi import ActionResult
from capsula.errors import BlobCorrupt
from capsula.store import disk, files
from capsula.store.disk import DiskStore
from capsula.store.layout import GRACE, blob_path, entry_path
from unit.store.directory import ACTION, MIB, SIZES, all_files, damage_flip

# ------------------------------------------------------------------------------------------------ the directory


def test_making_one_touches_nothing_and_reading_makes_nothing(store: DiskStore) -> None:
    assert not store.has(EMPTY)
    assert store.lookup(ACTION) is None
    assert not store.touch(ACTION)
    store.remove(ACTION)
    assert store.missing([EMPTY]) == [EMPTY]
    assert not Path(store.root).exists()


def test_only_the_owner_can_look_in(tmp_path: Path) -> None:
    store = DiskStore(str(tmp_path / "a" / "b"), now=time.time)
    before = os.umask(0)
    try:
        digest = store.put(b"secret")
        store.store(ACTION, ActionResult())
    finally:
        os.umask(before)
    for folder in [tmp_path / "a", *(tmp_path / "a").rglob("*")]:
        if folder.is_dir():
            assert folder.stat().st_mode & 0o7777 == 0o700, folder
    assert Path(blob_path(store.root, digest.hash)).stat().st_mode & 0o7777 == 0o400
    assert Path(entry_path(store.root, ACTION.hash)).stat().st_mode & 0o7777 == 0o600


def test_the_names_are_those_of_the_documented_format(store: DiskStore) -> None:
    digest = store.put(b"content")
    result = ActionResult(exit_code=3)
    store.store(ACTION, result)
    assert all_files(store) == [
        Path(store.root, "ac", ACTION.hash[:2], ACTION.hash),
        Path(store.root, "cas", digest.hash[0], digest.hash),
    ]
    magic, checksum, payload = Path(entry_path(store.root, ACTION.hash)).read_bytes().split(b"\n", 2)
    assert magic == b"capsula-ac1"
    assert checksum.decode() == digest_of(ACTION.hash.encode() + payload).hash
    assert payload == b"\x20\x03"


def test_nothing_is_left_in_tmp(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 3 * MIB)
    for _ in range(2):
        store.put(b"small")
        store.put_file(str(tmp_path / "large"))
        store.store(ACTION, ActionResult())
    assert all_files(store, "tmp") == []
    assert len(all_files(store)) == 3


# ------------------------------------------------------------------------------------------------ cost


def test_a_blob_that_is_there_is_not_written_again(store: DiskStore, tmp_path: Path) -> None:
    for size in SIZES:
        (tmp_path / "file").write_bytes(b"x" * size)
        digest = store.put(b"x" * size)
        before = os.stat(blob_path(store.root, digest.hash))
        written = store.written
        store.put(b"x" * size)
        store.put_file(str(tmp_path / "file"))
        after = os.stat(blob_path(store.root, digest.hash))
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert store.written == written


def test_written_counts_what_was_added(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 2 * MIB)
    store.put(b"12345")
    store.put(b"12345")
    store.put_file(str(tmp_path / "file"))
    assert store.written == 5 + 2 * MIB
    store.store(ACTION, ActionResult())
    assert store.written == sum(path.stat().st_size for path in all_files(store))


def test_memory_stays_flat_for_large_files(store: DiskStore, tmp_path: Path) -> None:
    """256 MiB in and out, in a process that may not have that much."""
    with (tmp_path / "large").open("wb") as file:
        for number in range(256):
            file.write(number.to_bytes(2, "big") * (MIB // 2))
    code = f"""
import resource, sys, time
sys.path[:0] = {sys.path!r}
from capsula.store.disk import DiskStore
resource.setrlimit(resource.RLIMIT_AS, (160 << 20, 160 << 20))
store = DiskStore({store.root!r}, now=time.time)
digest = store.put_file({str(tmp_path / "large")!r})
store.fetch(digest, {str(tmp_path / "out")!r}, 0o644)
assert digest.size_bytes == 256 << 20
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert subprocess.run(["cmp", tmp_path / "large", tmp_path / "out"]).returncode == 0


def test_a_sparse_file_stays_sparse(store: DiskStore, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(20 * MIB + 5)
        file.write(b"in the middle")
    digest = store.put_file(str(tmp_path / "sparse"))
    store.fetch(digest, str(tmp_path / "out"), 0o644)
    assert digest.size_bytes == 64 * MIB
    for path in (tmp_path / "out", Path(blob_path(store.root, digest.hash))):
        assert path.stat().st_size == 64 * MIB
        assert path.stat().st_blocks * 512 < 4 * MIB
    assert subprocess.run(["cmp", tmp_path / "sparse", tmp_path / "out"]).returncode == 0


def test_where_blocks_can_be_shared_it_is_the_clone_that_is_verified(store, tmp_path, monkeypatch) -> None:
    """Few file systems can, so a copy stands for the clone here."""
    clones: list[int] = []

    def clone(source: int, target: int) -> bool:
        clones.append(os.sendfile(target, source, 0, 1 << 30))
        return True

    monkeypatch.setattr(files, "_clone", clone)
    content = random.Random(1).randbytes(3 * MIB)
    (tmp_path / "source").write_bytes(content)
    digest = store.put_file(str(tmp_path / "source"))
    assert digest == digest_of(content)
    store.fetch(digest, str(tmp_path / "out"), 0o640)
    assert (tmp_path / "out").read_bytes() == content
    damage_flip(blob_path(store.root, digest.hash))
    with pytest.raises(BlobCorrupt):
        store.fetch(digest, str(tmp_path / "again"), 0o640)
    assert not (tmp_path / "again").exists()
    assert clones == [3 * MIB] * 3


def test_a_file_without_a_size_is_read_to_its_end(store: DiskStore) -> None:
    """Files of /proc say that they are empty."""
    digest = store.put_file("/proc/self/status")
    assert digest.size_bytes > 100
    assert store.read(digest).startswith(b"Name:")


def test_the_modules_of_a_hit_stay_light() -> None:
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
before = set(sys.modules)
import capsula.store.disk, capsula.store.memory, capsula.core.reapi, capsula.core.wire
import time
store = capsula.store.disk.DiskStore("/nonexistent", now=time.time)
store.lookup(capsula.core.digest.EMPTY)
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("capsula")))
"""
    found = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert set(found.stdout.split()) <= {"_hashlib", "_sha2", "_sha256", "errno", "itertools", "time"}


# ------------------------------------------------------------------------------------------------ time stamps


class Clock:
    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


def test_a_good_lookup_counts_as_a_use(tmp_path: Path) -> None:
    clock = Clock()
    store = DiskStore(str(tmp_path), now=clock)
    store.store(ACTION, ActionResult())
    path = entry_path(store.root, ACTION.hash)
    clock.time += 1000
    store.lookup(ACTION)
    assert os.stat(path).st_mtime == pytest.approx(clock.time, abs=1)
    clock.time += 1000
    assert store.touch(ACTION)
    assert os.stat(path).st_mtime == pytest.approx(clock.time, abs=1)
    store.remove(ACTION)
    assert not store.touch(ACTION)
    assert store.lookup(ACTION) is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["put", "put_file", "missing"])
def test_relying_on_an_old_blob_makes_it_young(tmp_path: Path, size: int, way: str) -> None:
    clock = Clock()
    store = DiskStore(str(tmp_path / "store"), now=clock)
    content = b"c" * size
    (tmp_path / "file").write_bytes(content)
    digest = store.put(content)
    path = blob_path(store.root, digest.hash)

    def rely() -> None:
        if way == "put":
            store.put(content)
        elif way == "put_file":
            store.put_file(str(tmp_path / "file"))
        else:
            assert store.missing([digest]) == []

    for age, refreshed in (
        (GRACE / 2 - 10, False),
        (GRACE / 2 + 10, True),
        (10 * GRACE, True),
        (-GRACE, True),
    ):
        stamp = clock.time - age
        os.utime(path, (stamp, stamp))
        rely()
        assert (os.stat(path).st_mtime == pytest.approx(clock.time, abs=1)) == refreshed, age


def test_asking_and_reading_leave_a_blob_old(tmp_path: Path) -> None:
    clock = Clock()
    store = DiskStore(str(tmp_path), now=clock)
    digest = store.put(b"content")
    path = blob_path(store.root, digest.hash)
    os.utime(path, (1000, 1000))
    assert store.has(digest)
    store.read(digest)
    assert os.stat(path).st_mtime == 1000


def test_a_blob_that_vanishes_between_look_and_refresh_is_written_anew(store, monkeypatch) -> None:
    digest = store.put(b"content")
    path = blob_path(store.root, digest.hash)
    os.utime(path, (1000, 1000))
    real = os.utime

    def sweep_first(target, *args, **kwargs):  # type: ignore[no-untyped-def]
        os.unlink(path)
        real(target, *args, **kwargs)

    monkeypatch.setattr(disk.os, "utime", sweep_first)
    store.put(b"content")
    monkeypatch.undo()
    assert store.read(digest) == b"content"
