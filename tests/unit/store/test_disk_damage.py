"""Damage in the store's directory: what is bad never comes out, is set aside and healed; no kill leaves any."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import BlobCorrupt, BlobMissing, EntryCorrupt
from capsula.store import disk, files, layout
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path, entry_path
from unit.store.directory import ACTION, MIB, SIZES, all_files, damage_flip, overwrite

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


def damage_last(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    overwrite(path, content)


def swap(one: str, two: str) -> None:
    os.rename(one, one + ".x")
    os.rename(two, one)
    os.rename(one + ".x", two)


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
    swap(blob_path(store.root, one.hash), blob_path(store.root, two.hash))
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
    swap(entry_path(store.root, ACTION.hash), entry_path(store.root, other.hash))
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
        os.unlink({root!r} + "/cas/" + outputs[-1].digest.hash[0] + "/" + outputs[-1].digest.hash)
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
