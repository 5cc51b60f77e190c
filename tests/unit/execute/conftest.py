"""Runs commands through a process of our own, and looks at it from outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import capsula

DRIVER = Path(__file__).with_name("driver.py")
SOURCE = Path(capsula.__file__).parent.parent
PATIENCE = 200.0


def eventually(is_so: Callable[[], Any], what: str = "") -> Any:
    """The first true answer of `is_so`."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := is_so()):
        assert time.monotonic() < deadline, f"never: {what or is_so}"
        time.sleep(0.002)
    return answer


class Runner:
    """Starts the driver, and tears down what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.report = folder / "report"
        self.started: list[subprocess.Popen[bytes]] = []
        (folder / "spool").mkdir()

    def argv(self, *command: str, **options: Any) -> list[str]:
        options.setdefault("spool_dir", str(self.folder / "spool"))
        if "become" in options or "replay" in options:
            del options["spool_dir"]
        return [
            sys.executable,
            "-I",
            "-S",
            str(DRIVER),
            str(SOURCE),
            str(self.report),
            repr(options),
            *command,
        ]

    def start(
        self, *command: str, popen: dict[str, Any] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        self.report.unlink(missing_ok=True)
        pipes = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **(popen or {}),
        }
        process = subprocess.Popen(self.argv(*command, **options), **pipes)
        self.started.append(process)
        return process

    def run(self, *command: str, popen: dict[str, Any] | None = None, **options: Any) -> SimpleNamespace:
        """The outcome as the driver reported it, and what came out of it (`out`, `err`, `returncode`)."""
        process = self.start(*command, popen={"stdin": subprocess.DEVNULL, **(popen or {})}, **options)
        out, err = process.communicate(timeout=PATIENCE)
        return self.outcome(returncode=process.returncode, out=out, err=err)

    def outcome(self, **more: Any) -> SimpleNamespace:
        found = json.loads(self.report.read_text()) if self.report.exists() else {}
        for name in ("stdout", "stderr"):
            if found.get(name):
                log = found[name]
                found[name] = bytes.fromhex(log["content"])
                found[name + "_size"] = log["size"]
                found[name + "_spooled"] = log["spooled"]
        return SimpleNamespace(**found, **more)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        pass


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    runner.close()


def python(code: str) -> tuple[str, ...]:
    """A command: Python code, quick to start."""
    return (sys.executable, "-I", "-S", "-c", code)


# For commands that get signals: `events(…)` gives each signal as its number, each byte of stdin as bytes, b"" at its
# end. (A handler that Python runs later, beside a read that already waits, would lose the race now and then.)
EVENTS = """
import os, select, signal
def events(*names):
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    signal.set_wakeup_fd(theirs)
    for name in names:
        signal.signal(getattr(signal, name), lambda *_: None)
    os.write(1, b"ready\\n")
    while True:
        for fd in select.select([0, ours], [], [])[0]:
            got = os.read(fd, 1 if fd == 0 else 100)
            yield from got if fd else [got]
"""


def waiting(code: str) -> tuple[str, ...]:
    """A command: Python code that uses `events`."""
    return python(EVENTS + code)


def state_of(pid: int) -> str:
    """R, S, T, Z … or "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def holders_of(fd: int) -> list[int]:
    """Processes, other than this one, that have the same pipe open as our `fd`."""
    pipe = os.readlink(f"/proc/self/fd/{fd}")
    holders = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                if any(os.readlink(link) == pipe for link in (process / "fd").iterdir()):
                    holders.append(int(process.name))
            except OSError:
                pass
    return holders


@pytest.fixture
def tools() -> SimpleNamespace:
    """What tests of processes share. (Test modules don't import each other.)"""
    return SimpleNamespace(
        eventually=eventually,
        python=python,
        waiting=waiting,
        state_of=state_of,
        children_of=children_of,
        holders_of=holders_of,
        source=SOURCE,
    )
