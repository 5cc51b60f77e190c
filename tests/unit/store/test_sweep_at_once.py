"""What runs, hits and kills at any moment of a sweep: nothing that others rely on is taken from under them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.digest import digest_of
from capsula.core.reapi import (
    ActionResult,
    OutputFile,
)
from capsula.store import reach, sweep
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path
from capsula.store.size import take_lock
from unit.store.aged import LONG_AGO, add, age, broken_entries, names


class Stepping:
    """Stands for the module os in the modules of the sweep: counts the calls, lets others act before any of them."""

    def __init__(self, acts: dict[int, Callable[[], None]]) -> None:
        self.acts = acts
        self.step = 0

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in ("lstat", "rename", "unlink", "link", "utime", "scandir", "listdir"):
            return real

        def call(*args: object, **kwargs: object) -> object:
            act = self.acts.get(self.step)
            self.step += 1
            if act is not None:
                act()
            return real(*args, **kwargs)

        return call

    def sweep(self, root: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> int:
        with monkeypatch.context() as patched:
            patched.setattr(sweep, "os", self)
            patched.setattr(reach, "os", self)
            sweep.sweep(root, limit)
        return self.step


LIMIT = 4100
NEW = digest_of(b"new")
SHARED = b"e" * 500  # by the entry that is evicted and one that is being made
OLD = [b"unreachable %d" % n * 10 for n in range(2)]


def lay_out(root: Path) -> DiskStore:
    """An entry that will be evicted, one that will be kept, and blobs that nothing reaches."""
    store = DiskStore(str(root), now=time.time)
    add(store, "evicted", SHARED, b"f" * 3000, used=LONG_AGO)
    add(store, "kept", b"k" * 2000, used=LONG_AGO + 1)
    for content in OLD:
        age(blob_path(store.root, store.put(content).hash))
    return store


def count_steps(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    store = lay_out(root)
    steps = Stepping({}).sweep(store.root, LIMIT, monkeypatch)
    assert len(names(store, "ac")) == 1
    assert len(names(store, "cas")) == 1
    assert steps > 15
    return steps


RESULT = ActionResult(
    output_files=tuple(
        OutputFile(path=str(n), digest=digest_of(content)) for n, content in enumerate([*OLD, SHARED])
    )
)


def put_all(store: DiskStore) -> None:
    for content in [*OLD, SHARED]:
        store.put(content)


def test_a_run_that_stores_at_any_moment_of_a_sweep_keeps_its_blobs(tmp_path: Path, monkeypatch) -> None:
    """Every pair of moments: the blobs (which are there already, old and unreachable) at one, the entry at another."""
    steps = count_steps(tmp_path / "counted", monkeypatch)
    for first in range(steps + 1):
        for second in range(first, steps + 1):
            store = lay_out(tmp_path / f"{first}-{second}")

            def put(store: DiskStore = store) -> None:
                put_all(store)

            def enter(store: DiskStore = store) -> None:
                store.store(NEW, RESULT)

            def both(put: Callable[[], None] = put, enter: Callable[[], None] = enter) -> None:
                put()
                enter()

            acts = {first: put, second: enter} if first != second else {first: both}
            stepping = Stepping(acts)
            taken = stepping.sweep(store.root, LIMIT, monkeypatch)
            for moment in sorted(acts):
                if moment >= taken:
                    acts[moment]()
            assert broken_entries(store) == [], (first, second)
            assert store.lookup(NEW) == RESULT
            assert store.touch(digest_of(b"kept"))


def test_a_hit_at_any_moment_of_a_sweep_gets_all_or_knows_that_it_missed(tmp_path: Path, monkeypatch) -> None:
    """The entry that is about to go is looked up at one moment; its blob is read at once or at the end."""
    steps = count_steps(tmp_path / "counted", monkeypatch)
    evicted = digest_of(b"evicted")
    hits = 0
    for moment in range(steps + 1):
        store = lay_out(tmp_path / str(moment))
        found: list[ActionResult | None] = []

        def look(store: DiskStore = store, found: list[ActionResult | None] = found) -> None:
            found.append(store.lookup(evicted))

        Stepping({moment: look}).sweep(store.root, LIMIT, monkeypatch)
        assert broken_entries(store) == []
        if found and found[0] is not None and store.touch(evicted):
            # It was used in time, so it stayed, and then it must be whole.
            assert store.read(digest_of(SHARED)) == SHARED
            assert broken_entries(store) == []
            hits += 1
    assert hits > 3


def test_a_sweep_that_is_killed_at_any_moment_is_made_good_by_the_next(tmp_path: Path, monkeypatch) -> None:
    """The worst case: a run stores at some moment, and the sweep dies at a later one with a blob in its hands."""
    steps = count_steps(tmp_path / "counted", monkeypatch)
    held = 0
    for moment in range(steps):
        for death in range(moment, steps):
            store = lay_out(tmp_path / f"{moment}-{death}")

            def run(store: DiskStore = store) -> None:
                put_all(store)
                store.store(NEW, RESULT)

            def die() -> None:
                os._exit(9)

            def both(run: Callable[[], None] = run, die: Callable[[], None] = die) -> None:
                run()
                die()

            child = os.fork()
            if child == 0:
                Stepping({moment: run, death: die} if death != moment else {death: both}).sweep(
                    store.root, LIMIT, monkeypatch
                )
                os._exit(0)
            os.waitpid(child, 0)
            held += len(os.listdir(f"{store.root}/held")) if os.path.exists(f"{store.root}/held") else 0
            sweep.sweep(store.root, 0)
            assert broken_entries(store) == [], (moment, death)
            assert store.touch(digest_of(b"kept"))
            assert not os.path.exists(f"{store.root}/held") or os.listdir(f"{store.root}/held") == []
    assert held > 5


def test_what_is_held_does_not_replace_what_was_put_anew(store: DiskStore) -> None:
    digest = store.put(b"good")
    os.makedirs(f"{store.root}/held")
    Path(store.root, "held", digest.hash).write_bytes(b"evil")
    sweep.sweep(store.root)
    assert store.read(digest) == b"good"


def test_without_hard_links_a_blob_is_put_back_by_a_rename(store: DiskStore, monkeypatch) -> None:
    digest = store.put(b"content")
    os.makedirs(f"{store.root}/held")
    os.rename(blob_path(store.root, digest.hash), f"{store.root}/held/{digest.hash}")

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(sweep.os, "link", no_links)
    sweep.sweep(store.root)
    assert store.read(digest) == b"content"


def test_two_sweeps_are_never_at_once(store: DiskStore) -> None:
    store.put(b"x")
    lock = take_lock(store.root)
    assert lock is not None
    assert sweep.sweep(store.root) is None
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from capsula.store.sweep import sweep
assert sweep({store.root!r}) is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    os.close(lock)
    assert sweep.sweep(store.root) is not None


_STRESS = """
import glob, random, sys, time
sys.path[:0] = {path!r}
from capsula.core.digest import digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import BlobMissing
from capsula.store import disk
from capsula.store.sweep import sweep

