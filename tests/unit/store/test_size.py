"""When a sweep is due, and that one in the background holds nobody up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsula.core.digest import digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.store import size
from capsula.store.disk import DiskStore
from capsula.store.layout import blob_path, entry_path
from capsula.store.size import is_due, maybe_sweep, read_size, take_lock, write_size

DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


def fill(root: str, entries: int, each: int) -> DiskStore:
    """Old entries, the first is the least recently used."""
    store = DiskStore(root, now=time.time)
    for number in range(entries):
        digest = store.put(b"%d" % number * each)
        action = digest_of(b"%d" % number)
        store.store(action, ActionResult(output_files=(OutputFile(path="a", digest=digest),)))
        for path in (blob_path(root, digest.hash), entry_path(root, action.hash)):
            os.utime(path, (1000 + number, 1000 + number))
    return store


# ------------------------------------------------------------------------------------------------ the decision


@pytest.mark.parametrize(
    ("known", "since", "age", "due"),
    [
        (0, 0, 0, False),
        (50, 50, 0, False),  # at the limit
        (50, 51, 0, True),
        (80, 21, 1, True),  # since the last sweep a fifth of the limit came
        (200, 0, 1, False),  # it couldn't get lower: what there is is too young to go
        (200, 5, 59, False),
        (200, 11, 1, True),
        (200, 0, 61, True),
        (0, 0, DAY - 1, False),
        (0, 0, DAY + 1, True),
        (0, 0, -1, True),  # the clock was set back
    ],
)
def test_when_a_sweep_is_due(known: int, since: int, age: float, due: bool) -> None:
    assert is_due(known, since, 1e9, limit=100, now=1e9 + age) == due


def test_without_a_limit_a_sweep_is_due_once_a_day() -> None:
    assert not is_due(1 << 60, 1 << 50, 1e9, limit=0, now=1e9 + DAY - 1)
    assert is_due(0, 0, 1e9, limit=0, now=1e9 + DAY + 1)


# ------------------------------------------------------------------------------------------------ the count


def test_what_is_added_is_counted_and_a_sweep_counts_anew(tmp_path: Path) -> None:
    root = str(tmp_path)
    clock = Clock()
    store = fill(root, 3, 1000)
    assert read_size(root) is None
    assert not maybe_sweep(root, 10_000, 100, now=clock)
    assert not maybe_sweep(root, 10_000, 0, now=clock)
    assert not maybe_sweep(root, 10_000, 11, now=clock)
    known, since, counted = read_size(root) or (0, 0, 0)
    assert (known, since) == (0, 111)
    assert counted == pytest.approx(clock.time, abs=1)
    clock.time += DAY + 1
    assert maybe_sweep(root, 10_000, 5, now=clock, foreground=True)
    real = sum(path.stat().st_size for path in tmp_path.glob("[ac]*/*/*"))
    assert read_size(root) == (real, 0, int(clock.time))
    assert store.written > 3000


def test_many_processes_lose_no_count(tmp_path: Path) -> None:
    write_size(str(tmp_path), 1000, time.time())
    code = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from capsula.store.size import maybe_sweep
for number in range(200):
    maybe_sweep({str(tmp_path)!r}, 0, number, now=time.time)
"""
    processes = [subprocess.Popen([sys.executable, "-I", "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (read_size(str(tmp_path)) or ())[:2] == (1000, 4 * sum(range(200)))


def test_a_line_that_is_being_added_is_not_damage(tmp_path: Path) -> None:
    (tmp_path / "size").write_bytes(b"100 %d\n+5\n+" % time.time())
    assert (read_size(str(tmp_path)) or ())[:2] == (100, 5)


@pytest.mark.parametrize("content", [b"garbage", b"\0" * 20, b"1 2 3\n+4\n", b"\n"])
def test_a_damaged_count_is_made_anew(tmp_path: Path, content: bytes) -> None:
    fill(str(tmp_path), 1, 10)
    (tmp_path / "size").write_bytes(content)
    assert maybe_sweep(str(tmp_path), 1000, 1, now=time.time, foreground=True)
    assert read_size(str(tmp_path)) is not None


def test_it_is_cheap_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path[:0] = {sys.path!r}
before = set(sys.modules)
from capsula.store.size import maybe_sweep
maybe_sweep({str(tmp_path)!r}, 1000, 1, now=time.time)
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("capsula")))
"""
    found = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert set(found.stdout.split()) <= {"_hashlib", "_sha2", "_sha256", "errno", "itertools", "time"}


def test_it_never_fails(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert not maybe_sweep(str(tmp_path / "file"), 1, 1, now=time.time)
    fill(str(tmp_path / "store"), 3, 1000)

    def no_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(size.os, "fork", no_fork)
    assert not maybe_sweep(str(tmp_path / "store"), 1, 2, now=time.time)


# ------------------------------------------------------------------------------------------------ the background


def wait_for_the_sweep(root: str) -> None:
    lock = take_lock(root, wait=True)
    assert lock is not None
    os.close(lock)


def test_a_sweep_in_the_background_makes_room(tmp_path: Path) -> None:
    root = str(tmp_path)
    store = fill(root, 10, 1000)
    assert maybe_sweep(root, 5000, store.written, now=time.time)
    wait_for_the_sweep(root)
    assert [store.touch(digest_of(b"%d" % n)) for n in range(10)] == [False] * 7 + [True] * 3
    assert (read_size(root) or (9999,))[0] < 4000
    assert not maybe_sweep(root, 5000, 10, now=time.time)


def test_it_has_none_of_the_callers_descriptors_and_signals(tmp_path: Path) -> None:
    """Whoever reads our output sees its end while the sweep still runs, and a Ctrl-C doesn't reach it."""
    root = str(tmp_path / "store")
    fill(root, 3, 1000)
    code = f"""
import os, signal, sys, time
sys.path[:0] = {sys.path!r}
from capsula.store import size, sweep
real = sweep.sweep_locked
def slow(root, limit, started, grace):
    fds = [f"/proc/self/fd/{{fd}}" for fd in os.listdir("/proc/self/fd")]
    looks = [os.readlink(fd) for fd in fds if os.path.exists(fd)]
    is_default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with open({str(tmp_path / "report")!r}, "w") as report:
        print(os.getpid(), os.getsid(0) == os.getpid(), os.getcwd(), is_default, file=report)
        print(*sorted(looks), sep="\\n", file=report)
    while not os.path.exists({str(tmp_path / "go on")!r}):
        time.sleep(0.01)
    real(root, limit, started, grace)
sweep.sweep_locked = slow
signal.signal(signal.SIGTERM, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("started" if size.maybe_sweep({root!r}, 100, 3000, now=time.time) else "no")
"""
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-I", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
    )
    assert found.stdout == "started\n"
    assert found.stderr == ""
    assert time.monotonic() - began < 150, "it waited for the sweep"
    report = tmp_path / "report"
    while not report.exists() or report.read_text().count("\n") < 5:
        time.sleep(0.01)
    head, *looks = report.read_text().splitlines()
    pid, leads, cwd, default = head.split()
    assert (leads, cwd, default) == ("False", "/", "True")
    assert os.getsid(int(pid)) != os.getsid(0)
    assert {look for look in looks if not look.startswith("/proc")} <= {
        "/dev/null",
        f"{root}/locks/sweep",
        str(report),
    }
    assert not maybe_sweep(root, 100, 3000, now=time.time), "another one was started meanwhile"
    (tmp_path / "go on").write_bytes(b"")
    wait_for_the_sweep(root)
    assert list(Path(root).glob("ac/*/*")) == []


def test_it_works_for_a_caller_that_closed_its_standard_descriptors(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    fill(root, 3, 1000)
    code = f"""
import os, sys, time
sys.path[:0] = {sys.path!r}
from capsula.store.size import maybe_sweep
os.closerange(0, 3)
os._exit(0 if maybe_sweep({root!r}, 100, 3000, now=time.time) else 1)
"""
    assert subprocess.run([sys.executable, "-I", "-c", code]).returncode == 0
    wait_for_the_sweep(root)
    assert list(Path(root).glob("ac/*/*")) == []


def test_a_sweep_that_fails_in_the_background_says_nothing_and_ends(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    fill(root, 3, 1000)
    code = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from capsula.store import size, sweep
def fails(*args):
    raise RuntimeError("a bug")
sweep.sweep_locked = fails
print(size.maybe_sweep({root!r}, 100, 3000, now=time.time))
"""
    found = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("True\n", "")
    wait_for_the_sweep(root)
    assert len(list(Path(root).glob("ac/*/*"))) == 3
