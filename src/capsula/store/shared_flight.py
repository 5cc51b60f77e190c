"""At most one machine runs an action, where a remote can have leases; the others wait and use its result.

A run that dies leaves its lease, and nobody should wait for that. Who is on the same machine sees that the process is
gone, or holds the lock that it held; who is on another sees by the store's clock for how long it hasn't been written.
Who finds a lease that has ended replaces it, on the condition that it still is what was seen: of many, one succeeds.
"""

import random
import time
from collections.abc import Callable, Collection

from capsula.core.digest import Digest
from capsula.core.names import printable
from capsula.errors import CapsulaError
from capsula.ports import Flight, Holdings, Remote
from capsula.store.flight import ancestors
from capsula.store.holder import Holder, in_time
from capsula.store.lease import LEASES, Lease, Terms, look

# What is shorter is made twice sooner than it is waited for.
WORTH = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# Stores tell the time to the second.
_ROUNDED = 1.0

Seen = tuple[Lease, object]


class SharedFlight:
    """A Flight around that of this machine. Nothing that goes wrong with a lease gets out of it.

    `places` are the remotes that may be asked, in order; the first that can have leases has all of them. `died` names
    runs of the action that certainly ended on this machine without leaving; `is_here` tells whether this machine has a
    result by now; `ask_again` makes the next look-up ask remotes anew. `say` is told what only the curious want to
    know, and `holds` that from now on there may be something that a signal shouldn't leave behind. `release` is to be
    called in the end.
    """

    def __init__(
        self,
        near: Flight,
        places: Callable[[], list[Remote]],
        terms: Terms,
        *,
        is_here: Callable[[Digest], bool],
        ask_again: Callable[[Digest], None],
        died: Callable[[], Collection[str]],
        say: Callable[[str], None],
        holds: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._near = near
        self._places = places
        self.terms = terms
        self._is_here = is_here
        self._ask_again = ask_again
        self.died = died
        self.say = say
        self._holds = holds
        self.clock = clock
        self.pause = pause
        self.holder: Holder | None = None

    def enter(self, action: Digest, waiting: Callable[[str], None]) -> bool:
        waited = self._near.enter(action, waiting)
        expects = self.terms.expects()
        if (waited and self._is_here(action)) or (expects is not None and expects < WORTH):
            return waited
        try:
            return self._enter(action, waiting, is_long=expects is not None) or waited
        except CapsulaError:
            return waited

    def leave(self) -> None:
        self._near.leave()
        if self.holder is not None:
            self.holder.expect_end()

    def release(self, *, remove: bool) -> None:
        """`remove`: nobody has to wait any more. Else it ends by itself. A signal may do it at any moment."""
        if self.holder is not None:
            self.holder.release(remove=remove)
            self.holder = None

    def take(self, holdings: Holdings, action: Digest, over: object | None) -> bool:
        """Whether it is ours now. CapsulaError when the remote refuses."""
        self._hold(holdings, action)
        if self.holder is not None and self.holder.take(over):
            return True
        self.holder = None
        return False

    # ------------------------------------------------------------------------------------------------ inside

    def _enter(self, action: Digest, waiting: Callable[[str], None], *, is_long: bool) -> bool:
        place = self._place()
        if place is None:
            return False
        remote, holdings = place
        can_hold = self.terms.seconds > 0
        seen = in_time(lambda: look(holdings, action), self.terms.look)
        if seen is None and is_long and can_hold:
            if self.take(holdings, action, None):
                return False
            seen = in_time(lambda: look(holdings, action), self.terms.look)
        waited = _Waiting(self, action, remote, holdings, waiting).end(seen)
        if waited:
            self._ask_again(action)
        if self.holder is None and can_hold:
            # Later, and beside the run: a command that turns out to be short has cost nobody anything.
            self._hold(holdings, action).take_after(WORTH)
        return waited

    def _place(self) -> tuple[Remote, Holdings] | None:
        """Where all machines with these remotes look for leases."""
        for remote in self._places():
            holdings = in_time(remote.holdings, self.terms.look)
            if holdings is not None:
                return remote, holdings
        return None

    def _hold(self, holdings: Holdings, action: Digest) -> Holder:
        self.holder = Holder(holdings, action, self.terms)
        self._holds()
        return self.holder


class _Waiting:
    """For an action that others have a lease on, by a run that `flight` is of."""

    def __init__(
        self,
        flight: SharedFlight,
        action: Digest,
        remote: Remote,
        holdings: Holdings,
        tell: Callable[[str], None],
    ) -> None:
        self._flight = flight
        self._terms = flight.terms
        self._action = action
        self._remote = remote
        self._holdings = holdings
        self._tell = tell
        self._began = flight.clock()
        self._pause = _FIRST_PAUSE
        self._waited = False
        # Of the lease that was seen last: whose, how often it was written, and when it will have ended by then.
        self._run, self._beat, self._ends = "", 0, 0.0

    def end(self, seen: Seen | None) -> bool:
        """Wait until there is a result, or nobody makes it any more, or it has taken long enough. Whether it took any
        time."""
        while seen is not None:
            lease, version = seen
            if lease.run == self._terms.run or _is_around_us(lease, self._terms.host):
                break
            why = self._why_nobodys(lease)
            if not why:
                if self._terms.wait <= 0:
                    break
                why = self._why_ended(lease)
            if why:
                if self._terms.seconds <= 0 or self._inherits(lease, version, why):
                    break
            elif self._has_waited_enough(lease) or self._comes_meanwhile(lease):
                break
            seen = in_time(lambda: look(self._holdings, self._action), self._terms.look)
            if why and seen is not None and seen[1] == version:
                break  # it can't be replaced, and nobody else does
        # If it has ended and there is a result, that came before. If there is none (a failure isn't kept), the next one
        # won't make one either, so nobody waits for that one.
        return self._waited

    def _why_nobodys(self, lease: Lease) -> str:
        """Why it needn't be looked at any longer, "" if it may be somebody's."""
        if lease.run in self._flight.died() or lease.is_gone():
            return "its process is gone"
        if not self._terms.believes(lease.statement(self._action), lease.signature):
            return "nobody vouches for it who may"
        return ""

    def _why_ended(self, lease: Lease) -> str:
        """It hasn't changed for as long as it said. Only what comes after what was seen is a sign of life, not what
        somebody has kept and writes again."""
        if lease.run != self._run or lease.beat > self._beat:
            age = None if self._run else self._age()
            left = lease.seconds if age is None else lease.seconds + _ROUNDED - max(age, 0.0)
            self._run, self._beat, self._ends = lease.run, lease.beat, self._flight.clock() + left
        return "nothing is heard of it any more" if self._flight.clock() >= self._ends else ""

    def _age(self) -> float | None:
        """By the clock of the store; None where that can't be asked, which takes writing."""
        if self._terms.seconds <= 0:
            return None
        try:
            return in_time(lambda: self._holdings.age(LEASES, self._action.hash), self._terms.look)
        except CapsulaError:
            return None

    def _inherits(self, lease: Lease, version: object, why: str) -> bool:
        if not self._flight.take(self._holdings, self._action, version):
            return False
        self._flight.say(f"took over from a run on {printable(lease.host)}: {why}")
        return True

    def _has_waited_enough(self, lease: Lease) -> bool:
        if self._flight.clock() < self._began + self._terms.wait:
            return False
        self._flight.say(
            f"waited {_span(self._terms.wait)} for {printable(lease.host)}, and runs it here now"
        )
        return True

    def _comes_meanwhile(self, lease: Lease) -> bool:
        """Whether a result has come after a pause."""
        if not self._waited:
            self._waited = True
            self._tell(f"{printable(lease.host)} (for {_span(self._terms.wait)} at most: --lease_wait)")
        now = self._flight.clock()
        left = min(self._ends, self._began + self._terms.wait) - now
        self._flight.pause(max(0.0, min(self._pause * random.uniform(0.7, 1.0), left)))
        self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)
        return self._remote.lookup(self._action, time.monotonic() + self._terms.look) is not None


def _is_around_us(lease: Lease, host: str) -> bool:
    """A capsule inside of itself: it would wait for its own end."""
    return lease.host == host and lease.pid in ancestors() and not lease.is_elsewhere()


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