GRACE = disk.GRACE = 1.0
store = disk.DiskStore({root!r}, now=time.time)
rng = random.Random({seed})
counts = [0, 0, 0]
began_all = time.time()

def go_on():
    # For some seconds, and on a busy machine until each has seen enough.
    if min(counts[:2]) > 20 if {role!r} == "sweep" else counts[{role!r} == "hit"] > 50:
        open({done!r}, "w").close()
    passed = time.time() - began_all
    return passed < 6 or (passed < 120 and len(glob.glob({all_done!r})) < 5)

def content(number):
    return b"%d " % number * 400

def write():
    began = time.time()
    outputs = tuple(OutputFile(path=str(n), digest=store.put(content(rng.randrange(300)))) for n in range(8))
    if rng.random() < 0.3:
        time.sleep(0.2)
    action = digest_of(b"%d" % rng.randrange(150))
    if time.time() - began < GRACE / 2:
        store.store(action, ActionResult(output_files=outputs))
        if time.time() - began >= GRACE / 2:
            store.remove(action)  # this machine stopped us in between: the contract wasn't kept
        counts[0] += 1

def hit():
    action = digest_of(b"%d" % rng.randrange(150))
    # Whoever was stopped in between takes his entry away again when he goes on.
    until = time.time() + 60
    while time.time() < until:
        result = store.lookup(action)
        if result is None:
            return
        try:
            for output in result.output_files:
                store.read(output.digest)
            counts[1] += 1
            return
        except BlobMissing:
            counts[2] += 1
            time.sleep(0.002)
    raise SystemExit(f"the entry {{action.hash}} stays without its blobs")

while go_on():
    if {role!r} == "sweep":
        swept = sweep({root!r}, {limit}, grace=GRACE)
        counts[0] += swept.entries_deleted
        counts[1] += swept.blobs_deleted
        time.sleep(0.01)
    elif {role!r} == "write" or rng.random() < 0.2:
        write()
    else:
        hit()
print(*counts)
"""


def test_puts_hits_and_sweeps_by_several_processes_never_break_an_entry(
    store: DiskStore, tmp_path: Path
) -> None:
    """With a grace period of a second instead of an hour, so that blobs do go while others rely on their like."""
    processes = []
    for seed, role in enumerate(["sweep", "write", "write", "hit", "hit"]):
        done = {"done": str(tmp_path / f"done-{seed}"), "all_done": str(tmp_path / "done-*")}
        code = _STRESS.format(path=sys.path, root=store.root, seed=seed, role=role, limit=150_000, **done)
        processes.append(
            subprocess.Popen(
                [sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    outcomes = [process.communicate() for process in processes]
    assert [(process.returncode, err) for process, (_, err) in zip(processes, outcomes, strict=True)] == [
        (0, b"")
    ] * 5
    counts = [[int(word) for word in out.split()] for out, _ in outcomes]
    assert broken_entries(store) == []
    assert counts[0][0] > 20, "no entries were evicted"
    assert counts[0][1] > 20, "no blobs were deleted"
    assert counts[3][1] + counts[4][1] > 50, "no hits"
