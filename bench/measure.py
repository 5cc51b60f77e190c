"""Running one command and reading the clock: posix_spawn, wait, and nothing between."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]


class CommandFailed(Exception):
    """A command ended with another exit code than 0."""


@dataclass(frozen=True)
class Times:
    """Wall-clock times of one thing, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        return min(self.seconds)

    def as_json(self) -> dict[str, object]:
        return {
            "median_ms": round(self.median * 1000, 3),
            "minimum_ms": round(self.least * 1000, 3),
            "runs_ms": [round(s * 1000, 3) for s in self.seconds],
        }


def timed(command: Command) -> float:
    """Seconds from just before the spawn to just after the wait; the output goes nowhere."""
    # posix_spawn has no working directory on Linux's Python, so this process moves there before the clock starts.
    os.chdir(command.cwd)
    argv, env = list(command.argv), dict(command.env)
    to_nowhere = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env, file_actions=to_nowhere)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise CommandFailed(f"exit code {code}")
    return seconds


def peak_memory(command: Command) -> int:
    """The command's largest resident set in bytes, its finished children's included.

    Linux counts what the spawning process held as the child's own, so a small interpreter stands between.
    """
    spawner = Path(__file__).with_name("peak.py")
    argv = [os.path.realpath(sys.executable), "-I", "-S", str(spawner), *command.argv]
    answer = subprocess.run(argv, cwd=command.cwd, env=command.env, stdout=subprocess.PIPE, check=False)
    if answer.returncode != 0:
        raise CommandFailed(f"exit code {answer.returncode}")
    return int(answer.stdout)


def talk(argv: Sequence[str], cwd: Path, env: Mapping[str, str], seconds: float = 600) -> str:
    """Runs a command outside the timing and returns all it said; an error carries the last lines of that."""
    answer = subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    if answer.returncode != 0:
        last = " / ".join(line.strip() for line in answer.stdout.strip().splitlines()[-4:])
        raise CommandFailed(f"{Path(argv[0]).name}: exit code {answer.returncode}: {last}")
    return answer.stdout
