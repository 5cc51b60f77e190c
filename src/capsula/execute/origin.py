"""Where a module of Python comes from: the interpreter, an installed distribution, or the program itself."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
import sysconfig
from dataclasses import dataclass

_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Origin:
    """`distribution` and `version` of what is installed; both empty: `is_interpreters` or the program's own."""

    distribution: str = ""
    version: str = ""
    is_interpreters: bool = False

    @property
    def is_pinned(self) -> bool:
        """Whether its version stands for its code."""
        return self.is_interpreters or bool(self.distribution)


INTERPRETER, PROGRAM = Origin(is_interpreters=True), Origin()


def origin_of(module: str | None) -> Origin:
    """Of a module by its full name. What is installed for editing is the program's own: its version says nothing."""
    if not module or module == "__main__":
        return PROGRAM
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None) or getattr(
        sys.modules.get(top), "__file__", None
    )
    if file is None:
        return INTERPRETER if top in sys.stdlib_module_names else _installed(top) or PROGRAM
    return _of_file(top, file)


@functools.lru_cache(maxsize=4096)
def _of_file(top: str, file: str) -> Origin:
    # Not by the name: a file of the program's may be called like a module of the interpreter's.
    place = os.path.dirname(os.path.realpath(file))
    if any([part in _INSTALLED for part in place.split(os.sep)]):
        return _installed(top) or PROGRAM
    return INTERPRETER if _is_below_library(place) else PROGRAM


def _is_below_library(place: str) -> bool:
    for name in ("stdlib", "platstdlib"):
        library = os.path.realpath(sysconfig.get_path(name))
        if (place + os.sep).startswith(library + os.sep):
            return True
    return False


@functools.cache
def _installed(top: str) -> Origin | None:
    """The distribution that a top-level name belongs to. Most are called like it; asking for all takes much longer."""
    try:
        return Origin(top, importlib.metadata.version(top))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        pass
    names = sorted(set(importlib.metadata.packages_distributions().get(top, ())))
    if not names:
        return None
    return Origin("+".join(names), "+".join([importlib.metadata.version(name) for name in names]))
