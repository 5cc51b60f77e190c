"""Waiting for the lease of another machine, and knowing when that is of no use; by a watch that the test turns."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from capsula.errors import StoreUnreachable
from capsula.store import life
from capsula.testing import MemoryRemote
from machines import NAME, Machine, held, land, lease_of_another


@pytest.fixture
def remote() -> MemoryRemote:
    return MemoryRemote()


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
