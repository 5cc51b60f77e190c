"""Making room: what goes, what stays, and that nothing that others rely on is taken from under them."""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import (
    Action,
    ActionResult,
    Command,
    Directory,
    DirectoryNode,
    FileNode,
    OutputDirectory,
    OutputFile,
    Tree,
)
from capsula.core.wire import encode
from capsula.errors import StoreError
from capsula.store import reach, sweep
from capsula.store.disk import DiskStore
from capsula.store.layout import GRACE, blob_path, entry_path
from capsula.store.reach import Incomplete, Reach, load_entry
from capsula.store.size import take_lock

NOW = time.time()
LONG_AGO = NOW - 10 * 86400


def new_store(root: str) -> DiskStore:
    return DiskStore(root, now=time.time)


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return new_store(str(tmp_path / "store"))


def age(path: str, stamp: float = LONG_AGO) -> None:
    os.utime(path, (stamp, stamp), follow_symlinks=False)


def names(store: DiskStore, kind: str) -> set[str]:
    return {path.name for path in Path(store.root, kind).glob("*/*")}


def age_everything(store: DiskStore) -> None:
    for kind in ("cas", "ac"):
        for path in Path(store.root, kind).glob("*/*"):
            age(str(path))


def add(store: DiskStore, key: str, *contents: bytes, used: float = LONG_AGO) -> Digest:
    """An entry with these contents as outputs; everything about it is old."""
    outputs = tuple(OutputFile(path=f"{n}", digest=store.put(content)) for n, content in enumerate(contents))
    action = digest_of(key.encode())
    store.store(action, ActionResult(output_files=outputs))
    for output in outputs:
        assert output.digest is not None
        age(blob_path(store.root, output.digest.hash))
    age(entry_path(store.root, action.hash), used)
    return action


def broken_entries(store: DiskStore) -> list[str]:
    """The entries that name a blob that isn't there."""

    def size_of(name: str) -> int | None:
        try:
            return os.lstat(blob_path(store.root, name)).st_size
        except FileNotFoundError:
            return None

    broken = []
    for key in names(store, "ac"):
        result = load_entry(entry_path(store.root, key), key)
        assert result is not None
        try:
            Reach(store.root, size_of).of_result(result)
        except Incomplete:
            broken.append(key)
    return broken


# ------------------------------------------------------------------------------------------------ what goes


def test_an_empty_store_is_swept(store: DiskStore) -> None:
    swept = sweep.sweep(store.root)
    assert swept is not None
    assert (swept.entries, swept.blobs, swept.bytes) == (0, 0, 0)


def test_the_least_recently_used_go_first(store: DiskStore) -> None:
    actions = [add(store, str(n), b"%d" % n * 1000, used=LONG_AGO + n) for n in range(10)]
    store.lookup(actions[0])
    swept = sweep.sweep(store.root, 8000)
    assert swept is not None
    left = [n for n, action in enumerate(actions) if store.touch(action)]
    assert left == [0, 6, 7, 8, 9]
    assert (swept.entries, swept.entries_deleted) == (5, 5)
    assert (swept.blobs, swept.blobs_deleted) == (5, 5)
    assert swept.bytes == sum(path.stat().st_size for path in Path(store.root).glob("[ac]*/*/*"))
    assert len(names(store, "cas")) == 5


def test_within_the_limit_all_stay_also_above_the_low_water_mark(store: DiskStore) -> None:
    for number in range(9):
        add(store, str(number), b"%d" % number * 900)
    sweep.sweep(store.root, 10_000)
    assert len(names(store, "ac")) == 9


def test_a_blob_that_two_entries_share_counts_once_and_stays_for_the_newer(store: DiskStore) -> None:
    shared = b"s" * 5000
    add(store, "old", shared, b"only old", used=LONG_AGO)
    kept = add(store, "new", shared, b"only new", used=LONG_AGO + 1)
    sweep.sweep(store.root, 10_000)
    assert len(names(store, "ac")) == 2
    sweep.sweep(store.root, 5200)
    assert names(store, "ac") == set()
    kept = add(store, "new", shared, b"only new", used=LONG_AGO + 1)
    add(store, "old", shared, b"y" * 2000, used=LONG_AGO)
    sweep.sweep(store.root, 7000)
    assert names(store, "ac") == {kept.hash}
    assert broken_entries(store) == []
    assert digest_of(shared).hash in names(store, "cas")


def test_without_a_limit_only_what_nothing_reaches_goes(store: DiskStore) -> None:
    kept = add(store, "kept", b"k" * 5000)
    stray = store.put(b"stray")
    age(blob_path(store.root, stray.hash))
    swept = sweep.sweep(store.root, 0)
    assert swept is not None
    assert swept.blobs_deleted == 1
    assert not store.has(stray)
    assert names(store, "ac") == {kept.hash}


