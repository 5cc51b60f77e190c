"""Searching capsules for a text: what they say is in the index, what was printed is read from the logs themselves.

Logs are not in the index. Of ten thousand capsules with 72 MB of logs, reading all takes 0.2 to 0.4 s. An index of
their trigrams (SQLite FTS5, without and with positions) took 7 to 15 s to make and 28 to 180 MB to keep, would save
that in a search that is made now and then, and the lines would have to be read from the logs all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from capsula.vault.index import Found
from capsula.vault.remarks import NONE

LOGS = ("stdout.txt", "stderr.txt")
_PIECE = 8 << 20
_LONGEST_LINE = 500


@dataclass(frozen=True, slots=True)
class Hit:
    """`where` is what kind of thing it is, or the name of the log; `line` counts from 1, None in what has one only."""

    where: str
    line: int | None
    text: str


class Needle:
    """What is searched for: a text of one line, in whatever case."""

    def __init__(self, text: str) -> None:
        self.folded = text.casefold()
        # As it would stand in JSON: what doesn't hold it needn't be taken apart.
        self.quoted = _whole(json.dumps(text, ensure_ascii=False)[1:-1]).casefold()

    def is_in(self, text: str) -> bool:
        return self.folded in text.casefold()


def hits_in(found: Found, said: str, needle: Needle, most: int) -> list[Hit]:
    """Where the needle stands; of each place at most so many lines. `said` is what `Index.texts` has of it."""
    hits = _in_remarks(found, needle) if found.remarks != NONE else []
    if needle.quoted in said.casefold():
        for where, text in json.loads(said):
            hits += _in_text(where, text, needle, most)
    for name in LOGS:
        hits += in_log(f"{found.path}/{name}", name, needle, most)
    return hits


def in_log(path: str, name: str, needle: Needle, most: int) -> list[Hit]:
    hits: list[Hit] = []
    number = 0
    for piece in _pieces(path):
        # What is read is mostly without it: lines are only looked at where there is one.
        if needle.is_in(piece):
            for at, line in enumerate(piece.split("\n"), number + 1):
                if needle.is_in(line):
                    hits.append(Hit(name, at, _around(line, needle)))
                    if len(hits) == most:
                        return hits
        number += piece.count("\n")
    return hits


def _in_remarks(found: Found, needle: Needle) -> list[Hit]:
    tags = [Hit("tag", None, tag) for tag in found.remarks.tags if needle.is_in(tag)]
    return tags + _in_text("note", found.remarks.note, needle, 1)


def _in_text(where: str, text: str, needle: Needle, most: int) -> list[Hit]:
    lines = text.split("\n")
    hits = [
        Hit(where, at if len(lines) > 1 else None, _around(line, needle))
        for at, line in enumerate(lines, 1)
        if needle.is_in(line)
    ]
    return hits[:most]


def _pieces(path: str) -> Iterator[str]:
    """Whole lines, as far as they aren't longer than a piece. Nothing where there is no file that can be read."""
    try:
        log = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        rest = b""
        while piece := os.read(log, _PIECE):
            head, end, rest = (rest + piece).rpartition(b"\n")
            if not end:
                head, rest = rest, b""
            yield (head + end).decode("utf-8", "backslashreplace")
        if rest:
            yield rest.decode("utf-8", "backslashreplace")
    except OSError:
        return
    finally:
        os.close(log)


def _around(line: str, needle: Needle) -> str:
    """The line, or of a very long one what is around the needle."""
    line = line.rstrip("\r")
    if len(line) <= _LONGEST_LINE:
        return line
    at = max(line.casefold().find(needle.folded) - _LONGEST_LINE // 4, 0)
    return line[at : at + _LONGEST_LINE]


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
