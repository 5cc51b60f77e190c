"""What has just come: used out of memory, and in the store when it is let go."""

import time
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.errors import BlobCorrupt, StoreError
from capsula.store import arrivals
from capsula.store.arrivals import Arrivals
from capsula.store.disk import DiskStore
from capsula.store.receive import receiving
from capsula.store.unopened import open_one

CONTENTS = [b"content %d" % number * (number + 1) for number in range(200)]
FEW = CONTENTS[:3]
ACTION = digest_of(b"action")


@pytest.fixture
def near(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "near"), now=time.time)


def take(came: Arrivals, contents: list[bytes]) -> None:
    for content in contents:
        with receiving(came.receive, digest_of(content)) as receiver:
            receiver.write(content[:5])
            receiver.write(memoryview(content)[5:])


def kept(near: DiskStore, contents: list[bytes]) -> bool:
    """Whether they are there once the result is asked for."""
    open_one(near, ACTION.hash)
    return all(near.read(digest_of(content)) == content for content in contents)


def rests(near: DiskStore) -> list[Path]:
    return list(Path(near.root, "tmp").glob("*"))


@pytest.mark.parametrize("contents", [CONTENTS, FEW, [b""]])
def test_it_is_used_out_of_memory_and_kept_in_the_end(near: DiskStore, contents: list[bytes]) -> None:
    came = Arrivals(near, ACTION, time.time)
    take(came, contents)
    assert [came.get(digest_of(content)) for content in contents] == contents
    assert came.is_all
    assert came.get(Digest(digest_of(contents[0]).hash, 1_000)) is None
    came.finish()
    assert kept(near, contents)
    assert rests(near) == []
    assert came.get(digest_of(contents[0])) is None, "it isn't needed in memory any more"


def test_what_memory_has_no_room_for_goes_to_the_disk_at_once(
    near: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_ROOM", sum(map(len, CONTENTS[:150])))
    came = Arrivals(near, ACTION, time.time)
    take(came, CONTENTS)
    assert kept(near, CONTENTS[150:])
    assert not came.is_all
    assert [came.get(digest_of(content)) for content in CONTENTS] == CONTENTS[:150] + [None] * 50
    came.finish()
    assert kept(near, CONTENTS)


@pytest.mark.parametrize("wrong", [b"", b"content 0 and more", b"content 1"])
def test_what_comes_wrong_is_neither_used_nor_kept(near: DiskStore, wrong: bytes) -> None:
    came = Arrivals(near, ACTION, time.time)
    digest = digest_of(CONTENTS[0])
    with pytest.raises(BlobCorrupt), receiving(came.receive, digest) as receiver:
        receiver.write(wrong)
    assert came.get(digest) is None
    take(came, CONTENTS[1:])
    came.finish()
    assert not near.has(digest)
    assert kept(near, CONTENTS[1:])


def test_no_blob_has_a_name_that_is_no_hash(near: DiskStore) -> None:
    came = Arrivals(near, ACTION, time.time)
    with pytest.raises(BlobCorrupt):
        came.receive(Digest("../../etc/passwd", 5))
    came.finish()


def test_a_disk_that_refuses_is_told_in_the_end(near: DiskStore) -> None:
    Path(near.root).write_bytes(b"")
    came = Arrivals(near, ACTION, time.time)
    take(came, CONTENTS)
    assert came.get(digest_of(CONTENTS[0])) == CONTENTS[0]
    with pytest.raises(StoreError):
        came.finish()


def test_few_have_files_of_their_own_at_once(near: DiskStore) -> None:
    came = Arrivals(near, ACTION, time.time)
    take(came, FEW)
    came.finish()
    assert all(near.has(digest_of(content)) for content in FEW)
    assert near.written == sum(map(len, FEW))


def test_many_are_in_one_file_until_they_are_asked_for(near: DiskStore) -> None:
    came = Arrivals(near, ACTION, time.time)
    take(came, CONTENTS)
    came.finish()
    assert not any(near.has(digest_of(content)) for content in CONTENTS)
    assert near.written == sum(map(len, CONTENTS))
    assert kept(near, CONTENTS)