def test_a_young_blob_stays_although_nothing_reaches_it(store: DiskStore) -> None:
    young, old = store.put(b"young"), store.put(b"old")
    age(blob_path(store.root, young.hash), time.time() - GRACE + 60)
    age(blob_path(store.root, old.hash), time.time() - GRACE - 60)
    sweep.sweep(store.root, 1)
    assert store.has(young)
    assert not store.has(old)


def test_an_entry_that_can_never_fit_does_not_push_out_the_others(store: DiskStore) -> None:
    small = [add(store, str(n), b"%d" % n * 100, used=LONG_AGO + n) for n in range(3)]
    for size in (20_000, 9_000):
        large = add(store, "large", b"l" * size, used=LONG_AGO + 100)
        swept = sweep.sweep(store.root, 9_300)
        assert swept is not None
        assert swept.too_large == 1
        assert not store.touch(large)
        assert all(store.touch(action) for action in small)


def test_a_large_entry_stays_as_long_as_all_fit(store: DiskStore) -> None:
    large = add(store, "large", b"l" * 9_000)
    sweep.sweep(store.root, 10_000)
    assert store.touch(large)


def test_an_entry_that_is_broken_goes_and_what_it_had_goes_too(store: DiskStore) -> None:
    whole = add(store, "whole", b"whole")
    add(store, "broken", b"there", b"gone")
    os.unlink(blob_path(store.root, digest_of(b"gone").hash))
    add(store, "short", b"cut short")
    os.chmod(blob_path(store.root, digest_of(b"cut short").hash), 0o600)
    os.truncate(blob_path(store.root, digest_of(b"cut short").hash), 3)
    age(blob_path(store.root, digest_of(b"cut short").hash))
    unreadable = add(store, "unreadable", b"x")
    Path(entry_path(store.root, unreadable.hash)).write_bytes(b"garbage")
    swept = sweep.sweep(store.root)
    assert swept is not None
    assert swept.damaged == 3
    assert names(store, "ac") == {whole.hash}
    assert names(store, "cas") == {digest_of(b"whole").hash}


def test_what_a_result_reaches(store: DiskStore) -> None:
    """Every way in which a result can name a blob."""
    blobs = {
        name: store.put(name.encode()) for name in ("file", "out", "err", "root", "deep", "listed", "sub")
    }
    tree = Tree(
        root=Directory(files=(FileNode(name="r", digest=blobs["root"]),)),
        children=(Directory(files=(FileNode(name="d", digest=blobs["deep"]),)),),
    )
    sub = store.put(encode(Directory(files=(FileNode(name="s", digest=blobs["sub"]),))))
    listed = Directory(
        files=(FileNode(name="l", digest=blobs["listed"]),),
        directories=(DirectoryNode(name="s", digest=sub),),
    )
    result = ActionResult(
        output_files=(OutputFile(path="file", digest=blobs["file"]),),
        stdout_digest=blobs["out"],
        stderr_digest=blobs["err"],
        output_directories=(
            OutputDirectory(path="tree", tree_digest=store.put(encode(tree))),
            OutputDirectory(path="listed", root_directory_digest=store.put(encode(listed))),
        ),
    )
    store.store(digest_of(b"action"), result)
    store.put(b"stray")
    age_everything(store)
    before = names(store, "cas") - {digest_of(b"stray").hash}
    sweep.sweep(store.root, 0)
    assert names(store, "cas") == before
    for name in before:
        held = Path(blob_path(store.root, name)).read_bytes()
        os.unlink(blob_path(store.root, name))
        store.store(digest_of(b"action"), result)
        swept = sweep.sweep(store.root, 0)
        assert swept is not None
        assert swept.damaged == 1, held
        for content in (b.encode() for b in blobs):
            store.put(content)
        store.put(held)
        assert store.put(encode(tree)).hash in before
        assert store.put(encode(listed)).hash in before
        store.put(encode(Directory(files=(FileNode(name="s", digest=blobs["sub"]),))))


