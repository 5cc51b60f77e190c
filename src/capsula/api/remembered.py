"""What a process has looked at already, for its next run: the host and the packages, and a git repository as long as
it stays as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from capsula.probe.unmoved import Watch

if TYPE_CHECKING:
    from capsula.config.project import Project
    from capsula.core.found import Found
    from capsula.engine.looking import Asked
    from capsula.ports import Probe

    State = tuple[object, ...] | None

# Of each probe the last state, and what was found then; of each repository what is known for good.
_found: dict[tuple[str, str], tuple[State, Found]] = {}
_watches: dict[str, Watch] = {}
# A large patch isn't held in the memory of the user's program.
_LARGEST = 4 << 20


class Remembered:
    """A probe that isn't asked again while `state` answers the same as before. None is never the same."""

    def __init__(self, probe: Probe, key: str, state: Callable[[], State]) -> None:
        self.name = probe.name
        self._probe = probe
        self._key = (probe.name, key)
        self._state = state

    def read(self) -> Found:
        # First: what changes while the probe looks is another state the next time.
        state = self._state()
        known = _found.get(self._key)
        if state is not None and known is not None and known[0] == state:
            return known[1]
        found = self._probe.read()
        if sum(map(len, found.files.values())) <= _LARGEST:
            _found[self._key] = state, found
        return found


def remembered(probes: Iterable[Asked], project: Project, environ: Mapping[str, str]) -> list[Asked]:
    """Variables, files and commands are looked at each time."""
    states: dict[str, Callable[[], State]] = {"host": lambda: (), "python": _packages}
    for name, path in project.capture.repositories:
        full = os.path.join(project.root, path)
        watch = _watches.setdefault(full, Watch(full, environ))
        states[f"git:{name}"] = watch.state
    key = repr((project.root, project.capture))
    return [
        replace(asked, probe=Remembered(asked.probe, key, states[asked.probe.name]))
        if asked.probe.name in states
        else asked
        for asked in probes
    ]


def _packages() -> State:
    """Changes when something is installed or the path is, and when the program loads what numeric facts come from."""
    seen: list[object] = ["threadpoolctl" in sys.modules, "numpy" in sys.modules]
    for entry in sys.path:
        try:
            seen.append((entry, os.stat(entry or ".").st_mtime_ns))
        except OSError:
            seen.append((entry, 0))
    return tuple(seen)
