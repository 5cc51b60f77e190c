"""The processes that a command consists of, as Linux shows them in /proc: which they are, and what they use.

A process belongs to the command when its parent does. One whose parent had ended before anybody looked (a double fork,
a daemon) hangs on process 1 and looks like any other; it is known by the variable that the command was started with,
which it has inherited. To be the reaper of such orphans (PR_SET_CHILD_SUBREAPER) would be surer, but the command could
tell: getppid() of a daemon would be this process instead of 1, and with our end its parent would change again, which
kills it if it has asked for that (PR_SET_PDEATHSIG). So that isn't done.

The kernel adds what a process has used to its parent when the parent waits for it. So the sum over all that are there,
each with what it has waited for, misses nothing of those that ended in good order, however short they lived.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

_STAT_FIELDS = slice(0, 22)
_ENDED = (b"Z", b"X")


@dataclass(frozen=True, slots=True)
class Usage:
    """What all processes together use now (`rss`, bytes; `processes`, `threads`) and have used so far: seconds of CPU,
    bytes through system calls (`read`, `written`: files, pipes, sockets) and from and to disks. `hidden`: so many
    processes, another user's, didn't let us see what they read and write."""

    user: float = 0.0
    system: float = 0.0
    rss: int = 0
    processes: int = 0
    threads: int = 0
    read: int = 0
    written: int = 0
    disk_read: int = 0
    disk_written: int = 0
    hidden: int = 0


class _Process:
    """One that belongs to the command, as it was seen last. `start` tells it from a later one of its number."""

    __slots__ = ("parent", "start", "ended", "user", "system", "rss", "threads", "io", "hidden")

    def __init__(self, fields: list[bytes]) -> None:
        self.start = int(fields[19])
        self.io = (0, 0, 0, 0)
        self.hidden = False
        self.update(fields)

    def update(self, fields: list[bytes]) -> None:
        self.parent = int(fields[1])
        self.ended = fields[0] in _ENDED
        # Its own, and that of the children that it has waited for.
        self.user = int(fields[11]) + int(fields[13])
        self.system = int(fields[12]) + int(fields[14])
        self.threads = int(fields[17])
        self.rss = int(fields[21])


class Family:
    """To be made before the command is started: what is there by then isn't the command's."""

    def __init__(self, mark: bytes = b"") -> None:
        """`mark` is an entry of the command's environment (NAME=value) that no other process has. OSError without
        /proc."""
        self._mark = b"\0" + mark + b"\0" if mark else b""
        self._seen = _numbers()
        self._members: dict[str, _Process] = {}
        self._ever: set[int] = set()
        self._lost = _Sum()
        self._start = 0
        self._tick = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")

    def begin(self, pid: int) -> None:
        self._ever.add(pid)
        fields = _stat(str(pid))
        if fields is not None:
            self._members[str(pid)] = process = _Process(fields)
            self._start = process.start

    def look(self) -> Usage:
        present = _numbers()
        fresh = present - self._seen
        self._seen = present
        for number in [number for number in self._members if number not in present]:
            self._gone(self._members.pop(number))
        for number in list(self._members):
            self._see_again(number)
        self._take_in({number: fields for number in fresh if (fields := _stat(number)) is not None})
        return self._sum()

    def _see_again(self, number: str) -> None:
        process, fields = self._members[number], _stat(number)
        if fields is None or int(fields[19]) != process.start:
            del self._members[number]
            self._gone(process)
            return
        process.update(fields)
        self._read_io(number, process)

    def _take_in(self, fresh: dict[str, list[bytes]]) -> None:
        """Those of the new ones that are the command's; a child may stand before its parent."""
        while children := [number for number in fresh if fresh[number][1].decode() in self._members]:
            for number in children:
                self._add(number, fresh.pop(number))
        orphans = [number for number in fresh if self._is_orphan(number, fresh[number])]
        for number in orphans:
            self._add(number, fresh.pop(number))
        if orphans:
            self._take_in(fresh)

    def _add(self, number: str, fields: list[bytes]) -> None:
        self._ever.add(int(number))
        self._members[number] = process = _Process(fields)
        self._read_io(number, process)

    def _is_orphan(self, number: str, fields: list[bytes]) -> bool:
        if not self._mark or int(fields[19]) < self._start:
            return False
        return self._mark in b"\0" + _content(f"/proc/{number}/environ")

    def _read_io(self, number: str, process: _Process) -> None:
        content = _content(f"/proc/{number}/io")
        process.hidden = not content
        if content:
            # rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes
            values = [int(line.rpartition(b" ")[2]) for line in content.splitlines()]
            process.io = (values[0], values[1], values[4], values[5])

    def _gone(self, process: _Process) -> None:
        """What it has used is its parent's now, if that is one of ours; of an orphan nobody keeps it but we."""
        if process.parent not in self._ever:
            self._lost.add(process)

    def _sum(self) -> Usage:
        total = _Sum()
        total.take(self._lost)
        running = [process for process in self._members.values() if not process.ended]
        for process in self._members.values():
            total.add(process)
        return Usage(
            user=total.user / self._tick,
            system=total.system / self._tick,
            rss=sum([process.rss for process in running]) * self._page,
            processes=len(running),
            threads=sum([process.threads for process in running]),
            read=total.io[0],
            written=total.io[1],
            disk_read=total.io[2],
            disk_written=total.io[3],
            hidden=len([process for process in self._members.values() if process.hidden]),
        )


class _Sum:
    __slots__ = ("user", "system", "io")

    def __init__(self) -> None:
        self.user = self.system = 0
        self.io = [0, 0, 0, 0]

    def add(self, process: _Process) -> None:
        self.user += process.user
        self.system += process.system
        for at, count in enumerate(process.io):
            self.io[at] += count

    def take(self, other: _Sum) -> None:
        self.user, self.system, self.io = other.user, other.system, list(other.io)


def _numbers() -> set[str]:
    return {name for name in os.listdir("/proc") if name.isdecimal()}


def _stat(number: str) -> list[bytes] | None:
    """The fields from the third on (state, parent, …): the second may hold anything, also `) `."""
    fields = _content(f"/proc/{number}/stat").rpartition(b") ")[2].split()[_STAT_FIELDS]
    return fields if len(fields) == 22 else None


def _content(path: str) -> bytes:
    """b"" for a process that has ended meanwhile, or may not be looked at."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        content = piece = os.read(file, 65536)
        while len(piece) == 65536:
            piece = os.read(file, 65536)
            content += piece
        return content
    except OSError:
        return b""
    finally:
        os.close(file)
