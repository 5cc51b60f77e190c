"""Remarks: the tags and the note that people give a capsule later, in a file beside the sealed capsules.

What a run said of itself (`run.tag`, `run.note`) is in its capsule.json, and is put here when that is sealed. What is
here counts, even if that is that there are none any more; only where nothing is, what the run said counts as it stands.

`<vault>/.capsula/notes/<id>.json` holds `tags` (sorted) and `note`. It is replaced as a whole, so a reader sees one or
the other; who changes what is there holds a lock meanwhile, so that of two tags given at once both stay.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from capsula.core.names import printable
from capsula.errors import UsageError
from capsula.vault.layout import VaultError
from capsula.vault.ours import locked, make_place, place

FOLDER = "notes"
_ID = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
_LONGEST_TAG = 100


@dataclass(frozen=True, slots=True)
class Remarks:
    """`tags` are sorted, each there once."""

    tags: tuple[str, ...] = ()
    note: str = ""

    def with_tags(self, tags: Iterable[str]) -> Remarks:
        return Remarks(tuple(sorted({*self.tags, *tags})), self.note)

    def without_tags(self, tags: Iterable[str]) -> Remarks:
        return Remarks(tuple(tag for tag in self.tags if tag not in set(tags)), self.note)

    def merged(self, other: Remarks) -> Remarks:
        """The tags of both, and both notes where they say different things: for a capsule that comes back."""
        both = self.with_tags(other.tags)
        if other.note in self.note:
            return both
        return Remarks(both.tags, f"{self.note}\n\n{other.note}" if self.note else other.note)


NONE = Remarks()


def read(root: str, identity: str) -> Remarks:
    """Those that are kept for the capsule with this id. VaultError when they can't be read."""
    return kept(root, identity) or NONE


def kept(root: str, identity: str) -> Remarks | None:
    """As above; None where nothing is kept, not even that there are none any more."""
    return _read(place(root, FOLDER, f"{identity}.json")) if _ID.fullmatch(identity) else None


def of(root: str, identity: str, record: Mapping[str, Any]) -> Remarks:
    """What counts: those that are kept, else what the run said of itself. VaultError when they can't be read."""
    found = kept(root, identity)
    return own(record) if found is None else found


def change(root: str, identity: str, edit: Callable[[Remarks], Remarks], first: Remarks = NONE) -> Remarks:
    """Put in place of what is kept (of `first`, if nothing is) what `edit` makes of it, and answer that. VaultError
    when it can't be written."""
    if not _ID.fullmatch(identity):
        raise VaultError(
            "a capsule without an id can't have tags or a note", hint="its capsule.json is damaged"
        )
    try:
        folder = make_place(root, FOLDER)
        path = os.path.join(folder, f"{identity}.json")
        with locked(folder):
            found = _read(path)
            before = first if found is None else found
            after = edit(before)
            if after != before:
                _write(path, after)
    except OSError as error:
        raise VaultError(f"can't write to {printable(root)}: {error.strerror}") from error
    return after


def drop(root: str, identity: str) -> None:
    """Away with them, if there are any. OSError when that isn't allowed."""
    if _ID.fullmatch(identity):
        try:
            os.unlink(place(root, FOLDER, f"{identity}.json"))
        except FileNotFoundError:
            pass


def tag(text: str) -> str:
    """A tag as it is kept. UsageError for what can't be one."""
    if not text or len(text) > _LONGEST_TAG or text.startswith("-"):
        raise UsageError(
            f"{printable(text[:_LONGEST_TAG]) or 'nothing'} can't be a tag", hint="for example: baseline"
        )
    if any(character.isspace() or not character.isprintable() or character == "," for character in text):
        raise UsageError(f"{printable(text)} can't be a tag", hint="a tag has no blanks and no commas in it")
    return text


def parse(text: bytes | str) -> Remarks:
    """ValueError for what isn't remarks. Members that are something else are left out."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    return own(value)


def own(record: Mapping[str, Any]) -> Remarks:
    """Those that a run gave itself, from its capsule.json."""
    tags, note = record.get("tags"), record.get("note")
    found = [each for each in tags if isinstance(each, str)] if isinstance(tags, list) else []
    return Remarks(note=note if isinstance(note, str) else "").with_tags(found)


def dump(remarks: Remarks) -> str:
    return json.dumps({"tags": list(remarks.tags), "note": remarks.note}, indent=4) + "\n"


def _read(path: str) -> Remarks | None:
    try:
        with open(path, "rb") as file:
            return parse(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise VaultError(
            f"can't read {printable(path)}: {error}", hint="remove it, if it is damaged"
        ) from error


def _write(path: str, remarks: Remarks) -> None:
    aside = f"{path}.new"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(dump(remarks))
        file.flush()
        os.fsync(descriptor)  # these are words that nobody else has
    os.replace(aside, path)
