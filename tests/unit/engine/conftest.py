"""A laboratory for the engine: a small world of fakes that keep the contracts of the ports, and a log of all calls."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsula import engine
from capsula.core.context import Context
from capsula.core.digest import Digest, digest_of
from capsula.core.node import FILE, Node
from capsula.core.recipe import Recipe
from capsula.core.tree import build, leaves
from capsula.store.memory import MemoryStore

START = 1_700_000_000_000_000_000
COMMAND = ("make", "all")


class Inputs:
    def __init__(self, files: dict[str, bytes], unmatched: tuple[str, ...]) -> None:
        rows = [(name, digest_of(content).hash, len(content), False) for name, content in files.items()]
        self.root, self.directories = build({"": leaves(rows, [], declared=False)})
        self.outside: tuple[tuple[str, str], ...] = ()
        self.linked: tuple[tuple[str, str], ...] = ()
        self.unmatched = unmatched
        self.notes: list[str] = []
        self.files = files

    def hashes(self) -> list[tuple[str, str]]:
        return sorted((name, digest_of(content).hash) for name, content in self.files.items())


class Outputs:
    def __init__(self, nodes: dict[str, Node], unmade: tuple[str, ...], unkept: list[str]) -> None:
        self.nodes = nodes
        self.unmade = unmade
        self.unkept = unkept


class Restored:
    def __init__(self) -> None:
        self.written = self.removed = self.bytes = 0
        self.buried: list[str] = []


class Tree:
    """A WorkTree: the inputs are in a dictionary, the outputs are plain files in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {"a.c": b"int a;"}
        self.unmatched: tuple[str, ...] = ()
        self.unmade: tuple[str, ...] = ()
        self.unkept: list[str] = []
        self.changed = ""
        self.remembered = 0

    def inputs(self) -> Inputs:
        return Inputs(dict(self.files), self.unmatched)

    def moved(self) -> str:
        return self.changed

    def outputs(self) -> Outputs:
        nodes = {}
        for path in sorted(self.folder.iterdir()):
            content = path.read_bytes()
            nodes[str(path)] = Node(FILE, mode=path.stat().st_mode, digest=digest_of(content))
        return Outputs(nodes, self.unmade, self.unkept)

    def settle(
        self, wanted: dict[str, Node], store: Any, bury: Callable[[str], Callable[[], None]]
    ) -> Restored:
        restored = Restored()
        contents = {self.full(name): store.read(node.digest) for name, node in wanted.items()}
        for path in self.folder.iterdir():
            if contents.get(str(path)) != path.read_bytes():
                bury(str(path))
                restored.buried.append(str(path))
        for full, content in contents.items():
            if not os.path.exists(full):
                Path(full).write_bytes(content)
                restored.written += 1
                restored.bytes += len(content)
        return restored

    def remember_made(self, since_ns: int) -> None:
        self.remembered += 1

    def named(self, full: str) -> str:
        return os.path.relpath(full, self.folder)

    def full(self, path: str) -> str:
        return str(self.folder / path)


class Captured:
    def __init__(self, content: "bytes | None", path: "str | None" = None) -> None:
        self.content = content
        self.path = path
        self.size = os.path.getsize(path) if path is not None else len(content or b"")


class Outcome:
    def __init__(self, **changes: Any) -> None:
        self.exit_code = 0
        self.started = True
        self.order: tuple[tuple[int, int], ...] = ((1, 4), (2, 4))
        self.start_ns, self.end_ns, self.seconds = START, START + 2_500_000_000, 2.5
        self.left_open = self.cut = False
        self.signal: int | None = None
        self.write_error: int | None = None
        self.interrupted_by = 0
        self.reason = ""
        self.stdout: Captured | None = Captured(b"out\n")
        self.stderr: Captured | None = Captured(b"err\n")
        for name, value in changes.items():
            setattr(self, name, value)


