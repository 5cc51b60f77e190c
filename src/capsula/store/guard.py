"""Patience with a remote: each call ends in time, is tried again where that may help, and after a few failures the
remote is left alone for a minute, by this run and by those that follow.

Not every library ends a call when it is told to (name resolution, a server that sends a byte a second), so a call runs
in a thread of its own, and at its deadline it is left to itself. It can do no harm any more: what it still receives is
refused.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from capsula.core.digest import sha256
from capsula.core.names import printable
from capsula.errors import CapsulaError, StoreError, StoreUnreachable
from capsula.store.layout import REMOTES, make_directories
from capsula.store.threads import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult
    from capsula.ports import Holdings, Receiver, Remote

    T = TypeVar("T")

TRIES = 3
PAUSE_SECONDS = 60.0
# Fetching may take as long as making did, but not if nothing comes. A batch of blobs comes all at once, also over a
# slow line, so this is long.
SILENCE_SECONDS = 60.0
_FOREVER = float("inf")
# What a server says goes to terminals and logs: one line of it, no commands for terminals, and not too much.
_LONGEST_WHAT = 500


def in_time(name: str, deadline: float) -> float:
    """The seconds that are left; StoreUnreachable when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise StoreUnreachable(f"{name} didn't answer in time")
    return left


class Breaker:
    """Remembers in the store on this disk until when a remote is to be left alone: for a minute after a call has failed
    in all its tries. `now` is the wall clock."""

    def __init__(self, root: str, name: str, now: "Callable[[], float]" = time.time) -> None:
        self._path = f"{root}/{REMOTES}/{sha256(name.encode()).hexdigest()[:32]}" if root else ""
        self._now = now
        self._until = self._read()

    def is_open(self) -> bool:
        # A clock that was set back doesn't make a minute longer than it is, or than what is written rounds it to.
        return 0 < self._until - self._now() < PAUSE_SECONDS + 1

    def failed(self) -> None:
        self._until = self._now() + PAUSE_SECONDS
        self._write()

    def worked(self) -> None:
        if self._until:
            self._until = 0.0
            self._write()

    def _read(self) -> float:
        try:
            with open(self._path, "rb") as file:
                return float(file.read(40))
        except (OSError, ValueError):
            return 0.0

    def _write(self) -> None:
        try:
            if not self._until:
                os.unlink(self._path)
                return
            make_directories(os.path.dirname(self._path))
            with open(f"{self._path}.{os.getpid()}", "wb") as file:
                file.write(f"{self._until:.3f}\n".encode())
            os.rename(f"{self._path}.{os.getpid()}", self._path)
        except OSError:
            return  # then the next run finds out for itself


