"""Reading a capsule: what it says, what became of it, and whether it still is what was sealed."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capsula.core.names import from_text, printable, to_text
from capsula.vault.layout import PACKAGES, RECORD, TOLD, Unreadable, VaultError
from capsula.vault.vault import boot_id

CRASHED, DAMAGED = "crashed", "damaged"


@dataclass(frozen=True, slots=True)
class Capsule:
    """`record` is what its capsule.json says; `status` is that, or `crashed` for one whose recorder is gone, or
    `damaged` for one whose capsule.json can't be read: then the `troubles` in `record` say why."""

    path: str
    record: Mapping[str, Any]
    status: str

    @property
    def id(self) -> str:
        return str(self.record.get("id", ""))

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def items(self) -> tuple[str, ...]:
        items = self.record.get("items")
        return tuple(str(item) for item in items) if isinstance(items, list) else ()

    def json(self, name: str) -> dict[str, Any]:
        """One of its JSON files; {} where it has none. VaultError when it can't be read. In context.json the packages
        have back what of them is in a file of its own."""
        found = _json(os.path.join(self.path, name)) or {}
        if name == "context.json" and isinstance(found.get("python"), dict):
            found["python"].update(_json(os.path.join(self.path, PACKAGES)) or {})
        return found


def read_capsule(path: str) -> Capsule | None:
    """None for a directory that isn't one. VaultError for one whose capsule.json is damaged or lost."""
    place = os.path.join(path, RECORD)
    if _is_empty(place):
        # A power cut soon after it was begun: its name got to the disk, and what it held didn't.
        return Capsule(path, {}, CRASHED)
    record = _json(place)
    if record is None:
        if has_lost_its_record(path):
            raise Unreadable(place, "it isn't there")
        return None
    status = str(record.get("status", ""))
    return Capsule(path, record, CRASHED if status == "running" and not _is_alive(record) else status)


def seen(path: str) -> Capsule | None:
    """As `read_capsule`, but one that can't be read is told of by its status."""
    try:
        return read_capsule(path)
    except VaultError as error:
        return damaged(path, error)


def damaged(path: str, error: VaultError) -> Capsule:
    return Capsule(path, {"troubles": [error.why if isinstance(error, Unreadable) else error.what]}, DAMAGED)


def has_lost_its_record(path: str) -> bool:
    """Whether a directory without a capsule.json was a capsule: what is written into one after that is in it."""
    return any(os.path.lexists(os.path.join(path, name)) for name in TOLD)


def capsules(root: str) -> list[Capsule]:
    """All that are in the vault, newest first, each read: the index is quicker. One that can't be read is told of by
    its status."""
    found = []
    try:
        names = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise VaultError(f"can't look into {printable(root)}: {error.strerror}") from error
    for name in names:
        capsule = seen(os.path.join(root, name)) if not name.startswith(".") else None
        if capsule is not None:
            found.append(capsule)
    return sorted(found, key=lambda capsule: (capsule.id, capsule.name), reverse=True)


def verify(capsule: Capsule) -> list[str]:
    """What isn't as it was sealed, in sentences. A capsule that was never sealed has nothing to be compared with."""
    sealed = {str(row["name"]): row for row in capsule.record.get("files", ())}
    wrong = []
    for name, row in sealed.items():
        try:
            told = _difference(os.path.join(capsule.path, from_text(name)), row)
        except OSError as error:
            told = error.strerror or str(error)
        if told:
            wrong.append(f"{printable(name)}: {told}")
    for folder, folders, names in os.walk(capsule.path):
        links = [each for each in folders if os.path.islink(os.path.join(folder, each))]
        for each in (*names, *links):
            name = to_text(os.path.relpath(os.path.join(folder, each), capsule.path))
            if name != RECORD and name not in sealed:
                wrong.append(f"{printable(name)}: wasn't there when it was sealed")
    return wrong


def _difference(path: str, row: Mapping[str, Any]) -> str:
    if "link" in row:
        return "" if os.readlink(path) == from_text(row["link"]) else "leads to somewhere else"
    mode = os.lstat(path).st_mode
    if "directory" in row:
        return "" if stat.S_ISDIR(mode) else "is no directory any more"
    if not stat.S_ISREG(mode):
        return "is no file any more"
    with open(path, "rb") as file:
        is_same = hashlib.file_digest(file, "sha256").hexdigest() == row["sha256"]
    return "" if is_same else "other bytes than were sealed"


def _is_empty(path: str) -> bool:
    try:
        return os.path.getsize(path) == 0
    except OSError:
        return False


def _json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Unreadable(path, why or type(error).__name__) from error
    if not isinstance(value, dict):
        raise Unreadable(path, "it holds no object")
    return value


def _is_alive(record: Mapping[str, Any]) -> bool:
    """Whether the process that writes it may still be there. On another host nobody can tell."""
    if record.get("host") != socket.gethostname():
        return True
    if record.get("boot_id") != boot_id():
        return False
    try:
        os.kill(int(record["pid"]), 0)
    except ProcessLookupError:
        return False
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        return True
    return True
