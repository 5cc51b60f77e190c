"""The log of a command on its way into the capsule: what looks like a credential is left out of it, the rest stays as
it is, byte by byte.

Nearly all logs have none, and they may be long: so every piece is first looked at as bytes, for the traces that
`hiding.hide` goes by, and only the lines that have one are decoded and looked at again. A log without any becomes part
of the capsule by a rename.

Python has no search for many words at once that is fast: an alternation in `re` takes 10 ns a byte and more, and some
fifty searches one after the other take 35. But a pattern that begins with one letter goes through what hasn't that
letter at half a nanosecond a byte. So the words are put together by a rare letter that they have, and the rest of each
is looked at from there, back and forth: to|k|en, |k|ey=, s|k|-, a|k|ia are one search.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capsula.core.hiding import hide, traces

if TYPE_CHECKING:
    from capsula.ports import Captured

_PIECE = 1 << 20
# From the rarest on, as logs go; what none of them is in is looked for as it is.
_RARE = b"zjqxkvwybp@_=ugc"
# What goes over several lines begins so.
_LONG_TRACE = b"-----begin "
# A path in here is that of an open file that may have no name.
_OPEN_FILES = "/proc/self/fd"


@dataclass(frozen=True, slots=True)
class Kept:
    """`shown` is the beginning of the log; `hidden` counts the places that aren't as they were."""

    shown: bytes
    hidden: int


def keep(captured: Captured, target: str, secrets: Hidden, most_shown: int) -> Kept:
    """Make `target` of it, a file that isn't there yet; no file for an empty log. A file that `captured` names belongs
    to us and is gone afterwards; one without a name is closed. OSError when it can't be written."""
    if captured.path is None:
        return _keep_short(captured.content or b"", target, secrets, most_shown)
    try:
        return _keep_long(captured.path, target, secrets, most_shown)
    finally:
        _let_go(captured.path)


def _keep_short(content: bytes, target: str, secrets: Hidden, most_shown: int) -> Kept:
    text, hidden = secrets.leave_out(content)
    if text:
        with open(target, "xb") as file:
            file.write(text)
    return Kept(text[:most_shown], hidden)


def _keep_long(source: str, target: str, secrets: Hidden, most_shown: int) -> Kept:
    shown, hidden, passed = b"", 0, 0
    writing = None
    try:
        with open(source, "rb", buffering=0) as reading:
            for piece in pieces(reading.read):
                text, found = secrets.leave_out(piece)
                if found and writing is None:
                    writing = open(target, "xb", buffering=0)
                    _copy_start(source, writing.fileno(), passed)
                if writing is not None:
                    _write(writing.fileno(), text)
                if len(shown) < most_shown:
                    shown += text[: most_shown - len(shown)]
                hidden += found
                passed += len(piece)
    finally:
        if writing is not None:
            writing.close()
    if writing is None:
        _name(source, target)
    return Kept(shown, hidden)