class Guarded:
    """A Remote that keeps its time. `pause` is how it waits between tries, `silence` for how long nothing may come of
    what is fetched."""

    def __init__(
        self,
        remote: Remote,
        breaker: Breaker,
        *,
        pause: "Callable[[float], None]" = time.sleep,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self.name = remote.name
        self.packs = remote.packs
        self._remote = remote
        self._breaker = breaker
        self._pause = pause
        self._silence = silence

    def is_left_alone(self) -> bool:
        return self._breaker.is_open()

    def lookup(self, action: Digest, deadline: float) -> "ActionResult | None":
        return self._try(lambda: self._remote.lookup(action, deadline), deadline)

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        self._try(lambda: self._remote.store(action, result, deadline, if_none=if_none), deadline)

    def missing(self, digests: Sequence[Digest], deadline: float) -> list[Digest]:
        return self._try(lambda: self._remote.missing(digests, deadline), deadline)

    def fetch(
        self, digests: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        """What has come by then isn't fetched again."""
        gate = _Gate(receive)

        def fetch() -> None:
            left = [digest for digest in digests if digest.hash not in gate.finished]
            self._remote.fetch(left, gate.receive, deadline)

        try:
            self._try(fetch, deadline, lambda: gate.heard + self._silence)
        finally:
            gate.close()

    def send(self, digests: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float) -> None:
        """What has got there by then isn't sent again."""
        left: list[list[Digest]] = []

        def send() -> None:
            left.append(self._remote.missing(left[-1], deadline) if left else list(digests))
            self._remote.send(left[-1], path_of, deadline)

        self._try(send, deadline)

    def examine(self, deadline: float) -> list[tuple[str, str]]:
        return self._remote.examine(deadline)

    def holdings(self) -> Holdings | None:
        """These aren't guarded."""
        return self._remote.holdings()

    def close(self) -> None:
        self._remote.close()

    def _try(
        self, work: "Callable[[], T]", deadline: float, patience: "Callable[[], float]" = lambda: _FOREVER
    ) -> "T":
        """`patience` tells until when it may go on without anything coming."""
        if self._breaker.is_open():
            raise StoreUnreachable(f"{self.name} is left alone for a minute after it failed")
        # Where others took all the time, this one hasn't failed.
        in_time(self.name, deadline)
        for number in range(1, TRIES + 1):
            try:
                answer = self._in_time(work, deadline, patience)
            except StoreUnreachable:
                import random

                wait = random.uniform(0.02, 0.05) * 4**number
                if number < TRIES and time.monotonic() + wait < min(deadline, patience()):
                    self._pause(wait)
                    continue
                self._breaker.failed()
                raise
            except StoreError:
                # It answered: that it refuses says nothing of whether it can be reached.
                self._breaker.worked()
                raise
            self._breaker.worked()
            return answer
        raise AssertionError("no try is left, and none has ended")

    def _in_time(self, work: "Callable[[], T]", deadline: float, patience: "Callable[[], float]") -> "T":
        answers: list[T] = []
        errors: list[BaseException] = []
        done = allocate_lock()
        done.acquire()

        def run() -> None:
            try:
                answers.append(work())
            except BaseException as error:
                errors.append(error)
            finally:
                done.release()

        in_time(self.name, deadline)
        start(run)
        while not done.acquire(timeout=max(0.0, min(deadline, patience()) - time.monotonic())):
            in_time(self.name, deadline)
            if patience() <= time.monotonic():
                raise StoreUnreachable(f"{self.name} has sent nothing for {self._silence:.0f} seconds")
        if not errors:
            return answers[0]
        if isinstance(errors[0], CapsulaError):
            errors[0].what = _plain(errors[0].what)
            raise errors[0]
        what = _plain(f"{self.name}: {type(errors[0]).__name__}: {errors[0]}")
        raise StoreUnreachable(what) from errors[0]


class _Gate:
    """Receivers that can be shut: a call that nobody waits for any more writes nothing."""

    def __init__(self, receive: Callable[[Digest], Receiver]) -> None:
        self._receive = receive
        self._lock = allocate_lock()
        self._given: list[_Passing] = []
        self._closed = False
        self.finished: set[str] = set()
        self.heard = time.monotonic()

    def receive(self, digest: Digest) -> "_Passing":
        with self._lock:
            if self._closed:
                raise _late()
            self._given.append(
                _Passing(self._receive(digest), self._hear, lambda: self.finished.add(digest.hash))
            )
            return self._given[-1]

    def _hear(self) -> None:
        self.heard = time.monotonic()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for passing in self._given:
            passing.abandon()


class _Passing:
    """One receiver, until it has finished or was abandoned; whichever comes first, in whichever thread."""

    def __init__(
        self, receiver: Receiver, heard: "Callable[[], None]", finished: "Callable[[], object]"
    ) -> None:
        self._receiver: Receiver | None = receiver
        self._heard = heard
        self._finished = finished
        self._lock = allocate_lock()

    def write(self, piece: "bytes | memoryview") -> None:
        with self._lock:
            if self._receiver is None:
                raise _late()
            self._heard()
            self._receiver.write(piece)

    def finish(self) -> None:
        with self._lock:
            if self._receiver is None:
                raise _late()
            receiver, self._receiver = self._receiver, None
            receiver.finish()
            self._finished()

    def abandon(self) -> None:
        with self._lock:
            receiver, self._receiver = self._receiver, None
            if receiver is not None:
                receiver.abandon()


def _plain(what: str) -> str:
    return printable(" ".join(what.split()))[:_LONGEST_WHAT]


def _late() -> StoreError:
    return StoreError("nobody waits for it any more")
