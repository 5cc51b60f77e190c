"""What a program with threads needs beyond a command: turns among its threads, and a sweep without a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import capsula
from capsula.core.digest import Digest
from capsula.core.node import Node
from capsula.ports import BlobStore, Flight, Inputs, Outputs, Restored, WorkTree

_changed = threading.Condition()
# Which thread runs which action.
_held: dict[str, int] = {}
# Outputs are put back, and what is remembered is written, by one thread at a time: the locks of the kernel that do this
# for processes don't tell threads apart.
alone = threading.RLock()


def _forget() -> None:
    """In a forked child nobody else is left, whatever was held."""
    global _changed, alone
    # One that another thread held at that moment would be held for ever.
    _changed, alone = threading.Condition(), threading.RLock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Turns:
    """At most one run per key in this process, around `flights`, which does so among processes.

    Who holds a turn already doesn't wait for another: f calling g and g calling f, in two threads, would wait for each
    other. Then the action runs twice, which is a waste, not a wrong result.
    """

    def __init__(self, flights: Flight) -> None:
        self._flights = flights
        self._key = ""

    def enter(self, action: Digest, waiting: Callable[[str], None]) -> bool:
        key = action.hash
        me, waited = threading.get_ident(), False
        with _changed:
            while key in _held:
                if me in _held.values():
                    return False
                waited = True
                _changed.wait()
            _held[key] = me
        self._key = key
        return self._flights.enter(action, waiting) or waited

    def leave(self) -> None:
        if not self._key:
            return
        self._flights.leave()
        with _changed:
            _held.pop(self._key, None)
            _changed.notify_all()
        self._key = ""


class NoTurns:
    """For coroutines: to wait for somebody would hold up all others of the program."""

    def enter(self, action: Digest, waiting: Callable[[str], None]) -> bool:  # noqa: ARG002 - the port's signature
        return False

    def leave(self) -> None:
        return


class AloneTree:
    """A work tree whose outputs are put back by one thread at a time."""

    def __init__(self, tree: WorkTree) -> None:
        self._tree = tree
        self.moved = tree.moved
        self.remember_made = tree.remember_made
        self.named = tree.named
        self.full = tree.full

    def inputs(self) -> Inputs:
        return self._tree.inputs()

    def outputs(self) -> Outputs:
        return self._tree.outputs()

    def settle(
        self, wanted: dict[str, Node], store: BlobStore, bury: Callable[[str], Callable[[], None]]
    ) -> Restored:
        with alone:
            return self._tree.settle(wanted, store, bury)


def sweep_apart(root: str, limit: int, started: float, lock: int) -> None:
    """A sweep in an interpreter of its own: to fork a program with threads may leave a child that waits for ever. A
    shell starts it and ends, so that it is nobody's child to wait for; the lock goes along."""
    program = (
        "from capsula.store.sweep import sweep_locked; from capsula.store.layout import GRACE; "
        f"sweep_locked({root!r}, {limit!r}, {started!r}, GRACE)"
    )
    subprocess.run(
        ["sh", "-c", '"$@" &', "sh", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(capsula.__file__).parents[1])},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
        check=False,
    )
