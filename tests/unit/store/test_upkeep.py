"""How much there is, whether it is sound, and making it empty."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsula.core.digest import digest_of
from capsula.core.reapi import ActionResult, Directory, FileNode, OutputDirectory, OutputFile, Tree
from capsula.core.wire import encode
from capsula.errors import StoreError
from capsula.store import trash, upkeep
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path, entry_path
from capsula.store.size import take_lock


def add(store: DiskStore, key: str, *contents: bytes) -> str:
    outputs = tuple(OutputFile(path=f"{n}", digest=store.put(content)) for n, content in enumerate(contents))
    store.store(digest_of(key.encode()), ActionResult(output_files=outputs))
    return digest_of(key.encode()).hash


def rewrite(path: str, content: bytes) -> None:
    os.chmod(path, 0o600)
    Path(path).write_bytes(content)


# ------------------------------------------------------------------------------------------------ stats


def test_a_store_that_does_not_exist_is_empty(store: DiskStore) -> None:
    nothing = upkeep.Usage(0, 0)
    stats = upkeep.stats(store.root)
    assert stats == upkeep.Stats(nothing, nothing, nothing, nothing, nothing, nothing)
    assert not Path(store.root).exists()


def test_stats_tell_what_there_is(store: DiskStore, tmp_path: Path) -> None:
    add(store, "one", b"a" * 100, b"b" * 50)
    add(store, "two", b"a" * 100)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"123456")
    trash.bury(store.root, str(tmp_path / "mine"), now=time.time())
    for name, content in (
        ("tmp/1-1-1", b"12"),
        ("quarantine/x", b"123"),
        ("recall/ab/c", b"1"),
        ("ids/d", b"12"),
    ):
        path = Path(store.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    stats = upkeep.stats(store.root)
    entries = sum(path.stat().st_size for path in Path(store.root).glob("ac/*/*"))
    assert stats.entries == upkeep.Usage(2, entries)
    assert stats.blobs == upkeep.Usage(2, 150)
    assert stats.bytes == entries + 150
    assert stats.temporary == upkeep.Usage(1, 2)
    assert stats.quarantine == upkeep.Usage(1, 3)
    assert stats.trash == upkeep.Usage(1, 6)
    assert stats.records == upkeep.Usage(2, 3)


# ------------------------------------------------------------------------------------------------ verify


def test_a_sound_store_is_found_sound(store: DiskStore) -> None:
    add(store, "one", b"a", b"", b"x" * 3_000_000)
    read: list[int] = []
    verified = upkeep.verify(store.root, progress=read.append)
    assert verified.sound
    assert (verified.entries, verified.blobs, verified.bytes) == (1, 3, 3_000_001)
    assert sum(read) == 3_000_001
    assert upkeep.verify(store.root + "/elsewhere").sound


def test_everything_bad_is_found_and_set_aside_and_the_rest_stays(store: DiskStore) -> None:
    good = add(store, "good", b"good", b"shared")
    spoiled = add(store, "its blob is bad", b"spoiled", b"shared")
    lost = add(store, "its blob is gone", b"lost")
    short = add(store, "its blob is short", b"cut short")
    bad = add(store, "is bad itself", b"fine")
    tree = store.put(
        encode(Tree(root=Directory(files=(FileNode(name="deep", digest=digest_of(b"never put")),))))
    )
    deep = digest_of(b"a blob in its tree is gone")
    store.store(deep, ActionResult(output_directories=(OutputDirectory(path="d", tree_digest=tree),)))
    rewrite(blob_path(store.root, digest_of(b"spoiled").hash), b"SPOILED")
    rewrite(blob_path(store.root, digest_of(b"cut short").hash), b"cut")
    os.unlink(blob_path(store.root, digest_of(b"lost").hash))
    rewrite(entry_path(store.root, bad), b"capsula-ac1\nnonsense")
    before = {path.name for path in Path(store.root).glob("[ac]*/*/*")}

    verified = upkeep.verify(store.root)

    assert not verified.sound
    assert verified.bad_blobs == tuple(sorted(digest_of(c).hash for c in (b"spoiled", b"cut short")))
    assert verified.bad_entries == (bad,)
    assert verified.incomplete == tuple(sorted((spoiled, lost, short, deep.hash)))
    assert (verified.entries, verified.blobs) == (1, 4)
    gone = {*verified.bad_blobs, *verified.bad_entries, *verified.incomplete}
    assert {path.name for path in Path(store.root).glob("[ac]*/*/*")} == before - gone
    assert store.lookup(digest_of(b"good")) is not None
    assert good
    assert {path.name[:64] for path in Path(store.root, "quarantine").iterdir()} == {*verified.bad_blobs, bad}
    assert upkeep.verify(store.root).sound


def test_a_blob_that_is_stored_meanwhile_does_not_count_as_gone(store: DiskStore, monkeypatch) -> None:
    """Entries that appear after the blobs were read: their blobs are looked for where they are."""
    real = upkeep.scan

    def scan(root, kind):  # type: ignore[no-untyped-def]
        if kind == "ac":
            add(store, "late", b"late blob")
        return real(root, kind)

    monkeypatch.setattr(upkeep, "scan", scan)
    verified = upkeep.verify(store.root)
    assert verified.sound
    assert verified.entries == 1


def test_verify_waits_for_a_sweep(store: DiskStore) -> None:
    add(store, "one", b"a")
    lock = take_lock(store.root)
    assert lock is not None
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from capsula.store.upkeep import verify
print("began", flush=True)
print(verify({store.root!r}).sound, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    os.close(lock)
    assert process.communicate()[0] == "True\n"


# ------------------------------------------------------------------------------------------------ clear


def leave(store: DiskStore, name: str) -> Path:
    path = Path(store.root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left")
    return path


def test_clear_leaves_the_trash_and_the_journal(store: DiskStore, tmp_path: Path) -> None:
    add(store, "one", b"a" * 100, b"b")
    (tmp_path / "mine").write_bytes(b"precious")
    item = trash.bury(store.root, str(tmp_path / "mine"), now=time.time())
    journal = leave(store, "journal/2025-01")
    mine = leave(store, f"tmp/{os.getpid()}-1-1")
    lock = leave(store, "locks/" + "a" * 64)
    goes = [leave(store, name) for name in ("recall/x", "state/x", "ids/x", "quarantine/x", "held/x")]
    cleared = upkeep.clear(store.root)
    assert (cleared.entries, cleared.blobs) == (1, 2)
    assert cleared.bytes > 101
    assert list(Path(store.root).glob("[ac]*/*/*")) == []
    assert [path for path in goes if path.exists()] == []
    assert journal.exists()
    assert mine.exists()
    assert lock.exists()
    assert [found.id for found in trash.items(store.root)] == [item.id]
    store.put(b"works again")
    assert upkeep.verify(store.root).sound


def test_clear_takes_the_trash_and_the_journal_if_asked(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    trash.bury(store.root, str(tmp_path / "mine"), now=time.time() + 1000)
    journal = leave(store, "journal/2025-01")
    upkeep.clear(store.root, empty_trash=True, journal=True)
    assert not journal.exists()
    assert trash.items(store.root) == []


def test_an_entry_stored_while_clearing_is_whole_or_gone(store: DiskStore, monkeypatch) -> None:
    """A run whose blobs were cleared before it stored its entry, and one that came later with everything."""
    add(store, "old", b"a")
    real = upkeep._clear

    def clear(root: str) -> upkeep.Cleared:
        digest = store.put(b"blob of a run in the middle")
        cleared = real(root)
        store.store(digest_of(b"middle"), ActionResult(output_files=(OutputFile(path="a", digest=digest),)))
        add(store, "later", b"b")
        return cleared

    monkeypatch.setattr(upkeep, "_clear", clear)
    upkeep.clear(store.root)
    assert store.lookup(digest_of(b"middle")) is None
    assert store.lookup(digest_of(b"later")) is not None


def test_a_store_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for ask in (upkeep.verify, upkeep.clear):
        with pytest.raises(StoreError):
            ask(str(tmp_path / "file"))
