"""Whether a process still lives, asked of real ones."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.store import life

pytestmark = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="the system has no /proc")


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """It waits for its standard input."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_one_that_runs_is_not_gone(process) -> None:
    assert not life.is_gone("r", process.pid, *life.marks("r", process.pid))
    assert not life.is_gone("r", os.getpid(), *life.marks("r", os.getpid()))


def test_one_that_was_killed_is_gone_at_once_and_later(process) -> None:
    marks = life.marks("r", process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert life.is_gone("r", process.pid, *marks), "its parent hasn't asked for it yet"
    process.wait()
    assert life.is_gone("r", process.pid, *marks)
    assert life.marks("r", process.pid) == ("", "")


def test_another_one_with_its_number_is_not_it(process) -> None:
    place, lives = life.marks("r", process.pid)
    _, of_another = life.marks("r", os.getpid())
    assert life.is_gone("r", process.pid, place, of_another)
    assert not life.is_gone("r", process.pid, place, lives)


@pytest.mark.parametrize("what", ["run", "place", "none", "number"])
def test_of_another_place_nothing_is_known(process, what) -> None:
    """Nor of what can't be."""
    place, lives = life.marks("r", process.pid)
    process.kill()
    process.wait()
    run = "another" if what == "run" else "r"
    place = {"place": "0" * 32, "none": ""}.get(what, place)
    for number in (process.pid,) if what != "number" else (0, -1, 1 << 31, 1 << 80):
        assert not life.is_gone(run, number, place, lives)


def test_marks_tell_nothing_but_to_who_is_here(process) -> None:
    """They are hashes, others for each run, so that not even two runs of one machine are known by them."""
    place, lives = life.marks("r", process.pid)
    assert len(place) == len(lives) == 32
    assert life.boot() not in place + lives
    assert {place, lives}.isdisjoint(life.marks("another run", process.pid))
    assert life.marks("r", process.pid) == (place, lives)


def test_elsewhere_is_what_has_other_marks() -> None:
    place, _ = life.marks("r", os.getpid())
    assert not life.is_elsewhere("r", place)
    assert life.is_elsewhere("r", "0" * 32)
    assert not life.is_elsewhere("r", "")


@pytest.mark.parametrize("how", ["no boot", "another /proc"])
def test_where_it_cannot_be_told_there_are_no_marks(monkeypatch, process, how) -> None:
    marks = life.marks("r", process.pid)
    process.kill()
    process.wait()
    if how == "no boot":
        monkeypatch.setattr(life, "_BOOT", "/nowhere")
    else:
        monkeypatch.setattr(life.os, "getpid", lambda: 1)
    assert life.marks("r", os.getppid()) == ("", "")
    assert not life.is_gone("r", process.pid, *marks)


def test_one_that_is_hidden_is_there(monkeypatch, process) -> None:
    """As others' processes are where /proc is mounted with hidepid."""
    marks = life.marks("r", process.pid)
    plain = open

    def hiding(path, *given, **named):
        if str(path) == f"/proc/{process.pid}/stat":
            raise FileNotFoundError(path)
        return plain(path, *given, **named)

    monkeypatch.setattr("builtins.open", hiding)
    assert not life.is_gone("r", process.pid, *marks)
    process.kill()
    process.wait()
    assert life.is_gone("r", process.pid, *marks)
