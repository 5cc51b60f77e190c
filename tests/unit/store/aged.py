"""A store in which everything is old, as a sweep finds it."""

import os
import time
from pathlib import Path

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import (
    ActionResult,
    OutputFile,
)
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path, entry_path
from capsula.store.reach import Incomplete, Reach, load_entry

NOW = time.time()
LONG_AGO = NOW - 10 * 86400


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
