"""What is kept of what a command writes, and in which order it came."""

import errno
import os
import time

_ORDER_MOST = 8192


class Captured:
    """A whole log: `content`, or the `path` of a file that now belongs to the caller; the other is None. `left_out`: so
    many bytes of it aren't there, which only a log that may be shortened (execute.ends) has."""

    __slots__ = ("content", "left_out", "path", "size")

    def __init__(self, content: bytes | None, path: str | None, size: int) -> None:
        self.left_out = 0
        self.content = content
        self.path = path
        self.size = size


class Log:
    """Keeps what is given to it, in memory up to a limit, then in a file; or, when that fails, nothing any more."""

    __slots__ = ("size", "lost", "_held", "_limit", "_dir", "_path", "_fd")

    def __init__(self, limit: int, spool_dir: str | None) -> None:
        self.size = 0
        self.lost = ""
        self._held = bytearray()
        self._limit = limit
        self._dir = spool_dir
        self._path = ""
        self._fd = -1

    def keep(self, chunk: bytes) -> None:
        if self.lost:
            return
        try:
            if self._fd < 0 and self.size + len(chunk) <= self._limit:
                self._held += chunk
            else:
                if self._fd < 0:
                    self._open()
                self._spool(chunk)
            self.size += len(chunk)
        except (OSError, MemoryError) as error:
            self.drop(f"its log can't be kept: {error}")

    def drop(self, why: str) -> None:
        """Keep nothing of it, and remember why."""
        self.lost = self.lost or why
        self._held = bytearray()
        try:
            if self._fd >= 0:
                os.close(self._fd)
            if self._path:
                os.unlink(self._path)
        except OSError:
            pass
        self._fd, self._path = -1, ""

    def close(self) -> Captured | None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)
            except OSError as error:  # a network's disk may say only now that it is full
                self.drop(f"its log can't be kept: {error}")
        if self.lost:
            return None
        if self._path:
            return Captured(None, self._path, self.size)
        return Captured(bytes(self._held), None, self.size)

    def _open(self) -> None:
        if self._dir is None:
            raise OSError(errno.ENOSPC, "it is large and there's no place for it")
        self._make(f"{self._dir}/{os.getpid()}-{id(self)}-{time.time_ns()}")
        self._spool(self._held)
        self._held = bytearray()

    def _make(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._path = path

    def _spool(self, chunk: "bytes | bytearray") -> None:
        done = os.write(self._fd, chunk)
        while done < len(chunk):  # nearly full, and the next write says so
            done += os.write(self._fd, memoryview(chunk)[done:])


class Order:
    """Which stream (1, 2) how many bytes came from, in turn.

    Two streams that alternate by the byte for hours must not fill the memory: when there are too many turns, two and
    two become one. The counts stay exact; only who came first within such a group is forgotten.
    """

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: list[list[int]] = []

    def add(self, number: int, count: int) -> None:
        turns = self._turns
        if len(turns) == _ORDER_MOST and turns[-1][0] != number:
            for at in range(0, _ORDER_MOST, 4):
                turns[at][1] += turns[at + 2][1]
                turns[at + 1][1] += turns[at + 3][1]
            self._turns = turns = [turns[at + one] for at in range(0, _ORDER_MOST, 4) for one in (0, 1)]
        if turns and turns[-1][0] == number:
            turns[-1][1] += count
        else:
            turns.append([number, count])

    def turns(self) -> "tuple[tuple[int, int], ...]":
        return tuple((number, count) for number, count in self._turns)
