"""The log of a recorded run, which keeps its beginning and its end: a command that prints gigabytes isn't held up by
the disk, and the vault isn't filled by what nobody reads. What is left out between is counted, and said in the log
itself.

While it is written it holds whatever the command prints, credentials too, and that must not stay behind when we are
killed. So its file has no name, where the system has such files, and is gone with the process that has it open.
"""

import os
import sys
from collections import deque

from capsula.execute.log import Captured, Log

# Of what is kept, so much is the end: the last words are what most people look for.
_END_SHARE = 4
_NEAR = 4096
_OPEN_FILES = "/proc/self/fd"


class EndsLog(Log):
    """Keeps at most `most` bytes (0: any number), and all when there aren't more. `left_out` counts the others.

    The path of what was captured may be that of a file without a name, /proc/self/fd/N: whoever takes it closes N."""

    __slots__ = ("left_out", "_is_nameless", "_first", "_last", "_end", "_end_size")

    def __init__(self, limit: int, spool_dir: str | None, most: int) -> None:
        super().__init__(limit, spool_dir)
        self.left_out = 0
        self._is_nameless = False
        self._last = most // _END_SHARE
        self._first = most - self._last if most else sys.maxsize
        self._end: deque[bytes] = deque()
        self._end_size = 0

    def keep(self, chunk: bytes) -> None:
        if self.lost:
            return
        room = self._first - self.size
        if room >= len(chunk):
            super().keep(chunk)
            return
        if room > 0:
            super().keep(chunk[:room])
            chunk = chunk[room:]
        self._end.append(chunk)
        self._end_size += len(chunk)
        while self._end_size - len(self._end[0]) >= self._last:
            gone = self._end.popleft()
            self._end_size -= len(gone)
            self.left_out += len(gone)

    def drop(self, why: str) -> None:
        super().drop(why)
        self._end.clear()

    def close(self) -> Captured | None:
        self._shorten()
        if self.left_out and not self.lost:
            super().keep(b"\n[capsula: %d bytes are left out here]\n" % self.left_out)
        while self._end:
            super().keep(self._end.popleft())
        captured = self._captured() if self._is_nameless and not self.lost else super().close()
        if captured is not None:
            captured.left_out = self.left_out
        return captured

    def _make(self, path: str) -> None:
        if not hasattr(os, "O_TMPFILE") or not os.path.isdir(_OPEN_FILES):
            super()._make(path)
            return
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            self._fd = os.open(os.path.dirname(path), flags | os.O_TMPFILE, 0o600)
        except OSError:
            # A file system that has no such files, most likely. This one can't be given a name again: it is copied.
            self._fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            os.unlink(path)
        self._is_nameless = True

    def _captured(self) -> Captured:
        """It stays open: that is all that keeps it."""
        fd, self._fd = self._fd, -1
        return Captured(None, f"{_OPEN_FILES}/{fd}", self.size)

    def _shorten(self) -> None:
        """To what is kept of the end, which begins with a whole line, where there is one near."""
        more = self._end_size - self._last
        if not self._end or (more <= 0 and not self.left_out):
            return
        first = self._end.popleft()
        cut = max(more, 0)
        cut = first.find(b"\n", cut, cut + _NEAR) + 1 or cut
        self.left_out += cut
        self._end.appendleft(first[cut:])
