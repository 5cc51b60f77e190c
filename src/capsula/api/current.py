"""Which run is live here: how each thread, task and process finds its own.

A run is found in this order. First by the context (contextvars): coroutines and callbacks have that of who made them.
A thread begins with an empty context; then it is the run in which the thread was started (pools keep their threads for
longer, so only as long as that run lives). Then the innermost run that all runs now live in this process are part of:
no guess, and no run that a sibling is in. And then that which the environment names: the run of a parent process.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar

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
    return _by_context() or _shared() or _by_environment()


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
    _note_who_starts_threads()
    before = _context.get()
    with _process.lock:
        if not _process.lives:
            _process.inherited = os.environ.get(LIVE)
        by_context = _of_here(before)
        parent = by_context or current()
        is_first = parent is None or parent not in _process.lives
        live = Live(path, identity, hide, parent=parent, is_by_context=by_context is not None or is_first)
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
    if not _process.lives:
        return None
    with _process.lock:
        # One that was begun in a thread without a context may be that of any thread, not of this one.
        lines = [live.line() for live in _process.lives if live._is_by_context and not live.is_over()]
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
    if not path or any(live.path == path for live in _process.lives):
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
    """For processes that are started now. A value that somebody else has put there stays."""
    if os.environ.get(LIVE) not in (_process.published, _process.inherited):
        return
    shared = _shared()
    path = shared.path if shared is not None and shared.path else _process.inherited
    if path is None:
        os.environ.pop(LIVE, None)
    elif os.environ.get(LIVE) != path:
        os.environ[LIVE] = path
    _process.published = path


def _note_who_starts_threads() -> None:
    """A thread has an empty context at first (until Python has it otherwise) and nothing in it tells who started it. So
    that is noted on the thread as it starts; nothing else about it changes."""
    original = threading.Thread.start
    if hasattr(original, "_capsula_notes"):
        return

    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        run = _by_context()
        if run is not None:
            self._capsula_run = run  # type: ignore[attr-defined]
        original(self)

    start._capsula_notes = True  # type: ignore[attr-defined]
    threading.Thread.start = start  # type: ignore[method-assign]
