"""The black box, as the tests of the commands have it. What is known of a run is what anybody could see: exit code,
stdout, stderr, whether the command ran, and the report of `--json`."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from blackbox import Place, text
from cli.desk import Desk
from recorded import Recorded
from servers.azurite import Azurite
from servers.ceph import Ceph
from servers.rclone import Rclone
from servers.seaweed import Seaweed
from servers.swift import Swift

PATIENCE = 200
MARK = ".capsula-vault"
GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
WHO = ("-c", "user.name=me", "-c", "user.email=me@host", "-c", "init.defaultBranch=main")
SCHEMAS = Path(__file__).parents[2] / "src/capsula/schemas"
# Longer than the time for which a change is too fresh to be trusted: see the docs on freshness.
STALE_NS = 100_000_000


@dataclass(frozen=True)
class Done:
    """How one run ended. `ran` counts how often the command ran, `report` is what --json says (if it was asked for)."""

    code: int
    out: str
    err: str
    ran: int
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> list[str]:
        """Our own lines on stderr, without the name in front."""
        lines = [line.partition(": ") for line in self.err.splitlines()]
        return [text for name, _, text in lines if name in ("capsule", "placebo")]

    def says(self, *texts: str) -> bool:
        """Whether all of these stand in one line of ours."""
        return any(all(text in line for text in texts) for line in self.said)


class Workspace(Place):
    """What the tests of the commands do there, and see."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        # Capsules that a test spoils itself are let be.
        self.spoiled: set[Path] = set()

    # ------------------------------------------------------------------------------------------------ files

    def read(self, name: str) -> str:
        return self.path(name).read_bytes().decode(errors="surrogateescape")

    def exists(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def names(self, under: str = ".") -> list[str]:
        """Everything below a directory, directories with a slash."""
        top = self.path(under)
        return sorted(
            str(p.relative_to(top)) + ("/" if p.is_dir() and not p.is_symlink() else "")
            for p in top.rglob("*")
        )

    # ------------------------------------------------------------------------------------------------ runs

    def capsule(
        self,
        *options: str,
        do: str | None = None,
        command: tuple[str, ...] = (),
        program: str = "capsule",
        cwd: Path | None = None,
        env: dict[str, str | None] | None = None,
        stdin: Any = subprocess.DEVNULL,
        report: bool = False,
        **popen: Any,
    ) -> Done:
        """Run `capsule options -- command` to its end. `env` adds variables, or takes away those that are None."""
        target = self.base / "report.json"
        if report:
            target.unlink(missing_ok=True)
            options = ("--json", str(target), *options)
        before = self.marks()
        done = subprocess.run(
            [*self.prefix, program, *self.argv(options, do, command)],
            cwd=cwd or self.root,
            env=self.environ_with(env),
            timeout=PATIENCE,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
            **({"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}),
        )
        return Done(
            done.returncode,
            text(done.stdout),
            text(done.stderr),
            self.marks() - before,
            json.loads(target.read_bytes()) if report and target.exists() else {},
        )

    def start(
        self, *options: str, do: str | None = None, command: tuple[str, ...] = (), **popen: Any
    ) -> "subprocess.Popen[bytes]":
        """The same, without waiting for its end."""
        process = subprocess.Popen(
            [*self.prefix, "capsule", *self.argv(options, do, command)],
            **{
                "cwd": self.root,
                "env": self.environ,
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **popen,
            },
        )
        self.started.append(process)
        return process

    def tool(self, *words: str, **popen: Any) -> Done:
        """`capsula …`"""
        done = subprocess.run(
            ["capsula", *words],
            cwd=self.root,
            env=self.environ,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            **popen,
        )
        return Done(done.returncode, text(done.stdout), text(done.stderr), 0)

    def warm(self, *options: str, do: str | None = None, **keywords: Any) -> None:
        """Hit until the shortest way to a hit answers: the record that it reads is then left as it is."""
        trusted = time.time_ns() + STALE_NS
        while True:
            began, before = time.time_ns(), self.records()
            done = self.capsule(*options, do=do, **keywords)
            assert done.ran == 0, done
            if before and began > trusted and before == self.records():
                return
            assert time.time_ns() < trusted + PATIENCE * 10**9, "no record that recall could answer from"

    # ------------------------------------------------------------------------------------------------ looking

    def environ_with(self, more: dict[str, str | None] | None) -> dict[str, str]:
        environ: dict[str, str | None] = {**self.environ, **(more or {})}
        return {name: value for name, value in environ.items() if value is not None}

    def records(self) -> list[tuple[str, int, int]]:
        found = [(path.name, path.stat()) for path in self.store.glob("recall/*")]
        return sorted((name, seen.st_ino, seen.st_mtime_ns) for name, seen in found)

    def blob(self, content: bytes) -> Path:
        import hashlib

        name = hashlib.sha256(content).hexdigest()
        return self.store / "cas" / name[0] / name

    def fifo(self, name: str) -> Path:
        """A pipe with a name, outside the workspace: opening it waits for the other side."""
        path = self.base / name
        os.mkfifo(path)
        self.environ[name.upper()] = str(path)
        return path


@pytest.fixture(
    scope="module",
    params=[
        Seaweed,
        *(pytest.param(kind, marks=pytest.mark.full) for kind in (Ceph, Swift, Rclone, Azurite)),
    ],
)
def server_of_objects(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    server = request.param(tmp_path_factory.mktemp("server") / "data")
    yield server
    server.stop()


@pytest.fixture
def ws(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path)
    if any(
        str(getattr(each, "__module__", "")).startswith("servers.") for each in vars(request.module).values()
    ):
        # A server on a busy machine answers late, which is no fault; tests of what is too late say what that is.
        workspace.environ["CAPSULE_ARGS"] = "--remote_timeout 150s --upload_timeout 150s"
    yield workspace
    workspace.close(PATIENCE)
    wrong = [line for capsule in capsules_below(tmp_path) for line in not_of_the_schemas(capsule, workspace)]
    assert not wrong, "\n".join([*wrong, f"what a capsule may hold is written in {SCHEMAS}"])


def capsules_below(place: Path) -> list[Path]:
    return sorted(path.parent for path in place.rglob("capsule.json") if (path.parent.parent / MARK).exists())


def not_of_the_schemas(capsule: Path, workspace: Workspace) -> list[str]:
    """What in the JSON files of a capsule isn't as src/capsula/schemas says. Files that the user named have other
    names, as those of a capsule are never given away."""
    from jsonschema import Draft202012Validator

    wrong = []
    for schema in sorted(SCHEMAS.glob("*.schema.json")):
        name = schema.name.replace(".schema", "")
        # Of each repository there may be one.
        for path in [capsule / name, *(capsule.glob("*.files.json") if name == "files.json" else ())]:
            if not path.exists() or path in workspace.spoiled:
                continue
            check = Draft202012Validator(json.loads(schema.read_text()))
            for error in check.iter_errors(json.loads(path.read_text())):
                wrong.append(f"{path}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
    return wrong


@pytest.fixture(params=["seen for the first time", "remembered", "recalled"])
def first(ws: Workspace, request: pytest.FixtureRequest) -> Callable[..., Done]:
    """Run it once, which is a miss, and leave behind what the three ways to the next answer go by.

    The first time everything has to be read, as all is too fresh to be trusted; later what was remembered of each file
    counts; and the shortest way compares a record and parses no option. All of them must answer the same.
    """

    def run(*options: str, **keywords: Any) -> Done:
        done = ws.capsule(*options, **keywords)
        assert done.ran == 1, done
        if request.param != "seen for the first time":
            ws.warm(*options, **keywords)
        if request.param == "remembered":
            shutil.rmtree(ws.store / "recall")
        return done

    return run


# ---------------------------------------------------------------------------------------------------- recorded runs


class Project(Recorded):
    """A project with a home of its own, and the vault that fills."""

    def __init__(self, ws) -> None:
        self.ws = ws
        self.root: Path = ws.root
        self.environ = {**ws.environ, **GIT}

    def run(self, *words, **more):
        return subprocess.run(
            words,
            cwd=more.pop("cwd", self.root),
            env={**self.environ, **more.pop("environ", {})},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=200,
            **more,
        )

    def monitor(self, *words, **more):
        return self.run("capsula", "monitor", *words, **more)

    def git(self, *words, cwd=None):
        done = self.run("git", *WHO, *words, cwd=cwd or self.root)
        assert done.returncode == 0, done
        return done.stdout.decode().strip()

    def write(self, name: str, text: str) -> Path:
        return self.ws.write(name, text)

    def python(self, script: str, **more):
        self.write("script.py", script)
        return self.run(sys.executable, "script.py", **more)


@pytest.fixture
def project(ws):
    made = Project(ws)
    made.write("capsula.toml", "[capture]\ninclude-cpu = false\n")
    return made


# ---------------------------------------------------------------------------------------------------- kept stores


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)
