"""Any store is swept as the rules say, which are told here in another way."""

import os
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

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
from capsula.store import sweep
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path, entry_path
from unit.store.aged import LONG_AGO, age, age_everything, broken_entries, names


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
        check_a_sweep(DiskStore(folder, now=time.time), entries, strays, limit)


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
