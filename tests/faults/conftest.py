"""What the tests of faults share: a workspace, the installed commands in it, runs that break, and small disks."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blackbox import Place, text
from faults.stores import CONTENT, KINDS, Shared, Stores
from servers.seaweed import KEY, SECRET

HARNESS = Path(__file__).with_name("harness.py")
PATIENCE = 240
# The directory may exist only where the prefix leads to.
GO_TO = ("sh", "-c", 'cd "$0" && exec "$@"')


@dataclass(frozen=True)
class Done:
    """How a run ended. `ran` counts how often the command ran; `count` and `where` tell the step or call that broke."""

    code: int
    out: str
    err: str
    ran: int
    count: int = 0
    where: str = ""

    @property
    def said(self) -> list[str]:
        """Our own lines on stderr, without the name in front."""
        return [line.partition(": ")[2] for line in self.err.splitlines() if line.startswith("capsule: ")]


class Workspace(Place):
    """What the tests of faults do there."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.servers: dict[bool, subprocess.Popen[str]] = {}

    # ------------------------------------------------------------------------------------------------ files

    def read(self, name: str) -> str:
        return self.path(name).read_text()

    def picture(self, *tops: str) -> dict[str, tuple[str, object]]:
        """Everything at and below these names: modes, contents, targets."""
        seen: dict[str, tuple[str, object]] = {}
        for top in tops:
            if not os.path.lexists(self.path(top)):
                continue
            below = self.path(top).rglob("*") if not self.path(top).is_symlink() else ()
            for path in [self.path(top), *sorted(below)]:
                if path.is_symlink():
                    seen[str(path)] = ("link", os.readlink(path))
                else:
                    seen[str(path)] = (f"{path.stat().st_mode:o}", "" if path.is_dir() else path.read_bytes())
        return seen

    # ------------------------------------------------------------------------------------------------ runs

    def capsule(
        self,
        *options: str,
        do: str | None = None,
        command: tuple[str, ...] = (),
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        **popen: Any,
    ) -> Done:
        """Run the installed `capsule options -- command` to its end."""
        before = self.marks()
        done = subprocess.run(
            [*self.prefix, *GO_TO, str(cwd or self.root), "capsule", *self.argv(options, do, command)],
            cwd=self.root,
            env=self.environ | (env or {}),
            timeout=PATIENCE,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **popen,
            },
        )
        return Done(done.returncode, text(done.stdout), text(done.stderr), self.marks() - before)

    def start(
        self,
        *options: str,
        do: str | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        **popen: Any,
    ) -> "subprocess.Popen[bytes]":
        """The same, without waiting for its end."""
        process = subprocess.Popen(
            [*self.prefix, "capsule", *self.argv(options, do)],
            cwd=cwd or self.root,
            env=self.environ | (env or {}),
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **popen,
            },
        )
        self.started.append(process)
        return process

    def ended(self, process: "subprocess.Popen[bytes]", before: int) -> Done:
        """How what was started ended; `before` were the marks then."""
        out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, text(out), text(err), self.marks() - before)

    def tool(self, *words: str) -> Done:
        """`capsula …`"""
        done = subprocess.run(
            ["capsula", *words],
            cwd=self.root,
            env=self.environ,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        return Done(done.returncode, text(done.stdout), text(done.stderr), 0)

    def breaking(
        self,
        *options: str,
        do: str | None = None,
        kind: str = "",
        at: int = 0,
        error: str | int = "RuntimeError",
        only: str = "",
        clock: float = 0,
        cold: bool = False,
        env: dict[str, str] | None = None,
        listed: Path | None = None,
    ) -> Done:
        """A run in the harness, which see; waits for the command even when `capsule` is killed."""
        server = self.servers.get(cold) or self._serve(cold)
        out, err = self.base / "out", self.base / "err"
        for path in (out, err):
            path.unlink(missing_ok=True)
        before = self.marks()
        job = {
            "argv0": "capsule",
            "argv": self.argv(options, do),
            "cwd": str(self.root),
            "env": env or {},
            "kind": kind,
            "at": at,
            "error": error,
            "only": only,
            "clock": clock,
            "list": str(listed or ""),
            "out": str(out),
            "err": str(err),
        }
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        return Done(
            answer["status"],
            text(out.read_bytes()),
            text(err.read_bytes()),
            self.marks() - before,
            answer["count"],
            answer["where"],
        )

    def _serve(self, cold: bool) -> "subprocess.Popen[str]":
        server = subprocess.Popen(
            [*self.prefix, sys.executable, "-P", HARNESS, *(["--cold"] if cold else [])],
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.servers[cold] = server
        return server

    # ------------------------------------------------------------------------------------------------ store

    def blobs(self) -> list[Path]:
        return sorted(path for path in self.store.glob("cas/*/*") if path.is_file())

    def records(self) -> list[Path]:
        return sorted(self.store.glob("recall/*"))

    def forget_records(self) -> None:
        shutil.rmtree(self.store / "recall", ignore_errors=True)

    def verify(self) -> None:
        """Every blob and entry in the store is what it is stored as, and every entry is complete."""
        from capsula.store import upkeep

        if self.store.exists():
            found = upkeep.verify(str(self.store))
            assert found.sound, found

    def close(self, patience: float = PATIENCE) -> None:
        for server in self.servers.values():
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.close()
            server.wait(patience)
            server.stdout.close()
        super().close(patience)


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    made = Stores(tmp_path_factory.mktemp("servers"))
    yield made
    made.stop()


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest, stores: Stores, ws) -> Iterator[Shared]:
    ws.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    # A server on a busy machine answers late, which is no fault. And a run that a fault kept from taking back that it
    # is at work is nobody to wait for.
    ws.environ["CAPSULE_ARGS"] = "--remote_timeout 150s --upload_timeout 150s --lease_wait 0s"
    ws.write("capsula.toml")
    ws.write("in.bin", CONTENT)
    yield stores[request.param]
    stores[request.param].proxy.heal()


MEMORY = Path("/dev/shm")


def opened(base: Path) -> Iterator[Workspace]:
    workspace = Workspace(base)
    yield workspace
    workspace.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Workspace]:
    yield from opened(tmp_path)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """On a file system in memory, where files come and go in half the time, if there is that room."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < 1 << 30:
        yield from opened(tmp_path)
        return
    base = Path(tempfile.mkdtemp(prefix="capsula-tests-", dir=MEMORY))
    try:
        yield from opened(base)
    finally:
        shutil.rmtree(base)


@pytest.fixture
def elsewhere(ws: Workspace, tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than the workspace."""
    for place in (MEMORY, tmp_path):
        if os.access(place, os.W_OK) and place.stat().st_dev != ws.base.stat().st_dev:
            folder = Path(tempfile.mkdtemp(prefix="capsula-tests-", dir=place))
            yield folder
            shutil.rmtree(folder)
            return
    pytest.skip("there is no second file system")


