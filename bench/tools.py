"""What the benchmark knows about a tool, the place where it works, and our own two: capsule and the floor."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import Command, talk
from workload import INPUTS, Workload

HERE = Path(__file__).resolve().parent
# The task's interpreter, past every shim and venv: a shim alone costs more than most tools measured here.
PYTHON = os.path.realpath(sys.executable)


class Unavailable(Exception):
    """The tool can't be had on this machine: the sentence says why."""


@dataclass(frozen=True)
class Options:
    """What the command line asked of a part."""

    scratch: Path  # everything the benchmark writes is below this
    rounds: int
    only: frozenset[str]  # names of tools; empty: all of them


@dataclass(frozen=True)
class Place:
    """Where one tool does one piece of work."""

    scratch: Path
    base: Path  # this tool's part of it: workspace, caches, task
    project: str = "."  # where src/ and dist/ lie in the workspace
    inputs: int = INPUTS

    @property
    def workspace(self) -> Path:
        return self.base / "ws"

    @property
    def workload(self) -> Workload:
        return Workload(self.workspace / self.project, self.base / "task", self.inputs)

    @property
    def task(self) -> tuple[str, str]:
        return PYTHON, str(self.workload.task / "build.py")

    def installed(self, name: str) -> Path:
        return self.scratch / "tools" / name

    def environment(self, **more: str) -> dict[str, str]:
        """A small, quiet environment: what a tool finds in the caller's must not decide how fast it is."""
        return {
            "HOME": str(self.scratch / "home"),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            **more,
        }

    def write(self, name: str, text: str) -> None:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0")
        git = shutil.which("git")
        if git is None:
            raise Unavailable("git is not installed")
        talk((git, *identity, *arguments), self.workspace, self.environment())


def nothing(_: Place) -> None:
    pass


@dataclass(frozen=True)
class Tool:
    """One row of the tables."""

    name: str
    version: str
    install: Callable[[Path], None]  # into this folder, from a registry; raises when it can't be had
    set_up: Callable[[Place], Command]  # writes its configuration, gives the command that is timed
    folder: str = ""  # where it is installed, when that isn't its name
    project: str = "."
    restores: bool = True  # takes part in B
    caches: bool = True  # False: the floor, for which the task is run once by the harness
    footnote: str = ""
    clean_up: Callable[[Place], None] = nothing  # stops what it left running


def prepare(tool: Tool, place: Place) -> Command:
    """A fresh workspace: the inputs, the tool's configuration, all in a git repository of its own."""
    shutil.rmtree(place.base, ignore_errors=True)
    place.workspace.mkdir(parents=True)
    (place.scratch / "home").mkdir(exist_ok=True)
    place.workload.lay_out()
    place.git("init", "-q", ".")
    place.write(".gitignore", "/node_modules\ndist\n.turbo\n.nx\n.wireit\n.moon/cache\n")
    command = tool.set_up(place)
    place.git("add", "-A")
    place.git("commit", "-q", "-m", "the work")
    return command


def capsule_command() -> Path:
    return Path(os.environ.get("CAPSULE") or HERE.parent / ".venv" / "bin" / "capsule").absolute()


def capsule_interpreter() -> str:
    """The interpreter that the installed command runs with: its first lines name it, or its neighbour's do."""
    command = Path(os.path.realpath(capsule_command()))
    for script in (command, command.with_name("capsula")):
        try:
            with script.open("rb") as file:
                head = b"".join(file.readline(4096) for _ in range(3))
        except OSError:
            continue
        named = re.search(rb"/[^\s'\"]*python[0-9.]*", head) if head.startswith(b"#!") else None
        if named and os.access(named[0], os.X_OK):
            return os.fsdecode(named[0])
    return PYTHON


def install_capsule(_: Path) -> None:
    command = capsule_command()
    if not os.access(command, os.X_OK):
        raise Unavailable("the command is not installed; set CAPSULE, or install this project in .venv first")


def capsule_environment(place: Place) -> dict[str, str]:
    return place.environment(XDG_CACHE_HOME=str(place.base / "cache"))


def set_up_capsule(place: Place) -> Command:
    argv = (str(capsule_command()), "-c", "bench", "-i", "src/**", "-o", "dist", "--", *place.task)
    return Command(argv, place.workspace, capsule_environment(place))


def set_up_floor(place: Place) -> Command:
    argv = (capsule_interpreter(), "-I", "-S", str(HERE / "scan.py"), "src", "dist")
    return Command(argv, place.workspace, place.environment())


def set_up_start(place: Place) -> Command:
    return Command((capsule_interpreter(), "-I", "-S", "-c", ""), place.workspace, place.environment())


CAPSULE = Tool("capsule", "this one", install_capsule, set_up_capsule)
FLOOR = Tool(
    "floor",
    "",
    lambda _: None,
    set_up_floor,
    restores=False,
    caches=False,
    footnote="a bare start (`-I -S`) of the interpreter that capsule uses, and one scan (scandir, lstat) of"
    " inputs and outputs",
)
START = Tool(
    "bare start",
    "",
    lambda _: None,
    set_up_start,
    restores=False,
    caches=False,
    footnote="the same interpreter started and ended, nothing else",
)