def test_what_an_action_reaches_stays_with_its_entry_and_goes_with_it(store: DiskStore) -> None:
    leaf = Directory(files=(FileNode(name="input", digest=digest_of(b"contents of inputs aren't stored")),))
    root = Directory(directories=(DirectoryNode(name="leaf", digest=store.put(encode(leaf))),))
    command = Command(arguments=("make",))
    action = Action(command_digest=store.put(encode(command)), input_root_digest=store.put(encode(root)))
    key = store.put(encode(action))
    lost = Action(command_digest=digest_of(b"lost"), input_root_digest=digest_of(b"lost too"))
    other = store.put(encode(lost))
    for each in (key, other, digest_of(b"without any")):
        store.store(each, ActionResult())
    store.put(b"contents of inputs aren't stored")
    age_everything(store)
    sweep.sweep(store.root, 0)
    assert names(store, "cas") == {
        digest_of(encode(m)).hash  # type: ignore[arg-type]
        for m in (leaf, root, command, action, lost)
    }
    assert len(names(store, "ac")) == 3
    store.remove(key)
    sweep.sweep(store.root, 0)
    assert names(store, "cas") == {other.hash}


def test_stamps_from_the_future_are_pulled_back(store: DiskStore) -> None:
    """The clock was a year ahead once: such blobs don't stay for ever, nor go from under a run."""
    stray = store.put(b"stray")
    age(blob_path(store.root, stray.hash), NOW + 365 * 86400)
    first = add(store, "first", b"f" * 1000, used=NOW + 365 * 86400)
    sweep.sweep(store.root)
    assert store.has(stray)
    assert os.stat(blob_path(store.root, stray.hash)).st_mtime == pytest.approx(time.time(), abs=60)
    assert os.stat(entry_path(store.root, first.hash)).st_mtime == pytest.approx(time.time(), abs=60)
    sweep.sweep(store.root, now=lambda: time.time() + 2 * GRACE)
    assert not store.has(stray)


def test_strange_files_are_left_alone(store: DiskStore) -> None:
    digest = store.put(b"x")
    folder = Path(blob_path(store.root, digest.hash)).parent
    strange = [folder / "README", folder / ("0" * 64), folder.parent / "lost+found"]
    for path in strange:
        path.write_bytes(b"")
        age(str(path))
    sweep.sweep(store.root)
    assert all(path.exists() for path in strange)


# ------------------------------------------------------------------------------------------------ at random


@dataclass
class Spec:
    """An entry to be made: numbers stand for contents."""

    files: list[int]
    tree: list[int] | None
    folders: list[int]  # the input directories below the root, "" for none
    lose: int | None  # the output to be taken away
    blobs: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    broken: bool = False


number = st.integers(0, 30)
specs = st.lists(
    st.builds(
        Spec,
        files=st.lists(number, max_size=5),
        tree=st.none() | st.lists(number, min_size=1, max_size=5),
        folders=st.lists(st.integers(0, 5), max_size=3),
        lose=st.none() | st.none() | st.none() | number,
    ),
    max_size=12,
)


def content_of(number: int) -> bytes:
    return b"%d " % number * (number * 37 % 500)


