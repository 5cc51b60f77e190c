"""`with capsula.run("name") as run`: a part of a program, recorded in a capsule."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from capsula.api import current as lives
from capsula.api.call import project_of
from capsula.api.lifetime import Hide, Lifetime
from capsula.api.live import Live
from capsula.config.project import Project


class Run:
    """What `capsula.run` answers: `with` or `async with` begins and ends it, each time in a capsule of its own. An
    exception that leaves the block is recorded and goes on."""

    def __init__(self, name: str, directory: str | os.PathLike[str] | None, items: tuple[str, ...]) -> None:
        self._name = name
        self._directory = directory
        self._items = items
        self._where = ""
        self._lives: list[Lifetime] = []

    def __enter__(self) -> Live:
        return self._begin(sys._getframe(1))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The same object may be used by several tasks at once.
        life = next((life for life in self._lives if life.live is lives.here()), self._lives[-1])
        self._lives.remove(life)
        life.end(life.command, error, lambda _: {})

    async def __aenter__(self) -> Live:
        return self._begin(sys._getframe(1))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def _begin(self, frame: Any) -> Live:
        try:
            file, line, function = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        except AttributeError:
            file, line, function = None, None, None
        self._where = f"{os.path.basename(file or '?')}:{line}"
        where = {"source_file": file, "source_line": line, "function_name": function}

        def find() -> Project:
            return project_of(self._directory, file if file and os.path.isfile(file) else None)

        def before(hide: Hide) -> dict[str, Any]:
            return {"run_name": hide(self._name or self._where), **where}

        life = Lifetime("run", find, self._items, before)
        life.command = self._name or self._where
        self._lives.append(life)
        return life.live


def run(
    name: str = "",
    *,
    directory: str | os.PathLike[str] | None = None,
    items: Iterable[str] = (),
) -> Run:
    """Record a part of a program in a capsule: `with capsula.run("train") as run: run.record("loss", 0.12, step=3)`.

    `directory` is the project's root; by default the nearest parent of the calling file that holds capsula.toml or
    .git. `items` are names of `[monitor.item.NAME]` in capsula.toml, whose files are recorded when the block has ended.
    Without a name it has that of the place in the program. What goes wrong in recording is a warning on stderr.
    """
    return Run(str(name), directory, (items,) if isinstance(items, str) else tuple(items))