class Flight:
    """Held by nobody else, unless `meanwhile` says what somebody else did while we waited."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] | None = None
        self.held: list[str] = []
        self.left = 0

    def enter(self, action: Digest, waiting: Callable[[str], None]) -> bool:
        self.held.append(action.hash)
        if self.meanwhile is None:
            return False
        waiting("process 4711")
        self.meanwhile()
        return True

    def leave(self) -> None:
        self.left += 1


class Past:
    def __init__(self) -> None:
        self.rows: dict[str, list[Digest]] = {}

    def recent(self, capsule_id: str) -> tuple[Digest, ...]:
        return tuple(self.rows.get(capsule_id, ()))

    def record(self, capsule_id: str, action: Digest) -> None:
        self.rows.setdefault(capsule_id, []).insert(0, action)


class Recorded:
    """Any of the above, with each call in the log, and an error or something else in place of one."""

    def __init__(self, lab: "Lab", name: str, inner: Any) -> None:
        self._lab, self._name, self._inner = lab, name, inner

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._inner, attribute)
        if not callable(found):
            return found
        return self._lab.recorded(f"{self._name}.{attribute}", found)


class Lab:
    """What runs where. `make` is the command: it leaves its outputs in `out` and answers its outcome."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.out.mkdir()
        self.folder = folder
        self.store, self.tree, self.flight, self.past = MemoryStore(), Tree(self.out), Flight(), Past()
        self.calls: list[str] = []
        self.faults: dict[str, Exception] = {}
        self.fault_at: tuple[int, Exception] | None = None
        self.said: list[str] = []
        self.replayed: list[tuple[Any, ...]] = []
        self.runs: list[str] = []
        self.contents = {"app": b"binary", "app.map": b"map"}
        self.outcome: dict[str, Any] = {}
        self.environment: dict[str, str | None] = {}
        self.recipe: dict[str, Any] = {}

    def recorded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in self.faults:
                raise self.faults[name]
            if self.fault_at is not None and len(self.calls) == self.fault_at[0]:
                raise self.fault_at[1]
            return call(*args, **options)

        return wrapped

    def make(self, inputs_hash: str) -> Outcome:
        self.runs.append(inputs_hash)
        for name, content in self.contents.items():
            (self.out / name).write_bytes(content)
        return Outcome(**self.outcome)

    def world(self) -> engine.World:
        def context(inputs: Inputs) -> Context:
            return Context(
                input_root=inputs.root,
                directories=inputs.directories,
                system=("linux", "x86_64"),
                environment=tuple(sorted(self.environment.items())),
            )

        def spool(digest: Digest) -> str:
            path = self.folder / "spooled"
            path.unlink(missing_ok=True)
            self.store.fetch(digest, str(path), 0o600)
            return str(path)

        def bury(path: str) -> Callable[[], None]:
            os.rename(path, self.folder / "buried")
            return lambda: os.rename(self.folder / "buried", path)

        return engine.World(
            tree=Recorded(self, "tree", self.tree),
            blobs=Recorded(self, "blobs", self.store),
            cache=Recorded(self, "cache", self.store),
            context=self.recorded("context", context),
            execute=self.recorded("execute", self.make),
            replay=self.recorded("replay", lambda *logs: self.replayed.append(logs)),
            bury=self.recorded("bury", bury),
            flight=Recorded(self, "flight", self.flight),
            past=Recorded(self, "past", self.past),
            say=self.recorded("say", self.said.append),
            spool=self.recorded("spool", spool),
            run_id=f"run{len(self.calls)}",
            host="host",
        )

    def asked(self) -> Recipe:
        return Recipe(
            **{
                "capsule_id": "c",
                "argv": COMMAND,
                "root": "/w",
                "cwd": "/w",
                "inputs": ("*.c",),
                "outputs": ("out/**",),
                "environment": tuple(self.environment),
                **self.recipe,
            }
        )

    def run(self, **policy: Any) -> engine.Report:
        """One run, with a log of its own."""
        self.calls, self.said, self.replayed = [], [], []
        return engine.run(self.asked(), engine.Policy(**policy), self.world())

    def clean(self) -> None:
        shutil.rmtree(self.out)
        self.out.mkdir()

    @property
    def made(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir()}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def new_lab(tmp_path: Path) -> Callable[[], Lab]:
    """A laboratory for each turn of a loop."""

    def new() -> Lab:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return Lab(folder)

    return new
