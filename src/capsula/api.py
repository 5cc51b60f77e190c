"""What programs call: `@capsula.monitor`, and the steps of a recorded run that it shares with the command line."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from capsula import plugins
from capsula.config.project import Item, Project, find_project
from capsula.core.names import printable
from capsula.core.secrets import mask_log, telling_values
from capsula.engine import recording
from capsula.engine.recording import Recorder
from capsula.errors import CapsulaError, UsageError
from capsula.execute import function as functions

if TYPE_CHECKING:
    from capsula.ports import FileRule

F = TypeVar("F", bound=Callable[..., Any])

# Tells a monitored program, and what it runs, which capsule is being written.
LIVE = "CAPSULA_CAPSULE"
_current: ContextVar[str] = ContextVar("capsula_current", default="")


def begin(project: Project, kind: str, warn: Callable[[str], None]) -> Recorder:
    """A new capsule in the vault; where none can be made (a full disk) that is said, and nothing is kept."""
    draft = None
    try:
        draft = plugins.open_vault(project.vault).begin(
            project.capsule_template, datetime.now(UTC).astimezone(), kind
        )
    except (CapsulaError, OSError) as error:
        reason = error.what if isinstance(error, CapsulaError) else error.strerror
        warn(f"not recorded: no capsule can be made in {printable(project.vault)}: {reason}")
    keep = {os.environ[name] for name in project.capture.keep if name in os.environ}
    return Recorder(draft, project.root, os.getcwd(), warn, telling_values(os.environ) - keep)


def capture(recorder: Recorder, project: Project) -> bool:
    """The context, as the project says; whether all of it could be looked at."""
    commands = project.capture.pre_capture_commands
    is_whole = recording.run_first(recorder, commands, lambda command: _shell(command, project.root))
    probes = plugins.recording_probes(project, os.environ)
    return recording.capture(recorder, probes, project.capture.files) and is_whole


def items_of(project: Project, names: Iterable[str]) -> list[Item]:
    """Raises UsageError for a name that the project doesn't have."""
    found = []
    for name in names:
        if name not in project.monitor.items:
            known = ", ".join(printable(each) for each in project.monitor.items)
            raise UsageError(
                f"there is no item {printable(name)}",
                hint=f"the items of {project.file}: {known}"
                if known
                else f"an item is a section of capsula.toml: [monitor.item.{printable(name)}.files]",
            )
        found.append(project.monitor.items[name])
    return found


def hashes(recorder: Recorder, rules: Iterable[FileRule]) -> dict[str, Any]:
    """path -> {hash_algorithm, file_hash} of the files that an item names."""
    pairs = tuple((rule.path, rule.hash) for rule in rules)
    section: dict[str, Any] = {}
    with recorder.attempt("can't hash the files of the item"):
        found = plugins.files_probe(pairs, recorder.root).read()
        recorder.notes.extend(found.left_out)
        section.update(found.sections["files"])  # type: ignore[arg-type]
    return section


def _shell(command: str, root: str) -> int:
    # On stderr: what the monitored program writes to stdout is its own.
    return subprocess.run(
        command, shell=True, cwd=root, stdin=subprocess.DEVNULL, stdout=_stderr(), check=False
    ).returncode


def _stderr() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # a notebook, a test, a closed one
        return subprocess.DEVNULL


def monitor(
    function: Any = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    items: Iterable[str] = (),
    include_return_value: bool = True,
) -> Any:
    """Record every call of a function in a capsule of its own.

    `directory` is the project's root; by default the nearest parent of the function's file that holds capsula.toml or
    .git. `items` are names of `[monitor.item.NAME]` in capsula.toml, whose files are recorded when the call has ended.
    Works on functions, methods, coroutines and generators; arguments, result, exceptions and speed of the function stay
    what they are. What goes wrong in recording is a warning on stderr. Raises only while decorating, for an item that
    isn't configured.
    """
    if function is not None:
        return monitor(directory=directory, items=items, include_return_value=include_return_value)(function)

    def decorate(wrapped: F) -> F:
        wrapper: F = _wrap(wrapped, _Plan(wrapped, directory, tuple(items), include_return_value))
        return wrapper

    return decorate


@dataclass(slots=True)
class _Plan:
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


class _Call:
    """One call: its capsule from before it begins until after it has ended. Nothing in here raises."""

    def __init__(self, plan: _Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.plan = plan
        self.recorder: Recorder | None = None
        self.items: list[Item] = []
        self.parent = _current.get() or os.environ.get(LIVE, "")
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
        self.recorder = recorder = begin(project, "function", _warn)
        try:
            self.items = items_of(project, self.plan.names)
        except UsageError as error:
            recorder.trouble(error.what)
        if project.monitor.capture:
            capture(recorder, project)
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
                "inputs": hashes(recorder, [rule for item in self.items for rule in item.inputs]),
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
            "files": hashes(recorder, rules),
        }
        if self.plan.include_return_value:
            record["return_value"] = functions.represent(result)
        hidden = functools.partial(_hidden, recorder)
        record["exception_info"] = functions.describe_exception(error, hidden) if error is not None else None
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


def _hidden(recorder: Recorder, text: str) -> str:
    return mask_log(text, recorder.values)[0]


def _warn(text: str) -> None:
    try:
        print(f"capsula: {text}", file=sys.stderr)
    except (OSError, ValueError, AttributeError):
        return


def _wrap(function: Any, plan: _Plan) -> Any:
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inner):
        return _wrap_coroutine(function, plan)
    if inspect.isasyncgenfunction(inner):
        return _wrap_async_generator(function, plan)
    if inspect.isgeneratorfunction(inner):
        return _wrap_generator(function, plan)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call(plan, args, kwargs)
        token = _current.set(call.path)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        finally:
            _current.reset(token)
        call.end(result)
        return result

    return wrapper


def _wrap_coroutine(function: Any, plan: _Plan) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call(plan, args, kwargs)
        token = _current.set(call.path)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        finally:
            _current.reset(token)
        call.end(result)
        return result

    return wrapper


def _wrap_generator(function: Any, plan: _Plan) -> Any:
    """From the first value asked for until there is none any more, or nobody asks."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call(plan, args, kwargs)
        try:
            result = yield from function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        call.end(result)
        return result

    return wrapper


def _wrap_async_generator(function: Any, plan: _Plan) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call(plan, args, kwargs)
        values = function(*args, **kwargs)
        try:
            try:
                value = await anext(values)
                while True:
                    try:
                        sent = yield value
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        value = await values.athrow(thrown)
                    else:
                        value = await values.asend(sent)
            except StopAsyncIteration:
                pass
            finally:
                await values.aclose()
        except BaseException as error:
            call.end(error=error)
            raise
        call.end()

    return wrapper
