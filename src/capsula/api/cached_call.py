"""One call of a monitored function as a cached action: its key, its result from the store, and what is kept of it.

The function itself is called by whoever called it before, in its own thread, task and context: here is only what comes
before and after.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsula import engine
from capsula.api import cached, turns
from capsula.api.declared import Declared
from capsula.api.turns import AloneTree, NoTurns, Turns, sweep_apart
from capsula.config.project import Project
from capsula.engine.job import Attempt
from capsula.engine.recording import Recorder
from capsula.engine.run import begin, finish
from capsula.errors import CapsulaError, UsageError, in_one_line
from capsula.execute.canonical import Unkeyable
from capsula.execute.code import call_facts
from capsula.execute.sharing import why_no_copy
from capsula.execute.stored_value import decode, encode

if TYPE_CHECKING:
    from capsula.core.facts import Fact

    Order = tuple[tuple[int, int], ...]

# What stands for the program in the key; it changes when the form of functions' keys or values does.
PROGRAM = "capsula:call:2"


class Captured:
    """A return value as it is stored; the contract is in ports.Captured."""

    path: str | None = None

    def __init__(self, content: bytes) -> None:
        self.left_out = 0
        self.content: bytes | None = content
        self.size = len(content)


class Returned:
    """How a call went, as the engine takes it: its return value is what a command would have printed. The contract is
    in ports.Outcome."""

    started = True
    order: Order = ()
    left_open = False
    signal: int | None = None
    write_error: int | None = None
    interrupted_by = 0
    stderr: Captured | None = None

    def __init__(self, seconds: float, value: bytes | None, reason: str) -> None:
        self.exit_code = 0 if value is not None else 1
        self.seconds = seconds
        self.end_ns = time.time_ns()
        self.start_ns = self.end_ns - int(seconds * 1e9)
        self.stdout = Captured(value) if value is not None else None
        self.cut = bool(reason)
        self.reason = reason


class CachedCall:
    """Raises CapsulaError when the call can't be a cached action."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        declared: Declared,
        project: Project,
        recorder: Recorder,
    ) -> None:
        self._function = function
        self._home = str(getattr(inspect.unwrap(function), "__module__", ""))
        self._arguments = _bound(function, args, kwargs)
        self._names_variables = bool(declared.environment)
        self._facts = (("cwd", _place(project.root)), *self._look())
        name = name_of(function)
        self.session = cached.open_session(
            declared,
            project,
            recorder,
            (PROGRAM, name),
            name=name,
            cwd=os.path.realpath(project.root),
            more=("--capture_stdout", "--no_capture_stderr"),
        )
        world = self.session.world
        cached.add_facts(self.session, self._facts)
        world.tree = AloneTree(world.tree)
        world.flight = (
            NoTurns() if inspect.iscoroutinefunction(inspect.unwrap(function)) else Turns(world.flight)
        )
        world.replay = self._replay
        self.value: Any = None
        self._raised = False
        self._attempt = Attempt(self.session.recipe, self.session.policy, world)

    def _look(self, values: list[Any] | None = None) -> tuple[Fact, ...]:
        return call_facts(self._function, self._arguments, values, variables=self._names_variables)

    def is_settled(self) -> bool:
        """Whether `value` is the result of an earlier run; else the function has to run."""
        if begin(self._attempt) or self._attempt.report.outcome != engine.HIT:
            return False
        self._note()
        return True

    def finish(self, result: Any, error: BaseException | None, seconds: float) -> None:
        """The function has run: keep its result, unless something forbids it. Raises nothing."""
        report = self._attempt.report
        content, reason = None, ""
        self._raised = error is not None
        if error is not None:
            reason = f"the function raised {type(error).__name__}"
        else:
            try:
                content = encode(result, self._home)
                self._check_that_nothing_moved(result)
            except Unkeyable as refusal:
                reason = (
                    refusal.what if content is not None else f"its return value isn't stored: {refusal.what}"
                )
            except Exception as failure:
                reason = in_one_line(failure)
        finish(self._attempt, Returned(seconds, content, reason))
        if reason and report.outcome != engine.UNCACHED:
            report.not_stored = reason
        self._note()

    def told(self) -> dict[str, Any]:
        result = cached.told(self.session, self._attempt.report)
        if self._attempt.report.log_mismatch:
            result["differs"].append("the return value differs from the cached one")
        return result

    def problem(self) -> CapsulaError | None:
        """What is wrong with what is declared, with the store, or with keeping the result; that it raised is nothing
        wrong."""
        report = self._attempt.report
        if report.outcome == engine.UNCACHED:
            return report.problem
        return CapsulaError(report.not_stored) if report.not_stored and not self._raised else None

    def _replay(self, stdout: bytes | str, stderr: bytes | str, order: Order) -> None:  # noqa: ARG002 - World.replay
        content = stdout
        if isinstance(content, str):
            path = Path(content)
            content = path.read_bytes()
            path.unlink()
        self.value = decode(content, self._home)

    def _check_that_nothing_moved(self, result: Any) -> None:
        """An argument or a global that the call has changed isn't what its key says; a hit would leave it as it is. So
        it would when the program changes what it got, if that is one of them."""
        values: list[Any] = []
        facts = self._look(values)
        if why := why_no_copy(result, values):
            raise Unkeyable(f"its return value isn't stored: {why}")
        before, after = dict(_rows(self._facts)), dict(_rows(facts))
        for row, content in after.items():
            if before.get(row) != content:
                raise Unkeyable(f"{' '.join(row)} changed while the function ran")

    def _note(self) -> None:
        try:
            with turns.alone:
                cached.note(self.session, self._attempt.report, start=sweep_apart)
        except Exception as error:  # the call is answered, or has run
            self.session.world.say(f"not all is recorded: {type(error).__name__}: {error}")
        self.session.remove_spools()


def _rows(facts: tuple[Fact, ...]) -> list[tuple[Fact, str]]:
    return [(fact[:-1], fact[-1]) for fact in facts]


def _place(root: str) -> str:
    """The current directory as seen from the project's root: a name like `numbers.txt` is meant in it."""
    here, top = os.path.realpath(os.getcwd()), os.path.realpath(root)
    return os.path.relpath(here, top) if os.path.commonpath((here, top)) == top else here


def _bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the arguments don't fit: {error}") from error
    bound.apply_defaults()
    return dict(bound.arguments)


def name_of(function: Callable[..., Any]) -> str:
    """`file.qualified_name`: the same whether the file is run or imported."""
    inner: Any = inspect.unwrap(function)
    module = getattr(inner, "__module__", None) or "unknown"
    if module == "__main__":
        module = Path(getattr(sys.modules["__main__"], "__file__", None) or "main").stem
    return f"{module.rpartition('.')[2]}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"


def refuse_what_cannot_be_cached(function: Callable[..., Any], *, keeps_value: bool) -> None:
    """Raises UsageError for a kind of function whose result is no value that could be kept."""
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise UsageError("a generator has no result that could be kept")
    if not keeps_value:
        raise UsageError("its return value isn't to be kept (include_return_value=False)")
