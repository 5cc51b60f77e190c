"""Every store, held against the contract of its ports."""

import time
from functools import partial
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult
from capsula.errors import BlobMissing
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path, entry_path
from capsula.store.memory import DummyStore, MemoryStore
from capsula.testing import ActionCacheContract, BlobStoreContract


def flip_a_byte(path: str, at: int) -> None:
    file = Path(path)
    file.chmod(0o600)
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


class TestDiskStore(BlobStoreContract, ActionCacheContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> DiskStore:
        return DiskStore(str(tmp_path / "not" / "made yet"), now=time.time)

    def opener(self, store):
        return partial(DiskStore, store.root, now=time.time)

    def corrupt(self, store, digest: Digest) -> None:
        flip_a_byte(blob_path(store.root, digest.hash), digest.size_bytes // 2)

    def corrupt_entry(self, store, action: Digest) -> None:
        flip_a_byte(entry_path(store.root, action.hash), -1)


class TestMemoryStore(BlobStoreContract, ActionCacheContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    def corrupt(self, store, digest: Digest) -> None:
        pytest.skip("nobody else reaches this memory")


class TestDummyStore:
    def test_it_tells_true_digests_and_keeps_nothing(self, tmp_path: Path) -> None:
        store = DummyStore()
        (tmp_path / "file").write_bytes(b"content")
        assert store.put(b"content") == store.put_file(str(tmp_path / "file")) == digest_of(b"content")
        digest = digest_of(b"content")
        assert not store.has(digest)
        assert store.missing([digest]) == [digest]
        with pytest.raises(BlobMissing):
            store.read(digest)
        with pytest.raises(BlobMissing):
            store.fetch(digest, str(tmp_path / "out"), 0o644)
        assert not (tmp_path / "out").exists()

    def test_every_lookup_is_a_miss(self) -> None:
        store = DummyStore()
        store.store(digest_of(b"action"), ActionResult())
        assert store.lookup(digest_of(b"action")) is None
        assert not store.touch(digest_of(b"action"))
        store.remove(digest_of(b"action"))