def _name(source: str, target: str) -> None:
    """Where there is one already, that is an error."""
    if not _is_nameless(source):
        os.link(source, target)
        return
    # With a directory given, the link in it is followed; by its full name it would be linked itself.
    folder = os.open(_OPEN_FILES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(os.path.basename(source), target, src_dir_fd=folder)
        return
    except FileExistsError:
        raise
    except OSError:  # it had a name once
        pass
    finally:
        os.close(folder)
    with open(target, "xb", buffering=0) as writing:
        _copy_start(source, writing.fileno(), os.path.getsize(source))


def _let_go(path: str) -> None:
    if _is_nameless(path):
        os.close(int(os.path.basename(path)))
    elif os.path.lexists(path):
        os.unlink(path)


def _is_nameless(path: str) -> bool:
    return os.path.dirname(path) == _OPEN_FILES


class Hidden:
    """What is to be left out of texts: `values`, and whatever looks like a credential but `kept`."""

    def __init__(self, values: frozenset[str], kept: frozenset[str] = frozenset()) -> None:
        self._values = values
        self._kept = kept
        self._sought = [value.encode("utf-8", "surrogateescape") for value in values]

    def leave_out(self, piece: bytes) -> tuple[bytes, int]:
        """From whole lines; and in how many places."""
        starts = self.suspects(piece)
        if starts is None:
            return self._hide(piece)
        lines = [(start, _line_end(piece, start)) for start in sorted(starts)]
        if not self._hide(b"\n".join([piece[start:end] for start, end in lines]))[1]:
            return piece, 0
        parts, done, count = [], 0, 0
        for start, end in lines:
            line, found = self._hide(piece[start:end])
            if found:
                parts += [piece[done:start], line]
                done, count = end, count + found
        return b"".join([*parts, piece[done:]]), count

    def suspects(self, piece: bytes) -> set[int] | None:
        """Where the lines begin in which there may be something; None where it may go over several lines."""
        found: set[int] = set()
        for value in self._sought:
            if value in piece:
                if b"\n" in value:
                    return None
                found.update(_lines_with(piece, value))
        low = piece.lower()
        if b"-" in low and _LONG_TRACE in low:
            return None
        for letter, pattern in _PATTERNS:
            if letter in low:
                found.update([_line_start(low, match.start()) for match in pattern.finditer(low)])
        for trace in _PLAIN:
            if trace in low:
                found.update(_lines_with(low, trace))
        if b"@" in low and b"://" in low:
            found.update(
                [start for start in _lines_with(low, b"@") if b"://" in low[start : _line_end(low, start)]]
            )
        return found

    def _hide(self, piece: bytes) -> tuple[bytes, int]:
        text, found = hide(piece.decode("utf-8", "backslashreplace"), self._values, self._kept)
        return (text.encode("utf-8", "backslashreplace"), found) if found else (piece, 0)


def _patterns() -> tuple[list[tuple[bytes, re.Pattern[bytes]]], list[bytes]]:
    """Of the traces: the letters with the patterns that begin with them, and those that have none of them."""
    groups: dict[int, list[bytes]] = {}
    plain = []
    for trace in {text.lower().encode() for text in traces()} - {b"@"}:
        letter = next((letter for letter in _RARE if letter in trace), None)
        if letter is None:
            plain.append(trace)
            continue
        at = trace.index(letter)
        before, after = re.escape(trace[: at + 1]), re.escape(trace[at + 1 :])
        groups.setdefault(letter, []).append((b"(?<=" + before + b")" if at else b"") + after)
    return [
        (bytes([letter]), re.compile(re.escape(bytes([letter])) + b"(?:" + b"|".join(sorted(rest)) + b")"))
        for letter, rest in groups.items()
    ], sorted(plain)


_PATTERNS, _PLAIN = _patterns()


def _lines_with(text: bytes, sought: bytes) -> Iterator[int]:
    """Where the lines with it begin."""
    at = text.find(sought)
    while at >= 0:
        yield _line_start(text, at)
        at = text.find(sought, _line_end(text, at))


def _line_start(text: bytes, at: int) -> int:
    return text.rfind(b"\n", 0, at) + 1


def _line_end(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return end if end >= 0 else len(text)


def pieces(read: Callable[[int], bytes | None]) -> Iterator[bytes]:
    """Whole lines, as far as they aren't longer than a piece (then whole words): a credential isn't cut in two."""
    rest = b""
    while piece := read(_PIECE):
        whole = rest + piece if rest else piece
        cut = whole.rfind(b"\n") + 1 or (whole.rfind(b" ") + 1 if len(whole) >= _PIECE else 0)
        if not cut and len(whole) < 2 * _PIECE:
            rest = whole
            continue
        cut = cut or len(whole)
        yield whole[:cut]
        rest = whole[cut:]
    if rest:
        yield rest


def _copy_start(source: str, target: int, count: int) -> None:
    with open(source, "rb", buffering=0) as reading:
        while count and (piece := reading.read(min(count, _PIECE))):
            _write(target, piece)
            count -= len(piece)


def _write(target: int, content: bytes) -> None:
    done = os.write(target, content)
    while done < len(content):
        done += os.write(target, memoryview(content)[done:])
