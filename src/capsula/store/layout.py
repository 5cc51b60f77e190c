"""The store's directory: which file is where, how one comes to be there, and what is said when it can't.

    cas/<1 hex>/<hash>  blobs            ac/<2 hex>/<hash>  entries (`seal` is their form)
    tmp/                being written    held/              taken out by a sweep that is making up its mind
    quarantine/         didn't verify    trash/             the user's own files, to be had back
    unopened/           results as they came from a shared store (unopened.py)
    locks/ recall/ state/ ids/ journal/  of others          size  about how many bytes there are
    remotes/ until when one is left alone                   spool/ results that are still to be sent
    telemetry/  what a receiver didn't take

Everything is made when it is first needed, directories with mode 0700: results may hold what others shouldn't read.
"""

import errno
import os
from itertools import count

from capsula.core.digest import sha256
from capsula.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

BLOBS, ENTRIES, TMP, HELD, QUARANTINE, TRASH = "cas", "ac", "tmp", "held", "quarantine", "trash"
LOCKS, RECALL, STATE, IDS, JOURNAL, SIZE = "locks", "recall", "state", "ids", "journal", "size"
REMOTES, SPOOL, UNOPENED = "remotes", "spool", "unopened"

# Seconds for which a blob that was put is safe from a sweep although no entry names it yet; see sweep.py. An entry has
# to be written within half of it after its first blob.
GRACE = 3600.0

_MAGIC = b"capsula-ac1\n"
_HEAD = len(_MAGIC) + 65
_counter = count()


# The mark of a cache directory (bford.info/cachedir): backups leave it out, and we know it for ours.
TAG = "CACHEDIR.TAG"
_TAG_TEXT = b"Signature: 8a477f597d28d172789f06886806bc55\n# This is the local store of capsula; see `capsula cache`.\n"


_OURS = {
    BLOBS,
    ENTRIES,
    TMP,
    HELD,
    QUARANTINE,
    TRASH,
    LOCKS,
    RECALL,
    STATE,
    IDS,
    JOURNAL,
    SIZE,
    REMOTES,
    SPOOL,
    UNOPENED,
    "totals",
}


def claim(root: str) -> None:
    """Make sure that `root` is a store of ours, or can become one; StoreError when it is somebody's directory.

    Sweeps delete what they find in it, so a directory with other things in it (`--store .`) is never taken over.
    """
    path = f"{root}/{TAG}"
    try:
        os.lstat(path)
        return
    except OSError:
        pass
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise refusal(error, root, "read") from error
    # A first run that was killed may have left any of our directories, and not yet the tag.
    if names and not is_ours(names) and not set(names) <= _OURS:
        raise StoreError(
            f"{root} is not a store of capsula, and not empty",
            hint="choose an empty or new directory with --store",
        )
    try:
        make_directories(root)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, _TAG_TEXT)
        finally:
            os.close(fd)
    except OSError:
        # Read-only, or full: it can still be read from, and what can't be written is said when it is tried.
        return


def is_ours(names: "Collection[str]") -> bool:
    """Whether a directory with these names in it is a store: by its tag, or by all that is there having our names."""
    return TAG in names or (set(names) <= _OURS and not {BLOBS, ENTRIES, JOURNAL, SIZE}.isdisjoint(names))


def blob_path(root: str, name: str) -> str:
    # To make a directory takes as long as two files: in a new store, 256 of them are half of what a result costs.
    return f"{root}/{BLOBS}/{name[0]}/{name}"


def entry_path(root: str, key: str) -> str:
    return f"{root}/{ENTRIES}/{key[:2]}/{key}"


def unopened_path(root: str, key: str) -> str:
    return f"{root}/{UNOPENED}/{key}"


def is_hash(text: str) -> bool:
    """Names from a store are hostile: what isn't exactly a hash never becomes part of a path."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def seal(key: str, payload: bytes) -> bytes:
    """An entry's file: magic, checksum, payload. The checksum covers the key: an entry under a wrong name shows."""
    return _MAGIC + sha256(key.encode() + payload).hexdigest().encode() + b"\n" + payload


def unseal(key: str, raw: bytes) -> "bytes | None":
    """The payload of an entry's file, None if it isn't what was stored under this key."""
    payload = raw[_HEAD:]
    return payload if raw[:_HEAD] == seal(key, payload)[:_HEAD] else None


def make_directories(path: str) -> None:
    """Make a directory and what is missing above it, 0700 each. Another process may make the same ones meanwhile."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent == path:
            raise
        make_directories(parent)
        try:
            # Not once more from the start: below a link to nowhere that would never end.
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass


def open_making(path: str, flags: int) -> int:
    """Open a file of ours, made with mode 0600 when it is new; so are the directories above it that are missing."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)


def create_temporary(root: str, mode: int, now: float) -> "tuple[int, str]":
    """A new file in tmp/, open for reading and writing. Its name tells the sweep whose it is and from when."""
    while True:
        path = f"{root}/{TMP}/{os.getpid()}-{next(_counter)}-{int(now * 1e9)}"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), path
        except FileExistsError:
            continue  # containers that share a store have the same process ids
        except FileNotFoundError:
            make_directories(f"{root}/{TMP}")


def publish(temporary: str, path: str) -> None:
    """Rename last: a reader sees the whole file or none, and two writers of one digest write the same bytes.

    Nothing is flushed to the disk first. A power cut may leave a file short or full of zeros under its final name; what
    is read is verified, so that costs a miss, and an fsync for each file would cost every run more than the copying.
    """
    try:
        os.rename(temporary, path)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        os.rename(temporary, path)


def set_aside(root: str, path: str, now: float) -> None:
    """Move what didn't verify to quarantine/, under a new name; the next put or store then heals its place."""
    name = f"{os.path.basename(path)}-{os.getpid()}-{next(_counter)}-{int(now * 1e9)}"
    aside = f"{root}/{QUARANTINE}/{name}"
    try:
        publish(path, aside)
        os.utime(aside, (now, now), follow_symlinks=False)  # its days there count from now
    except OSError:
        pass  # gone already, or a store that can't be written: then the next reader says so again


def discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def refusal(error: OSError, root: str, doing: str) -> StoreError:
    """What the system refused, as an error of the store; `doing` is "read" or "write"."""
    from capsula.core.names import printable

    store = printable(root)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"the disk is full: the store {store} can't keep more",
            hint="free some space, or make the store smaller with `capsula cache gc`",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        done = "written" if doing == "write" else "read"
        return StoreError(
            f"the store {store} can't be {done}: {error.strerror}",
            hint="check who owns that directory and what may be done in it, or use another one",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StoreError(
            f"the store {store} can't be used: where a directory should be is something else",
            hint="move it away, or use another directory",
        )
    return StoreError(f"the store {store} failed to {doing}: {error.strerror or error}")
