"""Single flight: at most one process on this machine runs an action at a time; the others wait and use its result."""

import errno
import posix

from capsula.store.layout import LOCKS, open_making

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.digest import Digest


class Flights:
    """Record locks of the kernel on files under `locks/` of the store: a holder that dies, however, has let go.

    The files stay where they are (unlinking one would let two processes hold "the same" lock on different files); a
    sweep removes old ones. Where no lock can be had (a read-only store, a file system without locks) nobody waits: two
    runs at once are a waste, not a wrong result. A root of "" is no store at all.
    """

    __slots__ = ("_fd", "_root")

    def __init__(self, root: str) -> None:
        self._root = root
        self._fd = -1

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
            posix.ftruncate(self._fd, 0)
            posix.pwrite(self._fd, b"%d\n" % posix.getpid(), 0)
        except OSError:
            self.leave()
        return waited

    def leave(self) -> None:
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1

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
            return int(posix.pread(self._fd, 20, 0) or b"0")
        except ValueError:
            return 0


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
