"""Whether a process of this machine still lives: by its number, and by what else tells it from others with that number.

A number is given again when its process is gone, means another process in another container, and nothing at all on
another machine. So beside it stand two marks: of the place (this boot of the kernel, these namespaces) and of the life
(the place, the number, and when the process began). Both are hashes with the name of the run in them, so they tell
nobody else anything, not even that two runs were on one machine. Where they can't be made, nothing is concluded.
"""

import os

from capsula.core.digest import sha256

_BOOT = "/proc/sys/kernel/random/boot_id"


def marks(run: str, pid: int) -> tuple[str, str]:
    """Of the place and the life of a process; both "" where one can't be told."""
    here = _place()
    try:
        began = _began(pid)
    except ProcessLookupError:
        began = ""
    if not here or not began:
        return "", ""
    return _mark(run, here), _mark(run, here, str(pid), began)


def is_gone(run: str, pid: int, place: str, life: str) -> bool:
    """Whether the process that had these marks is certainly no more. False also where nobody can tell from here."""
    here = _place()
    if not here or _mark(run, here) != place or not 0 < pid < 1 << 31:
        return False
    try:
        began = _began(pid)
    except ProcessLookupError:
        return True
    return began != "" and _mark(run, here, str(pid), began) != life


def is_elsewhere(run: str, place: str) -> bool:
    """Whether its numbers of processes are certainly not those that we see."""
    here = _place()
    return bool(place and here) and _mark(run, here) != place


def boot() -> str:
    """Of this start of the kernel, "" where it has no such name."""
    try:
        with open(_BOOT, "rb", buffering=0) as file:
            return file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _place() -> str:
    started = boot()
    try:
        # A /proc of other namespaces tells of processes that have our numbers and aren't ours.
        if not started or os.readlink("/proc/self") != str(os.getpid()):
            return ""
        spaces = [os.readlink("/proc/self/ns/pid")]
    except OSError:
        return ""
    try:
        # It shifts the times at which processes began.
        spaces.append(os.readlink("/proc/self/ns/time"))
    except OSError:
        spaces.append("")
    return " ".join([started, *spaces])


def _began(pid: int) -> str:
    """In ticks since the boot, "" where it can't be told. ProcessLookupError when there is none, or none but what its
    parent hasn't asked for yet."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The name of the program, in parentheses, may hold anything, spaces and parentheses too.
            fields = file.read(4096).rpartition(b")")[2].split()
        state, began = fields[0], fields[19].decode("ascii")
    except (FileNotFoundError, ProcessLookupError):
        # Processes of others may be hidden (hidepid): they are there all the same.
        try:
            os.kill(pid, 0)
        except PermissionError:
            pass
        return ""
    except (OSError, IndexError, ValueError):
        return ""
    if state in (b"Z", b"X"):
        raise ProcessLookupError(pid)
    return began


def _mark(*facts: str) -> str:
    return sha256("\0".join(("capsula-life1", *facts)).encode("utf-8", "replace")).hexdigest()[:32]
