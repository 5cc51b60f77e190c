"""One call of a monitored function: what is asked of all its calls, and its capsule."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capsula.api import steps
from capsula.api.steps import LIVE
from capsula.config.project import Item, Project, find_project
from capsula.engine import recording
from capsula.engine.recording import Recorder
from capsula.errors import UsageError
from capsula.execute import function as functions

current_path: ContextVar[str] = ContextVar("capsula_current", default="")


@dataclass(slots=True)
class Plan:
    """What one decorated function needs at each call. The configuration is read at the first."""

    function: Callable[..., Any]
    directory: str | os.PathLike[str] | None
    names: tuple[str, ...]
    include_return_value: bool
    _project: Project | None = None
    _facts: dict[str, Any] = field(default_factory=dict)

    def project(self) -> Project:
        if self._project is None:
            given = os.fspath(self.directory) if self.directory is not None else None
            self._project = find_project(given, self._place())
        return self._project

    def facts(self) -> dict[str, Any]:
        if not self._facts:
            self._facts = functions.describe(self.function)
        return self._facts

    def _place(self) -> str:
        try:
            file = inspect.getsourcefile(inspect.unwrap(self.function))
        except TypeError:
            file = None
        place = Path(file).resolve().parent if file else Path.cwd()
        return str(place if place.is_dir() else Path.cwd())


class Call:
    """One call: its capsule from before it begins until after it has ended. Nothing in here raises."""

    def __init__(self, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.plan = plan
        self.recorder: Recorder | None = None
        self.items: list[Item] = []
        self.parent = current_path.get() or os.environ.get(LIVE, "")
        self.began = time.monotonic()
        try:
            self._begin(args, kwargs)
        except Exception as error:
            _warn(f"not recorded: {type(error).__name__}: {error}")
        self.began = time.monotonic()

    @property
    def path(self) -> str:
        return (
            self.recorder.draft.path if self.recorder is not None and self.recorder.draft is not None else ""
        )

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        project = self.plan.project()
        self.recorder = recorder = steps.begin(project, "function", _warn)
        try:
            self.items = steps.items_of(project, self.plan.names)
        except UsageError as error:
            recorder.trouble(error.what)
        if project.monitor.capture:
            steps.capture(recorder, project)
        facts = self.plan.facts()
        seed = {name: facts[name] for name in ("source_file", "source_line", "function_name")}
        recorder.write(
            recording.BEFORE,
            {
                "root_directory": recorder.root,
                "cwd": recorder.cwd,
                "timestamp": recording.now(),
                **seed,
                **functions.describe_call(self.plan.function, args, kwargs),
                **{name: value for name, value in facts.items() if name not in seed},
                "parent": self.parent or None,
                "inputs": steps.hashes(recorder, [rule for item in self.items for rule in item.inputs]),
            },
        )

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        seconds = time.monotonic() - self.began
        if self.recorder is None:
            return
        try:
            self._end(self.recorder, seconds, result, error)
        except Exception as failed:
            _warn(f"not recorded: {type(failed).__name__}: {failed}")

    def _end(self, recorder: Recorder, seconds: float, result: Any, error: BaseException | None) -> None:
        rules = [rule for item in self.items for rule in item.files]
        record: dict[str, Any] = {
            "root_directory": recorder.root,
            "timestamp": recording.now(),
            "run_time": recording.duration(seconds),
            "files": steps.hashes(recorder, rules),
        }
        if self.plan.include_return_value:
            record["return_value"] = functions.represent(result)
        record["exception_info"] = (
            functions.describe_exception(error, recorder.hidden) if error is not None else None
        )
        recording.take(recorder, rules)
        record["notes"], record["troubles"] = recorder.notes, recorder.troubles
        recorder.write(recording.AFTER, record)
        facts = self.plan.facts()
        recorder.seal(
            "finished" if error is None else _status(error),
            {
                "command": f"{facts['module']}.{facts['qualified_name']}",
                "items": [item.name for item in self.items],
                "parent": self.parent or None,
                "seconds": round(seconds, 6),
            },
        )


def _status(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "finished" if error.code in (None, 0) else "failed"
    return "interrupted" if isinstance(error, KeyboardInterrupt | GeneratorExit) else "failed"


def _warn(text: str) -> None:
    try:
        print(f"capsula: {text}", file=sys.stderr)
    except (OSError, ValueError, AttributeError):
        return
