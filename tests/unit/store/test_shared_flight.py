"""Leases between machines, on a store in memory and by a clock that the test turns."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult
from capsula.errors import StoreUnreachable
from capsula.store import life
from capsula.store.lease import Lease, Terms, lease_from
from capsula.store.shared_flight import WORTH, SharedFlight
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
        wanted: dict[str, Any] = {"seconds": 30.0, "wait": 600.0, "expects": lambda: 60.0, **terms}
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


@pytest.fixture
def remote() -> MemoryRemote:
    return MemoryRemote()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is slow, and that is no trouble of a store."""
    monkeypatch.setattr("capsula.store.holder.LOOK", 60.0)
    monkeypatch.setattr("capsula.store.holder._LEAVE", 60.0)


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


# ---------------------------------------------------------------------------------------------------- holding


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
    monkeypatch.setattr("capsula.store.holder.LOOK", 0.01)
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
    assert machine.watch.now == pytest.approx(1013), "a store tells the time to the second"
    assert held(remote)["host"] == "here"
    machine.flight.release(remove=True)
    assert held(remote) is None


def test_of_many_who_wait_for_a_dead_one_one_takes_it_over(remote) -> None:
    remote.leases[NAME] = lease_of_another(seconds=2)
    machines = [Machine(remote, f"m{at}", wait=20.0) for at in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda machine: machine.enter(), machines))
    inherited = [machine for machine in machines if "took over" in machine.said[0]]
    # The others wait for the one who has it now, as long as they would for anybody.
    assert [held(remote)["host"]] == [machine.flight.terms.host for machine in inherited]
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


@pytest.mark.parametrize(
    ("host", "place", "waits"), [("here", "", False), ("there", "", True), ("here", "0" * 32, True)]
)
def test_a_capsule_inside_of_itself_does_not_wait_for_its_own_end(remote, host, place, waits) -> None:
    """Unless it is the number of something else in another container."""
    remote.leases[NAME] = lease_of_another(host=host, pid=os.getppid(), place=place)
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


def test_what_is_no_lease_is_not_waited_for(remote) -> None:
    remote.leases[NAME] = b"nonsense"
    machine = Machine(remote)
    assert machine.enter() is False
    assert machine.watch.pauses == []
    machine.flight.release(remove=True)
    assert remote.leases[NAME] == b"nonsense"


def test_what_goes_wrong_while_it_waits_ends_the_waiting(remote, monkeypatch) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote)

    def refuse(*given):
        raise StoreUnreachable("away")

    machine.watch.then = [lambda: monkeypatch.setattr(remote, "lookup", refuse)]
    assert machine.enter() is False
    assert len(machine.watch.pauses) == 1


# ---------------------------------------------------------------------------------------------------- the dead


