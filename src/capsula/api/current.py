"""Which run is live here: how each thread, task and process finds its own.

A run is found in this order. First by the context (contextvars): coroutines and callbacks have that of who made them.
A thread begins with an empty context; then it is the run in which the thread was started, as long as that lives; and a
task of a pool of threads has that of who gave it to the pool. Then that which the environment names: the run of another
process. It isn't guessed: that some run is live in the process says nothing of a thread or task beside it, and what a
server does for one of its requests isn't a part of another.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from capsula.api.live import Live, identity_of, shown_name, warn_once
from capsula.core.hiding import hide, telling_values
from capsula.engine.live import is_live

# Tells a monitored program, and what it runs, which capsule is being written.
LIVE = "CAPSULA_CAPSULE"


class _Process:
    """What there is once in a process: the runs that are live in it, those of other processes that it speaks to, and
    what stood in the environment before we put something there."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.lives: list[Live] = []
        self.attached: dict[str, Live] = {}
        self.inherited: str | None = None
        self.published: str | None = None

    def renew(self) -> None:
        """After a fork: another thread of the parent may have held the lock."""
        self.lock = threading.RLock()


_process = _Process()
_context: ContextVar[Live | None] = ContextVar("capsula_live", default=None)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.renew)


def current() -> Live | None:
    """The innermost run that is live where this is called, or None."""
    return _by_context() or _by_environment()


def record(name: str, value: object, step: int | float | None = None) -> None:
    """A metric of the current run, at a step. Outside of any run that is a warning, once."""
    run = current()
    if run is None:
        warn_once(f"{shown_name(name)} is not recorded: there is no run here", "")
    else:
        run.record(name, value, step)


def output(path: str | os.PathLike[str], *, copy: bool = False) -> None:
    """A file that the current run makes. Outside of any run that is a warning, once."""
    run = current()
    if run is None:
        warn_once(f"{shown_name(path)} is not recorded: there is no run here", "")
    else:
        run.output(path, copy=copy)


def begin(path: str, identity: str, hide: Callable[[str], str]) -> Live:
    """A new run is live, inside of the current one; from now on it is the current one of this context."""
    _note_who_makes_threads_work()
    before = _context.get()
    with _process.lock:
        if not _process.lives:
            _process.inherited = os.environ.get(LIVE)
        live = Live(path, identity, hide, parent=current())
        live._before = before
        _process.lives.append(live)
        _publish()
    _context.set(live)
    return live


def end(live: Live) -> None:
    """The run has ended: who asks now gets the one that it was part of."""
    with _process.lock:
        live._ended = True
        if live in _process.lives:
            _process.lives.remove(live)
        _publish()
    live._pen.close()
    step_out(live)


def here() -> Live | None:
    """What the context says."""
    return _context.get()


def step_in(live: Live) -> Live | None:
    """The run is the current one, until `step_back` with what this answers."""
    before = _context.get()
    _context.set(live)
    return before


def step_back(before: Live | None) -> None:
    _context.set(before)


def step_out(live: Live) -> None:
    """Not by a token: a notebook ends a run in another context than it began it in."""
    if _context.get() is live:
        _context.set(live._before)


def _of_here(run: Live | None) -> Live | None:
    """The run, or the nearest around it that hasn't ended."""
    while run is not None and run.is_over():
        run = run._parent
    return run


def _by_context() -> Live | None:
    run = _of_here(_context.get())
    if run is None and _process.lives:
        run = _of_here(getattr(threading.current_thread(), "_capsula_run", None))
    return run


def _shared() -> Live | None:
    """The innermost run that all runs now live in this process are part of."""
    lines = [live.line() for live in _process.lives if not live.is_over()]
    around = {id(run) for line in lines for run in line[1:]}
    innermost = [line for line in lines if id(line[0]) not in around]
    if not innermost:
        return None
    first, *rest = innermost
    for run in first:
        if all(run in line for line in rest):
            return run
    return None


def _by_environment() -> Live | None:
    path = os.environ.get(LIVE)
    if path is not None and path == _process.published:  # what we have put there is for others
        path = _process.inherited
    if not path:
        return None
    found = _process.attached.get(path)
    if found is None and is_live(path):
        found = _process.attached[path] = Live(path, identity_of(path), _hider())
        found._pid = 0  # of no process: it is live as long as its capsule says so
    return found if found is not None and is_live(path) else None


def _hider() -> Callable[[str], str]:
    values = telling_values(os.environ)
    return lambda text: hide(text, values)[0]


def _publish() -> None:
    """For processes that are started now: they can't be told who of us starts them, so it is the run that all are part
    of. A value that somebody else has put there stays."""
    if os.environ.get(LIVE) not in (_process.published, _process.inherited):
        return
    shared = _shared()
    path = shared.path if shared is not None and shared.path else _process.inherited
    if path is None:
        os.environ.pop(LIVE, None)
    elif os.environ.get(LIVE) != path:
        os.environ[LIVE] = path
    _process.published = path


class _Carried:
    """A task of a pool, with the run of who gave it to the pool."""

    __slots__ = ("_run", "_task")

    def __init__(self, task: Callable[..., object], run: Live) -> None:
        self._task = task
        self._run = run

    def __call__(self, *args: object, **kwargs: object) -> object:
        before = step_in(self._run)
        try:
            return self._task(*args, **kwargs)
        finally:
            step_back(before)


def _note_who_makes_threads_work() -> None:
    """A thread has an empty context at first (until Python has it otherwise) and nothing in it tells who started it, or
    whose task it works on. So that is noted where it happens; nothing else changes about threads and pools."""
    if hasattr(threading.Thread.start, "_capsula_notes"):
        return
    _wrap_start()
    # Imported already by whoever has a pool, or can be by now; the module alone is nothing.
    from concurrent.futures import ThreadPoolExecutor

    original: Any = ThreadPoolExecutor.submit

    @functools.wraps(original)
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        run = _by_context()
        return original(self, fn if run is None else _Carried(fn, run), *args, **kwargs)

    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


def _wrap_start() -> None:
    original = threading.Thread.start

    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        run = _by_context()
        if run is not None:
            self._capsula_run = run  # type: ignore[attr-defined]
        original(self)

    start._capsula_notes = True  # type: ignore[attr-defined]
    threading.Thread.start = start  # type: ignore[method-assign]
