"""Blobs from an HTTP cache: small ones are asked for ahead of their answers, as far as the server is up to that."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capsula.core.digest import Digest
from capsula.errors import BlobCorrupt, BlobMissing, StoreUnreachable
from capsula.store.http import HttpStore
from capsula.testing import Desk, soon


class Cache:
    """A server with a thread for each connection, which takes what it is asked one after the other. `answer` makes the
    answer to what is asked for, by its hash; None closes the connection. `drops`: of what comes at once, all but the
    first is lost."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answer: Callable[[str], bytes | None] = self.found
        self.ends_after: set[str] = set()
        self.drops = False
        # What was asked, as soon as it has come, and the most that waited for an answer at once.
        self.asked: list[str] = []
        self.most = 0
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def content(self, name: str) -> bytes:
        return (self._desk.base / name).read_bytes()

    def found(self, name: str) -> bytes:
        return said(self.content(name))

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        waiting: list[str] = []
        rest = b""
        with peer:
            while True:
                while not waiting:
                    try:
                        piece = peer.recv(65536)
                    except ConnectionResetError:
                        return
                    if not piece:
                        return
                    *asked, rest = (rest + piece).split(b"\r\n\r\n")
                    waiting += [one.split(b" ")[1].rpartition(b"/")[2].decode() for one in asked]
                    self.asked += waiting
                    self.most = max(self.most, len(waiting))
                    if self.drops:
                        del waiting[1:]
                name = waiting.pop(0)
                answer = self.answer(name)
                if answer is None:
                    return
                try:
                    peer.sendall(answer)
                except OSError:
                    return
                if name in self.ends_after:
                    return

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a connection was left open"


def said(content: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (more, len(content), content)


MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def cache(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """One thread asks, however busy this machine is."""
    monkeypatch.setattr("capsula.store.parallel._TRIAL", 600)
    one = Cache(desk)
    yield one
    one.stop()


@pytest.fixture
def store(cache: Cache) -> Iterator[HttpStore]:
    one = HttpStore(cache.url)
    yield one
    one.close()


def blobs(desk: Desk, count: int) -> list[Digest]:
    return [desk.blob(b"%d" % number * 1000) for number in range(count)]


def is_all(desk: Desk, digests: list[Digest]) -> bool:
    return all([desk.received(digest) == (desk.base / digest.hash).read_bytes() for digest in digests])


def test_small_ones_are_asked_for_ahead(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 200)
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert cache.asked == [digest.hash for digest in digests]
    assert cache.connections == 1
    assert 8 < cache.most <= 16


def test_a_few_are_left_to_many_connections(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 20)
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert cache.most == 1


def test_large_ones_come_one_after_the_other(desk: Desk, cache: Cache, store: HttpStore) -> None:
    """What nobody reads while another is read would be broken off by a server."""
    large = [desk.blob(b"%d" % number * 300_000) for number in range(30)]
    store.fetch(large, desk.receive, soon())
    assert (cache.connections, cache.most) == (1, 1)
    small = blobs(desk, 3)
    store.fetch([*large, *small], desk.receive, soon())
    assert is_all(desk, [*large, *small])


def test_one_that_is_missing_keeps_none_of_those_that_were_asked_for(
    desk: Desk, cache: Cache, store: HttpStore
) -> None:
    digests = blobs(desk, 100)
    gone = digests[20]
    cache.answer = lambda name: MISSING if name == gone.hash else cache.found(name)
    with pytest.raises(BlobMissing):
        store.fetch(digests, desk.receive, soon())
    came = [digest for digest in digests if digest.hash in cache.asked and digest != gone]
    assert digests[21] in came
    assert digests[50] not in came
    assert is_all(desk, came)
    # No answer to what nobody asks for any more is taken for another's.
    store.fetch(digests[25:], desk.receive, soon())
    assert is_all(desk, digests[25:])


@pytest.mark.parametrize("is_announced", [True, False])
def test_what_was_asked_for_on_a_connection_that_ends_is_asked_for_again(
    desk: Desk, cache: Cache, store: HttpStore, is_announced: bool
) -> None:
    digests = blobs(desk, 200)
    cache.ends_after = {digest.hash for digest in digests[30::40]}

    def answer(name: str) -> bytes:
        ends = is_announced and name in cache.ends_after
        return said(cache.content(name), b"Connection: close\r\n" if ends else b"")

    cache.answer = answer
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)


def test_of_a_server_that_keeps_no_connection_nothing_is_asked_ahead(
    desk: Desk, cache: Cache, store: HttpStore
) -> None:
    digests = blobs(desk, 100)
    cache.answer = lambda name: said(cache.content(name), b"Connection: close\r\n")
    cache.ends_after = {digest.hash for digest in digests}
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert cache.asked == [digest.hash for digest in digests]


def test_what_a_server_drops_is_asked_for_again_and_no_more_ahead(
    desk: Desk, cache: Cache, store: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsula.store.http._AHEAD_SECONDS", 0.3)
    digests = blobs(desk, 100)
    cache.drops = True
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert len(cache.asked) < len(digests) + 16
    cache.most = 0
    store.fetch(digests, desk.receive, soon())
    assert cache.most == 1


def test_answers_that_are_mixed_up_do_no_harm(desk: Desk, cache: Cache, store: HttpStore) -> None:
    """Where a server works at several requests of a connection at once, and forgets to put the answers in order."""
    digests = blobs(desk, 100)
    first, second = digests[10].hash, digests[11].hash
    swapped = {first: second, second: first}

    def answer(name: str) -> bytes:
        return cache.found(swapped.pop(name, name))

    cache.answer = answer
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert not swapped
    assert cache.asked.count(first) == 2


def test_wrong_bytes_are_wrong_also_when_asked_for_alone(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 100)
    spoiled = digests[10].hash
    cache.answer = lambda name: said(b"something else") if name == spoiled else cache.found(name)
    with pytest.raises(BlobCorrupt):
        store.fetch(digests, desk.receive, soon())
    assert is_all(desk, [each for each in digests[:15] if each.hash != spoiled])
    assert cache.asked.count(spoiled) == 2


def test_an_answer_that_ends_too_early_ends_all(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 100)
    cache.ends_after = {digests[10].hash}
    cache.answer = lambda name: cache.found(name)[: -1 if name in cache.ends_after else None]
    with pytest.raises(StoreUnreachable, match="too early"):
        store.fetch(digests, desk.receive, soon())
    assert digests[50].hash not in cache.asked


def test_nobody_is_asked_after_the_deadline(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 100)

    def answer(name: str) -> bytes:
        if name == digests[20].hash:
            time.sleep(0.5)
        return cache.found(name)

    cache.answer = answer
    with pytest.raises(StoreUnreachable, match="in time"):
        store.fetch(digests, desk.receive, time.monotonic() + 0.4)
    assert digests[60].hash not in cache.asked
