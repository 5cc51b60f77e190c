"""Reading capsules: which there are, which one is meant, and whether it still is what was sealed."""

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
from capsula.errors import UsageError
from capsula.vault.vault import PACKAGES, RECORD, VaultError, boot_id

CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Capsule:
    """`record` is what its capsule.json says; `status` is that, or `crashed` for one whose recorder is gone."""

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
        return tuple(self.record.get("items") or ())

    def json(self, name: str) -> dict[str, Any]:
        """One of its JSON files; {} where it has none. VaultError when it can't be read. In context.json the packages
        have back what of them is in a file of its own."""
        found = _json(os.path.join(self.path, name)) or {}
        if name == "context.json" and isinstance(found.get("python"), dict):
            found["python"].update(_json(os.path.join(self.path, PACKAGES)) or {})
        return found


def read_capsule(path: str) -> Capsule | None:
    """None for a directory that isn't one. VaultError for one whose capsule.json is damaged."""
    record = _json(os.path.join(path, RECORD))
    if record is None:
        return None
    status = str(record.get("status", ""))
    return Capsule(path, record, CRASHED if status == "running" and not _is_alive(record) else status)


def capsules(root: str) -> list[Capsule]:
    """All that are in the vault, newest first. One that can't be read is told of by its status."""
    found = []
    try:
        names = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise VaultError(f"can't look into {printable(root)}: {error.strerror}") from error
    for name in names:
        path = os.path.join(root, name)
        try:
            capsule = read_capsule(path)
        except VaultError:
            capsule = Capsule(path, {}, "damaged")
        if capsule is not None:
            found.append(capsule)
    return sorted(found, key=lambda capsule: (capsule.id, capsule.name), reverse=True)


def resolve(root: str, asked: str) -> Capsule:
    """By id, the last six digits of it, the beginning of it or of a directory's name, an item's name (its latest),
    `@latest`, `@-2`, or a path. Raises UsageError when there is none, or more than one."""
    if "/" in asked and (capsule := read_capsule(asked)) is not None:
        return capsule
    found = capsules(root)
    if not found:
        raise UsageError(
            f"there is no capsule in {printable(root)}", hint="capsula monitor command … makes one"
        )
    if asked.startswith("@"):
        return _counted(found, asked)
    for matches in (
        [each for each in found if asked in (each.id, each.name, each.id[-6:])],
        [each for each in found if asked in each.items][:1],
        [each for each in found if asked and (each.id.startswith(asked) or each.name.startswith(asked))],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(each.name for each in matches[:5])
            raise UsageError(
                f"{len(matches)} capsules begin with {printable(asked)}", hint=f"for example {names}"
            )
    raise UsageError(f"there is no capsule {printable(asked)}", hint="capsula list shows them")


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


def _counted(found: list[Capsule], asked: str) -> Capsule:
    text = asked[1:]
    back = 1 if text in ("latest", "") else int(text[1:]) if text[:1] == "-" and text[1:].isdigit() else 0
    if not 1 <= back <= len(found):
        raise UsageError(
            f"there is no {printable(asked)}", hint=f"@latest, or @-1 to @-{len(found)} for those before"
        )
    return found[back - 1]


def _json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise VaultError(f"can't read {printable(path)}: {error}") from error
    if not isinstance(value, dict):
        raise VaultError(f"can't read {printable(path)}: it holds no object")
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
