"""The store in a directory: damage, full and read-only disks, kills, and what it costs."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsula.core.digest import EMPTY, Digest, digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import BlobCorrupt, BlobMissing, EntryCorrupt, OutputError, StoreError
from capsula.store import disk, files, layout
from capsula.store.disk import DiskStore
from capsula.store.layout import GRACE, blob_path, entry_path

MIB = 1 << 20
SIZES = [10, 3 * MIB]
IS_ROOT = os.geteuid() == 0
ACTION = digest_of(b"an action")


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "store"), now=time.time)


def all_files(store: DiskStore, kind: str = "") -> list[Path]:
    return sorted(path for path in (Path(store.root) / kind).rglob("*") if not path.is_dir())


def overwrite(path: str, content: bytes) -> None:
    Path(path).chmod(0o600)
    Path(path).write_bytes(content)


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
        Path(store.root, "cas", digest.hash[:2], digest.hash),
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


# ------------------------------------------------------------------------------------------------ damage


def damage_truncate(path: str) -> None:
    os.chmod(path, 0o600)
    os.truncate(path, os.path.getsize(path) // 2)


def damage_empty(path: str) -> None:
    overwrite(path, b"")


def damage_zeros(path: str) -> None:
    overwrite(path, bytes(os.path.getsize(path)))


def damage_grow(path: str) -> None:
    overwrite(path, Path(path).read_bytes() + b"!")


def damage_flip(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 3] ^= 0x20
    overwrite(path, content)


def damage_last(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    overwrite(path, content)


def damage_directory(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)


def damage_link(path: str) -> None:
    os.rename(path, path + ".elsewhere")
    os.symlink(path + ".elsewhere", path)


DAMAGES = [
    damage_truncate,
    damage_empty,
    damage_zeros,
    damage_grow,
    damage_flip,
    damage_last,
    damage_directory,
    damage_link,
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("way", ["read", "fetch"])
def test_a_damaged_blob_never_comes_out_is_set_aside_and_healed(store, tmp_path, damage, size, way) -> None:
    content = random.Random(size).randbytes(size)
    digest = store.put(content)
    damage(blob_path(store.root, digest.hash))
    with pytest.raises(BlobCorrupt) as caught:
        store.read(digest) if way == "read" else store.fetch(digest, str(tmp_path / "out"), 0o644)
    assert digest.hash in caught.value.what
    assert not (tmp_path / "out").exists()
    assert not os.path.lexists(blob_path(store.root, digest.hash))
    assert [name for name in os.listdir(f"{store.root}/quarantine") if name.startswith(digest.hash)]
    with pytest.raises(BlobMissing):
        store.read(digest)
    (tmp_path / "source").write_bytes(content)
    assert store.put_file(str(tmp_path / "source")) == digest
    assert store.read(digest) == content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("damage", [damage_truncate, damage_empty, damage_grow])
def test_a_put_heals_a_blob_that_a_crash_cut_short(store, tmp_path, damage, size) -> None:
    content = b"y" * size
    digest = store.put(content)
    damage(blob_path(store.root, digest.hash))
    assert not store.has(digest)
    assert store.missing([digest]) == [digest]
    (tmp_path / "source").write_bytes(content)
    store.put_file(str(tmp_path / "source"))
    assert store.read(digest) == content


def test_two_blobs_that_were_swapped_are_both_found_out(store: DiskStore) -> None:
    one, two = store.put(b"first"), store.put(b"other")
    a, b = blob_path(store.root, one.hash), blob_path(store.root, two.hash)
    os.rename(a, a + ".x")
    os.rename(b, a)
    os.rename(a + ".x", b)
    for digest in (one, two):
        with pytest.raises(BlobCorrupt):
            store.read(digest)


def test_a_digest_with_a_wrong_size_does_not_set_a_good_blob_aside(store: DiskStore) -> None:
    digest = store.put(b"content")
    with pytest.raises(BlobMissing):
        store.read(Digest(digest.hash, 1 << 50))
    assert store.read(digest) == b"content"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_never_a_hit_is_set_aside_and_healed(store, damage) -> None:
    result = ActionResult(output_files=(OutputFile(path="a", digest=store.put(b"a")),), exit_code=0)
    store.store(ACTION, result)
    damage(entry_path(store.root, ACTION.hash))
    with pytest.raises(EntryCorrupt) as caught:
        store.lookup(ACTION)
    assert ACTION.hash in caught.value.what
    assert [name for name in os.listdir(f"{store.root}/quarantine") if name.startswith(ACTION.hash)]
    assert store.lookup(ACTION) is None
    store.store(ACTION, result)
    assert store.lookup(ACTION) == result


def test_two_entries_that_were_swapped_are_both_found_out(store: DiskStore) -> None:
    other = digest_of(b"another action")
    store.store(ACTION, ActionResult(exit_code=1))
    store.store(other, ActionResult(exit_code=2))
    a, b = entry_path(store.root, ACTION.hash), entry_path(store.root, other.hash)
    os.rename(a, a + ".x")
    os.rename(b, a)
    os.rename(a + ".x", b)
    for action in (ACTION, other):
        with pytest.raises(EntryCorrupt):
            store.lookup(action)


def test_an_entry_that_verifies_but_is_no_result_is_set_aside(store: DiskStore) -> None:
    store.store(ACTION, ActionResult())
    overwrite(entry_path(store.root, ACTION.hash), layout.seal(ACTION.hash, b"\xff\xff"))
    with pytest.raises(EntryCorrupt):
        store.lookup(ACTION)
    assert store.lookup(ACTION) is None


def test_every_byte_of_an_entry_counts(store: DiskStore) -> None:
    store.store(ACTION, ActionResult(stdout_raw=b"log", exit_code=1))
    path = entry_path(store.root, ACTION.hash)
    good = Path(path).read_bytes()
    for position in range(len(good)):
        for content in (
            good[:position],
            good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :],
        ):
            overwrite(path, content)
            with pytest.raises(EntryCorrupt):
                store.lookup(ACTION)
            store.store(ACTION, ActionResult())
    overwrite(path, good)
    assert store.lookup(ACTION) == ActionResult(stdout_raw=b"log", exit_code=1)


@pytest.mark.parametrize("size", SIZES)
def test_a_bad_sector_counts_as_damage(store, size, tmp_path, monkeypatch) -> None:
    digest = store.put(b"z" * size)
    real = os.read

    def failing(fd: int, count: int) -> bytes:
        if "/cas/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, count)

    monkeypatch.setattr(files, "_clone", lambda *_: False)
    monkeypatch.setattr(files.os, "read", failing)
    with pytest.raises(BlobCorrupt):
        store.fetch(digest, str(tmp_path / "out"), 0o644)
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    assert not store.has(digest)


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


# ------------------------------------------------------------------------------------------------ refusals


@pytest.fixture
def mount(tmp_path: Path):
    """Mounts a small tmpfs. Needs root; where that isn't to be had (and it isn't CI) the test is skipped."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / "mounted"
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True
        )
        if done.returncode and not (IS_ROOT and os.environ.get("CI") == "true"):
            pytest.skip("can't mount a tmpfs here")
        assert done.returncode == 0, done.stderr
        if place not in places:
            places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk_is_an_error_and_leaves_nothing_half(mount, tmp_path: Path, size: int) -> None:
    store = DiskStore(str(mount("size=2m,mode=700") / "store"), now=time.time)
    first = store.put(b"before")

    def fill() -> None:
        for number in range(1, 1000):
            store.put(b"%d" % number * 50_000)

    with pytest.raises(StoreError) as caught:
        fill()
    assert "disk is full" in caught.value.what
    assert caught.value.hint
    (tmp_path / "source").write_bytes(b"f" * max(size, 2 * 50_000))
    with pytest.raises(StoreError, match="disk is full"):
        store.put_file(str(tmp_path / "source"))
    assert all_files(store, "tmp") == []
    for path in all_files(store, "cas"):
        assert digest_of(path.read_bytes()).hash == path.name
    assert store.read(first) == b"before"


