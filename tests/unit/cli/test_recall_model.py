"""Recall against the full path: after any sequence of changes, recall answers what the full path would, or nothing.

A model test. A scratch workspace is edited at random; after each edit the real `recall` is asked first, and what it
says is held against the full path, worked out from scratch: without anything remembered, and from blobs as they were
stored. Then the full path really runs, so that there is a record to recall from.

The command is a function of the test: what it makes depends on the inputs hash and the declared variables, as a real
command's result does. Times are real; but a tick of the clock counts as nothing (else every edit would be too fresh to
be recalled), and each edit waits for the next one.
"""

import os
import posix
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capsula import engine, plugins
from capsula.cli import recall as recalling
from capsula.cli import wrapper
from capsula.config.places import find_root
from capsula.config.settings import read_settings
from capsula.core.digest import digest_of
from capsula.errors import CapsulaError
from capsula.worktree import digests, listing
from capsula.worktree.kept import Memory
from capsula.worktree.workspace import Workspace

# The command lines that are tried, each with the same command behind it.
LINES = (
    "-c one -i src -i *.txt -i conf/one.cfg -e VAR -o dist -o *.out",
    "-i ** -e VAR -o dist -o *.out",
    "-c three -i src/**/*.c -i pkg/sub/** -i gen.out -i */sub/r -o dist/** -o *.out",
    "-c four -i //top -i ../../away/** -i src/a.c --cache_failure -o dist -o *.out",
    "-i src -o dist/* -o dist/*/x -o *.out",
)
FILES = [
    "src/a.c",
    "src/b.c",
    "src/new",
    "src/sub/c.c",
    "src/sub/x",
    "note.txt",
    "conf/one.cfg",
    "conf/two.cfg",
    "README",
    "x",
    "gen.out",
]
FILES += ["../top", "../../away/h", "vault/v.txt", "real/sub/r"]
OUTPUTS = [
    "dist/a.bin",
    "dist/sub/x",
    "dist/stale",
    "dist",
    "dist/sub",
    "dist/empty",
    "dist/link",
    "made.out",
    "old.out",
]
MARKS = [".git", "capsula.toml", "../.git", "../capsula.toml", "../../.git", "vault/.capsula-vault"]
CONFIGS = ["Capsule.toml", "Capsules.toml", "~/.capsules.toml"]
TEXTS = [
    'tool_tag = ["t"]',
    'env = ["OTHER"]',
    'output = ["more.o"]',
    'input = ["README"]',
    "capture_stderr = false",
]
LINKS = ["src/l", "src/k", "pkg", "away"]
TARGETS = ["a.c", "b.c", "../README", "sub", "../conf", "nowhere", "real", "other", "l"]


