"""`capsula capture` and `capsula monitor`: the context of now, and the run of a command, sealed in the vault."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from capsula import ports
from capsula.api import declared as declaring
from capsula.api import steps
from capsula.api.declared import Declared
from capsula.cli.recall import is_watched
from capsula.cli.running import Running, let_go_of_stdout, status
from capsula.cli.running import result as result_of
from capsula.config.project import Item, Project, find_project, keeping
from capsula.core.names import printable
from capsula.core.secrets import hidden_words, mask_words
from capsula.engine import recording
from capsula.engine.recording import Recorder
from capsula.errors import UsageError, in_one_line
from capsula.execute.process import run_command
from capsula.execute.spawn import child_environment

# As for `capsule --strict`: it was us, not the command.
NOT_RUN = 125


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of `capsula monitor`: what is before the command, and the command as it stands."""

    directory: str | None
    items: tuple[str, ...]
    quiet: bool
    command: tuple[str, ...]
    keep: tuple[str, ...] = ()
    cache: bool | None = None
    declared: Declared = field(default_factory=Declared)


def capture(directory: str | None, keep: Sequence[str] = (), *, quiet: bool) -> int:
    """0 when all of the context could be looked at, else 1: the capsule is sealed all the same."""
    project = keeping(find_project(directory, os.getcwd()), keep)
    recorder = steps.begin(project, "capture", _warn)
    if recorder.draft is None:
        return 1
    is_whole = steps.capture(recorder, project)
    recorder.seal("finished" if is_whole else "failed", {})
    if not quiet:
        print(recorder.draft.path)
    return 0 if is_whole else 1


def monitor(words: Sequence[str]) -> int:
    """The command's own exit code. A bad option stops it; whatever fails once that is read, the command runs, unless
    it is a probe that the user requires."""
    asked = read_words(words)
    try:
        here = os.getcwd()
    except OSError as error:
        _warn(f"not recorded: there is no current directory: {error.strerror}")
        return _unrecorded(asked.command)
    project = keeping(find_project(asked.directory, here), asked.keep)
    items = steps.items_of(project, asked.items)
    began, declared = time.time_ns(), None
    if declaring.is_wanted(asked.cache, project, items):
        declared = declaring.declare(asked.declared, project, items)
    recorder = steps.begin(project, "monitor", _warn)
    try:
        recorder.learn(hidden_words(asked.command))
        _before(recorder, project, items, asked.command, declared)
    except KeyboardInterrupt:
        recorder.seal("interrupted", _summary(asked))
        raise
    except Exception as error:
        recorder.trouble(in_one_line(error))
    if recorder.missing:
        names = ", ".join(map(printable, recorder.missing))
        recorder.trouble(f"the command isn't run: {names} is required in capsula.toml and failed")
        recorder.seal("failed", {**_summary(asked), "exit_code": NOT_RUN})
        return NOT_RUN
    sys.stdout.flush()
    running = Running(recorder, lambda: _summary(asked), project.monitor.log_limit)
    outcome, result, done = _run(running, project, items, asked, declared, began)
    let_go_of_stdout()
    if outcome.write_error:
        # Of a cached run, the engine has said it.
        why = f"not all of the command's output could be written: {os.strerror(outcome.write_error)}"
        recorder.notes.append(why)
        if result is None:
            _warn(why)
    steps_left: list[Callable[[], None]] = [lambda: _after(running, items, asked, outcome, result), done]
    for step in steps_left:
        try:
            step()
        except Exception as error:
            # The command has run; its exit code stands.
            _warn(f"not all is recorded: {type(error).__name__}: {error}")
    # Without us, it is the command that would have failed to write.
    return outcome.exit_code or (1 if outcome.write_error else 0)


def _unrecorded(command: tuple[str, ...]) -> int:
    environ = child_environment(dict(os.environb))
    return run_command(command, environ, spool_dir=None, capture=(False, False)).exit_code


def _run(
    running: Running,
    project: Project,
    items: list[Item],
    asked: Asked,
    declared: Declared | None,
    began: int,
) -> tuple[ports.Outcome, dict[str, Any] | None, Callable[[], None]]:
    """How it went; of a cached action what the result is, and what is to be done when the capsule is sealed."""
    if declared is None:
        return _plainly(running, asked, began)
    from capsula.cli import cached  # most runs aren't, and it is much to import

    name = items[0].name if items else None
    try:
        return cached.run(running, project, declared, asked.command, name=name)
    except KeyboardInterrupt:  # while another run of the same action was waited for
        running.recorder.seal("interrupted", _summary(asked))
        raise


