"""Patience with a remote: what is tried again, when it ends, and for how long it is left alone."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult
from capsula.errors import StoreError, StoreUnreachable
from capsula.store.guard import PAUSE_SECONDS, TRIES, Breaker, Guarded, _Gate
from capsula.testing import Desk, MemoryRemote, soon

ACTION = digest_of(b"an action")


class Moody(MemoryRemote):
    """Fails as often as it is told to, with what it is told."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("moody://")
        self.errors = list(errors)

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        self.lookups += 1
        if self.errors:
            raise self.errors.pop(0)
        return ActionResult()


class Hanging(MemoryRemote):
    """Begins to answer, and goes on when nobody waits any more."""

    def __init__(self) -> None:
        super().__init__("hanging://")
        self.go, self.ended = Event(), Event()
        self.refused: list[Exception] = []

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        self.go.wait(200)
        return None

    def fetch(self, digests, receive, deadline) -> None:
        receiver = receive(digests[0])
        receiver.write(b"be")
        self.go.wait(200)
        for step in (lambda: receiver.write(b"gun"), receiver.finish, lambda: receive(digests[0])):
            try:
                step()
            except StoreError as error:
                self.refused.append(error)
        self.ended.set()


@pytest.fixture
def guarded(tmp_path: Path) -> Callable[..., Guarded]:
    def make(remote: MemoryRemote, now: Callable[[], float] = time.time) -> Guarded:
        return Guarded(remote, Breaker(str(tmp_path), remote.name, now), pause=lambda seconds: None)

    return make


def away() -> StoreUnreachable:
    return StoreUnreachable("Connection reset")


def test_what_may_be_better_another_time_is_tried_again(guarded: Callable[..., Guarded]) -> None:
    remote = Moody(*(away() for _ in range(TRIES - 1)))
    assert guarded(remote).lookup(ACTION, soon()) == ActionResult()
    assert remote.lookups == TRIES


def test_a_refusal_is_not_tried_again(guarded: Callable[..., Guarded]) -> None:
    remote = Moody(StoreError("403 Forbidden"))
    guard = guarded(remote)
    with pytest.raises(StoreError, match="403"):
        guard.lookup(ACTION, soon())
    assert remote.lookups == 1
    assert not guard.is_left_alone()


def test_after_a_call_that_failed_it_is_left_alone_by_this_run_and_the_next(
    guarded: Callable[..., Guarded],
) -> None:
    clock = [1000.0]
    remote = Moody(*(away() for _ in range(TRIES)))
    guard = guarded(remote, lambda: clock[0])
    with pytest.raises(StoreUnreachable, match="reset"):
        guard.lookup(ACTION, soon())
    for later in (guard, guarded(remote, lambda: clock[0])):
        assert later.is_left_alone()
        with pytest.raises(StoreUnreachable, match="left alone"):
            later.lookup(ACTION, soon())
    assert remote.lookups == TRIES
    clock[0] += PAUSE_SECONDS + 1
    later = guarded(remote, lambda: clock[0])
    assert later.lookup(ACTION, soon()) == ActionResult()
    assert not guarded(remote, lambda: clock[0]).is_left_alone()


def test_a_clock_that_goes_back_makes_no_pause_longer(guarded: Callable[..., Guarded]) -> None:
    remote = Moody(*(away() for _ in range(TRIES)))
    with pytest.raises(StoreUnreachable):
        guarded(remote, lambda: 10_000.0).lookup(ACTION, soon())
    assert not guarded(remote, lambda: 500.0).is_left_alone()


def test_what_nobody_remembers_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "remotes").write_text("in the way")
    for root in (str(tmp_path), "", "/proc/nothing"):
        breaker = Breaker(root, "x://")
        breaker.failed()
        assert breaker.is_open()
        breaker.worked()
        assert not breaker.is_open()