class Ran(BaseException):
    """Instead of becoming the command: it is never run by this test."""


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

    def execute(
        self, recipe: Any, environ: dict[bytes, bytes], inputs_hash: str, store_root: "str | None"
    ) -> Any:
        """What the command does. It depends on its declared inputs and variables, and sometimes on chance."""
        self.runs += 1
        values = [environ.get(name.encode(), b"-") for name in recipe.environment]
        seed = b" ".join([inputs_hash.encode(), *values, *map(str.encode, recipe.tags), self.nonce])
        for name in ("dist", "made.out", "more.o"):
            self.remove(name)
        os.makedirs(f"{self.cwd}/dist/sub")
        os.mkdir(f"{self.cwd}/dist/empty", 0o700)
        self.write("dist/a.bin", digest_of(seed).hash)
        self.write("dist/sub/x", "x")
        os.chmod(f"{self.cwd}/dist/sub/x", 0o755)
        os.symlink("a.bin", f"{self.cwd}/dist/link")
        self.write("made.out", seed.decode())
        if "more.o" in recipe.outputs:
            self.write("more.o", "more")
        captured = SimpleNamespace(content=b"out " + seed + b"\n", path=None)
        captured.size = len(captured.content)
        now = time.time_ns()
        return SimpleNamespace(
            exit_code=3 if self.fails else 0,
            started=True,
            order=((1, captured.size),),
            start_ns=now,
            end_ns=now,
            seconds=0.5,
            left_open=False,
            cut=False,
            signal=None,
            write_error=None,
            stdout=captured if recipe.captures[0] else None,
            stderr=SimpleNamespace(content=b"", path=None, size=0) if recipe.captures[1] else None,
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
            asked = read_settings(
                argv,
                environ_args=None,
                home=self.home,
                cwd=self.cwd,
                find_root=lambda given: find_root(given, self.cwd),
                program="capsule",
            )
            session = plugins.compose(asked, cwd=self.cwd, environ=dict(posix.environ), say=lambda text: None)
        except CapsulaError as error:
            return SimpleNamespace(outcome=engine.UNCACHED, key=None, problem=error)
        session.workspace.memory = Memory("")
        session.policy.dry_run = True
        session.world.blobs = SimpleNamespace(read=lambda digest: self.blobs[digest.hash])  # type: ignore[assignment]
        report = engine.run(session.recipe, session.policy, session.world)
        report.wanted = None
        if report.outcome == engine.HIT:
            result = session.world.cache.lookup(report.key)
            report.wanted = engine.run.__globals__["from_result"](result, session.world.blobs.read)
            report.log = result.stdout_raw or (
                self.blobs[result.stdout_digest.hash] if result.stdout_digest else b""
            )
        return report

    def outputs(self, argv: list[str], wanted: dict[str, Any]) -> dict[str, Any]:
        """The declared outputs that there are, as a result would name them; inputs only if they are wanted too."""
        asked = read_settings(
            argv,
            environ_args=None,
            home=self.home,
            cwd=self.cwd,
            find_root=lambda given: find_root(given, self.cwd),
            program="capsule",
        )
        session = plugins.compose(asked, cwd=self.cwd, environ=dict(posix.environ), say=lambda text: None)
        workspace = Workspace(session.recipe, Memory(""), session.workspace.hidden)
        workspace.inputs()
        inputs = {workspace.named(path) for path in workspace.input_paths()} - wanted.keys()
        nodes = workspace.outputs().nodes
        return {name: node for path, node in nodes.items() if (name := workspace.named(path)) not in inputs}

    def note_blobs(self) -> None:
        """Everything that was ever stored, for `truth`."""
        for folder, _, names in os.walk(f"{self.store}/cas"):
            for name in names:
                content = Path(folder, name).read_bytes()
                if digest_of(content).hash == name:
                    self.blobs.setdefault(name, content)


# ---------------------------------------------------------------------------------------------------- the harness


@contextmanager
def staged(scene: Scene, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the scene's directory and environment, without a terminal or a file on standard input."""
    before = os.getcwd()
    kept = dict(posix.environ)
    null = os.open("/dev/null", os.O_RDWR)
    saved = os.dup(0)
    os.dup2(null, 0)
    try:
        os.chdir(scene.cwd)
        posix.environ.clear()
        posix.environ.update(scene.environ)
        patch.setattr(listing, "TICK_NS", 0)
        patch.setattr(listing, "COARSE_TICK_NS", 0)
        patch.setattr(plugins, "execute", scene.execute)
        patch.setattr(wrapper, "exec_command", exec_command)
        patch.setattr(digests, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + scene.offset))
        yield
    finally:
        posix.environ.clear()
        posix.environ.update(kept)
        os.chdir(before)
        os.dup2(saved, 0)
        os.close(saved)
        os.close(null)


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


def wait_a_tick() -> None:
    """Until the next change has another time than the last."""
    clock = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)
    before = time.clock_gettime_ns(clock)
    while time.clock_gettime_ns(clock) == before:
        time.sleep(0.0005)


def full(scene: Scene, argv: list[str], program: str = "capsule") -> tuple[bool, list[bytes]]:
    """The full path, with its record: whether the command ran, and what was written."""
    runs, written = scene.runs, []
    with captured(written):
        try:
            wrapper.wrap(program, argv)
        except Ran:
            scene.runs += 1
    scene.note_blobs()
    return scene.runs > runs, written


