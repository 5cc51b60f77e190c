"""Holding a lease: a thread writes it again until it is let go, and removes it then."""

import os
import time
from _thread import LockType, allocate_lock
from collections.abc import Callable
from typing import TypeVar

from capsula.core.digest import Digest
from capsula.errors import CapsulaError, StoreUnreachable
from capsula.ports import Holdings
from capsula.store import life
from capsula.store.lease import LEASES, LONGEST, Lease, Terms, look
from capsula.store.threads import start

# After so many seconds without any sign of its end, a run that has left is taken for ended.
_AFTERWARDS = 600.0

T = TypeVar("T")


class Holder:
    """The lease of this run on one action, from `take` or `take_after` until `release`.

    All that is written and removed of it is by one thread, in that order: a signal that ends us may come at any moment,
    and what is just being written then is removed as well.
    """

    def __init__(self, holdings: Holdings, action: Digest, terms: Terms) -> None:
        pid = os.getpid()
        place, lives = life.marks(terms.run, pid) if terms.ends_with_process else ("", "")
        self._holdings = holdings
        self._action = action
        self._lease = Lease(
            run=terms.run,
            host=terms.host,
            pid=pid,
            seconds=min(terms.seconds, LONGEST),
            place=place,
            life=lives,
        )
        self._terms = terms
        self._version: object | None = None
        self._kept = 0.0  # when it was surely ours
        self._until: float | None = None
        self._is_first = False  # while the first is being written
        self._removes = False
        self._letting_go, self._gone, self._tried = _locked(), _locked(), _locked()
        self._error: Exception | None = None

    def take(self, over: object | None) -> bool:
        """Create it, or replace the version `over`, and keep it; False if somebody else was quicker. CapsulaError when
        the remote refuses or is slow: then it may still be ours a little later, and `release` knows."""
        self._start(lambda: self._take_and_keep(over))
        if not self._tried.acquire(timeout=self._terms.look):
            raise StoreUnreachable("a lease couldn't be taken in time")
        if self._error is not None:
            raise _translated(self._error) from self._error
        return self._version is not None

    def take_after(self, seconds: float) -> None:
        """Create it, beside the run, if that isn't over by then."""
        self._start(lambda: self._take_later(seconds))

    def expect_end(self) -> None:
        self._until = time.monotonic() + _AFTERWARDS

    def release(self, *, remove: bool) -> None:
        """`remove`: nobody has to wait any more. Else it ends by itself. A signal may come in the middle of it, and do
        it again."""
        self._removes = remove
        # Nobody waits for a remote that didn't answer the last time.
        is_worth_it = remove and (self._is_ours() or (self._is_first and self._version is None))
        try:
            self._letting_go.release()
        except RuntimeError:
            pass  # it was told already
        if is_worth_it:
            self._gone.acquire(timeout=self._terms.leave)

    # ------------------------------------------------------------------------------------------------ inside

    def _start(self, work: Callable[[], None]) -> None:
        self._is_first = True
        start(lambda: self._work(work))

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._error = error  # it ends by itself
        finally:
            self._tried_once()
            self._gone.release()

    def _tried_once(self) -> None:
        self._is_first = False
        if self._tried.locked():
            self._tried.release()

    def _take_and_keep(self, over: object | None) -> None:
        if self._write(over):
            self._tried_once()
            self._keep()

    def _take_later(self, seconds: float) -> None:
        self._is_first = False
        if self._letting_go.acquire(timeout=seconds):
            return
        self._is_first = True
        if self._try(None):
            self._is_first = False
            self._keep()

    def _keep(self) -> None:
        while not self._letting_go.acquire(timeout=self._lease.seconds / 3):
            if self._until is not None and time.monotonic() > self._until:
                return
            if not self._try(self._version):
                return
        if self._removes and self._is_ours():
            self._holdings.remove(LEASES, [self._action.hash])

    def _try(self, over: object | None) -> bool:
        """Whether it is worth trying again: it is ours, or nobody knows."""
        try:
            return self._write(over)
        except CapsulaError:
            return True

    def _write(self, over: object | None) -> bool:
        lease = self._lease
        lease.beat += 1
        lease.signature = self._terms.sign(lease.statement(self._action))
        began = time.monotonic()
        version = self._holdings.write(LEASES, self._action.hash, lease.to_bytes(), over)
        if version is None:
            # An answer may have got lost, and the library have tried again: then what is there is ours.
            found = look(self._holdings, self._action)
            if found is None or found[0].run != lease.run:
                self._version = None
                return False
            version = found[1]
        self._version, self._kept = version, began
        return True

    def _is_ours(self) -> bool:
        return self._version is not None and time.monotonic() - self._kept < self._lease.seconds / 2


def in_time(work: Callable[[], T], seconds: float) -> T:
    """StoreUnreachable when it takes longer; nobody waits for it then."""
    answers: list[T] = []
    errors: list[Exception] = []
    done = _locked()

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:
            errors.append(error)
        finally:
            done.release()

    start(run)
    if not done.acquire(timeout=seconds):
        raise StoreUnreachable("a lease couldn't be looked at in time")
    if errors:
        raise _translated(errors[0]) from errors[0]
    return answers[0]


def _translated(error: Exception) -> CapsulaError:
    return error if isinstance(error, CapsulaError) else StoreUnreachable(str(error))


def _locked() -> LockType:
    lock = allocate_lock()
    lock.acquire()
    return lock
