"""A log that keeps its beginning and its end: a command that prints gigabytes isn't held up by the disk, and the vault
isn't filled by what nobody reads. What is left out between is counted, and said in the log itself.
"""

from collections import deque

from capsula.execute.relay import Captured, Log

# Of what is kept, so much is the end: the last words are what most people look for.
_END_SHARE = 4
_NEAR = 4096


class EndsLog(Log):
    """Keeps at most `most` bytes, and all when there aren't more. `left_out` counts the others."""

    __slots__ = ("left_out", "_first", "_last", "_end", "_end_size")

    def __init__(self, limit: int, spool_dir: str | None, most: int) -> None:
        super().__init__(limit, spool_dir)
        self.left_out = 0
        self._last = most // _END_SHARE
        self._first = most - self._last
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
        captured = super().close()
        if captured is not None:
            captured.left_out = self.left_out
        return captured

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
