"""Build hook: the modules of a run, compiled, in one file of the wheel (capsula.cli.together says why)."""

from __future__ import annotations

import marshal
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Imported on the way to a miss. What else a run needs (terminals, TOML, the trash, words for people) comes as always.
MODULES = """
    errors ports plugins
    cli/__init__ cli/record cli/recalled cli/wrapper
    config/__init__ config/options config/places config/settings config/values
    core/__init__ core/action core/capsule core/compare core/context core/digest core/facts core/glob core/names
    core/node core/reapi core/recipe core/result core/secrets core/tree core/wire
    engine/__init__ engine/job engine/keep engine/run
    execute/__init__ execute/process execute/relay execute/spawn execute/stdio
    observe/__init__ observe/journal
    probe/__init__ probe/environment
    store/__init__ store/burial store/disk store/files store/flight store/layout store/past store/size
    worktree/__init__ worktree/digests worktree/kept worktree/listing worktree/restore worktree/survey
    worktree/workspace
""".split()  # noqa: SIM905 - a list of forty quoted names, one a line, says no more


class TogetherHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # the sources change from one run to the next
        made = Path(self.directory) / f"together.{sys.implementation.cache_tag}.bin"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(MAGIC_NUMBER + marshal.dumps(compiled(Path(self.root) / "src" / "capsula")))
        build_data["force_include"][str(made)] = f"capsula/{made.name}"


def compiled(package: Path) -> dict[str, tuple[CodeType, bool]]:
    """By module name: its code, and whether it is a package."""
    found: dict[str, tuple[CodeType, bool]] = {}
    for name in MODULES:
        path = package / f"{name}.py"
        # Without docstrings, which are half of it.
        code = compile(path.read_bytes(), f"capsula/{name}.py", "exec", dont_inherit=True, optimize=2)
        dotted = name.removesuffix("/__init__").replace("/", ".")
        found[f"capsula.{dotted}"] = (code, name.endswith("/__init__"))
    return found
