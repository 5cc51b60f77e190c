"""Probes whose answer can't change within a process, asked once: the host with its CPU, and the packages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsula.config.project import Project
    from capsula.core.found import Found
    from capsula.engine.looking import Asked
    from capsula.ports import Probe

_found: dict[tuple[object, ...], Found] = {}


class Remembered:
    """A probe whose answer is kept as long as `state` is the same."""

    def __init__(self, probe: Probe, state: tuple[object, ...]) -> None:
        self.name = probe.name
        self._probe = probe
        self._state = (probe.name, *state)

    def read(self) -> Found:
        found = _found.get(self._state)
        if found is None:
            found = _found[self._state] = self._probe.read()
        return found


def remembered(probes: Iterable[Asked], project: Project) -> list[Asked]:
    """git, files, variables and commands are asked again at each call."""
    states = {"host": (repr(project.capture),), "python": (*_packages(), repr(project.capture))}
    return [
        replace(asked, probe=Remembered(asked.probe, states[asked.probe.name]))
        if asked.probe.name in states
        else asked
        for asked in probes
    ]


def _packages() -> list[object]:
    """Changes when something is installed or the path is, and when the program loads what numeric facts come from."""
    seen: list[object] = ["threadpoolctl" in sys.modules, "numpy" in sys.modules]
    for entry in sys.path:
        try:
            seen.append((entry, os.stat(entry or ".").st_mtime_ns))
        except OSError:
            seen.append((entry, 0))
    return seen
