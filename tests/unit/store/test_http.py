"""Blobs from an HTTP cache: small ones are asked for ahead of their answers, as far as the server is up to that."""

import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.errors import BlobCorrupt, BlobMissing, StoreUnreachable
from capsula.store.http import HttpStore
from capsula.store.receive import Receiving
from capsula.testing import Desk, soon
from unit.store.cache_server import MISSING, Cache, said


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def cache(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """One thread asks, and takes no server for one that drops what it is asked, however busy this machine is."""
    monkeypatch.setattr("capsula.store.parallel._TRIAL", 600)
    monkeypatch.setattr("capsula.store.http._AHEAD_SECONDS", 600)
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


def test_where_connections_are_known_to_be_kept_each_is_asked_ahead_from_the_start(
    desk: Desk, cache: Cache, store: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From afar, one more answer that is waited for is one more way there and back."""
    monkeypatch.setattr("capsula.store.parallel._TRIAL", 0.01)
    digests = blobs(desk, 200)
    cache.answer = lambda _: MISSING
    assert store.lookup(digest_of(b"an action"), soon()) is None
    together = threading.Barrier(3)
    have_waited: set[str] = set()

    def answer(name: str) -> bytes:
        # Until three connections have been asked for something.
        firsts = [names[0] for names in cache.at_once[1:4]]
        if name in firsts and name not in have_waited:
            have_waited.add(name)
            together.wait(60)
        return cache.found(name)

    cache.answer = answer
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert [len(names) for names in cache.at_once[:4]] == [1, 16, 16, 16]


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


def test_a_server_that_drops_takes_no_more_than_a_third_of_the_time(
    desk: Desk, cache: Cache, store: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsula.store.http.in_time", lambda name, deadline: 0.9)
    digests = blobs(desk, 100)
    cache.drops = True
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)


ENDLESS = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % (1 << 40) + b"x" * (1 << 18)


def test_of_an_endless_page_not_all_is_read(desk: Desk, cache: Cache, store: HttpStore) -> None:
    digests = blobs(desk, 100)
    gone = digests[10].hash
    cache.answer = lambda name: ENDLESS if name == gone else cache.found(name)
    with pytest.raises(BlobMissing):
        store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests[:10])
    assert store.lookup(digests[10], soon()) is None
    # Nobody has waited for its end.
    cache.most = 0
    store.fetch(digests[50:], desk.receive, soon())
    assert cache.most > 1


def test_what_was_asked_for_in_vain_is_asked_for_once_more(
    desk: Desk, cache: Cache, store: HttpStore
) -> None:
    """Also when the page that says so is cut short."""
    digests = blobs(desk, 100)
    busy = digests[10].hash
    cut = [MISSING.replace(b"404", b"503")[:-1]]
    cache.ends_after = {busy}
    cache.answer = lambda name: cut.pop() if cut and name == busy else cache.found(name)
    store.fetch(digests, desk.receive, soon())
    assert is_all(desk, digests)
    assert cache.asked.count(busy) == 2


def test_what_nobody_asked_for_is_no_answer_about_an_entry(
    desk: Desk, cache: Cache, store: HttpStore
) -> None:
    """Nothing holds it against a digest. It may come when the connection has been put aside."""
    digests = blobs(desk, 100)
    is_aside = threading.Event()

    def answer(name: str) -> Iterator[bytes]:
        yield cache.found(name)
        if name == digests[-1].hash:
            is_aside.wait(60)
            yield said(b"forged")

    cache.answer = answer
    store.fetch(digests, desk.receive, soon())
    is_aside.set()
    line = store._idle[-1]._line
    assert line is not None
    assert select.select([line._socket], [], [], 60)[0]
    cache.answer = lambda _: MISSING
    assert store.lookup(digests[0], soon()) is None


def test_a_call_that_nobody_waits_for_any_more_keeps_no_connection(
    desk: Desk, cache: Cache, store: HttpStore
) -> None:
    digests = blobs(desk, 100)

    def receive(digest: Digest) -> Receiving:
        if digest == digests[50]:
            store.close()
        return desk.receive(digest)

    store.fetch(digests, receive, soon())
    assert is_all(desk, digests)
    cache.stop()


@pytest.mark.parametrize("name", ["a b", "../ac/" + "0" * 64, "\N{EURO SIGN}"])
def test_a_name_that_no_blob_has_is_asked_for_nowhere(
    desk: Desk, cache: Cache, store: HttpStore, name: str
) -> None:
    with pytest.raises(BlobCorrupt):
        store.fetch([*blobs(desk, 50), Digest(name, 3)], desk.receive, soon())
    assert cache.asked == []
