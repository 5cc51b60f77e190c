"""Doing one thing to many items at once, in threads that nobody waits for when the process ends.

Not the pools of the standard library: these join their threads at exit, and one that hangs in a dead connection would
keep a finished command from ending.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    T = TypeVar("T")


def each(items: Iterable[T], work: Callable[[T], object], workers: int) -> None:
    """Raises the first error, when those that had begun by then have ended; no more are begun after it."""
    todo = list(items)
    if len(todo) < 2 or workers < 2:
        for item in todo:
            work(item)
        return
    pending = iter(todo)
    errors: list[BaseException] = []
    turn = allocate_lock()
    running = []

    def run(done: LockType) -> None:
        try:
            while not errors:
                with turn:
                    try:
                        item = next(pending)
                    except StopIteration:
                        return
                work(item)
        except BaseException as error:
            errors.append(error)
        finally:
            done.release()

    for _ in range(min(workers, len(todo))):
        done = allocate_lock()
        done.acquire()
        running.append(done)
        start_new_thread(run, (done,))
    for done in running:
        done.acquire()
    if errors:
        raise errors[0]
