"""A scratch workspace for recall, with a command that is a function of the test, and the truth to hold it against."""

import os
import posix
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsula import engine
from capsula.cli import recall as recalling
from capsula.cli import wrapper
from capsula.config.places import find_root
from capsula.config.settings import read_settings
from capsula.core.digest import digest_of
from capsula.core.result import from_result
from capsula.errors import CapsulaError
from capsula.plugins import cached_run
from capsula.worktree import digests, listing
from capsula.worktree.kept import Memory
from capsula.worktree.workspace import Workspace
from clocks import next_tick


class Scene:
    """The workspace, the home and the cache; `real` is the process's own environment and directory."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.cwd = f"{base}/up/root/app"
        self.home, self.cache = f"{base}/home", f"{base}/cache"
        for path in (self.cwd, self.home, f"{base}/up/away", f"{self.cwd}/vault"):
            os.makedirs(path)
        self.runs = 0
        self.nonce = b""
        self.fails = False
        self.offset = 0
        self.damaged = False
        self.blobs: dict[str, bytes] = {}
        self.meanwhile: Callable[[], None] = lambda: None
        self.streams = b"", b""
        self.environ = {
            b"HOME": self.home.encode(),
            b"XDG_CACHE_HOME": self.cache.encode(),
            b"PATH": b"/bin:/usr/bin",
            b"VAR": b"1",
        }
        for name in (
            "src/a.c",
            "src/sub/c.c",
            "note.txt",
            "conf/one.cfg",
            "real/sub/r",
            "../top",
            "../../away/h",
            "x",
        ):
            self.write(name, name)
        self.write("gen.out", "an input that looks like an output")
        self.write("../capsula.toml", "")
        os.symlink("real", f"{self.cwd}/pkg")

    @property
    def store(self) -> str:
        return f"{self.cache}/capsula"

    # ------------------------------------------------------------------------------------------------ changes

    def path(self, name: str) -> str:
        return f"{self.home}/{name[2:]}" if name.startswith("~/") else os.path.normpath(f"{self.cwd}/{name}")

    def write(self, name: str, content: str) -> None:
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(content)

    def remove(self, name: str) -> None:
        path = self.path(name)
        if os.path.islink(path) or not os.path.isdir(path):
            if os.path.lexists(path):
                os.unlink(path)
        else:
            shutil.rmtree(path)

    # ------------------------------------------------------------------------------------------------ the command

    def execute(self, recipe: Any, environ: dict[bytes, bytes], inputs_hash: str, *_: Any, **__: Any) -> Any:
        """What the command does. It depends on its declared inputs and variables, and sometimes on chance."""
        self.runs += 1
        self.meanwhile()
        values = [environ.get(name.encode(), b"-") for name in recipe.environment]
        seed = b" ".join([inputs_hash.encode(), *values, *map(str.encode, recipe.tags), self.nonce])
        text = digest_of(seed).hash  # also a secret may be declared, and isn't printed
        for name in ("dist", "made.out", "more.o"):
            self.remove(name)
        os.makedirs(f"{self.cwd}/dist/sub")
        os.mkdir(f"{self.cwd}/dist/empty", 0o700)
        self.write("dist/a.bin", text)
        self.write("dist/sub/x", "x")
        os.chmod(f"{self.cwd}/dist/sub/x", 0o755)
        os.symlink("a.bin", f"{self.cwd}/dist/link")
        self.write("made.out", text * 2)
        if "more.o" in recipe.outputs:
            self.write("more.o", "more")
        out, err = f"out {text}\n".encode() + self.streams[0], self.streams[1]
        now = time.time_ns()
        return SimpleNamespace(
            exit_code=3 if self.fails else 0,
            started=True,
            order=((1, 4), (2, len(err)), (1, len(out) - 4)) if err else ((1, len(out)),),
            start_ns=now,
            end_ns=now,
            seconds=0.5,
            left_open=False,
            cut=False,
            signal=None,
            interrupted_by=0,
            write_error=None,
            reason="",
            stdout=SimpleNamespace(content=out, path=None, size=len(out)) if recipe.captures[0] else None,
            stderr=SimpleNamespace(content=err, path=None, size=len(err)) if recipe.captures[1] else None,
        )

    # ------------------------------------------------------------------------------------------------ looking

    def shot(self) -> dict[str, tuple[Any, ...]]:
        """All files of the workspace and around it, without the cache."""
        found: dict[str, tuple[Any, ...]] = {}
        for folder, folders, names in os.walk(self.base):
            if folder == self.base:
                folders.remove("cache") if "cache" in folders else None
            for name in (*folders, *names):
                path = f"{folder}/{name}"
                if os.path.islink(path):
                    found[path] = ("link", os.readlink(path))
                elif os.path.isdir(path):
                    found[path] = ("directory", os.stat(path).st_mode)
                else:
                    found[path] = ("file", os.stat(path).st_mode, Path(path).read_bytes())
        return found

    def truth(self, argv: list[str]) -> Any:
        """What the full path would do from scratch: nothing remembered, no record, every stored blob intact."""
        try:
            session = self._session(argv)
        except CapsulaError as error:
            return SimpleNamespace(outcome=engine.UNCACHED, key=None, problem=error)
        session.workspace.memory = Memory("")
        session.policy.dry_run = True
        session.world.blobs = SimpleNamespace(read=lambda digest: self.blobs[digest.hash])  # type: ignore[assignment]
        report = engine.run(session.recipe, session.policy, session.world)
        report.wanted = None
        if report.outcome == engine.HIT:
            result = session.world.cache.lookup(report.key)
            report.wanted = from_result(result, session.world.blobs.read)
            report.log = result.stdout_raw or (
                self.blobs[result.stdout_digest.hash] if result.stdout_digest else b""
            )
        return report

    def outputs(self, argv: list[str], wanted: dict[str, Any]) -> dict[str, Any]:
        """The declared outputs that there are, as a result would name them; inputs only if they are wanted too."""
        session = self._session(argv)
        workspace = Workspace(session.recipe, Memory(""), session.workspace.hidden)
        workspace.inputs()
        inputs = {workspace.named(path) for path in workspace.input_paths()} - wanted.keys()
        nodes = workspace.outputs().nodes
        return {name: node for path, node in nodes.items() if (name := workspace.named(path)) not in inputs}

    def _session(self, argv: list[str]) -> Any:
        asked = read_settings(
            argv,
            environ_args=None,
            home=self.home,
            cwd=self.cwd,
            find_root=lambda given: find_root(given, self.cwd),
            program="capsule",
        )
        return cached_run.compose(asked, cwd=self.cwd, environ=dict(posix.environ), say=lambda text: None)

    def note_blobs(self) -> None:
        """Everything that was ever stored, for `truth`."""
        for folder, _, names in os.walk(f"{self.store}/cas"):
            for name in names:
                content = Path(folder, name).read_bytes()
                if digest_of(content).hash == name:
                    self.blobs.setdefault(name, content)

    # ---------------------------------------------------------------------------------------------------- the harness

    # ------------------------------------------------------------------------------------------------ the ways

    def recall(self, argv: list[str], program: str = "capsule") -> tuple["int | None", bytes, bytes]:
        """The exit code that recall answers, and what it wrote."""
        written: list[bytes] = []
        with captured(written):
            code = recalling.recall(program, argv)
        return code, written[0], written[1]

    def full(self, argv: list[str], program: str = "capsule") -> tuple[bool, bytes, bytes]:
        """The full path, with the record that it leaves: whether the command ran, and what was written."""
        runs, written = self.runs, list[bytes]()
        with captured(written):
            try:
                wrapper.wrap(program, argv)
            except Ran:
                self.runs += 1
        self.note_blobs()
        return self.runs > runs, written[0], written[1]

    def settled(self, argv: list[str]) -> None:
        """Until it can be recalled: a miss, a hit, and one to see that nothing has to be done any more."""
        for _ in range(3):
            self.wait()
            self.full(argv)
        self.wait()

    def records(self) -> list[Path]:
        return sorted(Path(self.store, "recall").glob("*"))

    def wait(self) -> None:
        """Until the next change has another time than the last."""
        next_tick()


class Ran(BaseException):
    """Instead of becoming the command: this process has other things to do."""


def exec_command(*args: Any) -> None:
    raise Ran


@contextmanager
def captured(out: list[bytes]) -> Iterator[None]:
    """What is written to descriptors 1 and 2 meanwhile."""
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        saved = os.dup(1), os.dup(2)
        os.dup2(one.fileno(), 1)
        os.dup2(two.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for fd in saved:
                os.close(fd)
            for file in (one, two):
                file.seek(0)
                out.append(file.read())


@contextmanager
def staged() -> Iterator[Scene]:
    """A scene, with this process in its directory and environment, and without a file on standard input."""
    before, kept = os.getcwd(), dict(posix.environ)
    null, saved = os.open("/dev/null", os.O_RDWR), os.dup(0)
    os.dup2(null, 0)
    try:
        with tempfile.TemporaryDirectory() as base, pytest.MonkeyPatch.context() as patch:
            scene = Scene(os.path.realpath(base))
            os.chdir(scene.cwd)
            posix.environ.clear()
            posix.environ.update(scene.environ)
            patch.setattr(listing, "TICK_NS", 0)
            patch.setattr(listing, "COARSE_TICK_NS", 0)
            patch.setattr(cached_run, "execute", scene.execute)
            patch.setattr(wrapper, "exec_command", exec_command)
            patch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + scene.offset))
            try:
                yield scene
            finally:
                os.chdir(before)
    finally:
        posix.environ.clear()
        posix.environ.update(kept)
        os.dup2(saved, 0)
        os.close(saved)
        os.close(null)


@pytest.fixture(scope="session")
def new_scene() -> Callable[[], AbstractContextManager[Scene]]:
    """To be used in a `with`, once for each example of a property."""
    return staged


@pytest.fixture
def scene() -> Iterator[Scene]:
    with staged() as scene:
        yield scene
