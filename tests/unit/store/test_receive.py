"""A blob on its way: whole and there, or nothing is left of it."""

import _thread
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capsula.core.digest import Digest
from capsula.errors import BlobCorrupt
from capsula.store.receive import receiving
from capsula.testing import Desk


@pytest.fixture(params=["at once", "beside"])
def desk(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """What comes is digested at once, or by a thread, as of large ones; none of these is left."""
    if request.param == "beside":
        monkeypatch.setattr("capsula.store.receive.LARGE", 1)
    before = _thread._count()
    yield Desk(tmp_path)
    deadline = time.monotonic() + 60
    while _thread._count() > before:
        assert time.monotonic() < deadline, "a thread waits for more"
        time.sleep(0.001)


def test_what_comes_in_pieces_is_there_when_the_block_ends(desk: Desk) -> None:
    digest = desk.blob(b"first second")
    with receiving(desk.receive, digest) as receiver:
        receiver.write(b"first ")
        receiver.write(memoryview(b"second"))
        assert not Path(desk.root, "cas").exists()
    assert desk.received(digest) == b"first second"
    assert desk.rests() == []


@pytest.mark.parametrize("trouble", [ConnectionResetError("in the middle"), KeyboardInterrupt()])
def test_of_what_is_interrupted_nothing_is_left(desk: Desk, trouble: BaseException) -> None:
    def receive(digest: Digest) -> None:
        with receiving(desk.receive, digest) as receiver:
            receiver.write(b"first ")
            assert len(desk.rests()) == (digest.size_bytes > 100)
            raise trouble

    for content in (b"first second", b"first " * 20_000):
        with pytest.raises(type(trouble)):
            receive(desk.blob(content))
    assert desk.rests() == []
    assert not Path(desk.root, "cas").exists()


def test_more_than_was_announced_is_refused_while_it_comes(desk: Desk) -> None:
    digest = desk.blob(b"first")
    with (
        pytest.raises(BlobCorrupt, match="more than the 5 bytes"),
        receiving(desk.receive, digest) as receiver,
    ):
        receiver.write(b"first ")
    assert desk.rests() == []


@pytest.mark.parametrize("content", [b"", b"firs", b"tsrif"])
def test_something_else_is_refused_at_the_end(desk: Desk, content: bytes) -> None:
    digest = desk.blob(b"first")
    with pytest.raises(BlobCorrupt), receiving(desk.receive, digest) as receiver:
        receiver.write(content)
    assert desk.rests() == []
    assert not Path(desk.root, "cas").exists()


def test_a_hostile_name_is_refused_before_anything_comes(desk: Desk) -> None:
    with (
        pytest.raises(BlobCorrupt, match="no blob can have the name"),
        receiving(desk.receive, Digest("../../x", 1)),
    ):
        raise AssertionError("nothing may be received")
    assert not Path(desk.root).exists()


@pytest.mark.parametrize("view", [memoryview, lambda buffer: memoryview(buffer).toreadonly()])
def test_what_was_given_is_what_is_kept_whatever_becomes_of_the_buffer(
    desk: Desk, view: Callable[[bytearray], memoryview]
) -> None:
    for size in (12, 200_000):
        digest = desk.blob(b"ab" * (size // 2))
        buffer = bytearray(b"ab" * (size // 4))
        with receiving(desk.receive, digest) as receiver:
            receiver.write(view(buffer))
            buffer[:] = bytes(len(buffer))
            buffer[:] = b"ab" * (size // 4)
            receiver.write(view(buffer))
            buffer[:] = bytes(len(buffer))
        assert desk.received(digest) == b"ab" * (size // 2)


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_a_large_one_is_digested_while_more_comes(desk: Desk, pieces: int) -> None:
    content = b"".join(b"%d" % number * 1000 for number in range(pieces))
    for came, is_right in ((content, True), (content[:-1] + b"x", False)):
        digest = desk.blob(content)
        try:
            with receiving(desk.receive, digest) as receiver:
                for at in range(0, len(came), 1000):
                    receiver.write(came[at : at + 1000])
        except BlobCorrupt:
            assert not is_right
        else:
            assert is_right


def test_what_cannot_be_digested_is_not_right(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def update(self, _: bytes) -> None:
            raise MemoryError

        def hexdigest(self) -> str:
            raise AssertionError("it has none")

    digest = desk.blob(b"some " * 100)
    monkeypatch.setattr("capsula.store.receive.sha256", lambda *_: Broken())

    def receive() -> None:
        with receiving(desk.receive, digest) as receiver:
            for _ in range(100):
                receiver.write(b"some ")

    with pytest.raises((BlobCorrupt, MemoryError)):
        receive()
    assert desk.rests() == []