def check(scene: Scene, line: int, counts: dict[str, int]) -> None:
    """Ask recall, hold its answer against the truth, and go the full path if it has none."""
    argv = [*LINES[line].split(), "--", "cmd"]
    truth = scene.truth(argv)
    before = scene.shot()
    written: list[bytes] = []
    with captured(written):
        code = recalling.recall("capsule", argv)
    if code is not None:
        counts["recalled"] += 1
        assert truth.outcome == engine.HIT, f"recall answers what is {truth.outcome}: {truth.why}"
        assert code == truth.exit_code
        assert scene.outputs(argv, truth.wanted) == truth.wanted
        assert written[0] == truth.log
        after = scene.truth(argv)
        assert (after.outcome, after.key) == (truth.outcome, truth.key)
        return
    assert scene.shot() == before, "recall gave up and had changed something"
    wait_a_tick()
    ran, written = full(scene, argv)
    counts["full"] += 1
    if truth.outcome != engine.HIT:
        assert ran
    elif ran:
        assert scene.damaged, "the full path ran the command, and the truth says it needn't"
    else:
        counts["hit"] += 1
        assert scene.outputs(argv, truth.wanted) == truth.wanted
        if scene.shot() == before and scene.offset >= 0:
            # Nothing had to be done; so the next time is recalled.
            wait_a_tick()
            with captured([]):
                assert recalling.recall("capsule", argv) == truth.exit_code


# ---------------------------------------------------------------------------------------------------- the changes


def edit(scene: Scene, name: str, how: str) -> None:
    path = scene.path(name)
    if how in ("edit", "keeping"):
        if not os.path.isfile(path):
            return
        look = os.stat(path)
        content = Path(path).read_bytes()
        scene.write(name, "".join(reversed(content.decode())) if how == "keeping" else content.decode() + "+")
        if how == "keeping":  # size and time
            os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))
    elif how == "write":
        if not os.path.isdir(path) and os.path.isdir(os.path.dirname(path)):
            scene.write(name, f"new {name}")
    elif how == "remove":
        scene.remove(name)
    elif how == "chmod" and os.path.exists(path):
        os.chmod(path, os.stat(path).st_mode ^ 0o110)
    elif how == "touch" and os.path.exists(path):
        os.utime(path)
    elif how == "rename" and os.path.lexists(path) and not os.path.lexists(path + ".moved"):
        os.rename(path, path + ".moved")
    elif how == "back" and os.path.lexists(path + ".moved") and not os.path.lexists(path):
        os.rename(path + ".moved", path)
    elif how == "to-dir" and os.path.isdir(os.path.dirname(path)):
        scene.remove(name)
        os.makedirs(f"{path}/inner")
    elif how == "to-link" and os.path.isdir(os.path.dirname(path)):
        scene.remove(name)
        os.symlink("/nowhere", path)
    elif how == "refill" and os.path.isdir(path):
        Path(path, "extra").write_text("extra")


def link(scene: Scene, name: str, target: str) -> None:
    if os.path.isdir(os.path.dirname(scene.path(name))):
        scene.remove(name)
        os.symlink(target, scene.path(name))


def mark(scene: Scene, name: str, how: str) -> None:
    path = scene.path(name)
    if how == "remove":
        scene.remove(name)
    elif os.path.isdir(os.path.dirname(path)) and not os.path.lexists(path):
        if how == "directory":
            os.mkdir(path)
        elif how == "dangling":
            os.symlink("nowhere", path)
        else:
            scene.write(name, "")


def config(scene: Scene, name: str, text: str) -> None:
    if text:
        scene.write(name, text)
    else:
        scene.remove(name)


def variable(scene: Scene, name: str, value: "str | None") -> None:
    for environ in (scene.environ, posix.environ):
        environ.pop(name.encode(), None)
        if value is not None:
            environ[name.encode()] = value.encode()