@pytest.fixture
def dead() -> tuple[int, str, str]:
    """The number and the marks of a process that was killed."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    place, lives = life.marks("run of there", process.pid)
    process.kill()
    process.communicate()
    return process.pid, place, lives


def is_taken_over_at_once(machine: Machine, why: str = "its process is gone") -> bool:
    began = machine.watch.now
    waited = machine.enter()
    said = [f"took over from a run on there: {why}"]
    done = (waited, machine.watch.now, machine.waited_for, machine.said) == (False, began, [], said)
    return done and (held(machine.remote) or {}).get("host") == "here"


def test_one_of_this_machine_whose_process_is_gone_is_not_waited_for(remote, dead) -> None:
    pid, place, lives = dead
    remote.leases[NAME] = lease_of_another(pid=pid, place=place, life=lives)
    machine = Machine(remote)
    assert is_taken_over_at_once(machine)
    machine.flight.release(remove=True)
    assert held(remote) is None


def test_nor_when_its_number_is_now_that_of_another_process(remote) -> None:
    place, _ = life.marks("run of there", os.getpid())
    remote.leases[NAME] = lease_of_another(pid=os.getpid(), place=place, life="0" * 32)
    machine = Machine(remote)
    assert is_taken_over_at_once(machine)
    machine.flight.release(remove=True)


@pytest.mark.parametrize("what", ["alive", "elsewhere", "unknown"])
def test_of_one_that_may_be_alive_nothing_is_concluded(remote, dead, what) -> None:
    """Another container may have the same host name, and a process with that number, or none."""
    pid, place, lives = dead
    if what == "alive":
        pid = os.getpid()
        place, lives = life.marks("run of there", pid)
    elif what == "elsewhere":
        place = "0" * 32
    else:
        place = lives = ""
    remote.leases[NAME] = lease_of_another(pid=pid, host="here", place=place, life=lives)
    machine = Machine(remote)
    machine.watch.then = [lambda: land(remote)]
    assert machine.enter() is True
    assert len(machine.waited_for) == 1
    machine.flight.release(remove=True)


def test_one_that_dies_while_it_is_waited_for_is_taken_over(remote) -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    place, lives = life.marks("run of there", process.pid)
    remote.leases[NAME] = lease_of_another(pid=process.pid, place=place, life=lives)
    machine = Machine(remote)
    machine.watch.then = [lambda: None, process.kill, process.wait]
    assert machine.enter() is True
    assert len(machine.watch.pauses) <= 3
    assert held(remote)["host"] == "here"
    machine.flight.release(remove=True)
    process.communicate()


def test_one_that_died_in_this_store_is_not_waited_for(remote) -> None:
    """Whatever its process was: it may have been another container, or before this machine was started again."""
    remote.leases[NAME] = lease_of_another(place="0" * 32, life="0" * 32)
    machine = Machine(remote)
    machine.died = frozenset(["run of there"])
    assert is_taken_over_at_once(machine)
    machine.flight.release(remove=True)


def test_one_that_the_store_knows_for_old_is_not_waited_for(remote) -> None:
    """No clock but that of the store has a say in it."""
    remote.leases[NAME] = lease_of_another(seconds=12)
    remote.times["lease", NAME], remote.clock = 5000.0, 5013.0
    machine = Machine(remote)
    assert is_taken_over_at_once(machine, "nothing is heard of it any more")
    machine.flight.release(remove=True)


def test_its_time_counts_from_when_it_was_written(remote) -> None:
    remote.leases[NAME] = lease_of_another(seconds=12)
    remote.times["lease", NAME], remote.clock = 5000.0, 5009.0
    machine = Machine(remote)
    assert machine.enter() is True
    assert machine.watch.now == pytest.approx(1004)
    machine.flight.release(remove=True)


@pytest.mark.parametrize("what", ["refused", "gone", "from the future"])
def test_where_the_store_does_not_tell_it_is_watched(remote, monkeypatch, what) -> None:
    remote.leases[NAME] = lease_of_another(seconds=12)
    remote.times["lease", NAME], remote.clock = 5000.0, 4000.0 if what == "from the future" else 5013.0

    def age(*given):
        if what == "refused":
            raise StoreUnreachable("you may not write a probe")

    if what != "from the future":
        monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.age", age)
    machine = Machine(remote)
    assert machine.enter() is True
    assert machine.watch.now == pytest.approx(1013 if what == "from the future" else 1012)
    machine.flight.release(remove=True)


def test_who_only_reads_asks_for_nothing_that_takes_writing(remote, monkeypatch) -> None:
    remote.leases[NAME] = lease_of_another(seconds=12)
    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.now", lambda _: pytest.fail("it writes"))
    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.age", lambda *_: pytest.fail("it writes"))
    machine = Machine(remote, seconds=0.0)
    assert machine.enter() is True
    assert machine.watch.now == pytest.approx(1012)


def test_who_does_not_wait_takes_over_from_the_dead_all_the_same(remote, dead) -> None:
    pid, place, lives = dead
    remote.leases[NAME] = lease_of_another(pid=pid, place=place, life=lives)
    machine = Machine(remote, wait=0.0)
    assert is_taken_over_at_once(machine)
    machine.flight.release(remove=True)


def test_what_cannot_be_replaced_is_not_tried_for_ever(remote, monkeypatch, dead) -> None:
    pid, place, lives = dead
    remote.leases[NAME] = there = lease_of_another(pid=pid, place=place, life=lives)
    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.write", lambda *given: None)
    machine = Machine(remote)
    assert machine.enter() is False
    assert machine.said == machine.waited_for == []
    machine.flight.release(remove=True)
    assert remote.leases[NAME] == there


def test_who_is_too_late_to_take_over_waits_for_the_one_who_did(remote, monkeypatch, dead) -> None:
    pid, place, lives = dead
    remote.leases[NAME] = lease_of_another(pid=pid, place=place, life=lives)
    plain = type(remote.holdings()).write

    def write(self, *given):
        if "third" not in remote.leases[NAME].decode():
            remote.leases[NAME] = lease_of_another(run="third", host="third")
        return plain(self, *given)

    monkeypatch.setattr("capsula.testing.remotes.MemoryHoldings.write", write)
    machine = Machine(remote)
    machine.watch.then = [lambda: land(remote)]
    assert machine.enter() is True
    assert machine.waited_for == ["third (for 10 min at most: --lease_wait)"]
    machine.flight.release(remove=True)


def test_what_was_kept_and_is_written_again_is_no_sign_of_life(remote) -> None:
    remote.leases[NAME] = lease_of_another(seconds=12, beat=7)
    machine = Machine(remote)
    machine.watch.then = [
        lambda number=number: remote.leases.__setitem__(NAME, lease_of_another(seconds=12, beat=number % 7))
        for number in range(100)
    ]
    assert machine.enter() is True
    assert machine.watch.now == pytest.approx(1013)
    machine.flight.release(remove=True)


def test_one_line_is_said_however_many_hold_it(remote) -> None:
    remote.leases[NAME] = lease_of_another()
    machine = Machine(remote)
    machine.watch.then = [
        lambda number=number: remote.leases.__setitem__(
            NAME, lease_of_another(run=f"r{number}", host=f"h{number}")
        )
        for number in range(5)
    ] + [lambda: land(remote)]
    assert machine.enter() is True
    assert machine.waited_for == ["there (for 10 min at most: --lease_wait)"]
    assert machine.said == []
    machine.flight.release(remove=True)


# ---------------------------------------------------------------------------------------------------- signed


def only_good(statement: bytes, signature: bytes) -> bool:
    return signature == b"good"


@pytest.mark.parametrize("signature", [b"", b"bad"])
def test_one_that_nobody_vouches_for_is_replaced(remote, signature) -> None:
    remote.leases[NAME] = lease_of_another(signature=signature)
    machine = Machine(remote, believes=only_good)
    assert is_taken_over_at_once(machine, "nobody vouches for it who may")
    machine.flight.release(remove=True)


def test_who_only_reads_passes_by_it(remote) -> None:
    remote.leases[NAME] = there = lease_of_another()
    machine = Machine(remote, believes=only_good, seconds=0.0)
    assert machine.enter() is False
    assert machine.watch.pauses == []
    assert remote.leases[NAME] == there


def test_one_that_is_vouched_for_is_waited_for_as_long_as_that_lasts(remote) -> None:
    remote.leases[NAME] = lease_of_another(signature=b"good")
    machine = Machine(remote, believes=only_good)
    machine.watch.then = [
        lambda: remote.leases.__setitem__(NAME, lease_of_another(signature=b"good", beat=2)),
        lambda: remote.leases.__setitem__(NAME, lease_of_another(signature=b"bad", beat=3)),
    ]
    assert machine.enter() is True
    assert len(machine.watch.pauses) == 2
    assert held(remote)["host"] == "here"
    machine.flight.release(remove=True)


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
    monkeypatch.setattr("capsula.store.holder._LEAVE", 0.01)
    slow = Slow(remote, monkeypatch)
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
    monkeypatch.setattr("capsula.store.holder._LEAVE", 0.01)
    holder.release(remove=True)
    go.set()
    first.join(60)
    until(lambda: held(remote) is None)
