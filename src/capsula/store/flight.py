"""Single flight: at most one process on this machine runs an action at a time; the others wait and use its result."""

import errno
import posix

from capsula.store.layout import LOCKS, open_making

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.digest import Digest

# Of a lock file: so many bytes for the number of the process that holds it, then rows of runs that died here, so many
# of them at most.
_HEAD, _MOST = 20, 8


class Flights:
    """Record locks of the kernel on files under `locks/` of the store: a holder that dies, however, has let go.

    The files stay where they are (unlinking one would let two processes hold "the same" lock on different files); a
    sweep removes old ones. Where no lock can be had (a read-only store, a file system without locks) nobody waits: two
    runs at once are a waste, not a wrong result. A root of "" is no store at all.

    A named `run` writes its name into the file while it holds the lock. Who finds one there, and has the lock, knows
    that this one is gone and didn't leave: `died` are the names of all these, for those who wait elsewhere for one.
    """

    __slots__ = ("_fd", "_host", "_kept", "_root", "_run", "died")

    def __init__(self, root: str, run: str = "", host: str = "") -> None:
        self._root = root
        self._run = run
        self._host = host
        self._fd = -1
        self._kept = 0
        self.died: frozenset[str] = frozenset()

    def enter(self, action: "Digest", waiting: "Callable[[str], None]") -> bool:
        if not self._root:
            return False
        try:
            self._fd = open_making(f"{self._root}/{LOCKS}/{action.hash}", posix.O_RDWR)
        except OSError:
            return False
        waited = False
        try:
            if not self._try():
                holder = self._holder()
                if holder in ancestors():
                    # A capsule inside of itself: waiting for our own parent would be for ever.
                    self.leave()
                    return False
                waited = True
                waiting(f"process {holder}" if holder else "another process")
                posix.lseek(self._fd, 0, 0)
                posix.lockf(self._fd, posix.F_LOCK, 0)
            posix.pwrite(self._fd, b"%-*d\n" % (_HEAD - 1, posix.getpid()), 0)
            if self._run:
                self._sign()
        except OSError:
            self.leave()
        return waited

    def leave(self) -> None:
        if self._fd >= 0:
            try:
                if self._kept:
                    posix.ftruncate(self._fd, self._kept)
            except OSError:
                pass  # what stays is the name of a run that is gone all the same
            posix.close(self._fd)
            self._fd, self._kept = -1, 0

    def _try(self) -> bool:
        try:
            posix.lockf(self._fd, posix.F_TLOCK, 0)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _holder(self) -> int:
        try:
            return int(posix.pread(self._fd, _HEAD, 0) or b"0")
        except ValueError:
            return 0

    def _sign(self) -> None:
        """Note who died here, and that we are at it. A lock tells of processes under this kernel, and of those before
        it on the same machine; what another machine wrote into a store that both have is no sign of anything."""
        from capsula.store.life import boot

        boots, host = boot().encode() or b"-", self._host.encode("utf-8", "replace")
        rows = posix.pread(self._fd, 4096, _HEAD).splitlines()[-_MOST:]
        died = []
        for row in rows:
            run, its_boot, its_host = (*row.split(b" ", 2), b"", b"")[:3]
            if (its_boot == boots and boots != b"-") or (its_host == host and host):
                died.append(run.decode("ascii", "replace"))
        self.died = frozenset(died)
        kept = b"".join([row + b"\n" for row in rows])
        own = b" ".join([self._run.encode(), boots, host.replace(b"\n", b" ")]) + b"\n"
        posix.ftruncate(self._fd, _HEAD)
        posix.pwrite(self._fd, kept + own, _HEAD)
        self._kept = _HEAD + len(kept)


def ancestors() -> set[int]:
    """Our parent, its parent and so on, as far as /proc tells."""
    found: set[int] = set()
    pid = posix.getppid()
    while pid > 1 and pid not in found:
        found.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                # The name of the program, in parentheses, may hold anything, spaces and parentheses too.
                pid = int(file.read(4096).rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found
