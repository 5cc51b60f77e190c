"""A live run from the beginning of its capsule to its sealing, whatever it is a run of. Nothing in here raises."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from capsula.api import current as lives
from capsula.api import steps
from capsula.api.at_work import at_work, is_at_work
from capsula.api.live import Live, warn
from capsula.config.project import Item, Project
from capsula.engine import recording, said
from capsula.engine.recording import Recorder
from capsula.errors import CapsulaError, UsageError
from capsula.execute.function import describe_exception


class Lifetime:
    """`before` gives the fields of pre-run-info.json that are of its kind alone. `live` is the current run from the
    moment that this is made; where no capsule can be made, it is one that keeps nothing."""

    recorder: Recorder | None = None
    # What is written down as the command of one that the program never ends.
    command = ""
    _is_over = False

    def __init__(
        self,
        kind: str,
        find: Callable[[], Project],
        names: tuple[str, ...],
        before: Callable[[Hide], Mapping[str, Any]],
    ) -> None:
        self.items: list[Item] = []
        self._pid = os.getpid()
        around = lives.current()
        self._parent = around.id or None if around is not None else None
        try:
            if not is_at_work():
                with at_work():
                    self._begin(kind, find(), names, before)
        except KeyboardInterrupt:
            if self.recorder is not None:
                self.recorder.seal("interrupted", {"parent": self._parent})
            raise
        except Exception as error:
            self._lost(error)
        self.live: Live = _begin_live(self.recorder)
        _open.add(self)
        self._began = time.monotonic()

    def end(
        self,
        command: str,
        error: BaseException | None,
        after: Callable[[Hide], Mapping[str, Any]],
        status: str | None = None,
        summary: Mapping[str, object] | None = None,
    ) -> None:
        """`after` gives the fields of post-run-info.json that are of its kind alone, `summary` such ones of
        capsule.json. Once is enough."""
        seconds = time.monotonic() - self._began
        if self._is_over:
            return
        self._is_over = True
        recorder, self.recorder = self.recorder, None
        _open.discard(self)
        lives.end(self.live)
        if recorder is None or self._pid != os.getpid():  # in a fork of the run the capsule is its parent's
            return
        how = status or status_of(error)
        told = {**self._summary(recorder.hidden(command), seconds), **(summary or {})}
        try:
            with at_work():
                self._end(recorder, seconds, error, after)
        except Exception as failed:
            recorder.trouble(f"not all is recorded: {type(failed).__name__}: {failed}")
        except KeyboardInterrupt:  # somebody has had enough: what there is is sealed all the same
            recorder.notes.append("not all is recorded: interrupted")
            self._seal(recorder, how, told)
            raise
        self._seal(recorder, how, told)

    def _seal(self, recorder: Recorder, how: str, summary: dict[str, object]) -> None:
        try:
            recorder.seal(how, summary)
        except Exception as failed:
            self._lost(failed)

    def begins_now(self) -> None:
        """What was done until now isn't part of the run's time."""
        self._began = time.monotonic()

    def _begin(
        self,
        kind: str,
        project: Project,
        names: tuple[str, ...],
        before: Callable[[Hide], Mapping[str, Any]],
    ) -> None:
        self.recorder = recorder = steps.begin(project, kind, warn)
        try:
            self.items = steps.items_of(project, names)
        except UsageError as error:
            recorder.trouble(error.what)
        if project.monitor.capture:
            steps.capture(recorder, project, again=True)
        recorder.write(
            recording.BEFORE,
            {
                "root_directory": recorder.root,
                "cwd": recorder.cwd,
                "timestamp": recording.now(),
                **before(recorder.hidden),
                "items": [item.name for item in self.items],
                "parent": self._parent,
                "inputs": steps.hashes(recorder, [rule for item in self.items for rule in item.inputs]),
            },
        )

    def _end(
        self,
        recorder: Recorder,
        seconds: float,
        error: BaseException | None,
        after: Callable[[Hide], Mapping[str, Any]],
    ) -> None:
        rules = [rule for item in self.items for rule in item.files]
        hide = recorder.hidden
        record: dict[str, Any] = {
            "root_directory": recorder.root,
            "timestamp": recording.now(),
            "run_time": recording.duration(seconds),
            "files": {**steps.hashes(recorder, rules), **said.named_files(recorder)},
            "inputs": said.read_files(recorder),
        }
        with recorder.attempt("can't tell what came out"):
            record |= after(hide)
        record["exception_info"] = describe_exception(error, hide) if error is not None else None
        recording.take(recorder, rules)
        record["notes"], record["troubles"] = recorder.notes, recorder.troubles
        recorder.write(recording.AFTER, record)

    def _summary(self, command: str, seconds: float) -> dict[str, object]:
        return {
            "command": command,
            "items": [item.name for item in self.items],
            "parent": self._parent,
            "seconds": round(seconds, 6),
        }

    def _lost(self, error: Exception) -> None:
        text = error.what if isinstance(error, CapsulaError) else f"{type(error).__name__}: {error}"
        warn(f"not recorded: {text}" if self.recorder is None else f"not all is recorded: {text}")


Hide = Callable[[str], str]


# Those that have begun and not ended.
_open: set[Lifetime] = set()


def _end_all() -> None:
    """A generator that nobody asks any more, a run that was entered by hand: later, when the interpreter takes itself
    apart, nothing can be written down."""
    for life in tuple(_open):
        life.end(life.command, None, lambda _: {}, status="interrupted")


atexit.register(_end_all)


def _begin_live(recorder: Recorder | None) -> Live:
    """One that keeps nothing, where there is no capsule."""
    if recorder is None or recorder.draft is None:
        return lives.begin("", "", str)
    return lives.begin(recorder.draft.path, recorder.draft.id, recorder.hidden)


def status_of(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished"
    asyncio: Any = sys.modules.get("asyncio")
    is_cancelled = asyncio is not None and isinstance(error, asyncio.CancelledError)
    return "interrupted" if is_cancelled or isinstance(error, KeyboardInterrupt | GeneratorExit) else "failed"
