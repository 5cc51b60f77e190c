"""Single flight, with real processes: one holds, the others wait, and whoever dies lets go."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

import capsula
from capsula.core.digest import Digest
from capsula.store.flight import Flights

KEY = "a" * 64
ACTION = Digest(KEY, 1)
PATIENCE = 200.0

# Enters, says so, and leaves (or ends) when it is told to.
HOLDER = f"""
import sys
sys.path.insert(0, {str(Path(capsula.__file__).parent.parent)!r})
from capsula.core.digest import Digest
from capsula.store.flight import Flights
root, key, how, *named = sys.argv[1:]
flights = Flights(root, *named)
def waiting(who):
    print("waiting", who.removeprefix("process "), flush=True)
waited = flights.enter(Digest(key, 1), waiting)
print("entered", waited, *sorted(flights.died), flush=True)
if how == "nest":
    import subprocess
    subprocess.run([sys.executable, sys.argv[0], root, key, "end"], check=True)
else:
    sys.stdin.readline()
if how == "leave":
    flights.leave()
    print("left", flush=True)
    sys.stdin.readline()
"""


class Process:
    def __init__(self, root: str, key: str = KEY, how: str = "end", *named: str) -> None:
        script = Path(root).with_name("holder.py")
        if not script.exists():  # writing it again would empty it under one that is just starting
            script.write_text(HOLDER)
        self.popen = Popen(
            [sys.executable, script, root, key, how, *named], stdin=PIPE, stdout=PIPE, text=True
        )

    def says(self) -> str:
        """Its next line."""
        assert self.popen.stdout is not None
        ready, _, _ = select.select([self.popen.stdout], [], [], PATIENCE)
        assert ready, "it says nothing"
        return self.popen.stdout.readline().strip()

    def is_quiet(self) -> bool:
        assert self.popen.stdout is not None
        return not select.select([self.popen.stdout], [], [], 0.1)[0]

    def tell(self, line: str = "go") -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def end(self) -> int:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()
        return self.popen.returncode


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(key: str = KEY, how: str = "end", *named: str) -> Process:
        started.append(Process(str(tmp_path / "store"), key, how, *named))
        return started[-1]

    yield start
    for process in started:
        process.end()


def test_who_is_alone_does_not_wait(tmp_path: Path) -> None:
    flights = Flights(str(tmp_path / "a" / "store"))
    for _ in range(3):
        assert not flights.enter(ACTION, lambda pid: pytest.fail("waited"))
        flights.leave()
    flights.leave()


def test_the_second_waits_until_the_first_leaves(start: Callable[..., Process]) -> None:
    first = start(how="leave")
    assert first.says() == "entered False"
    second = start()
    assert second.says() == f"waiting {first.popen.pid}"
    assert second.is_quiet()
    first.tell()
    assert first.says() == "left"
    assert second.says() == "entered True"


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_a_holder_that_dies_lets_go(start: Callable[..., Process], how: str) -> None:
    first = start()
    assert first.says() == "entered False"
    second = start()
    assert second.says() == f"waiting {first.popen.pid}"
    if how == "killed":
        os.kill(first.popen.pid, signal.SIGKILL)
    else:
        first.tell()
    assert second.says() == "entered True"


def test_many_enter_one_after_the_other(start: Callable[..., Process]) -> None:
    first = start()
    assert first.says() == "entered False"
    others = [start() for _ in range(4)]
    assert [other.says() for other in others] == [f"waiting {first.popen.pid}"] * 4
    first.tell()
    inside: list[Process] = []
    while len(inside) < len(others):
        streams = {other.popen.stdout: other for other in others if other not in inside}
        ready, _, _ = select.select(list(streams), [], [], PATIENCE)
        entered = [streams[stream] for stream in ready]
        assert len(entered) == 1, "two at once"
        assert entered[0].says() == "entered True"
        inside += entered
        assert all(other.is_quiet() for other in others if other not in inside)
        entered[0].tell()


def test_other_actions_do_not_wait(start: Callable[..., Process]) -> None:
    assert start().says() == "entered False"
    assert start("b" * 64).says() == "entered False"


def test_an_ancestor_is_not_waited_for(start: Callable[..., Process]) -> None:
    """A capsule in a capsule with the same action: waiting for the outer one would be for ever."""
    outer = start(how="nest")
    assert outer.says() == "entered False"
    assert outer.says() == "entered False"
    outer.tell()
    assert outer.popen.wait(PATIENCE) == 0


def test_who_waits_is_told_for_whom_also_after_others(start: Callable[..., Process], tmp_path: Path) -> None:
    lock = tmp_path / "store" / "locks" / KEY
    lock.parent.mkdir(parents=True)
    lock.write_text("999999999999\n")  # one who was here long ago, with a longer number
    first = start()
    assert first.says() == "entered False"
    assert int(lock.read_text()) == first.popen.pid
    assert start().says() == f"waiting {first.popen.pid}"


@pytest.mark.parametrize("content", ["", "not a number\n", "-5\n", "9" * 19 + "\n"])
def test_a_lock_file_with_nonsense_in_it_still_locks(
    start: Callable[..., Process], tmp_path: Path, content: str
) -> None:
    first = start()
    assert first.says() == "entered False"
    (tmp_path / "store" / "locks" / KEY).write_text(content)
    second = start()
    assert second.says().startswith("waiting")
    first.tell()
    assert second.says() == "entered True"


def test_where_no_lock_can_be_had_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (str(tmp_path / "file"), "/proc/nothing", ""):
        flights = Flights(root)
        assert not flights.enter(ACTION, lambda pid: pytest.fail("waited"))
        flights.leave()


def test_a_file_system_without_locks_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("capsula.store.flight.posix.lockf", refused)
    flights = Flights(str(tmp_path))
    assert not flights.enter(ACTION, lambda pid: pytest.fail("waited"))
    flights.leave()


def test_the_lock_is_not_inherited(tmp_path: Path, start: Callable[..., Process]) -> None:
    """The command lives on after us, perhaps: a daemon that it left behind must not hold everybody up."""
    flights = Flights(str(tmp_path / "store"))
    assert not flights.enter(ACTION, lambda pid: None)
    child = Popen([sys.executable, "-c", "input()"], stdin=PIPE)
    flights.leave()
    began = time.monotonic()
    assert start().says() == "entered False"
    assert time.monotonic() - began < PATIENCE
    child.communicate(b"\n")


def test_who_died_here_without_leaving_is_known_to_those_who_come(start: Callable[..., Process]) -> None:
    first = start(KEY, "end", "r1", "host")
    assert first.says() == "entered False"
    waiting = start(KEY, "leave", "r2", "host")
    assert waiting.says() == f"waiting {first.popen.pid}"
    first.end()
    assert waiting.says() == "entered True r1"
    waiting.tell()
    assert waiting.says() == "left"
    # Who left in order isn't among them, who died stays, whoever comes in between.
    unnamed = start()
    assert unnamed.says() == "entered False"
    unnamed.end()
    assert start(KEY, "end", "r3", "host").says() == "entered False r1"


def test_nothing_is_known_of_those_of_another_machine(tmp_path: Path) -> None:
    """Both have the store, and their locks may not know of each other."""
    lock = tmp_path / "locks" / KEY
    lock.parent.mkdir()
    lock.write_text(f"{1:<19}\nr1 {'-' * 36} there\nr2 other-boot here\nr3\n\nr4 - \n")
    flights = Flights(str(tmp_path), "r5", "here")
    flights.enter(ACTION, lambda who: pytest.fail(f"waited for {who}"))
    assert flights.died == {"r2"}, "after a restart of this one"
    rows = lock.read_text().splitlines()
    assert int(rows[0]) == os.getpid()
    assert rows[-1].split(" ")[::2] == ["r5", "here"]
    flights.leave()
    assert lock.read_text().splitlines() == rows[:-1]


def test_few_of_them_are_remembered(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / KEY
    lock.parent.mkdir()
    lock.write_text(f"{1:<19}\n" + "".join(f"r{number} - here\n" for number in range(100)))
    flights = Flights(str(tmp_path), "own", "here")
    flights.enter(ACTION, lambda who: pytest.fail(f"waited for {who}"))
    assert flights.died == {f"r{number}" for number in range(92, 100)}
    flights.leave()
    assert len(lock.read_text().splitlines()) == 9
