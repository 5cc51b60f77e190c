"""`capsula monitor --cache`: the command's result is fetched instead of made where nothing has changed that it depends
on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capsula import engine
from capsula.api import cached
from capsula.api.declared import Declared
from capsula.cli.leaving import let_go_first
from capsula.cli.narrate import SEEN
from capsula.config.project import Project
from capsula.core.names import printable
from capsula.errors import UsageError, in_one_line
from capsula.execute.stdio import in_order, replay
from capsula.plugins import cached_run, telemetry

if TYPE_CHECKING:
    from capsula.cli.running import Running
    from capsula.ports import Outcome

    Order = tuple[tuple[int, int], ...]


class Log:
    """A stored log as a run would have captured it; the contract is in ports.Captured."""

    def __init__(self, log: bytes | str) -> None:
        self.left_out = 0
        self.content = None if isinstance(log, str) else log
        self.path = log if isinstance(log, str) else None
        self.size = os.path.getsize(log) if isinstance(log, str) else len(log)


class Found:
    """What became of a run that was answered from the store: no process was made, so it has no times but those of the
    look-up. The contract is in ports.Outcome."""

    started = False
    left_open = False
    cut = False
    signal: int | None = None
    interrupted_by = 0
    reason = ""

    def __init__(self, report: engine.Report, start_ns: int, logs: tuple[Log | None, Log | None]) -> None:
        self.exit_code = report.exit_code
        self.write_error: int | None = report.unwritten or None
        self.order: Order = report.logs[2] if report.logs is not None else ()
        self.start_ns = start_ns
        self.end_ns = time.time_ns()
        self.seconds = (self.end_ns - start_ns) / 1e9
        self.stdout, self.stderr = logs


class CachedCommand:
    """One run of a command with its session. What the engine does with the outside world goes through here, so that the
    capsule can tell of it."""

    def __init__(self, session: cached_run.Session, running: Running) -> None:
        self.session = session
        self.running = running
        self.start_ns = time.time_ns()
        self.outcome: Outcome | None = None
        self.logs: tuple[Log | None, Log | None] = (None, None)
        self._report: engine.Report | None = None
        session.place = telemetry.place_of(os.environ, session.settings)
        session.world.execute = self._execute
        session.world.replay = self._replay
        if session.remotes is not None:
            remotes = session.remotes
            running.let_go = remotes.let_go
            remotes.holds = lambda: let_go_first(remotes.let_go)

    def run(self) -> tuple[Outcome, dict[str, Any]]:
        """The outcome, and what the capsule tells of the result. Raises nothing once the command has run."""
        session = self.session
        report = self._report = engine.run(session.recipe, session.policy, session.world)
        if self.outcome is None and report.outcome != engine.HIT:
            self._execute("")
        outcome = self.outcome or Found(report, self.start_ns, self.logs)
        result: dict[str, Any] = cached.uncached("it can't be told what happened")
        try:
            result = cached.told(session, report)
            cached.note(session, report)
        except Exception as error:
            session.world.say(f"not all is recorded: {type(error).__name__}: {error}")
        return outcome, result

    def end(self) -> None:
        """When the capsule is sealed."""
        self.session.remove_spools()
        if self.session.place is not None and self._report is not None:
            telemetry.report(self.session, self._report, self.session.place, self.session.world.say)

    def _execute(self, inputs_hash: str) -> Outcome:
        session = self.session
        self.outcome = cached_run.execute(
            session.recipe,
            session.environment(self.running.environ),
            inputs_hash,
            session.store_root,
            session.spools,
            watch=self.running.watch,
            late=self.running.late,
        )
        return self.outcome

    def _replay(self, stdout: bytes | str, stderr: bytes | str, order: Order) -> int:
        captures = self.session.recipe.captures
        self.logs = (Log(stdout) if captures[0] else None, Log(stderr) if captures[1] else None)
        # Files of long logs stay until the capsule has its copy.
        self.session.spools += [log for log in (stdout, stderr) if isinstance(log, str)]
        return replay(in_order(stdout, stderr, order))


def run(
    running: Running,
    project: Project,
    declared: Declared,
    command: tuple[str, ...],
    *,
    name: str | None,
) -> tuple[Outcome, dict[str, Any], Callable[[], None]]:
    """The outcome, what the capsule tells of the result, and what is to be called when it has its logs. Where it can't
    be a cached action, it is run plainly, and the reason is said."""
    recorder = running.recorder
    try:
        if not (declared.inputs or declared.environment or declared.context):
            raise UsageError(
                "nothing says what the result depends on",
                hint="name it with --input 'src/**', or in capsula.toml under [monitor.item.NAME.inputs]",
            )
        session = cached.open_session(declared, project, recorder, command, name=name, cwd=recorder.cwd)
        ready = CachedCommand(session, running)
    except Exception as error:
        reason = in_one_line(error)
        recorder.notes.append(f"not cached: {reason}")
        recorder.warn(f"not cached: {reason}")
        return running.run(command), cached.uncached(reason), lambda: None
    outcome, result = ready.run()
    return outcome, result, ready.end


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What capsule.json says of it."""
    return cached.summary(result)


def sentence(result: dict[str, Any]) -> str:
    """What is said of it on stderr; "" when there is nothing to say."""
    made_by = result["made_by"]
    if result["outcome"] == engine.HIT and made_by is not None:
        capsule = f", capsule {printable(made_by['capsule'])}" if made_by["capsule"] else ""
        when = made_by["started"][:19].replace("T", " ")
        return (
            f"hit: made by run {printable(made_by['run'])} on {printable(made_by['host'])} at {when}{capsule}"
        )
    if result["outcome"] == engine.UNCACHED and result.get("run"):
        return f"not cached: {printable(result['why'])}"
    if result.get("not_stored") and not result["not_stored"].startswith(SEEN):
        return f"the result is not cached: {printable(result['not_stored'])}"
    if result.get("differs"):
        return f"not deterministic: {len(result['differs'])} difference(s) from the cached result"
    return ""
