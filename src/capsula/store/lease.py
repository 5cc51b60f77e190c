"""Who is making a result now, told to other machines by a small object beside the entries of an object store.

A lease is advice. It keeps machines from doing the same work at once, and nothing else hangs on it: a result is right
whoever holds a lease, and what goes wrong with one is no trouble of the run.

Whoever holds one writes it again every third of its time. Machines don't agree on what time it is, so nobody compares
their clocks: a lease has ended when it hasn't changed for as long as it says, by the clock of the store, or by the
watch of the one who looks at it.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING

from capsula.core.digest import Digest
from capsula.core.facts import pack
from capsula.ports import Holdings
from capsula.store import life

if TYPE_CHECKING:
    from capsula.core.facts import Fact

LEASES = "lease"
# What a lease says is believed within these bounds.
_SHORTEST, LONGEST = 1.0, 300.0
_TEXTS = ("run", "host", "place", "life")


class Lease:
    """`run` is the name of the run that holds it, in the process `pid` of `host`, for `seconds` without a change;
    `beat` counts how often it was written. `place` and `life` are marks of that process (capsula.store.life), "" for
    none: then nobody is to conclude anything from its end. `signature` is what vouches for it, b"" for nothing."""

    def __init__(
        self,
        *,
        run: str,
        host: str,
        pid: int,
        seconds: float,
        beat: int = 0,
        place: str = "",
        life: str = "",
        signature: bytes = b"",
    ) -> None:
        self.run = run
        self.host = host
        self.pid = pid
        self.seconds = seconds
        self.beat = beat
        self.place = place
        self.life = life
        self.signature = signature

    def to_bytes(self) -> bytes:
        names = ("run", "host", "pid", "seconds", "beat", "place", "life")
        said = {name: getattr(self, name) for name in names}
        if self.signature:
            said["signature"] = b64encode(self.signature).decode()
        return json.dumps({"capsula-lease": 1, **said}).encode()

    def statement(self, action: Digest) -> bytes:
        """What is signed: all that it says, and of which action."""
        seconds = repr(_bounded(self.seconds))
        facts: list[Fact] = [("capsula-lease1",), ("action", action.hash, str(action.size_bytes))]
        facts += [(name, getattr(self, name)) for name in _TEXTS]
        facts += [("pid", str(self.pid)), ("seconds", seconds), ("beat", str(self.beat))]
        return pack(facts)

    def is_gone(self) -> bool:
        """Whether the process that holds it was on this machine, and certainly is no more."""
        return life.is_gone(self.run, self.pid, self.place, self.life)

    def is_elsewhere(self) -> bool:
        return life.is_elsewhere(self.run, self.place)


def lease_from(content: bytes) -> Lease | None:
    """None for what is no lease that we know how to keep."""
    try:
        said = json.loads(content[:10_000])
        if said["capsula-lease"] != 1:
            return None
        run, host, place, life = (str(said[name])[:200] for name in _TEXTS)
        return Lease(
            run=run,
            host=host,
            pid=int(said["pid"]),
            seconds=_bounded(float(said["seconds"])),
            beat=int(said["beat"]),
            place=place,
            life=life,
            signature=b64decode(str(said.get("signature", "")), validate=True),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, AttributeError):
        return None


def look(holdings: Holdings, action: Digest) -> tuple[Lease, object] | None:
    """The lease of this action, and its version."""
    found = holdings.read(LEASES, action.hash)
    lease = lease_from(found[0]) if found is not None else None
    return None if found is None or lease is None else (lease, found[1])


class Terms:
    """How a run takes leases and waits for those of others; times in seconds.

    `seconds` is how long its own lasts (0: it takes none), `wait` how long it waits at most (0: not at all).
    `expects` tells how long the command will run, None where that isn't known. `sign` answers the signature of a
    statement, b"" for none, and `believes` whether a statement with this signature counts. `ends_with_process`: when
    ours is gone, nobody makes or sends the result any more. `patience` is how long remotes may delay the command: half
    of that (`look`) for each look at leases, a fifth (`leave`) for removing one at the end.
    """

    def __init__(
        self,
        *,
        run: str,
        host: str,
        seconds: float,
        wait: float,
        expects: Callable[[], float | None] = lambda: None,
        sign: Callable[[bytes], bytes] = lambda statement: b"",  # noqa: ARG005 - the name tells what it gets
        believes: Callable[[bytes, bytes], bool] = lambda statement, signature: True,  # noqa: ARG005
        ends_with_process: bool = True,
        patience: float = 10.0,
    ) -> None:
        self.run = run
        self.host = host
        self.seconds = seconds
        self.wait = wait
        self.expects = expects
        self.sign = sign
        self.believes = believes
        self.ends_with_process = ends_with_process
        self.look, self.leave = patience / 2, patience / 5


def _bounded(seconds: float) -> float:
    return float(min(max(_SHORTEST, seconds), LONGEST))