def test_a_full_disk_loses_no_entry(mount) -> None:
    store = DiskStore(str(mount("size=1m,mode=700") / "store"), now=time.time)
    store.store(ACTION, ActionResult(exit_code=1))
    with pytest.raises(StoreError, match="disk is full"):
        store.store(ACTION, ActionResult(exit_code=2, stdout_raw=b"x" * 2 * MIB))
    assert store.lookup(ACTION) == ActionResult(exit_code=1)
    assert all_files(store, "tmp") == []


def test_a_full_disk_where_the_output_goes_is_no_fault_of_the_store(mount, store: DiskStore) -> None:
    place = mount("size=1m,mode=700")
    for size in (900_000, 3 * MIB):
        digest = store.put(b"x" * size)
        (place / "filler").write_bytes(b"f" * 500_000)
        with pytest.raises(OutputError, match="No space left"):
            store.fetch(digest, str(place / "out"), 0o644)
        assert not (place / "out").exists()


def test_a_file_size_limit_is_an_error_and_leaves_nothing(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 3 * MIB)
    code = f"""
import resource, signal, sys, time
sys.path[:0] = {sys.path!r}
from capsula.errors import StoreError
from capsula.store.disk import DiskStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = DiskStore({store.root!r}, now=time.time)
store.put(b"small")
for put in (lambda: store.put(b"x" * 200_000), lambda: store.put_file({str(tmp_path / "source")!r})):
    try:
        put()
    except StoreError as error:
        assert "File too large" in error.what, error.what
    else:
        raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert [path.stat().st_size for path in all_files(store)] == [5]


def make_read_only(store: DiskStore, mount) -> DiskStore:
    """The store in a place that can't be written, also not by root."""
    if not IS_ROOT:
        for folder in [Path(store.root), *Path(store.root).rglob("*")]:
            if folder.is_dir():
                folder.chmod(0o500)
        return store
    place = mount("size=16m,mode=700")
    subprocess.run(["cp", "-a", store.root, place / "store"], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    return DiskStore(str(place / "store"), now=time.time)


def test_a_read_only_store_can_be_read_and_says_what_it_cannot_do(store, mount, tmp_path: Path) -> None:
    small, large = store.put(b"small"), store.put(b"x" * 3 * MIB)
    bad = store.put(b"will be bad")
    damage_flip(blob_path(store.root, bad.hash))
    store.store(ACTION, ActionResult(exit_code=1))
    os.utime(blob_path(store.root, small.hash), (1000, 1000))
    sealed = make_read_only(store, mount)
    try:
        assert sealed.read(small) == b"small"
        assert sealed.lookup(ACTION) == ActionResult(exit_code=1)
        assert sealed.touch(ACTION)
        assert not sealed.touch(EMPTY)
        sealed.fetch(large, str(tmp_path / "out"), 0o600)
        assert sealed.put(b"small") == small
        assert sealed.missing([small, EMPTY]) == [EMPTY]
        (tmp_path / "large").write_bytes(b"y" * 3 * MIB)
        for write in (
            lambda: sealed.put(b"new"),
            lambda: sealed.put_file(str(tmp_path / "large")),
            lambda: sealed.store(ACTION, ActionResult()),
            lambda: sealed.remove(ACTION),
        ):
            with pytest.raises(StoreError, match="can't be written") as caught:
                write()
            assert sealed.root in caught.value.what
            assert caught.value.hint
        for _ in range(2):
            with pytest.raises(BlobCorrupt):
                sealed.read(bad)
    finally:
        if not IS_ROOT:
            for folder in [Path(store.root), *Path(store.root).rglob("*")]:
                if folder.is_dir():
                    folder.chmod(0o700)


@pytest.mark.parametrize("where", ["", "tmp", "cas", "ac"])
def test_a_file_where_a_directory_should_be_is_an_error(tmp_path: Path, where: str) -> None:
    store = DiskStore(str(tmp_path / "store"), now=time.time)
    (tmp_path / "store" / where).parent.mkdir(exist_ok=True)
    (tmp_path / "store" / where).write_bytes(b"")
    if where != "ac":
        with pytest.raises(StoreError):
            store.put(b"x")
    if where != "cas":
        with pytest.raises(StoreError):
            store.store(ACTION, ActionResult())


def test_a_store_that_is_a_file_fails_everything_with_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    store = DiskStore(str(tmp_path / "store"), now=time.time)
    (tmp_path / "source").write_bytes(b"x")
    for attempt in (
        lambda: store.has(EMPTY),
        lambda: store.missing([EMPTY]),
        lambda: store.read(EMPTY),
        lambda: store.fetch(EMPTY, str(tmp_path / "out"), 0o644),
        lambda: store.put(b"x"),
        lambda: store.put_file(str(tmp_path / "source")),
        lambda: store.lookup(ACTION),
        lambda: store.store(ACTION, ActionResult()),
        lambda: store.remove(ACTION),
    ):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert not isinstance(caught.value, BlobMissing)
    assert not store.touch(ACTION)


def test_a_name_that_is_not_utf8_can_be_said_in_an_error(tmp_path: Path) -> None:
    root = os.fsdecode(os.fsencode(tmp_path) + b"/st\xffre")
    Path(root).write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        DiskStore(root, now=time.time).put(b"x")
    caught.value.what.encode()


def test_descriptors_do_not_leak(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 3 * MIB)
    large = store.put_file(str(tmp_path / "source"))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(30):
        for attempt in (
            lambda: store.read(EMPTY),
            lambda: store.read(Digest(large.hash, 5)),
            lambda: store.fetch(large, str(tmp_path / "source"), 0o644),
            lambda: store.put_file(str(tmp_path)),
            lambda number=number: store.fetch(large, str(tmp_path / f"out{number}"), 0o644),
            lambda: store.lookup(ACTION),
        ):
            try:
                attempt()
            except (StoreError, OutputError):
                pass
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------------------ kills

_WRITER = """
import random, sys, time
sys.path[:0] = {path!r}
from capsula.core.digest import digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.store.disk import DiskStore
store = DiskStore({root!r}, now=time.time)
rng = random.Random({seed})
print("started", flush=True)
while True:
    number = rng.randrange(10_000)
    contents = [rng.randbytes(rng.choice((0, 10, 5_000, 300_000))) for _ in range(5)]
    outputs = tuple(OutputFile(path=str(n), digest=store.put(content)) for n, content in enumerate(contents))
    if number % 4 == 0:
        outputs += (OutputFile(path="large", digest=store.put_file({large!r})),)
    store.store(digest_of(b"%d" % number), ActionResult(output_files=outputs))
    if number % 4 == 0:
        store.remove(digest_of(b"%d" % number))
        import os
        os.unlink({root!r} + "/cas/" + outputs[-1].digest.hash[:2] + "/" + outputs[-1].digest.hash)
"""


def test_a_kill_at_any_moment_leaves_no_half_blob_and_no_entry_without_blobs(store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(random.Random(0).randbytes(8 * MIB))
    rng = random.Random(1)
    for seed in range(200):
        # On a busy machine a writer may not come to write anything in its time.
        if seed >= 25 and all_files(store, "tmp") and all_files(store, "ac"):
            break
        code = _WRITER.format(path=sys.path, root=store.root, large=str(tmp_path / "large"), seed=seed)
        writer = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.random() * 0.15)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    assert all_files(store, "ac")
    for path in all_files(store, "cas"):
        assert digest_of(path.read_bytes()).hash == path.name
    for path in all_files(store, "ac"):
        result = store.lookup(Digest(path.name, 1))
        assert result is not None
        for output in result.output_files:
            assert output.path == "large" or store.has(output.digest), path
    assert all_files(store, "quarantine") == []
    leftover = all_files(store, "tmp")
    assert leftover, "no kill hit a write; the test proves nothing"


def test_an_exception_in_the_middle_leaves_nothing(store, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "large").write_bytes(b"x" * 3 * MIB)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(disk, "publish", interrupted)
    for put in (lambda: store.put(b"x"), lambda: store.put_file(str(tmp_path / "large"))):
        with pytest.raises(KeyboardInterrupt):
            put()
    assert all_files(store) == []
    monkeypatch.undo()
    digest = store.put_file(str(tmp_path / "large"))
    monkeypatch.setattr(files.os, "fchmod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.fetch(digest, str(tmp_path / "out"), 0o644)
    with pytest.raises(KeyboardInterrupt):
        store.fetch(store.put(b"small"), str(tmp_path / "out"), 0o644)
    assert not (tmp_path / "out").exists()


def test_the_soft_limit_of_descriptors_is_said_plainly(store: DiskStore) -> None:
    digest = store.put(b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        with pytest.raises(StoreError, match="Too many open files"):
            store.read(digest)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.read(digest) == b"x"
