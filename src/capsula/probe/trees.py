"""The object that git would make of a tree, from the tree of a commit and what differs from it.

Git itself can only tell by writing all directories as objects, thousands of them where one has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

NOTHING = "000000"
_DIRECTORY = "40000"
# (mode without leading zeros, object)
_Entry = tuple[str, str]
Row = tuple[str, str, str]


def folders(paths: Iterable[str]) -> list[str]:
    """All directories above these paths, "" for the top, sorted."""
    found = {""}
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(found)


def read_listing(told: bytes, known: Iterable[str]) -> dict[str, dict[str, _Entry]]:
    """Of `git ls-tree -z` with a slash behind each directory: by directory, the entries by name."""
    found: dict[str, dict[str, _Entry]] = {folder: {} for folder in known}
    for line in told.decode("utf-8", "surrogateescape").split("\0"):
        head, _, path = line.partition("\t")
        if head:
            mode, _, name = head.split(" ")
            folder, _, base = path.rpartition("/")
            if folder in found:
                found[folder][base] = mode.lstrip("0"), name
    return found


def tree_of(listing: dict[str, dict[str, _Entry]], rows: Iterable[Row], algorithm: str) -> str:
    """The object's name. `listing` has every directory above a changed path, `rows` (mode, object, path) of what is
    different, mode 000000 for what is gone. `algorithm` is sha1 or sha256."""
    entries = {folder: dict(inside) for folder, inside in listing.items()}
    gone: list[Row] = []
    new: list[Row] = []
    for row in rows:
        (gone if row[0] == NOTHING else new).append(row)
    # A file may have taken the place of a directory that lost all it had.
    for _, _, path in gone:
        folder, _, base = path.rpartition("/")
        entries[folder].pop(base, None)
    for mode, name, path in new:
        folder, _, base = path.rpartition("/")
        entries[folder][base] = mode, name
    taken = {path for _, _, path in new}
    # The deepest first: each is an entry of the one above.
    for folder in sorted(entries, key=lambda each: -each.count("/") if each else 1):
        inside = entries[folder]
        if not folder:
            break
        above, _, base = folder.rpartition("/")
        if inside:
            entries[above][base] = _DIRECTORY, _name(inside, algorithm)
        elif folder not in taken:
            entries[above].pop(base, None)
    return _name(entries[""], algorithm)


def _name(inside: dict[str, _Entry], algorithm: str) -> str:
    # Git sorts as if the name of a directory had a slash behind it.
    rows = sorted(
        (base.encode("utf-8", "surrogateescape") + (b"/" if mode == _DIRECTORY else b""), mode, name)
        for base, (mode, name) in inside.items()
    )
    content = b"".join(
        mode.encode() + b" " + base.removesuffix(b"/") + b"\0" + bytes.fromhex(name)
        for base, mode, name in rows
    )
    state = hashlib.new(algorithm, b"tree %d\0" % len(content), usedforsecurity=False)
    state.update(content)
    return state.hexdigest()