def _plainly(running: Running, asked: Asked, began: int) -> tuple[ports.Outcome, None, Callable[[], None]]:
    if not is_watched():
        return running.run(asked.command), None, _nothing
    from capsula.plugins import telemetry

    place = telemetry.place_of(os.environ)
    if place is not None:
        running.environ[b"TRACEPARENT"] = place.traceparent.encode()
    outcome = running.run(asked.command)

    def tell() -> None:
        if place is not None:
            draft = running.recorder.draft
            facts: dict[str, str | int | float | bool] = {
                "command": " ".join(mask_words(asked.command)),
                "outcome": status(outcome),
                "exit_code": outcome.exit_code,
                "seconds_run": round(outcome.seconds, 6),
                "recorded": draft.id if draft is not None else "",
            }
            run = outcome.start_ns, outcome.end_ns
            parts = (("context", began, run[0]), ("run", *run), ("record", run[1], time.time_ns()))
            telemetry.report_recorded(place, facts, parts)

    return outcome, None, tell


def _nothing() -> None:
    return


def _before(
    recorder: Recorder,
    project: Project,
    items: list[Item],
    command: tuple[str, ...],
    declared: Declared | None,
) -> None:
    if project.monitor.capture:
        steps.capture(recorder, project, command)
    recorder.write(
        recording.BEFORE,
        {
            "root_directory": recorder.root,
            "cwd": recorder.cwd,
            "timestamp": recording.now(),
            "args": mask_words(command),
            "items": [item.name for item in items],
            "inputs": steps.hashes(recorder, [rule for item in items for rule in item.inputs]),
            **({"cache": declared.to_json()} if declared is not None else {}),
        },
    )


def _after(
    running: Running,
    items: list[Item],
    asked: Asked,
    outcome: ports.Outcome,
    result: dict[str, Any] | None,
) -> None:
    recorder = running.recorder
    rules = [rule for item in items for rule in item.files]
    files = steps.hashes(recorder, rules)
    recording.take(recorder, rules)
    recording.write_samples(recorder, running.watch.series.columns())
    resources = running.resources(outcome)
    recording.after_command(recorder, outcome, files, resources, result)
    summary, said = _summary(asked), ""
    if result is not None:
        from capsula.cli import cached

        summary, said = {**summary, **cached.summary(result)}, cached.sentence(result)
    if resources:
        cpu = round(resources["user_seconds"] + resources["system_seconds"], 6)
        summary |= {"cpu_seconds": cpu, "peak_memory": resources["peak_memory"]}
    recorder.seal(status(outcome), {**summary, **result_of(outcome)})
    if said and not asked.quiet:
        _warn(said)
    if recorder.draft is not None and not asked.quiet and os.path.isdir(recorder.draft.path):
        _warn(f"recorded in {printable(recorder.draft.path)}")


def _summary(asked: Asked) -> dict[str, object]:
    return {
        "command": " ".join(mask_words(asked.command)),
        "items": list(asked.items),
        "parent": steps.parent(),
    }


# The options of `capsula monitor` by their long name: the short one, and whether it takes a value.
_OPTIONS = {
    "--directory": ("-C", True),
    "--item": ("-i", True),
    "--quiet": ("-q", False),
    "--keep": ("", True),
    "--cache": ("", False),
    "--no-cache": ("", False),
    "--input": ("", True),
    "--output": ("", True),
    "--env": ("", True),
    "--cache-context": ("", True),
}
_LONG = {short: name for name, (short, _) in _OPTIONS.items() if short}


def read_words(words: Sequence[str]) -> Asked:
    """The options of `capsula monitor` end where the command begins; it may follow `--` and needn't."""
    given: dict[str, list[str]] = {name: [] for name in _OPTIONS}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        known = _LONG.get(name, name.replace("_", "-"))
        if known not in _OPTIONS:
            raise UsageError(
                f"capsula monitor has no option {printable(name)}", hint="capsula monitor --help lists them"
            )
        if not _OPTIONS[known][1]:
            if equals:
                raise UsageError(f"{name} takes no value", hint="capsula monitor --help")
        elif not equals:
            if not rest:
                raise UsageError(f"{name} needs a value", hint="capsula monitor --help")
            value = rest.pop(0)
        given[known].append(value)
    if not rest:
        raise UsageError("there is no command to run", hint="capsula monitor [-i ITEM] command …")
    return _asked(given, tuple(rest))


def _asked(given: Mapping[str, list[str]], command: tuple[str, ...]) -> Asked:
    return Asked(
        directory=given["--directory"][-1] if given["--directory"] else None,
        items=tuple(given["--item"]),
        quiet=bool(given["--quiet"]),
        command=command,
        keep=tuple(given["--keep"]),
        cache=False if given["--no-cache"] else True if given["--cache"] else None,
        declared=Declared(
            tuple(given["--input"]),
            tuple(given["--output"]),
            tuple(given["--env"]),
            tuple(given["--cache-context"]),
        ),
    )


def _warn(text: str) -> None:
    try:
        os.write(2, f"capsula: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return
