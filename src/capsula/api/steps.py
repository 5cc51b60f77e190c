"""The steps that every recorded run takes, whichever door it came through: begin a capsule, look at the context."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from capsula.api.current import LIVE
from capsula.api.live import identity_of
from capsula.api.remembered import remembered
from capsula.config.project import Item, Project
from capsula.core.hiding import telling_values, values_in_file
from capsula.core.names import printable
from capsula.engine import live, recording
from capsula.engine.recording import Recorder
from capsula.errors import CapsulaError, UsageError
from capsula.plugins import recorded_run

if TYPE_CHECKING:
    from capsula.ports import FileRule

_LONGEST_FILE = 1 << 16


def begin(project: Project, kind: str, warn: Callable[[str], None]) -> Recorder:
    """A new capsule in the vault; where none can be made (a full disk) that is said, and nothing is kept."""
    draft = None
    try:
        draft = recorded_run.open_vault(project.vault).begin(
            project.capsule_template, datetime.now(UTC).astimezone(), kind
        )
    except (CapsulaError, OSError) as error:
        reason = error.what if isinstance(error, CapsulaError) else error.strerror
        warn(f"not recorded: no capsule can be made in {printable(project.vault)}: {reason}")
    if draft is not None and kind != "capture":
        try:
            live.open_live(draft.path)
        except OSError as error:
            warn(f"what the run records of itself can't be kept: {error.strerror}")
    keep = project.capture.keep
    known = {**_from_files(project.root), **os.environ}
    values = telling_values({name: value for name, value in known.items() if name not in keep})
    kept = frozenset([os.environ[name] for name in keep if name in os.environ])
    return Recorder(draft, project.root, _here(), warn, values - kept, kept)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _from_files(root: str) -> dict[str, str]:
    """What the files say that programs read their credentials from."""
    found: dict[str, str] = {}
    paths = [os.path.join(root, ".env"), os.path.expanduser("~/.netrc"), os.path.join(root, ".netrc")]
    # The addresses of the remotes, which may hold a word.
    paths += [os.path.join(place, ".git", "config") for place in _upwards(root)]
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                found.update(values_in_file(path, file.read(_LONGEST_FILE)))
        except OSError:
            continue
    return found


def _upwards(place: str) -> list[str]:
    found = [place]
    while (place := os.path.dirname(found[-1])) != found[-1]:
        found.append(place)
    return found


def capture(
    recorder: Recorder, project: Project, command: Sequence[str] = (), *, again: bool = False
) -> bool:
    """The context, as the project says; whether all of it could be looked at. `command` is what will run in it.
    `again`: what can't have changed since this process has looked isn't looked at again."""
    commands = project.capture.pre_capture_commands
    is_whole = recording.run_first(recorder, commands, lambda command: _shell(command, project.root))
    # Which run this is part of is told in its own place.
    environ = {name: value for name, value in os.environ.items() if name != LIVE}
    probes = recorded_run.recording_probes(project, environ, command)
    if again:
        probes = remembered(probes, project, environ)
    return recording.capture(recorder, probes, project.capture.files) and is_whole


def parent() -> str | None:
    """The id of the run that the environment names: the one that this process is part of."""
    return identity_of(os.environ.get(LIVE, "")) or None


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
        found = recorded_run.files_probe(pairs, recorder.root).read()
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
