"""A cache of the Remote Execution API: what its servers do differently, and how much is asked of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import BlobMissing, StoreError, StoreUnreachable
from capsula.store.reapi import ReapiStore
from capsula.testing.remotes import Desk, soon
from servers.reapi_double import Double, Habits

MIB = 1 << 20
ACTION = digest_of(b"an action")


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[Double, ReapiStore]]]:
    ends: list[Callable[[], None]] = []

    def make(**habits: object) -> tuple[Double, ReapiStore]:
        server = Double(Habits(**habits))  # type: ignore[arg-type]
        store = ReapiStore(f"grpc://{server.target}", server.target, "")
        ends.extend((store.close, server.stop))
        return server, store

    yield make
    for end in ends:
        end()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "desk").mkdir()
    return Desk(tmp_path / "desk")


def large(desk: Desk, size: int = 9 * MIB) -> Digest:
    return desk.blob(Random(size).randbytes(size))


def test_a_write_that_breaks_off_goes_on_where_it_was(opened, desk: Desk) -> None:
    server, store = opened(breaks_at=5 * MIB)
    digest = large(desk)
    store.send([digest], desk.path_of, soon())
    assert server.offsets == [0, 5 * MIB]
    assert server.sent <= 10 * MIB
    assert digest.hash in server.blobs


def test_a_compressed_write_that_breaks_off_is_begun_again(opened, desk: Desk) -> None:
    server, store = opened(breaks_at=5 * MIB, zstd=True)
    digest = large(desk)
    store.send([digest], desk.path_of, soon())
    assert server.offsets == [0, 0]
    assert digest.hash in server.blobs


def test_a_write_of_what_is_there_ends_early(opened, desk: Desk) -> None:
    server, store = opened()
    digest = large(desk)
    store.send([digest], desk.path_of, soon())
    store.send([digest], desk.path_of, soon())
    assert server.sent == digest.size_bytes


def test_a_server_that_takes_no_results_is_not_asked_to(opened) -> None:
    server, store = opened(takes_results=False)
    with pytest.raises(StoreError, match="doesn't take results") as caught:
        store.store(ACTION, ActionResult(), soon())
    assert not isinstance(caught.value, StoreUnreachable)
    assert server.asked["update_result"] == 0


def test_one_without_sha256_is_never_used(opened, desk: Desk) -> None:
    server, store = opened(functions=b"\x09")
    for _ in range(2):
        with pytest.raises(StoreError, match="SHA-256"):
            store.send([desk.blob(b"x")], desk.path_of, soon())
    assert server.asked["batch_update"] == 0


def test_one_that_is_exhausted_may_be_better_another_time(opened) -> None:
    server, store = opened()
    # What it can is asked beside the first look-up: which of the two would be refused isn't told.
    store.capabilities(soon())
    server.habits.exhausted = 1
    with pytest.raises(StoreUnreachable, match="RESOURCE_EXHAUSTED"):
        store.lookup(ACTION, soon())
    assert store.lookup(ACTION, soon()) is None


def test_an_entry_that_is_too_large_for_the_server_is_so_for_good(opened) -> None:
    _, store = opened()
    outputs = tuple(OutputFile(path=f"out/{number}", digest=ACTION) for number in range(60_000))
    with pytest.raises(StoreError, match="larger than max") as caught:
        store.store(ACTION, ActionResult(output_files=outputs), soon())
    assert not isinstance(caught.value, StoreUnreachable)
    assert "directory" in caught.value.hint


def test_a_large_blob_that_is_gone_is_missing(opened, desk: Desk) -> None:
    server, store = opened()
    digest = large(desk)
    store.send([digest], desk.path_of, soon())
    del server.blobs[digest.hash]
    with pytest.raises(BlobMissing):
        store.fetch([digest], desk.receive, soon())
    assert desk.rests() == []


def test_what_was_compressed_and_can_not_be_unpacked_is_refused(opened, desk: Desk, monkeypatch) -> None:
    _, store = opened(zstd=True)
    digest = large(desk)
    store.send([digest], desk.path_of, soon())

    class Plain:
        def compress(self, content: bytes) -> bytes:
            return content

    monkeypatch.setattr("servers.reapi_double.zstandard.ZstdCompressor", Plain)
    with pytest.raises(StoreError) as caught:
        store.fetch([digest], desk.receive, soon())
    assert not isinstance(caught.value, StoreUnreachable)
    assert desk.rests() == []


def test_many_small_blobs_travel_in_a_few_calls(opened, desk: Desk) -> None:
    server, store = opened()
    digests = [desk.blob(b"%5d" % number * 200) for number in range(10_000)]
    assert len(store.missing(digests, soon())) == 10_000
    store.send(digests, desk.path_of, soon())
    store.fetch(digests, desk.receive, soon())
    assert server.asked == {"capabilities": 1, "missing": 1, "batch_update": 12, "batch_read": 12}
    assert all(desk.received(digest) == server.blobs[digest.hash] for digest in digests)
