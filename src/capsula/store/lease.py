"""Who is making a result now, told to other machines by a small object beside the entries of an object store.

A lease is advice. It keeps machines from doing the same work at once, and nothing else hangs on it: a result is right
whoever holds a lease, and what goes wrong with one is no trouble of the run. So nothing here raises.

Whoever holds one writes it again every third of its time. Machines don't agree on what time it is, so nobody compares
clocks: a lease has ended when it hasn't changed for as long as it says, by the watch of the one who looks at it. Who
finds one that has ended replaces it, on the condition that it still is what was seen: of many, one succeeds.
"""

import json
import os
import random
import time
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from capsula.core.digest import Digest
from capsula.core.names import printable
from capsula.errors import CapsulaError, StoreUnreachable
from capsula.ports import Flight, Holdings, Remote
from capsula.store.flight import ancestors

if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

LEASES = "lease"
# What is shorter is made twice sooner than it is waited for.
WORTH = 1.0
# How long one look may delay a command, and letting go the end of a run.
_LOOK, _LEAVE = 5.0, 2.0
# After so many seconds without any sign of its end, a run that has left is taken for ended.
_AFTERWARDS = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# What a lease says is believed within these bounds.
_SHORTEST, LONGEST = 1.0, 300.0

T = TypeVar("T")


class Lease:
    """`run` is the name of the run that holds it, in the process `pid` of `host`, for `seconds` without a change.
    `key` is the id of the key that its result will be signed with, "" if it won't be; `beat` counts how often it was
    written."""

    def __init__(
        self, *, run: str, host: str, pid: int, seconds: float, key: str = "", beat: int = 0
    ) -> None:
        self.run = run
        self.host = host
        self.pid = pid
        self.seconds = seconds
        self.key = key
        self.beat = beat

    def to_bytes(self) -> bytes:
        said = {name: getattr(self, name) for name in ("run", "host", "pid", "seconds", "key", "beat")}
        return json.dumps({"capsula-lease": 1, **said}).encode()


def lease_from(content: bytes) -> Lease | None:
    """None for what is no lease that we know how to keep."""
    try:
        said = json.loads(content[:10_000])
        if said["capsula-lease"] != 1:
            return None
        seconds = min(max(_SHORTEST, float(said["seconds"])), LONGEST)
        run, host, key = (str(said[name])[:200] for name in ("run", "host", "key"))
        return Lease(run=run, host=host, pid=int(said["pid"]), seconds=seconds, key=key)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


