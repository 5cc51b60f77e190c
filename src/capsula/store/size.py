"""About how large the store is, and starting a sweep in the background when that is too much."""

import os

from capsula.store.layout import GRACE, LOCKS, SIZE, claim, create_temporary, discard, open_making, publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SWEEP_LOCK = "sweep"
_DAY = 86400.0
_PAUSE = 60.0


def maybe_sweep(
    root: str,
    limit: int,
    added: int,
    *,
    now: "Callable[[], float]",
    foreground: bool = False,
    start: "Callable[[str, int, float, int], None] | None" = None,
) -> bool:
    """Count `added` bytes; sweep if the store has become larger than `limit` (0: no limit) or wasn't swept for a day.

    Costs one small read and write when there is nothing to do. The sweep runs in a process of its own that outlives
    the caller and has none of its descriptors (or in this one: `foreground`); `start` makes that process where the
    caller can't be forked. Answers whether one was started; whatever goes wrong is no, for making room must never fail
    a run.
    """
    moment = now()
    try:
        if not is_due(*_count(root, added, moment), limit=limit, now=moment):
            return False
        # The lock is taken here and handed down, so that of many runs at once only one makes a process.
        lock = take_lock(root)
        if lock is None:
            return False
        try:
            if foreground:
                from capsula.store.sweep import sweep_locked

                sweep_locked(root, limit, moment, GRACE)
            else:
                (start or _in_background)(os.path.abspath(root), limit, moment, lock)
        finally:
            os.close(lock)
    except Exception:  # not even a bug in here is worth a run
        return False
    return True


def is_due(known: int, since: int, counted: float, *, limit: int, now: float) -> bool:
    """`known` bytes were there at `counted`, `since` were added.

    A store full of things too young to go stays above its limit: then not every run starts a sweep, but one a minute,
    or after each tenth of the limit.
    """
    age = now - counted
    if not 0 <= age < _DAY:
        return True
    return 0 < limit < known + since and (age > _PAUSE or since * 10 > limit)


def read_size(root: str) -> "tuple[int, int, float] | None":
    """(bytes counted, bytes added since, when they were counted); None if that isn't known."""
    try:
        with open(f"{root}/{SIZE}", "rb") as file:
            return _parse(file.read())
    except FileNotFoundError:
        return None


def write_size(root: str, known: int, counted: float) -> None:
    """After counting. What others add at this moment may be lost; the next count has it."""
    try:
        fd, temporary = create_temporary(root, 0o600, counted)
        try:
            try:
                os.write(fd, b"%d %d\n" % (known, int(counted)))
            finally:
                os.close(fd)
            publish(temporary, f"{root}/{SIZE}")
        except BaseException:
            discard(temporary)
            raise
    except OSError:
        # A disk that is full to the last byte; not knowing is better than a wrong number.
        discard(f"{root}/{SIZE}")


def take_lock(root: str, *, wait: bool = False) -> "int | None":
    """A descriptor that holds the lock of sweeps until it is closed, None if another has it and we don't wait.

    flock and not lockf: it is held by the descriptor, so it also keeps out the threads of this process and goes over
    to a child.
    """
    import fcntl

    if not os.path.lexists(f"{root}/{LOCKS}"):
        claim(root)  # with nothing but a lock in it, a new store would be taken for somebody's directory
    fd = open_making(f"{root}/{LOCKS}/{SWEEP_LOCK}", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _count(root: str, added: int, now: float) -> "tuple[int, int, float]":
    """Add a line to the file, by one write at its end: no lock and nothing lost. A sweep starts it anew."""
    fd = os.open(f"{root}/{SIZE}", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        raw = os.read(fd, size)
        if size == 0:  # a new store; if only this file was lost, the sweep of tomorrow counts
            os.write(fd, b"0 %d\n+%d\n" % (int(now), added))
            return 0, added, now
        if added:
            os.write(fd, b"+%d\n" % added)
    finally:
        os.close(fd)
    known, since, counted = _parse(raw) or (0, 0, -_DAY)
    return known, since + added, counted


def _parse(raw: bytes) -> "tuple[int, int, float] | None":
    # Without the last line when it is in the middle of being added.
    head, *lines = raw[: raw.rfind(b"\n") + 1].split(b"\n")
    try:
        known, counted = head.split()
        return int(known), sum([int(line) for line in lines if line.startswith(b"+")]), float(int(counted))
    except ValueError:
        return None


def _in_background(root: str, limit: int, started: float, lock: int) -> None:
    """Fork twice, so that the sweep is nobody's child to wait for; `lock` goes along."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _become_background(lock)
            from capsula.store.sweep import sweep_locked

            sweep_locked(root, limit, started, GRACE)
    finally:
        # Not a return and not an exception: both would run the rest of the caller's program a second time.
        os._exit(0)


def _become_background(lock: int) -> None:
    """Keep nothing of the caller: a pipe held open here would keep its reader waiting for the end."""
    import fcntl
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    lock = fcntl.fcntl(lock, fcntl.F_DUPFD_CLOEXEC, 10)  # it may be 0, if the caller had closed its stdin
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/dev/fd"):  # SC_OPEN_MAX may be a billion
        if int(name) not in (0, 1, 2, lock):
            _close(int(name))
    os.chdir("/")
    os.nice(19)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # the one that listed them
