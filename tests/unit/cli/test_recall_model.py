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
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from capsula import engine
from capsula.worktree import listing

Scene = Any
NewScene = Callable[[], AbstractContextManager[Scene]]

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


def check(scene: Scene, line: int, counts: dict[str, int]) -> None:
    """Ask recall, hold its answer against the truth, and go the full path if it has none."""
    argv = [*LINES[line].split(), "--", "cmd"]
    truth = scene.truth(argv)
    before = scene.shot()
    code, out, _ = scene.recall(argv)
    if code is not None:
        counts["recalled"] += 1
        assert truth.outcome == engine.HIT, f"recall answers what is {truth.outcome}: {truth.why}"
        assert code == truth.exit_code
        assert scene.outputs(argv, truth.wanted) == truth.wanted
        assert out == truth.log
        after = scene.truth(argv)
        assert (after.outcome, after.key) == (truth.outcome, truth.key)
        return
    assert scene.shot() == before, "recall gave up and had changed something"
    scene.wait()
    ran, _, _ = scene.full(argv)
    counts["full"] += 1
    if truth.outcome != engine.HIT:
        assert ran
    elif ran:
        assert scene.damaged, "the full path ran the command, and the truth says it needn't"
    else:
        counts["hit"] += 1
        assert scene.outputs(argv, truth.wanted) == truth.wanted
        if scene.shot() == before and scene.offset >= 0 and not listing.TICK_NS:
            # Nothing had to be done; so the next time is recalled.
            scene.wait()
            assert scene.recall(argv)[0] == truth.exit_code


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
        scene.full([*LINES[line].split(), "--", "cmd"], "placebo")
    elif how == "fail":
        scene.fails = not scene.fails
    else:
        scene.nonce = b""


def clock(scene: Scene, hours: int) -> None:
    scene.offset = hours * 3600 * 10**9


def tick(scene: Scene, seconds: int) -> None:
    """With a tick of hours, every look is too fresh: nothing is recalled, and of what is remembered nothing counts."""
    listing.TICK_NS = listing.COARSE_TICK_NS = seconds * 10**9


def blink(scene: Scene, name: str, line: int) -> None:
    """A file that was there for one run only, too fresh for its look to prove anything."""
    before = listing.TICK_NS // 10**9
    edit(scene, name, "write")
    tick(scene, 10_000)
    scene.full([*LINES[line].split(), "--", "cmd"])
    tick(scene, before)
    edit(scene, name, "remove")


CHANGES: dict[str, Callable[..., None]] = {
    "edit": edit,
    "link": link,
    "mark": mark,
    "config": config,
    "variable": variable,
    "cache": cache,
    "command": command,
    "clock": clock,
    "tick": tick,
    "blink": blink,
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
    st.tuples(st.just("tick"), st.sampled_from([0, 10_000])),
    st.tuples(st.just("blink"), st.sampled_from(FILES), st.integers(0, len(LINES) - 1)),
)
# Two changes at a time at most; then two command lines are tried.
SEQUENCES = st.lists(
    st.tuples(st.lists(STEPS, max_size=2), st.integers(0, len(LINES) - 1)), min_size=1, max_size=7
)


def play(new_scene: NewScene, sequence: list[tuple[list[tuple[Any, ...]], int]], line: int) -> dict[str, int]:
    counts = {"recalled": 0, "full": 0, "hit": 0}
    with new_scene() as scene:
        for _ in range(3):  # miss, hit, recalled
            scene.wait()
            check(scene, line, counts)
        for changes, other in sequence:
            for kind, *what in changes:
                scene.wait()
                try:
                    CHANGES[kind](scene, *what)
                except (NotADirectoryError, FileExistsError, IsADirectoryError, FileNotFoundError):
                    continue  # what an earlier change left there is in the way
            for which in (line, other):
                scene.wait()
                check(scene, which, counts)
    return counts


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(sequence=SEQUENCES, line=st.integers(0, len(LINES) - 1))
@example(sequence=[([("mark", ".git", "dangling")], 0)], line=3)
@example(sequence=[([("command", "chance", 0)], 0)], line=0)
@example(sequence=[([("blink", "src/a.c", 0)], 0), ([("blink", "src/sub/c.c", 1)], 1)], line=0)
@example(
    sequence=[
        ([("mark", "vault/.capsula-vault", how), ("edit", "vault/v.txt", "write")], 1)
        for how in ("file", "remove")
    ],
    line=1,
)
def test_recall_answers_what_the_full_path_would(
    new_scene: NewScene, sequence: list[tuple[list[tuple[Any, ...]], int]], line: int
) -> None:
    play(new_scene, sequence, line)


@pytest.mark.parametrize("line", range(len(LINES)))
def test_what_did_not_change_is_recalled(new_scene: NewScene, line: int) -> None:
    """Else the test above would be about nothing."""
    counts = play(new_scene, [([], line)] * 4, line)
    assert counts["recalled"] >= 8
    assert counts["full"] <= 3
