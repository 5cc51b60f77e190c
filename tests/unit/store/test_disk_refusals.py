"""Where the store's directory can't be written or read: full and read-only disks, files in the way, limits."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsula.core.digest import EMPTY, Digest, digest_of
from capsula.core.reapi import ActionResult
from capsula.errors import BlobCorrupt, BlobMissing, OutputError, StoreError
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path
from unit.store.directory import ACTION, MIB, SIZES, all_files, damage_flip

IS_ROOT = os.geteuid() == 0


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
