"""Holding a lease: when it is taken, how long it is kept, and that it is let go whatever comes."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from capsula.errors import StoreUnreachable
from capsula.store import life
from capsula.store.lease import lease_from
from capsula.store.shared_flight import WORTH
from capsula.testing import MemoryRemote
from machines import ACTION, NAME, Machine, held, lease_of_another, until


@pytest.fixture
def remote() -> MemoryRemote:
    return MemoryRemote()


def test_a_long_run_holds_a_lease_until_it_is_released(remote) -> None:
    machine = Machine(remote)
    place, lives = life.marks("run of here", os.getpid())
    assert machine.enter() is False
    assert held(remote) == {
        "capsula-lease": 1,
        "run": "run of here",
        "host": "here",
        "pid": os.getpid(),
        "seconds": 30.0,
        "beat": 1,
        "place": place,
        "life": lives,
    }
    assert machine.held == 1
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
    monkeypatch.setattr("capsula.store.shared_flight.WORTH", 1000.0)
    machine = Machine(remote, expects=lambda: None)
    assert machine.enter() is False
    machine.flight.leave()
    machine.flight.release(remove=True)
    assert remote.leases == {}


def test_a_command_that_turns_out_to_be_long_takes_it_then(remote, monkeypatch) -> None:
    monkeypatch.setattr("capsula.store.shared_flight.WORTH", 0.001)
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
    until(lambda: machine.flight.holder._version is None)
    machine.flight.release(remove=True)
    assert remote.leases[NAME] == lease_of_another()


def test_who_has_not_been_heard_of_removes_nothing(remote, monkeypatch) -> None:
    """Its network was cut for a while, and somebody else has taken over."""
    machine = Machine(remote, seconds=0.03)
    machine.enter()
    holder = machine.flight.holder
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
    holders = [machine for machine in machines if machine.flight.holder._version is not None]
    assert len(holders) == 1
    assert held(remote)["host"] == holders[0].flight.terms.host
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
    hanging = threading.Event()
    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.read", lambda *given: hanging.wait(60))
    machine = Machine(remote, patience=0.02)
    assert machine.enter() is False
    hanging.set()


def test_where_there_are_no_leases_nothing_is_done(remote, monkeypatch) -> None:
    monkeypatch.setattr(remote, "holdings", lambda: None)
    assert Machine(remote).enter() is False


def test_each_of_its_own_is_signed_as_it_is(remote) -> None:
    machine = Machine(remote, seconds=0.003, sign=lambda statement: b"signed " + statement)
    machine.enter()
    until(lambda: (held(remote) or {}).get("beat", 0) > 2)
    machine.flight.release(remove=False)
    lease = lease_from(remote.leases[NAME])
    assert lease is not None
    lease.seconds = 0.003
    assert lease.signature == b"signed " + lease.statement(ACTION)


# ---------------------------------------------------------------------------------------------------- signals


class Slow:
    """A store that answers a write when it is told to."""

    def __init__(self, remote: MemoryRemote, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        plain = type(remote.holdings()).write

        def write(holdings: Any, *given: Any) -> object:
            self.begun.set()
            self.go.wait(60)
            return plain(holdings, *given)

        monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.write", write)
        self.machine = Machine(remote)
        self.entering = threading.Thread(target=self.machine.enter)
        self.entering.start()
        self.begun.wait(60)
        self.holder = self.machine.flight.holder


def test_what_is_just_being_written_is_removed_as_well(remote, monkeypatch) -> None:
    """A signal comes before the store has answered."""
    slow = Slow(remote, monkeypatch)
    assert slow.machine.held == 1, "who handles signals was told before"
    letting_go = threading.Thread(target=lambda: slow.machine.flight.release(remove=True))
    letting_go.start()
    until(lambda: not slow.holder._letting_go.locked())
    letting_go.join(0.05)
    assert letting_go.is_alive(), "whoever ends waits for it"
    slow.go.set()
    letting_go.join(60)
    assert held(remote) is None
    slow.entering.join(60)


def test_a_second_signal_finds_it_being_let_go(remote, monkeypatch) -> None:
    slow = Slow(remote, monkeypatch)
    slow.machine.flight.terms.leave = 0.01
    slow.holder.release(remove=True)
    slow.holder.release(remove=True)
    slow.go.set()
    slow.entering.join(60)
    assert slow.holder._gone.acquire(timeout=60)
    assert held(remote) is None


def test_a_signal_while_it_is_released_releases_it_again(remote, monkeypatch) -> None:
    machine = Machine(remote)
    machine.enter()
    holder = machine.flight.holder
    plain = type(remote.holdings()).remove
    removing, go = threading.Event(), threading.Event()

    def remove(self, *given):
        removing.set()
        go.wait(60)
        plain(self, *given)

    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.remove", remove)
    first = threading.Thread(target=lambda: holder.release(remove=True))
    first.start()
    removing.wait(60)
    machine.flight.terms.leave = 0.01
    holder.release(remove=True)
    go.set()
    first.join(60)
    until(lambda: held(remote) is None)