def cache(scene: Scene, how: str, number: int) -> None:
    kind = {"entry": "ac", "blob": "cas", "lost": "cas", "state": "state"}.get(how)
    if how == "clear":
        for name in ("ac", "cas", "state", "ids"):
            shutil.rmtree(f"{scene.store}/{name}", ignore_errors=True)
        return
    paths = sorted(path for path in Path(scene.store, kind or "").rglob("*") if path.is_file())
    if not paths:
        return
    path = paths[number % len(paths)]
    if how == "blob":
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[::-1] + b"!")
    else:
        path.unlink()
    scene.damaged = scene.damaged or how in ("blob", "lost")


def command(scene: Scene, how: str, line: int) -> None:
    """What the command does from now on; a placebo shows it to the cache."""
    if how == "chance":
        scene.nonce = scene.nonce[:3] + b"n"
        full(scene, [*LINES[line].split(), "--", "cmd"], "placebo")
    elif how == "fail":
        scene.fails = not scene.fails
    else:
        scene.nonce = b""


def clock(scene: Scene, hours: int) -> None:
    scene.offset = hours * 3600 * 10**9


CHANGES: dict[str, Callable[..., None]] = {
    "edit": edit,
    "link": link,
    "mark": mark,
    "config": config,
    "variable": variable,
    "cache": cache,
    "command": command,
    "clock": clock,
}
HOW = st.sampled_from(
    ["edit", "keeping", "write", "remove", "chmod", "touch", "rename", "back", "to-dir", "to-link", "refill"]
)
STEPS = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from(FILES), HOW),
    st.tuples(st.just("edit"), st.sampled_from(OUTPUTS), HOW),
    st.tuples(st.just("link"), st.sampled_from(LINKS), st.sampled_from(TARGETS)),
    st.tuples(
        st.just("mark"), st.sampled_from(MARKS), st.sampled_from(["file", "directory", "dangling", "remove"])
    ),
    st.tuples(st.just("config"), st.sampled_from(CONFIGS), st.sampled_from([*TEXTS, "", "not toml"])),
    st.tuples(st.just("variable"), st.sampled_from(["VAR", "OTHER"]), st.sampled_from(["1", "2", "", None])),
    st.tuples(
        st.just("cache"), st.sampled_from(["clear", "entry", "blob", "lost", "state"]), st.integers(0, 9)
    ),
    st.tuples(
        st.just("command"), st.sampled_from(["chance", "fail", "calm"]), st.integers(0, len(LINES) - 1)
    ),
    st.tuples(st.just("clock"), st.sampled_from([-1, 0, 1])),
)
# Two changes at a time at most; then two command lines are tried.
SEQUENCES = st.lists(
    st.tuples(st.lists(STEPS, max_size=2), st.integers(0, len(LINES) - 1)), min_size=1, max_size=7
)


def play(sequence: list[tuple[list[tuple[Any, ...]], int]], line: int) -> dict[str, int]:
    counts = {"recalled": 0, "full": 0, "hit": 0}
    with tempfile.TemporaryDirectory() as base, pytest.MonkeyPatch.context() as patch:
        scene = Scene(os.path.realpath(base))
        with staged(scene, patch):
            for _ in range(3):  # miss, hit, recalled
                wait_a_tick()
                check(scene, line, counts)
            for changes, other in sequence:
                for kind, *what in changes:
                    wait_a_tick()
                    try:
                        CHANGES[kind](scene, *what)
                    except (NotADirectoryError, FileExistsError, IsADirectoryError, FileNotFoundError):
                        continue  # what an earlier change left there is in the way
                for which in (line, other):
                    wait_a_tick()
                    check(scene, which, counts)
    return counts


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(SEQUENCES, st.integers(0, len(LINES) - 1))
def test_recall_answers_what_the_full_path_would(
    sequence: list[tuple[list[tuple[Any, ...]], int]], line: int
) -> None:
    play(sequence, line)


@pytest.mark.parametrize("line", range(len(LINES)))
def test_what_did_not_change_is_recalled(line: int) -> None:
    """Else the test above would be about nothing."""
    counts = play([([], line)] * 4, line)
    assert counts["recalled"] >= 8
    assert counts["full"] <= 3