class Terms:
    """How a run takes leases and waits for those of others; times in seconds.

    `seconds` is how long its own lasts (0: it takes none), `wait` how long it waits at most (0: not at all).
    `believed` are the ids of keys whose results it takes, None: everybody's. `expects` tells how long the command
    will run, None where that isn't known.
    """

    def __init__(
        self,
        *,
        run: str,
        host: str,
        seconds: float,
        wait: float,
        key: Callable[[], str] = str,
        believed: Callable[[], frozenset[str] | None] = lambda: None,
        expects: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.run = run
        self.host = host
        self.seconds = seconds
        self.wait = wait
        self.key = key
        self.believed = believed
        self.expects = expects


class SharedFlight:
    """A Flight around that of this machine: where a remote has leases, at most one machine runs an action.

    `places` are the remotes that may be asked, in order; the first that can have leases has all of them. `is_here`
    tells whether this machine has a result by now; `ask_again` makes the next look-up ask remotes anew. `release` is
    to be called in the end.
    """

    def __init__(
        self,
        near: Flight,
        places: "Callable[[], list[Remote]]",
        terms: Terms,
        *,
        is_here: Callable[[Digest], bool],
        ask_again: Callable[[Digest], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._near = near
        self._places = places
        self._terms = terms
        self._is_here = is_here
        self._ask_again = ask_again
        self._say = say
        self._clock = clock
        self._pause = pause
        self._holder: Holder | None = None

    def enter(self, action: Digest, waiting: Callable[[str], None]) -> bool:
        waited = self._near.enter(action, waiting)
        expects = self._terms.expects()
        if (waited and self._is_here(action)) or (expects is not None and expects < WORTH):
            return waited
        try:
            return self._enter(action, waiting, is_long=expects is not None) or waited
        except CapsulaError:
            return waited

    def leave(self) -> None:
        self._near.leave()
        if self._holder is not None:
            self._holder.expect_end()

    def release(self, *, remove: bool) -> None:
        """`remove`: nobody has to wait any more. Else it ends by itself."""
        if self._holder is not None:
            self._holder.release(remove=remove)
            self._holder = None

    # ------------------------------------------------------------------------------------------------ inside

    def _enter(self, action: Digest, waiting: Callable[[str], None], *, is_long: bool) -> bool:
        place = self._place()
        if place is None:
            return False
        _, holdings = place
        holder = Holder(holdings, action.hash, self._terms) if self._terms.seconds > 0 else None
        seen = _in_time(lambda: _look(holdings, action))
        if seen is None and holder is not None and is_long:
            if _in_time(holder.take):
                self._hold(holder)
                return False
            seen = _in_time(lambda: _look(holdings, action))
        waits = seen is not None and self._may_wait_for(seen[0])
        if seen is not None and waits:
            waiting(f"{printable(seen[0].host)} (for {_span(self._terms.wait)} at most: --lease_wait)")
            self._wait(action, place, seen, holder)
            self._ask_again(action)
        if holder is not None and self._holder is None:
            # Later, and beside the run: a command that turns out to be short has cost nobody anything.
            self._hold(holder, after=WORTH)
        return waits

    def _place(self) -> tuple[Remote, Holdings] | None:
        """Where all machines with these remotes look for leases."""
        for remote in self._places():
            holdings = _in_time(remote.holdings)
            if holdings is not None:
                return remote, holdings
        return None

    def _may_wait_for(self, lease: Lease) -> bool:
        if self._terms.wait <= 0 or lease.run == self._terms.run:
            return False
        if lease.host == self._terms.host and lease.pid in ancestors():
            # A capsule inside of itself: it would wait for its own end.
            return False
        believed = self._terms.believed()
        return believed is None or lease.key in believed

    def _hold(self, holder: "Holder", after: float = 0.0) -> None:
        self._holder = holder
        holder.start(after)

    def _wait(
        self,
        action: Digest,
        place: tuple[Remote, Holdings],
        seen: tuple[Lease, object],
        holder: "Holder | None",
    ) -> None:
        """Until there is a result, or nobody makes it any more, or it has taken long enough."""
        remote, holdings = place
        lease, version = seen
        began = self._clock()
        enough, ends, pause = began + self._terms.wait, began + lease.seconds, _FIRST_PAUSE
        while (now := self._clock()) < enough:
            if now < ends:
                self._pause(min(pause * random.uniform(0.7, 1.0), ends - now, enough - now))
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            elif self._inherits(holder, version):
                # It hasn't changed for as long as it said: whoever wrote it is gone.
                return
            if remote.lookup(action, time.monotonic() + _LOOK) is not None:
                return
            found = _in_time(lambda: _look(holdings, action))
            if found is None:
                # It has ended, and if there is a result, it came before that. If there is none (a failure isn't kept),
                # the next one won't make one either, so nobody waits for that one.
                return
            if found[1] != version:
                lease, version = found
                ends = self._clock() + lease.seconds
        self._say(f"waited {_span(now - began)} for {printable(lease.host)}, and runs it here now")

    def _inherits(self, holder: "Holder | None", version: object) -> bool:
        """Whether nobody else did. Who can't hold leases just goes on."""
        if holder is None:
            return True
        if not _in_time(lambda: holder.take(version)):
            return False
        self._hold(holder)
        return True


class Holder:
    """A lease that this run takes, in a thread that keeps it until it is let go."""

    def __init__(self, holdings: Holdings, name: str, terms: Terms) -> None:
        self._holdings = holdings
        self._name = name
        self._lease = Lease(
            run=terms.run, host=terms.host, pid=os.getpid(), seconds=min(terms.seconds, LONGEST)
        )
        self._key = terms.key
        self._version: object | None = None
        self._kept = 0.0  # when it was surely ours
        self._until: float | None = None
        self._is_taking = False
        self._removes = False
        self._letting_go, self._gone = _locked(), _locked()

    def take(self, over: object | None = None) -> bool:
        """Create it, or replace the version `over`. StoreError when the remote refuses."""
        self._lease.key = self._key()
        self._lease.beat += 1
        began = time.monotonic()
        version = self._holdings.write(LEASES, self._name, self._lease.to_bytes(), over)
        if version is None:
            # An answer may have got lost, and the library have tried again: then what is there is ours.
            found = self._holdings.read(LEASES, self._name)
            lease = lease_from(found[0]) if found is not None else None
            if found is None or lease is None or lease.run != self._lease.run:
                self._version = None
                return False
            version = found[1]
        self._version, self._kept = version, began
        return True

    def start(self, after: float) -> None:
        """Keep it, from now on; or take it first, if the run isn't over by then."""
        # Signals are for the thread that runs the command.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            start_new_thread(self._keep, (after,))
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def expect_end(self) -> None:
        self._until = time.monotonic() + _AFTERWARDS

    def release(self, *, remove: bool) -> None:
        self._removes = remove
        # Nobody waits for a remote that didn't answer the last time.
        is_worth_it = remove and (self._is_ours() or (self._is_taking and self._version is None))
        self._letting_go.release()
        if is_worth_it:
            self._gone.acquire(timeout=_LEAVE)

    def _is_ours(self) -> bool:
        return self._version is not None and time.monotonic() - self._kept < self._lease.seconds / 2

    def _keep(self, after: float) -> None:
        try:
            if after and (self._letting_go.acquire(timeout=after) or not self._try(None)):
                return
            while not self._letting_go.acquire(timeout=self._lease.seconds / 3):
                if self._until is not None and time.monotonic() > self._until:
                    return
                if not self._try(self._version):
                    return
            if self._removes and self._is_ours():
                self._holdings.remove(LEASES, [self._name])
        except Exception:
            return  # it ends by itself
        finally:
            self._gone.release()

    def _try(self, over: object | None) -> bool:
        """Whether it is worth trying again: it is ours, or nobody knows."""
        self._is_taking = True
        try:
            return self.take(over)
        except CapsulaError:
            return True
        finally:
            self._is_taking = False


def _look(holdings: Holdings, action: Digest) -> tuple[Lease, object] | None:
    found = holdings.read(LEASES, action.hash)
    lease = lease_from(found[0]) if found is not None else None
    return None if found is None or lease is None else (lease, found[1])


def _in_time(work: Callable[[], T]) -> T:
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

    start_new_thread(run, ())
    if not done.acquire(timeout=_LOOK):
        raise StoreUnreachable("a lease couldn't be looked at in time")
    if errors:
        raise (
            errors[0] if isinstance(errors[0], CapsulaError) else StoreUnreachable(str(errors[0]))
        ) from errors[0]
    return answers[0]


def _locked() -> LockType:
    lock = allocate_lock()
    lock.acquire()
    return lock


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