class Disk:
    """A small file system of its own, at `path`. What runs with `prefix` sees it there; this process sees it at `seen`,
    which is another path when it could only be mounted in a namespace of its own."""

    def __init__(self, path: Path, options: str, kind: str = "tmpfs", source: str = "none") -> None:
        self.path = self.seen = path
        self.prefix: tuple[str, ...] = ()
        self.holder: subprocess.Popen[bytes] | None = None
        path.mkdir()
        mount = ["mount", "-t", kind, "-o", options, source, str(path)]
        if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
            return
        # An ordinary user (or root in a container) may mount in a user namespace; it lives as long as its `cat`.
        script = 'mount -t "$1" -o "$2" none "$3" && echo && exec cat'
        self.holder = subprocess.Popen(
            ["unshare", "-Urm", "sh", "-c", script, "sh", kind, options, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.holder.stdout is not None
        if not self.holder.stdout.readline():
            self.close()
            pytest.skip("nothing can be mounted here, not even in a namespace")
        self.prefix = ("nsenter", "-t", str(self.holder.pid), "-U", "-m", "--preserve-credentials")
        self.seen = Path(f"/proc/{self.holder.pid}/root{path}")

    def fill(self, leave: int = 0) -> None:
        """Until there is no room but for `leave` bytes."""
        with open(self.seen / "filler", "ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while filler.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
        if leave:
            os.truncate(self.seen / "filler", os.path.getsize(self.seen / "filler") - leave)

    def make_room(self) -> None:
        (self.seen / "filler").unlink()

    def close(self) -> None:
        if self.holder is None:
            subprocess.run(["umount", "-l", str(self.path)], check=True)
            return
        assert self.holder.stdin is not None
        assert self.holder.stdout is not None
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait(PATIENCE)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Any]:
    """`mount("size=1m")` is a Disk."""
    disks: list[Disk] = []

    def make(options: str, kind: str = "tmpfs", source: str = "none") -> Disk:
        disks.append(Disk(tmp_path / f"disk{len(disks)}", options, kind, source))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()
