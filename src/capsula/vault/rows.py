"""Rows: what the index keeps of one capsule, made from its files."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from capsula.vault import remarks
from capsula.vault.facts import flatten, read_contents, sections
from capsula.vault.layout import RECORD, VaultError
from capsula.vault.record import DAMAGED, damaged, read_capsule
from capsula.vault.text import sayings

# Its digest, and its names and values as JSON.
Part = tuple[bytes, str, str]


class Memory:
    """The last section of each name: in the next capsule it is mostly the same, and needn't be taken apart again."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, Part]] = {}

    def packed(self, prefix: str, section: Any) -> Part:
        text = json.dumps(section)
        last = self._last.get(prefix)
        if last is not None and last[0] == text:
            return last[1]
        facts = flatten(prefix, section)
        names, values = json.dumps(list(facts)), json.dumps(list(facts.values()), separators=(",", ":"))
        part = hashlib.sha256(f"{names}\n{values}".encode()).digest(), names, values
        self._last[prefix] = text, part
        return part


@dataclass(frozen=True, slots=True)
class Row:
    """What is kept of one capsule. An empty stamp is like none: it is read again. `place` is where it stands among the
    others: its id, or where that isn't known, what an id of the directory's last change would begin with."""

    directory: bytes
    stamp: str
    id: str
    place: str
    status: str
    record: str
    said: str
    own: str
    parts: tuple[Part, ...] = ()

    @property
    def columns(self) -> tuple[object, ...]:
        return (
            self.directory,
            self.stamp,
            self.id,
            self.place,
            self.status,
            self.record,
            self.said,
            self.own,
        )


def read_row(root: str, directory: bytes, stamp: str, memory: Memory) -> Row | None:
    path = os.path.join(root, os.fsdecode(directory))
    try:
        capsule = read_capsule(path)
        if capsule is None:
            return None
        contents = read_contents(capsule)
        record = json.dumps(capsule.record)
        said = sayings(capsule, contents)
        packed = tuple(memory.packed(*each) for each in sections(capsule, contents))
    except (VaultError, RecursionError) as error:
        refused = error if isinstance(error, VaultError) else VaultError(f"{RECORD}: {error}")
        record = json.dumps(damaged(path, refused).record)
        return Row(directory, "", "", _place(path), DAMAGED, record, "[]", "")
    mine = remarks.own(capsule.record)
    own = remarks.dump(mine) if mine != remarks.NONE else ""
    # A column can't hold half a character; the record can.
    identity, status = _whole(capsule.id), _whole(str(capsule.record.get("status", "")))
    stamp = stamp if None not in contents.values() else ""
    return Row(directory, stamp, identity, identity or _place(path), status, record, said, own, packed)


def _place(path: str) -> str:
    try:
        return f"{max(os.stat(path).st_mtime_ns, 0) // 1_000_000:012x}"
    except OSError:
        return ""


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
