"""One call of a monitored function: what is asked of all its calls, and its capsule."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsula.api.at_work import at_work, is_at_work
from capsula.api.lifetime import Hide, Lifetime
from capsula.api.live import warn
from capsula.config.project import Item, Project, find_project
from capsula.errors import UsageError, in_one_line
from capsula.execute import function as functions
from capsula.execute.values import represent

if TYPE_CHECKING:
    from capsula.api.cached_call import CachedCall
    from capsula.api.declared import Declared

# What has been said of functions that can't be cached.
_told: set[tuple[str, str]] = set()


@dataclass(slots=True)
class Plan:
    """What one decorated function needs at each call. The configuration is read at the first."""

    function: Callable[..., Any]
    directory: str | os.PathLike[str] | None
    names: tuple[str, ...]
    include_return_value: bool
    cache: bool | None = None
    # Patterns of inputs and outputs, names of variables, and of sections of the context.
    declared: tuple[tuple[str, ...], ...] = ()
    _project: Project | None = None
    _facts: dict[str, Any] = field(default_factory=dict)
    _signature: inspect.Signature | None = None

    def project(self) -> Project:
        if self._project is None:
            self._project = project_of(self.directory, _file_of(self.function))
        return self._project

    def items(self) -> list[Item]:
        """Those that there are; what is wrong with a name is told elsewhere."""
        known = self.project().monitor.items
        return [known[name] for name in self.names if name in known]

    def asks_for_cache(self) -> bool:
        """As it was decorated, else as one of its items says. What capsula.toml says of all runs is for commands, which
        declare what they read: a function would have to as well."""
        if self.cache is not None:
            return self.cache
        try:
            return any(item.cache for item in self.items())
        except Exception:  # a capsula.toml that can't be read: that is told when the capsule begins
            return False

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
        self._pid = os.getpid()
        self._life = Lifetime(
            "function", plan.project, plan.names, lambda hide: self._before(args, kwargs, hide)
        )
        self._life.command = self._command()
        self.live = self._life.live
        if (recorder := self._life.recorder) is not None:
            with at_work(), recorder.attempt("can't look for credentials in the arguments"):
                recorder.learn(functions.secret_texts(plan.signature(), args, kwargs))
        # For a hit, what the function would have returned: it needn't be called.
        self.value: Any = None
        self.is_settled = False
        self._cached: CachedCall | None = None
        self._uncached: dict[str, Any] | None = None
        self._began = time.monotonic()
        if not is_at_work() and plan.asks_for_cache():
            self._look_up(args, kwargs)
            self._began = time.monotonic()

    def end(self, result: Any = None, error: BaseException | None = None, yielded: int | None = None) -> None:
        found = self._keep(result, error)
        summary = {name: found[name] for name in ("outcome", "why", "key", "made_by")} if found else None
        self._life.end(
            self._life.command,
            error,
            lambda hide: {
                **self._after(result, error, yielded, hide),
                **({"result": found} if found else {}),
            },
            summary=summary,
        )

    def _command(self) -> str:
        try:
            facts = self._plan.facts()
            return f"{facts['module']}.{facts['qualified_name']}"
        except Exception:
            return "?"

    def _look_up(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Ask the store for the result. Whatever is wrong with that, the function runs."""
        try:
            with at_work():
                self._cached = self._as_action(args, kwargs)
            self.is_settled = self._cached.is_settled()
        except KeyboardInterrupt as error:  # while another run of the same action was waited for
            self.end(error=error)
            raise
        except Exception as error:
            self._uncached = {"outcome": "uncached", "why": self._say(error), "key": None, "made_by": None}
        if self.is_settled and self._cached is not None:
            self.value = self._cached.value
            self.end(self.value)
        else:
            self._life.begins_now()

    def _as_action(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CachedCall:
        from capsula.api import cached_call

        plan = self._plan
        cached_call.refuse_what_cannot_be_cached(plan.function, keeps_value=plan.include_return_value)
        if self._life.recorder is None:
            raise UsageError("it isn't recorded")
        return cached_call.CachedCall(
            plan.function,
            args,
            kwargs,
            declared=self._declared(),
            project=plan.project(),
            recorder=self._life.recorder,
        )

    def _keep(self, result: Any, error: BaseException | None) -> dict[str, Any] | None:
        """What the capsule tells of the cached result, which is kept if the function has run."""
        cached, self._cached = self._cached, None
        if cached is None or self._pid != os.getpid():
            return self._uncached
        try:
            if not self.is_settled:
                with at_work():
                    cached.finish(result, error, time.monotonic() - self._began)
                if problem := cached.problem():
                    self._say(problem)
            return cached.told()
        except Exception as failed:
            warn(f"not all is recorded: {type(failed).__name__}: {failed}")
            return self._uncached

    def _say(self, error: Exception) -> str:
        """The reason, once for each function on stderr: it may be called a million times."""
        reason = in_one_line(error)
        told = (getattr(self._plan.function, "__qualname__", "a function"), reason)
        if told not in _told:
            _told.add(told)
            warn(f"{told[0]}() is not cached: {reason}")
        return reason

    def _declared(self) -> Declared:
        from capsula.api import declared

        return declared.declare(
            declared.Declared(*self._plan.declared), self._plan.project(), self._plan.items()
        )

    def _before(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
        facts = self._plan.facts()
        seed = {name: facts[name] for name in ("source_file", "source_line", "function_name")}
        return {
            **seed,
            **functions.describe_call(self._plan.signature(), args, kwargs, hide),
            **({"cache": self._declared().to_json()} if self._plan.asks_for_cache() else {}),
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
