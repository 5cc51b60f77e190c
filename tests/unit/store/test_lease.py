"""Leases between machines, on a store in memory and by a clock that the test turns."""

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult
from capsula.errors import StoreUnreachable
from capsula.store.lease import LEASES, WORTH, Lease, SharedFlight, Terms, lease_from
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
        wanted: dict[str, Any] = {"seconds": 30.0, "wait": 600.0, "expects": lambda: 60.0, **terms}
        self.flight = SharedFlight(
            self.near,
            lambda: [remote],
            Terms(run=f"run of {name}", host=name, **wanted),
            is_here=lambda action: self.is_here,
            ask_again=lambda action: setattr(self, "asked_again", self.asked_again + 1),
            say=self.said.append,
            clock=self.watch,
            pause=self.watch.pause,
        )

    def enter(self) -> bool:
        return self.flight.enter(ACTION, self.waited_for.append)


@pytest.fixture
def remote() -> MemoryRemote:
    return MemoryRemote()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is slow, and that is no trouble of a store."""
    monkeypatch.setattr("capsula.store.lease._LOOK", 60.0)
    monkeypatch.setattr("capsula.store.lease._LEAVE", 60.0)


def land(remote: MemoryRemote) -> None:
    remote.store(ACTION, ActionResult(), time.monotonic() + 60)


def held(remote: MemoryRemote) -> dict[str, Any] | None:
    content = remote.leases.get(NAME)
    return None if content is None else json.loads(content)


def lease_of_another(
    seconds: float = 30.0, key: str = "", beat: int = 1, host: str = "there", pid: int = 1 << 30
) -> bytes:
    return Lease(run="run of there", host=host, pid=pid, seconds=seconds, key=key, beat=beat).to_bytes()


def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)


# ---------------------------------------------------------------------------------------------------- holding


def test_a_long_run_holds_a_lease_until_it_is_released(remote) -> None:
    machine = Machine(remote)
    assert machine.enter() is False
    assert held(remote) == {
        "capsula-lease": 1,
        "run": "run of here",
        "host": "here",
        "pid": os.getpid(),
        "seconds": 30.0,
        "key": "",
        "beat": 1,
    }
    machine.flight.leave()
    assert machine.near.left == 1
    assert held(remote) is not None, "what was made isn't sent yet"
    machine.flight.release(remove=True)
    assert held(remote) is None
    machine.flight.release(remove=True)


def test_a_command_that_is_known_to_be_short_asks_nothing(remote, monkeypatch) -> None:
    monkeypatch.setattr(remote, "holdings", lambda: pytest.fail("it was asked"))
    for expects in (0.0, WORTH * 0.99):
        assert Machine(remote, expects=lambda expects=expects: expects).enter() is False


def test_a_command_that_turns_out_to_be_short_writes_nothing(remote, monkeypatch) -> None:
    monkeypatch.setattr("capsula.store.lease.WORTH", 1000.0)
    machine = Machine(remote, expects=lambda: None)
    assert machine.enter() is False
    machine.flight.leave()
    machine.flight.release(remove=True)
    assert remote.leases == {}


def test_a_command_that_turns_out_to_be_long_takes_it_then(remote, monkeypatch) -> None:
    monkeypatch.setattr("capsula.store.lease.WORTH", 0.001)
    machine = Machine(remote, expects=lambda: None)
    machine.enter()
    until(lambda: held(remote))
    machine.flight.release(remove=True)
    assert held(remote) is None


def test_it_is_written_again_as_long_as_it_runs(remote) -> None:
    machine = Machine(remote, seconds=0.003)
    machine.enter()
    until(lambda: (held(remote) or {}).get("beat", 0) > 3)
    machine.flight.release(remove=False)


def test_it_ends_by_itself_when_another_process_sends_the_result(remote) -> None:
    machine = Machine(remote)
    machine.enter()
    machine.flight.release(remove=False)
    assert held(remote) is not None


def test_one_that_was_taken_over_is_left_alone(remote) -> None:
    machine = Machine(remote, seconds=0.003)
    machine.enter()
    with remote.turn:
        remote.leases[NAME] = lease_of_another()
    until(lambda: machine.flight._holder._version is None)
    machine.flight.release(remove=True)
    assert remote.leases[NAME] == lease_of_another()


def test_who_has_not_been_heard_of_removes_nothing(remote, monkeypatch) -> None:
    """Its network was cut for a while, and somebody else has taken over."""
    machine = Machine(remote, seconds=0.03)
    machine.enter()
    holder = machine.flight._holder
    refused: list[float] = []

    def refuse(*given):
        refused.append(time.monotonic())
        raise StoreUnreachable("away")

    with remote.turn:
        monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.write", refuse)
    until(lambda: refused and refused[-1] - refused[0] > 0.1)
    remote.leases[NAME] = lease_of_another()
    machine.flight.release(remove=True)
    assert holder._gone.acquire(timeout=60)
    assert remote.leases[NAME] == lease_of_another()


def test_of_many_at_once_one_holds_it(remote) -> None:
    """All of them know that it takes long, and none finds a lease."""
    machines = [Machine(remote, f"m{at}", wait=0.0) for at in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda machine: machine.enter(), machines))
    holders = [machine for machine in machines if machine.flight._holder._version is not None]
    assert len(holders) == 1
    assert held(remote)["host"] == holders[0].flight._terms.host
    for machine in machines:
        machine.flight.release(remove=True)
    assert held(remote) is None


def test_an_answer_that_got_lost_is_no_refusal(remote, monkeypatch) -> None:
    """The library tried again, and found what its first try had written."""
    plain = type(remote.holdings()).write

    def write(self, kind, name, content, over):
        plain(self, kind, name, content, over)
        return plain(self, kind, name, content, over)

    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.write", write)
    machine = Machine(remote)
    assert machine.enter() is False
    assert machine.watch.pauses == []
    machine.flight.release(remove=True)
    assert held(remote) is None


@pytest.mark.parametrize("what", ["holdings", "read", "write", "remove"])
def test_trouble_with_it_is_none_of_the_run(remote, monkeypatch, what) -> None:
    def refuse(*given):
        raise StoreUnreachable("away")

    if what == "holdings":
        monkeypatch.setattr(remote, "holdings", refuse)
    else:
        monkeypatch.setattr(f"capsula.testing.remotes.MemoryHoldings.{what}", refuse)
    machine = Machine(remote)
    assert machine.enter() is False
    machine.flight.leave()
    machine.flight.release(remove=True)
    assert machine.said == []


def test_a_store_that_hangs_is_not_waited_for(remote, monkeypatch) -> None:
    monkeypatch.setattr("capsula.store.lease._LOOK", 0.01)
    hanging = threading.Event()
    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.read", lambda *given: hanging.wait(60))
    machine = Machine(remote)
    assert machine.enter() is False
    hanging.set()


def test_where_there_are_no_leases_nothing_is_done(remote, monkeypatch) -> None:
    monkeypatch.setattr(remote, "holdings", lambda: None)
    assert Machine(remote).enter() is False


# ---------------------------------------------------------------------------------------------------- waiting


def test_who_finds_one_waits_until_the_result_lands(remote) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote)
    machine.watch.then = [lambda: None, lambda: None, lambda: land(remote)]
    assert machine.enter() is True
    assert machine.waited_for == ["there (for 10 min at most: --lease_wait)"]
    assert (machine.asked_again, len(machine.watch.pauses), machine.said) == (1, 3, [])
    machine.flight.release(remove=True)


def test_pauses_grow_up_to_some_seconds(remote) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote)

    def beat(number: int) -> None:
        remote.leases[NAME] = lease_of_another(beat=number)

    machine.watch.then = [lambda number=number: beat(number) for number in range(20)] + [lambda: land(remote)]
    assert machine.enter() is True
    assert machine.watch.pauses[0] <= 0.25
    assert 3 < max(machine.watch.pauses) <= 5
    assert machine.watch.now > 1030, "it went on for longer than one that doesn't change would have lasted"
    machine.flight.release(remove=True)


def test_when_it_ends_without_a_result_nobody_waits_for_the_next(remote) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote)
    machine.watch.then = [lambda: remote.leases.pop(NAME)]
    assert machine.enter() is True
    assert len(machine.watch.pauses) == 1
    machine.flight.release(remove=True)


def test_one_that_does_not_change_has_ended_and_is_taken_over(remote) -> None:
    remote.leases[NAME] = lease_of_another(seconds=12)
    machine = Machine(remote)
    assert machine.enter() is True
    assert machine.watch.now == pytest.approx(1012)
    assert held(remote)["host"] == "here"
    machine.flight.release(remove=True)
    assert held(remote) is None


def test_of_many_who_wait_for_a_dead_one_one_takes_it_over(remote) -> None:
    remote.leases[NAME] = lease_of_another(seconds=2)
    machines = [Machine(remote, f"m{at}", wait=20.0) for at in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda machine: machine.enter(), machines))
    inherited = [machine for machine in machines if machine.said == []]
    # The others wait for the one who has it now, as long as they would for anybody.
    assert [held(remote)["host"]] == [machine.flight._terms.host for machine in inherited]
    for machine in machines:
        machine.flight.release(remove=True)


def test_nobody_waits_for_ever(remote) -> None:
    machine = Machine(remote, wait=90.0)
    remote.leases[NAME] = lease_of_another()
    machine.watch.then = [
        lambda number=number: remote.leases.__setitem__(NAME, lease_of_another(beat=number))
        for number in range(1000)
    ]
    assert machine.enter() is True
    assert machine.watch.now == pytest.approx(1090)
    assert machine.said == ["waited 90 s for there, and runs it here now"]
    machine.flight.release(remove=True)


def test_who_only_reads_waits_as_well_and_takes_nothing(remote) -> None:
    remote.leases[NAME] = lease_of_another(seconds=12)
    machine = Machine(remote, seconds=0.0)
    assert machine.enter() is True
    assert remote.leases[NAME] == lease_of_another(seconds=12)


def test_who_only_writes_does_not_wait(remote) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote, wait=0.0)
    assert machine.enter() is False
    assert machine.watch.pauses == []
    machine.flight.release(remove=True)


@pytest.mark.parametrize(("key", "waits"), [("", False), ("other", False), ("known", True)])
def test_only_those_who_are_believed_are_waited_for(remote, key, waits) -> None:
    remote.leases[NAME] = lease_of_another(key=key)
    machine = Machine(remote, believed=lambda: frozenset(["known"]))
    machine.watch.then = [lambda: land(remote)]
    assert machine.enter() is waits
    machine.flight.release(remove=True)


@pytest.mark.parametrize(("host", "waits"), [("here", False), ("there", True)])
def test_a_capsule_inside_of_itself_does_not_wait_for_its_own_end(remote, host, waits) -> None:
    remote.leases[NAME] = lease_of_another(host=host, pid=os.getppid())
    machine = Machine(remote)
    machine.watch.then = [lambda: land(remote)]
    assert machine.enter() is waits
    machine.flight.release(remove=True)


def test_what_another_process_here_made_meanwhile_is_enough(remote) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote)
    machine.near.waited = machine.is_here = True
    assert machine.enter() is True
    assert machine.waited_for == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"null", b'{"capsula-lease": 2}', b'{"capsula-lease": 1}', b"[" * 9000]
    + [b'{"capsula-lease": 1, "run": "r", "host": "h", "pid": 1, "seconds": "soon", "key": ""}'],
)
def test_what_is_no_lease_is_not_waited_for(remote, content) -> None:
    assert lease_from(content) is None
    remote.leases[NAME] = content
    machine = Machine(remote)
    assert machine.enter() is False
    assert machine.watch.pauses == []
    machine.flight.release(remove=True)
    assert remote.leases[NAME] == content


@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_kept_within_bounds(seconds) -> None:
    lease = lease_from(json.dumps({**json.loads(lease_of_another()), "seconds": seconds}).encode())
    assert lease is None or 1 <= lease.seconds <= 300


def test_what_goes_wrong_while_it_waits_ends_the_waiting(remote, monkeypatch) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote)

    def refuse(*given):
        raise StoreUnreachable("away")

    machine.watch.then = [lambda: monkeypatch.setattr(remote, "lookup", refuse)]
    assert machine.enter() is False
    assert len(machine.watch.pauses) == 1


def test_a_lease_of_that_kind_is_where_it_is_looked_for() -> None:
    assert LEASES == "lease"
