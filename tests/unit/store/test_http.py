"""Blobs from an HTTP cache: of a server that is near, the next ones are asked for while one is read."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capsula.core.digest import Digest
from capsula.errors import BlobMissing, StoreUnreachable
from capsula.store.http import HttpStore
from capsula.testing import Desk, soon


class Cache:
    """A server with a thread for each connection. `answer` makes the answer to what is asked for, by its hash; None
    closes the connection."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answer: Callable[[str], bytes | None] = self.found
        self.ends_after = ""
        self.asked: list[str] = []
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def found(self, name: str) -> bytes:
        content = (self._desk.base / name).read_bytes()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)

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
        with peer:
            while True:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    try:
                        piece = peer.recv(65536)
                    except ConnectionResetError:
                        return
                    if not piece:
                        return
                    asked += piece
                name = asked.split(b" ")[1].rpartition(b"/")[2].decode()
                self.asked.append(name)
                answer = self.answer(name)
                if answer is None:
                    return
                peer.sendall(answer)
                if name == self.ends_after:
                    return

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a connection was left open"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def cache(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """One thread asks, and takes each server for a near one, however busy this machine is."""
    monkeypatch.setattr("capsula.store.http._NEAR", 600)
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


def test_of_a_near_server_several_are_asked_for_at_once(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 50)
    last = {digest.hash for digest in digests[-3:]}
    together = threading.Barrier(3)

    def answer(name: str) -> bytes:
        if name in last:
            together.wait(60)
        return cache.found(name)

    cache.answer = answer
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert sorted(cache.asked) == sorted([digest.hash for digest in digests])
    assert cache.connections <= 5


def test_large_ones_come_one_after_the_other(desk: Desk, cache: Cache, store: HttpStore) -> None:
    """What nobody reads while another is read would be broken off by a server."""
    large = [desk.blob(b"%d" % number * 300_000) for number in range(3)]
    store.fetch(large, desk.receive, soon())
    assert cache.connections == 1
    small = blobs(desk, 3)
    store.fetch([*large, *small], desk.receive, soon())
    assert is_all(desk, [*large, *small])


def test_one_that_is_missing_keeps_none_of_those_that_were_asked_for(
    desk: Desk, cache: Cache, store: HttpStore
) -> None:
    digests = blobs(desk, 30)
    gone = digests[20]
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
    cache.answer = lambda name: missing if name == gone.hash else cache.found(name)
    with pytest.raises(BlobMissing):
        store.fetch(digests, desk.receive, soon())
    came = [digest for digest in digests if digest.hash in cache.asked and digest != gone]
    assert digests[21] in came
    assert digests[29] not in came
    assert is_all(desk, came)
    # No answer to what nobody asks for any more is taken for another's.
    store.fetch(digests[25:], desk.receive, soon())
    assert is_all(desk, digests[25:])


def test_what_was_asked_for_on_a_connection_that_ends_is_asked_for_again(
    desk: Desk, cache: Cache, store: HttpStore
) -> None:
    digests = blobs(desk, 30)
    to_end = {digest.hash for digest in digests[10:14]}

    def answer(name: str) -> bytes | None:
        if name in to_end:
            to_end.remove(name)
            return None
        return cache.found(name)

    cache.answer = answer
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)


def test_an_answer_that_ends_too_early_ends_all(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 30)
    cache.ends_after = digests[10].hash

    def answer(name: str) -> bytes | None:
        whole = cache.found(name)
        return whole[:-1] if name == cache.ends_after else whole

    cache.answer = answer
    with pytest.raises(StoreUnreachable, match="too early"):
        store.fetch(digests, desk.receive, soon())
    assert digests[29].hash not in cache.asked
