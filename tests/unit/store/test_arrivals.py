"""What has just come: used out of memory, and in the store when it is let go."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.errors import BlobCorrupt, StoreError
from capsula.store import arrivals
from capsula.store.arrivals import Arrivals
from capsula.store.disk import DiskStore
from capsula.store.receive import receiving

CONTENTS = [b"content %d" % number * (number + 1) for number in range(200)]
FEW = CONTENTS[:3]


@pytest.fixture
def near(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "near"), now=time.time)


def take(came: Arrivals, contents: list[bytes]) -> None:
    for content in contents:
        with receiving(came.receive, digest_of(content)) as receiver:
            receiver.write(content[:5])
            receiver.write(memoryview(content)[5:])


def kept(near: DiskStore, contents: list[bytes]) -> bool:
    return all(near.read(digest_of(content)) == content for content in contents)


def rests(near: DiskStore) -> list[Path]:
    return list(Path(near.root, "tmp").glob("*"))


@pytest.mark.parametrize("contents", [CONTENTS, FEW, [b""]])
def test_it_is_used_out_of_memory_and_kept_in_the_end(near: DiskStore, contents: list[bytes]) -> None:
    came = Arrivals(near, time.time)
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
    came = Arrivals(near, time.time)
    take(came, CONTENTS)
    assert kept(near, CONTENTS[150:])
    assert not came.is_all
    assert [came.get(digest_of(content)) for content in CONTENTS] == CONTENTS[:150] + [None] * 50
    came.finish()
    assert kept(near, CONTENTS)


@pytest.mark.parametrize("wrong", [b"", b"content 0 and more", b"content 1"])
def test_what_comes_wrong_is_neither_used_nor_kept(near: DiskStore, wrong: bytes) -> None:
    came = Arrivals(near, time.time)
    digest = digest_of(CONTENTS[0])
    with pytest.raises(BlobCorrupt), receiving(came.receive, digest) as receiver:
        receiver.write(wrong)
    assert came.get(digest) is None
    take(came, CONTENTS[1:])
    came.finish()
    assert not near.has(digest)
    assert kept(near, CONTENTS[1:])


def test_no_blob_has_a_name_that_is_no_hash(near: DiskStore) -> None:
    came = Arrivals(near, time.time)
    with pytest.raises(BlobCorrupt):
        came.receive(Digest("../../etc/passwd", 5))
    came.finish()


def test_a_disk_that_refuses_is_told_in_the_end(near: DiskStore) -> None:
    Path(near.root).write_bytes(b"")
    came = Arrivals(near, time.time)
    take(came, CONTENTS)
    assert came.get(digest_of(CONTENTS[0])) == CONTENTS[0]
    with pytest.raises(StoreError):
        came.finish()


class Elsewhere(DiskStore):
    """Of the process that keeps them meanwhile, `otherwise` happens before the hundredth blob."""

    __slots__ = ("count", "otherwise", "pid")

    def __init__(self, root: str, otherwise: str) -> None:
        super().__init__(root, now=time.time)
        self.otherwise, self.pid, self.count = otherwise, os.getpid(), 0

    def keep(self, name: str, content: bytes) -> None:
        self.count += 1
        if os.getpid() != self.pid and self.count == 100:
            if self.otherwise == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.otherwise == "refused":
                raise StoreError("the disk is full")
        super().keep(name, content)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that were made; in the end all of them have been waited for. (The threads of who runs the tests
    don't count.)"""
    fork, made = os.fork, list[int]()

    def noted() -> int:
        pid = fork()
        made.append(pid)
        return pid

    monkeypatch.setattr("posix.fork", noted)
    monkeypatch.setattr(arrivals, "_is_alone", lambda: True)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    yield made
    for pid in made:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@pytest.mark.parametrize(("becomes", "here"), [("nothing", 0), ("killed", 200), ("refused", 200)])
def test_many_are_kept_whatever_becomes_of_the_process_that_keeps_them(
    tmp_path: Path, forked: list[int], becomes: str, here: int
) -> None:
    near = Elsewhere(str(tmp_path / "near"), becomes)
    came = Arrivals(near, time.time)
    take(came, CONTENTS)
    came.keep_meanwhile()
    assert [came.get(digest_of(content)) for content in CONTENTS] == CONTENTS
    came.finish()
    assert kept(near, CONTENTS)
    assert rests(near) == []
    assert (len(forked), near.count) == (1, here)
    assert near.written == sum(map(len, CONTENTS))


def test_many_are_kept_where_nobody_tells_how_a_process_ended(near: DiskStore, forked: list[int]) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        came = Arrivals(near, time.time)
        take(came, CONTENTS)
        came.keep_meanwhile()
        came.finish()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert kept(near, CONTENTS)
    assert len(forked) == 1


def test_a_disk_that_refuses_them_meanwhile_is_told_in_the_end(near: DiskStore, forked: list[int]) -> None:
    Path(near.root).write_bytes(b"")
    came = Arrivals(near, time.time)
    take(came, CONTENTS)
    came.keep_meanwhile()
    with pytest.raises(StoreError):
        came.finish()
    assert len(forked) == 1


def test_few_are_worth_no_process(near: DiskStore, forked: list[int]) -> None:
    came = Arrivals(near, time.time)
    take(came, FEW)
    came.keep_meanwhile()
    came.finish()
    assert kept(near, FEW)
    assert forked == []


def test_no_process_is_made_beside_other_threads(near: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise AssertionError("a lock of another thread would never be free in it")

    monkeypatch.setattr("posix.fork", fork)
    come = threading.Event()
    other = threading.Thread(target=come.wait, args=(60,))
    other.start()
    try:
        came = Arrivals(near, time.time)
        take(came, CONTENTS)
        came.keep_meanwhile()
    finally:
        come.set()
        other.join()
    came.finish()
    assert kept(near, CONTENTS)