def test_a_call_that_never_ends_is_left_to_itself(guarded: Callable[..., Guarded]) -> None:
    remote = Hanging()
    with pytest.raises(StoreUnreachable, match="didn't answer in time"):
        guarded(remote).lookup(ACTION, time.monotonic() + 0.05)
    remote.go.set()


def test_what_comes_too_late_is_not_written(guarded: Callable[..., Guarded], tmp_path: Path) -> None:
    remote, desk = Hanging(), Desk(tmp_path)
    digest = digest_of(b"begun")
    with pytest.raises(StoreUnreachable):
        guarded(remote).fetch([digest], desk.receive, time.monotonic() + 0.2)
    remote.go.set()
    assert remote.ended.wait(200)
    assert len(remote.refused) == 3
    assert desk.rests() == []
    assert not list(Path(desk.root).glob("cas/*/*"))


def test_one_that_has_gone_silent_is_not_waited_for_to_the_end(tmp_path: Path) -> None:
    remote = Hanging()
    guard = Guarded(remote, Breaker(str(tmp_path), remote.name), pause=lambda seconds: None, silence=0.05)
    with pytest.raises(StoreUnreachable, match="has sent nothing"):
        guard.fetch([digest_of(b"begun")], Desk(tmp_path).receive, time.monotonic() + 3600)
    remote.go.set()
    assert guard.is_left_alone()
    assert not list(tmp_path.glob("received/cas/*/*"))


def test_one_that_sends_a_piece_now_and_then_is_not_silent(tmp_path: Path) -> None:
    gate = _Gate(Desk(tmp_path).receive)
    receiver = gate.receive(digest_of(b"slow"))
    for piece in (b"sl", b"ow"):
        gate.heard = 0.0
        receiver.write(piece)
        assert gate.heard > 0
    gate.close()


def test_a_bug_in_a_library_is_a_store_that_cannot_be_reached(guarded: Callable[..., Guarded]) -> None:
    remote = Moody(*(ZeroDivisionError("oh") for _ in range(TRIES)))
    with pytest.raises(StoreUnreachable, match="ZeroDivisionError"):
        guarded(remote).lookup(ACTION, soon())


def test_what_has_come_is_not_fetched_again(guarded: Callable[..., Guarded], tmp_path: Path) -> None:
    asked: list[list[Digest]] = []

    class Breaking(MemoryRemote):
        def fetch(self, digests, receive, deadline) -> None:
            asked.append(list(digests))
            super().fetch(digests[:1], receive, deadline)
            if len(digests) > 1:
                raise away()

    remote = Breaking()
    (tmp_path / "desk").mkdir()
    desk = Desk(tmp_path / "desk")
    blobs = [desk.blob(b"%d" % number) for number in range(TRIES)]
    remote.send(blobs, desk.path_of, soon())
    guard = guarded(remote)
    guard.fetch(blobs, desk.receive, soon())
    assert asked == [blobs, blobs[1:], blobs[2:]]
    assert not guard.is_left_alone()


def test_one_whose_time_others_took_has_not_failed(guarded: Callable[..., Guarded]) -> None:
    guard = guarded(Moody())
    with pytest.raises(StoreUnreachable, match="in time"):
        guard.lookup(ACTION, time.monotonic() - 1)
    assert not guard.is_left_alone()


def test_what_has_got_there_is_not_sent_again(guarded: Callable[..., Guarded], tmp_path: Path) -> None:
    class Breaking(MemoryRemote):
        def send(self, digests, path_of, deadline) -> None:
            super().send(digests[:1], path_of, deadline)
            if len(digests) > 1:
                raise away()

    remote = Breaking()
    (tmp_path / "desk").mkdir()
    desk = Desk(tmp_path / "desk")
    blobs = [desk.blob(b"%d" % number) for number in range(TRIES)]
    guarded(remote).send(blobs, desk.path_of, soon())
    assert remote.sent == [digest.hash for digest in blobs]
