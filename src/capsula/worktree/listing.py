"""What a directory holds, as the smallest values that show every change: the one look that hits, scans and
checks share."""

import posix
from stat import S_IFREG, S_ISDIR

# A listing maps a name to (size, mtime in ns, ctime in ns, inode, mode), or to () when the name is a directory: what is
# inside a directory shows in its own listing, and its times change with every temporary file that comes and goes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    Look = tuple[int, ...]
    Listing = dict[str, Look]


# In place of the look of a file that is looked at only once it is opened.
UNSEEN = (-1, 0, 0, 0, S_IFREG)

OPEN_DIRECTORY = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_DIRECTORY


def list_folder(path: str, skipped: "Container[str]" = (), *, unseen: bool = False) -> "Listing":
    """Everything in the directory but the `skipped` names; files as UNSEEN if asked. OSError when it can't be read."""
    listing: Listing = {}
    # By its descriptor, the kernel looks each name up in the directory at once and not by the whole path: a fifth less.
    fd = posix.open(path, OPEN_DIRECTORY)
    try:
        with posix.scandir(fd) as names:
            for entry in names:
                name = entry.name
                if name in skipped:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    listing[name] = ()
                elif unseen and entry.is_file(follow_symlinks=False):
                    listing[name] = UNSEEN
                else:
                    s = entry.stat(follow_symlinks=False)
                    listing[name] = (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode)
    finally:
        posix.close(fd)
    return listing


def list_names(path: str, names: "Iterable[str]") -> "Listing":
    """Only these names of the directory; one that isn't there is left out. OSError when one can't be looked at."""
    listing: Listing = {}
    for name in names:
        try:
            s = posix.lstat(path + "/" + name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if S_ISDIR(s.st_mode):
            listing[name] = ()
        else:
            listing[name] = (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode)
    return listing


def look(path: str) -> "Look | None":
    """What `path` leads to, links followed: () for a directory, None when it leads nowhere."""
    try:
        s = posix.stat(path)
    except OSError:
        return None
    if S_ISDIR(s.st_mode):
        return ()
    return (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode)


# A clock tick of Linux is at most 10 ms; file systems that keep whole seconds (or two: FAT) show zeros below.
TICK_NS = 50_000_000
COARSE_TICK_NS = 2_100_000_000


def is_fresh(seen: "Look", now_ns: int) -> bool:
    """Whether a change right after `now_ns` could leave the same look: then the look proves nothing about the content.

    Times in the future (the clock went back, or another machine's clock) prove nothing either.
    """
    if not seen:
        return False
    newest = seen[2] if seen[2] > seen[1] else seen[1]
    if newest < now_ns - COARSE_TICK_NS:
        return False
    return newest > now_ns - (TICK_NS if seen[2] % 1_000_000 else COARSE_TICK_NS)
