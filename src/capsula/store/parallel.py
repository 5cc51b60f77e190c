"""Doing one thing to many items at once, in threads that nobody waits for when the process ends.

Not the pools of the standard library: these join their threads at exit, and one that hangs in a dead connection would
keep a finished command from ending.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

# A server that is asked by one thread and answers so often in so many seconds is near: several threads would take turns
# under the interpreter's one lock, and need twice the time.
_TRIAL = 0.005
_QUICK = 6


def each(items: Iterable[T], work: Callable[[T], object], workers: int, *, at_first: int = 0) -> None:
    """Raises the first error, when those that had begun by then have ended; no more are begun after it.

    With `at_first`, so many threads begin, and as many again whenever they turn out to be mostly waiting.
    """

    def work_through(mine: Iterator[T]) -> None:
        for item in mine:
            work(item)

    share(items, work_through, workers, at_first=at_first)


def share(
    items: Iterable[T], work: Callable[[Iterator[T]], object], workers: int, *, at_first: int = 0
) -> None:
    """The same, by threads that each take from what is left until there is nothing, or one has raised."""
    todo = list(items)
    if len(todo) < 2 or workers < 2:
        work(iter(todo))
        return
    pending = iter(todo)
    begun: list[T] = []
    errors: list[BaseException] = []
    turn = allocate_lock()

    def left() -> Iterator[T]:
        while not errors:
            with turn:
                try:
                    item = next(pending)
                except StopIteration:
                    return
                begun.append(item)
            yield item

    def run(done: LockType) -> None:
        try:
            work(left())
        except BaseException as error:
            errors.append(error)
        finally:
            done.release()

    workers = min(workers, len(todo))
    running = [_started(run) for _ in range(at_first or workers)]
    while len(running) < workers:
        before = len(begun)
        if running[0].acquire(timeout=_TRIAL):
            running[0].release()
            break
        if len(begun) - before < _QUICK:
            running += [_started(run) for _ in range(min(len(running), workers - len(running)))]
    for done in running:
        done.acquire()
    if errors:
        raise errors[0]


def _started(run: Callable[[LockType], None]) -> LockType:
    """What is free when it has ended."""
    done = allocate_lock()
    done.acquire()
    start_new_thread(run, (done,))
    return done
