"""The command of `capsula monitor` while it runs, and until its record is sealed: its environment, who watches it, and
what a signal does then."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capsula.api.current import LIVE
from capsula.execute.process import Outcome, run_command
from capsula.execute.spawn import child_environment
from capsula.execute.watch import Watch

if TYPE_CHECKING:
    from capsula import ports
    from capsula.engine.recording import Recorder


class Running:
    """One run. `summary` tells what the capsule says of it in any case."""

    def __init__(self, recorder: Recorder, summary: Callable[[], dict[str, object]], log_limit: int) -> None:
        self.recorder = recorder
        self.environ = dict(os.environb)
        self.folder: str | None = None
        mark = b""
        if recorder.draft is not None:
            self.folder = recorder.draft.path
            live, value = LIVE.encode(), os.fsencode(self.folder)
            self.environ[live] = value
            mark = live + b"=" + value
        self.watch = Watch(mark)
        self._log_limit = log_limit
        self._summary = summary
        self._came = False
        # What others may be waiting for isn't left behind.
        self.let_go: Callable[[], None] = lambda: None

    def run(self, command: tuple[str, ...]) -> Outcome:
        wanted = child_environment(self.environ)
        return run_command(
            command,
            wanted,
            spool_dir=self.folder,
            log_limit=self._log_limit,
            late=self.late,
            watch=self.watch,
        )

    def late(self, outcome: Outcome) -> None:
        """A signal came when the command had ended. The first is waited for: most who press Ctrl-C twice meant the
        command. At the second the capsule is left as it is, with how the command ended."""
        recorder = self.recorder
        if not self._came:
            self._came = True
            recorder.warn("the record is being sealed; once more, and it is left as it is")
            return
        recorder.troubles.append("it was left before it was sealed: a signal came twice")
        for log in (outcome.stdout, outcome.stderr):
            # As it was printed, with whatever credentials are in it. (What has no name goes with us.)
            if (
                log is not None
                and log.path is not None
                and os.path.isfile(log.path)
                and not os.path.islink(log.path)
            ):
                os.unlink(log.path)
        recorder.leave(status(outcome), {**self._summary(), **result(outcome)})
        self.let_go()
        os._exit(outcome.exit_code)

    def resources(self, outcome: ports.Outcome) -> dict[str, Any]:
        """{} where no process was made."""
        return self.watch.resources(outcome) if isinstance(outcome, Outcome) and outcome.started else {}


def status(outcome: ports.Outcome) -> str:
    if outcome.interrupted_by:
        return "interrupted"
    return "finished" if outcome.exit_code == 0 else "failed"


def result(outcome: ports.Outcome) -> dict[str, object]:
    return {"exit_code": outcome.exit_code, "seconds": round(outcome.seconds, 6)}


def let_go_of_stdout() -> None:
    """Who reads what the command wrote needn't wait for us to seal the record."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        return