def build(store: DiskStore, entries: list[Spec]) -> list[Digest]:
    keys = []
    for place, spec in enumerate(entries):
        put: set[str] = set()

        def keep(content: bytes, put: set[str] = put) -> Digest:
            digest = store.put(content)
            put.add(digest.hash)
            return digest

        files = tuple(OutputFile(path=str(n), digest=keep(content_of(n))) for n in spec.files)
        trees: tuple[OutputDirectory, ...] = ()
        if spec.tree is not None:
            nodes = tuple(FileNode(name=str(n), digest=keep(content_of(n))) for n in sorted(set(spec.tree)))
            trees = (OutputDirectory(path="t", tree_digest=keep(encode(Tree(root=Directory(files=nodes))))),)
        spec.outputs = set(put)
        below = tuple(
            DirectoryNode(name=str(n), digest=keep(encode(Directory(files=(FileNode(name=f"in{n}"),)))))
            for n in sorted(set(spec.folders))
        )
        command = keep(encode(Command(arguments=(str(place),))))
        root = keep(encode(Directory(directories=below)))
        key = keep(encode(Action(command_digest=command, input_root_digest=root)))
        spec.blobs = put
        store.store(key, ActionResult(output_files=files, output_directories=trees))
        keys.append(key)
    return keys


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries=specs, strays=st.lists(st.booleans(), max_size=4), limit=st.integers(0, 40_000))
def test_a_sweep_of_any_store(entries: list[Spec], strays: list[bool], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_a_sweep(new_store(folder), entries, strays, limit)


def check_a_sweep(store: DiskStore, entries: list[Spec], strays: list[bool], limit: int) -> None:
    keys = build(store, entries)
    old_strays = {store.put(b"stray %d" % n).hash for n, is_young in enumerate(strays) if not is_young}
    age_everything(store)
    young_strays = {store.put(b"stray %d" % n).hash for n, is_young in enumerate(strays) if is_young}
    order = list(range(len(keys)))
    random.Random(len(keys)).shuffle(order)
    for used, place in enumerate(order):
        age(entry_path(store.root, keys[place].hash), LONG_AGO + used)
    for spec in entries:
        if spec.lose is not None:
            lost = digest_of(content_of(spec.lose)).hash
            Path(blob_path(store.root, lost)).unlink(missing_ok=True)
    present = names(store, "cas")
    for spec in entries:
        spec.broken = not spec.outputs <= present
        spec.blobs &= present
    sizes = {name: os.stat(blob_path(store.root, name)).st_size for name in present}
    entry_sizes = [os.stat(entry_path(store.root, key.hash)).st_size for key in keys]

    def total(places: list[int]) -> int:
        reached = set().union(*[entries[place].blobs for place in places])
        return sum(sizes[name] for name in reached) + sum(entry_sizes[place] for place in places)

    def alone(place: int) -> int:
        return sum(sizes[name] for name in entries[place].outputs) + entry_sizes[place]

    swept = sweep.sweep(store.root, limit)
    assert swept is not None

    left = names(store, "ac")
    kept = [place for place in reversed(order) if keys[place].hash in left]
    whole = [place for place in reversed(order) if not entries[place].broken]
    assert set(kept) <= set(whole)
    assert broken_entries(store) == []
    assert names(store, "cas") == young_strays | set().union(*[entries[place].blobs for place in kept])
    assert not old_strays & names(store, "cas")
    assert swept.entries == len(kept)
    assert swept.bytes == sum(path.stat().st_size for path in Path(store.root).glob("[ac]*/*/*"))
    low = limit * 4 // 5
    if limit == 0 or total(whole) <= limit:
        assert kept == whole
    else:
        fitting = [place for place in whole if alone(place) <= limit]
        if total(fitting) > limit:
            modest = [place for place in whole if alone(place) <= low]
            # Either what is too large was left out, or it came after the cut anyway.
            assert kept in (modest[: len(kept)], fitting[: len(kept)])
            assert total(kept) <= low
            rest = modest[len(kept) :]
            assert not rest or total([*kept, rest[0]]) > low or total(modest) <= limit
        else:
            assert kept == fitting


# ------------------------------------------------------------------------------------------------ at once


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
    store = new_store(str(root))
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


# ------------------------------------------------------------------------------------------------ tidying


def leave(store: DiskStore, name: str, days: float) -> Path:
    path = Path(store.root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left")
    age(str(path), time.time() - days * 86400)
    return path


def test_what_was_left_behind_goes_in_time(store: DiskStore) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    stays = [
        leave(store, f"tmp/{os.getpid()}-0-1", 0.9),
        leave(store, f"tmp/{dead.pid}-0-1", 0.001),
        leave(store, f"quarantine/{'a' * 64}-1-1-1", 6),
        leave(store, "recall/ab/record", 29),
        leave(store, "state/record", 29),
        leave(store, "ids/record", 29),
        leave(store, "journal/2020", 1000),
        leave(store, "locks/" + "b" * 64, 29),
        leave(store, "locks/sweep", 1000),
    ]
    goes = [
        leave(store, f"tmp/{os.getpid()}-0-2", 1.1),
        leave(store, f"tmp/{dead.pid}-0-2", 0.1),
        leave(store, "tmp/strange", 0.1),
        leave(store, f"quarantine/{'a' * 64}-1-1-2", 8),
        leave(store, "recall/ab/old", 31),
        leave(store, "state/old", 31),
        leave(store, "ids/old", 31),
        leave(store, "locks/" + "c" * 64, 31),
    ]
    sweep.sweep(store.root)
    assert [path.name for path in stays if not path.exists()] == []
    assert [path.name for path in goes if path.exists()] == []


def test_a_store_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StoreError):
        sweep.sweep(str(tmp_path / "store"))


def test_a_large_store_is_swept_in_reasonable_time(store: DiskStore) -> None:
    """2,000 entries that share their inputs, 5 outputs each: linear in what there is."""
    folders = tuple(
        DirectoryNode(name=str(n), digest=store.put(encode(Directory(files=(FileNode(name=f"{n}"),)))))
        for n in range(200)
    )
    root = store.put(encode(Directory(directories=folders)))
    for place in range(2000):
        key = store.put(encode(Action(input_root_digest=root, salt=b"%d" % place)))
        outputs = tuple(
            OutputFile(path=str(n), digest=store.put(b"%d %d" % (place, n) * 50)) for n in range(5)
        )
        store.store(key, ActionResult(output_files=outputs))
    age_everything(store)
    began = time.process_time()
    swept = sweep.sweep(store.root, 1_000_000)
    took = time.process_time() - began
    assert swept is not None
    assert swept.entries_deleted > 500
    assert broken_entries(store) == []
    assert took < 10
