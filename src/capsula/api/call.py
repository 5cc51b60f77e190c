"""One call of a monitored function: what is asked of all its calls, and its capsule."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capsula.api.lifetime import Hide, Lifetime
from capsula.config.project import Project, find_project
from capsula.execute import function as functions
from capsula.execute.values import represent


@dataclass(slots=True)
class Plan:
    """What one decorated function needs at each call. The configuration is read at the first."""

    function: Callable[..., Any]
    directory: str | os.PathLike[str] | None
    names: tuple[str, ...]
    include_return_value: bool
    _project: Project | None = None
    _facts: dict[str, Any] = field(default_factory=dict)
    _signature: inspect.Signature | None = None

    def project(self) -> Project:
        if self._project is None:
            self._project = project_of(self.directory, _file_of(self.function))
        return self._project

    def facts(self) -> dict[str, Any]:
        if not self._facts:
            self._facts = functions.describe(self.function)
        return self._facts

    def signature(self) -> inspect.Signature | None:
        if self._signature is None:
            self._signature = functions.signature_of(self.function)
        return self._signature


class Call:
    """One call, from before it begins until after it has ended. Nothing in here raises."""

    def __init__(self, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._plan = plan
        self._life = Lifetime(
            "function", plan.project, plan.names, lambda hide: self._before(args, kwargs, hide)
        )
        self.live = self._life.live
        if self._life.recorder is not None:
            self._life.recorder.learn(functions.secret_texts(plan.signature(), args, kwargs))

    def end(self, result: Any = None, error: BaseException | None = None, yielded: int | None = None) -> None:
        try:
            facts = self._plan.facts()
            command = f"{facts['module']}.{facts['qualified_name']}"
        except Exception:
            command = "?"
        self._life.end(command, error, lambda hide: self._after(result, error, yielded, hide))

    def _before(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
        facts = self._plan.facts()
        seed = {name: facts[name] for name in ("source_file", "source_line", "function_name")}
        return {
            **seed,
            **functions.describe_call(self._plan.signature(), args, kwargs, hide),
            **{name: value for name, value in facts.items() if name not in seed},
        }

    def _after(
        self, result: Any, error: BaseException | None, yielded: int | None, hide: Hide
    ) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if self._plan.include_return_value:
            told["return_value"] = represent(result, hide) if error is None else None
        if yielded is not None:
            told["yielded"] = yielded
        return told


def project_of(directory: str | os.PathLike[str] | None, file: str | None) -> Project:
    """The project that was named, else that of the source file."""
    place = Path(file).resolve().parent if file else Path.cwd()
    # Installed packages are nobody's project: there it is the one that the program runs in.
    if not place.is_dir() or {"site-packages", "dist-packages"} & {*place.parts}:
        place = Path.cwd()
    return find_project(os.fspath(directory) if directory is not None else None, str(place))


def _file_of(function: Callable[..., Any]) -> str | None:
    try:
        return inspect.getsourcefile(functions.innermost(function))
    except TypeError:
        return None
