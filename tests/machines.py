"""Machines that share a store in memory, each with a watch that the test turns, and their leases in it."""

import json
import time
from collections.abc import Callable
from typing import Any

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult
from capsula.store.lease import Lease, Terms
from capsula.store.shared_flight import SharedFlight
from capsula.testing import MemoryRemote

ACTION = digest_of(b"action")
NAME = ACTION.hash


class Alone:
    """The flight of one machine, on which nobody else is."""

    waited = False
    left = 0

    def enter(self, action: Digest, waiting: Callable[[str], None]) -> bool:
        return self.waited

    def leave(self) -> None:
        self.left += 1


class Watch:
    """Time passes only while somebody waits; then things happen."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.then: list[Callable[[], object]] = []
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if self.then:
            self.then.pop(0)()


class Machine:
    def __init__(self, remote: MemoryRemote, name: str = "here", **terms: Any) -> None:
        self.remote = remote
        self.near = Alone()
        self.watch = Watch()
        self.said: list[str] = []
        self.waited_for: list[str] = []
        self.asked_again = 0
        self.is_here = False
        self.died: frozenset[str] = frozenset()
        self.held = 0
        # A busy machine is slow, and that is no trouble of a store.
        wanted: dict[str, Any] = {"patience": 300.0, "seconds": 30.0, "wait": 600.0, "expects": lambda: 60.0}
        wanted |= terms
        self.flight = SharedFlight(
            self.near,
            lambda: [remote],
            Terms(run=f"run of {name}", host=name, **wanted),
            is_here=lambda action: self.is_here,
            ask_again=lambda action: setattr(self, "asked_again", self.asked_again + 1),
            died=lambda: self.died,
            say=self.said.append,
            holds=lambda: setattr(self, "held", self.held + 1),
            clock=self.watch,
            pause=self.watch.pause,
        )

    def enter(self) -> bool:
        return self.flight.enter(ACTION, self.waited_for.append)


def land(remote: MemoryRemote) -> None:
    remote.store(ACTION, ActionResult(), time.monotonic() + 60)


def held(remote: MemoryRemote) -> dict[str, Any] | None:
    content = remote.leases.get(NAME)
    return None if content is None else json.loads(content)


def lease_of_another(
    seconds: float = 30.0,
    beat: int = 1,
    host: str = "there",
    pid: int = 1 << 30,
    run: str = "run of there",
    place: str = "",
    life: str = "",
    signature: bytes = b"",
) -> bytes:
    lease = Lease(
        run=run, host=host, pid=pid, seconds=seconds, beat=beat, place=place, life=life, signature=signature
    )
    return lease.to_bytes()


def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)
