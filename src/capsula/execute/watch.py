"""Watching what a command uses while it runs: in a thread beside the relay, for at most a hundredth of one core."""

from __future__ import annotations

import _thread
import time
from typing import TYPE_CHECKING, Any

from capsula.execute.family import Family, Usage
from capsula.execute.samples import Row, Series

if TYPE_CHECKING:
    from capsula.execute.process import Outcome

# A sample is taken every hundredth of the time that has passed, within these bounds: a peak that lasts a second is seen
# after days, too.
SHORTEST, LONGEST = 0.02, 1.0
# Never more often than so many times what a sample costs.
PATIENCE = 100
# The first sample comes before the command has loaded anything, the last one after it has ended.
ENOUGH = 3


class Watch:
    """Nothing in here raises: what can't be seen isn't known afterwards, and `unknown` says why."""

    def __init__(self, mark: bytes = b"") -> None:
        self.series = Series()
        self.ended = False
        self.trouble = ""
        self._family: Family | None = None
        try:
            self._family = Family(mark)
        except OSError as error:
            self.trouble = f"there is no /proc to look into: {error.strerror}"
        self._own_peak = 0
        self._last: Usage | None = None
        self._peak = self._processes = self._threads = self._count = 0
        self._cost = 0.0
        self._began = 0.0
        self._running = False
        self._looking = _thread.allocate_lock()
        self._stop = _thread.allocate_lock()
        self._stopped = _thread.allocate_lock()

    def begin(self, pid: int) -> None:
        """The command has been started. Whoever calls it has blocked the signals that the thread mustn't take."""
        self._began = time.monotonic()
        # Now, as what we held when the command's process was made counts as its own.
        self._own_peak = _own_peak()
        if self._family is None:
            return
        try:
            self._family.begin(pid)
            self._stop.acquire()
            self._stopped.acquire()
            self._running = True
            _thread.start_new_thread(self._sample_on, ())
        except Exception as error:
            self._running = False
            self._give_up(error)

    def end(self) -> None:
        """The command's first process has ended and hasn't been waited for: the last moment to look at it."""
        if not self.ended:
            self.ended = True
            self._sample()

    def stop(self) -> None:
        """End the thread. Doing it twice is doing it once."""
        if self._running:
            self._running = False
            self._stop.release()
            self._stopped.acquire()

    def resources(self, outcome: Outcome) -> dict[str, Any]:
        """What the whole run used, after `stop`: bytes and seconds, None where nothing is known. What the system
        counts exactly of the processes that were waited for is taken from there. `unknown` says in sentences what the
        numbers leave out."""
        unknown = [self.trouble] if self.trouble else []
        last = self._last
        largest: int | None = outcome.max_rss_kb * 1024
        if outcome.max_rss_kb * 1024 <= self._own_peak:
            # Linux counts what the starting process held as the child's own.
            largest = None
            unknown.append(
                f"the largest process: no more than the {self._own_peak >> 20} MiB of the recorder that started it"
            )
        peak = max(self._peak, largest or 0) or None
        if largest is None and self._count < ENOUGH:
            peak = None
            unknown.append("the peak of memory: it had ended before it could be looked at again")
        if last is not None and last.hidden:
            unknown.append(f"what {last.hidden} process(es) of another user have read and written")
        return {
            "wall_seconds": round(outcome.seconds, 6),
            "user_seconds": round(max(outcome.user_seconds, last.user if last else 0.0), 6),
            "system_seconds": round(max(outcome.system_seconds, last.system if last else 0.0), 6),
            "peak_memory": peak,
            "largest_process": largest,
            "read": last.read if last else None,
            "written": last.written if last else None,
            "disk_read": last.disk_read if last else None,
            "disk_written": last.disk_written if last else None,
            "processes": self._processes or None,
            "threads": self._threads or None,
            "samples": self._count,
            "sampling_seconds": round(self._cost, 6),
            "unknown": unknown,
        }

    def _sample_on(self) -> None:
        try:
            while self._family is not None:
                self._sample()
                average = self._cost / self._count if self._count else 0.0
                passed = time.monotonic() - self._began
                pause = max(min(max(passed / 100, SHORTEST), LONGEST), PATIENCE * average)
                if self._stop.acquire(timeout=pause):
                    return
        finally:
            self._stopped.release()

    def _sample(self) -> None:
        with self._looking:
            if self._family is None:
                return
            before = time.thread_time()
            try:
                self._note(self._family.look())
            except Exception as error:
                self._give_up(error)
            self._cost += time.thread_time() - before

    def _note(self, usage: Usage) -> None:
        self._last = usage
        self._count += 1
        self._peak = max(self._peak, usage.rss)
        self._processes = max(self._processes, usage.processes)
        self._threads = max(self._threads, usage.threads)
        self.series.add(
            Row(
                time.monotonic() - self._began,
                usage.user + usage.system,
                usage.rss,
                usage.processes,
                usage.threads,
                usage.read,
                usage.written,
            )
        )

    def _give_up(self, error: Exception) -> None:
        self._family = None
        self.trouble = f"what came after an error of ours: {type(error).__name__}: {error}"


def _own_peak() -> int:
    """Bytes: what a process that this one starts is taken to have held, by Linux, before it did anything. (That isn't
    what getrusage says of ourselves: there it is at least what the one had held that started us.)"""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
