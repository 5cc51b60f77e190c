"""The recorded run: look at the context, run, and seal what came out.

Recording never changes, loses or delays what the user's program does: whatever goes wrong in here is a warning and a
note in the capsule, and the program runs all the same.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from capsula.core.hiding import forms, hide
from capsula.core.names import printable
from capsula.engine import discreet, logs, said
from capsula.engine.columns import Said
from capsula.engine.looking import look, told
from capsula.errors import CapsulaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capsula.engine.looking import Asked
    from capsula.ports import Captured, Draft, FileRule, Outcome

CONTEXT, BEFORE, AFTER = "context.json", "pre-run-info.json", "post-run-info.json"
PACKAGES, SAMPLES = "packages.json", "samples.json"
# So much of a log stands in post-run-info.json itself; all of it is in a file beside.
SHOWN_LOG = 1 << 20


@dataclass(slots=True)
class Recorder:
    """One capsule in the making. `draft` is None where there is no vault: then nothing is kept, and that is said once.

    `values` are those that must not get into the record, `kept` those that may though they look like credentials.
    `troubles` and `notes` end up in the capsule. `key_facts` are those facts of the captured context that may change a
    result, by section and by pointer; `missing` are the required probes that failed. `said` is what the run has said of
    itself, once that is gathered.
    """

    draft: Draft | None
    root: str
    cwd: str
    warn: Callable[[str], None]
    values: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    troubles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    key_facts: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    said: Said | None = None

    def __post_init__(self) -> None:
        if self.draft is not None:
            self.draft = discreet.Discreet(self.draft, self.root, self.values, self.kept)

    @contextmanager
    def attempt(self, doing: str) -> Iterator[None]:
        """What fails in here is a warning and a note."""
        try:
            yield
        except Exception as error:
            self.trouble(f"{doing}: {told(error)}")

    def learn(self, values: Iterable[str]) -> None:
        """More values that must not get into the record; but for plain words, as in `--auth kerberos`."""
        self.values |= forms([value for value in values if not value.isalpha()]) - self.kept
        if isinstance(self.draft, discreet.Discreet):
            self.draft.values = self.values

    def hidden(self, text: str) -> str:
        """Without what looks like a credential."""
        return hide(text, self.values, self.kept)[0]

    def trouble(self, text: str) -> None:
        text = self.hidden(text)
        self.troubles.append(text)
        self.warn(text)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        if self.draft is not None:
            with self.attempt(f"can't write {name}"):
                self.draft.write_json(name, value)

    def seal(self, status: str, summary: dict[str, object]) -> None:
        if self.draft is not None:
            told = {**summary, **said.summary(said.gather(self))}
            with self.attempt("can't seal the capsule"):
                self.draft.seal(status, {**told, "troubles": self.troubles, "notes": self.notes})
                if isinstance(self.draft, discreet.Discreet) and self.draft.secrets:
                    self.warn(discreet.told(self.draft.secrets))

    def leave(self, status: str, summary: dict[str, object]) -> None:
        """As it is, at once, without a look at what is in it."""
        if self.draft is not None:
            with self.attempt("can't say how it ended"):
                self.draft.leave(status, {**summary, "troubles": self.troubles, "notes": self.notes})


def capture(recorder: Recorder, probes: Iterable[Asked], rules: Iterable[FileRule]) -> bool:
    """Write context.json and what belongs to it; whether a probe has failed or a file couldn't be taken."""
    before = len(recorder.troubles)
    context: dict[str, Any] = {"root_directory": recorder.root, "cwd": recorder.cwd}
    read: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for seen in look(probes):
        if seen.found is None:
            read[seen.name] = {"failed": seen.failure, "seconds": round(seen.seconds, 6)}
            recorder.trouble(f"can't look at {printable(seen.name)}: {seen.failure}")
            if seen.asked.required:
                recorder.missing.append(seen.name)
            continue
        for text in seen.found.failed:
            recorder.trouble(f"{printable(seen.name)}: {text}")
        if seen.found.failed and seen.asked.required:
            recorder.missing.append(seen.name)
        for name, section in seen.found.sections.items():
            for text in _merge(context, name, section):
                recorder.trouble(f"{printable(seen.name)}: {text}")
        files.update(seen.found.files)
        for key, fact in seen.found.key_facts().items():
            recorder.key_facts.setdefault(key.split("/")[1], {})[key] = fact
        read[seen.name] = {
            # As they are written down: what is known of the packages is in a file of its own.
            "key_facts": [
                key.replace("/python/distributions", "/python/packages") for key in seen.found.keys
            ],
            "seconds": round(seen.seconds, 6),
            "left_out": list(seen.found.left_out),
            "masked": list(seen.found.masked),
        }
    context["timestamp"] = now()
    context["probes"] = read
    _set_packages_apart(recorder, context)
    recorder.write(CONTEXT, context)
    for name, content in files.items():
        if recorder.draft is not None:
            with recorder.attempt(f"can't write {printable(name)}"):
                recorder.draft.write(recorder.draft.free_name(name), content)
    take(recorder, rules)
    return len(recorder.troubles) == before


def _merge(context: dict[str, Any], name: str, section: object) -> list[str]:
    """Put a section into the context; several repositories are one section together. What is there already stays, and
    is told."""
    if name in ("timestamp", "probes") or (name in context and not isinstance(context[name], dict)):
        return [f"{printable(name)} is there already"]
    if name not in context or not isinstance(section, dict):
        if name in context:
            return [f"{printable(name)} is there already"]
        # A copy: what a probe found is its own, and may be kept for the next call.
        context[name] = dict(section) if isinstance(section, dict) else section
        return []
    taken = [key for key in section if key in context[name]]
    context[name].update({key: value for key, value in section.items() if key not in context[name]})
    return [f"{printable(key)} is in {printable(name)} already" for key in taken]


def _set_packages_apart(recorder: Recorder, context: Mapping[str, Any]) -> None:
    """What is known of the packages is most of a context and the same from run to run: in a file of its own it is there
    once for all capsules. Their versions stay."""
    python = context.get("python")
    if isinstance(python, dict) and isinstance(rows := python.pop("distributions", None), list):
        python["packages"] = {row["name"]: row["version"] for row in rows}
        recorder.write(PACKAGES, {"distributions": rows})


def run_first(recorder: Recorder, commands: Iterable[str], run: Callable[[str], int]) -> bool:
    """The commands that prepare a capture, in order; after one that fails the others aren't run."""
    for command in commands:
        with recorder.attempt(f"can't run {printable(command)}"):
            code = run(command)
            if code == 0:
                continue
            recorder.trouble(f"the pre-capture command {printable(command)} failed (exit code {code})")
        return False
    return True


def take(recorder: Recorder, rules: Iterable[FileRule]) -> None:
    """Copy or move into the capsule what the user named."""
    for rule in rules:
        if recorder.draft is None or not (rule.copy or rule.move):
            continue
        with recorder.attempt(f"can't {'move' if rule.move else 'copy'} {printable(rule.path)}"):
            name = recorder.draft.free_name(os.path.basename(rule.path.rstrip("/")) or "file")
            source = os.path.join(recorder.root, rule.path)
            if not os.path.lexists(source):
                raise CapsulaError("it isn't there")
            recorder.draft.take(source, name, move=rule.move)


def after_command(
    recorder: Recorder,
    outcome: Outcome,
    files: Mapping[str, Any],
    resources: Mapping[str, Any],
    result: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """post-run-info.json of a command: the fields of the seed first. `resources`: what it used, {} where no process was
    made; `result`: of a cached action, which one it is."""
    record: dict[str, Any] = {
        "root_directory": recorder.root,
        "timestamp": iso(outcome.end_ns),
        "run_time": duration(outcome.seconds),
        "files": {**files, **said.named_files(recorder)},
        "inputs": said.read_files(recorder),
        "stdout": _log(recorder, "stdout", outcome.stdout),
        "stderr": _log(recorder, "stderr", outcome.stderr),
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "interrupted_by": outcome.interrupted_by or None,
        "started": outcome.started,
        "order": [list(turn) for turn in outcome.order],
    }
    if resources:
        record["resources"] = dict(resources)
    if result is not None:
        record["result"] = dict(result)
    if outcome.cut:
        recorder.notes.append(outcome.reason)
        if outcome.started and None in (outcome.stdout, outcome.stderr):  # it is lost, not only cut
            recorder.warn(outcome.reason)
    record["notes"], record["troubles"] = recorder.notes, recorder.troubles
    recorder.write(AFTER, record)
    return record


def write_samples(recorder: Recorder, columns: Mapping[str, Sequence[float]]) -> None:
    """samples.json, a line a column: what a command used over time, to be drawn."""
    if recorder.draft is not None and columns["seconds"]:
        with recorder.attempt(f"can't write {SAMPLES}"):
            lines = [f'    "{name}": {json.dumps(column)}' for name, column in columns.items()]
            recorder.draft.write(SAMPLES, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _log(recorder: Recorder, name: str, captured: Captured | None) -> str | None:
    """The text of a log as far as it is shown, without credentials; all of it goes into a file."""
    if captured is None:
        return None
    shown = b""
    if recorder.draft is None:
        return ""
    with recorder.attempt(f"can't keep {name}"):
        target = os.path.join(recorder.draft.path, f"{name}.txt")
        kept = logs.keep(captured, target, logs.Hidden(recorder.values, recorder.kept), SHOWN_LOG)
        if kept.hidden:
            recorder.notes.append(
                f"{name}: what looks like a credential was left out in {kept.hidden} place(s)"
            )
        shown = kept.shown
    if captured.left_out:
        recorder.notes.append(
            f"{name}: {captured.left_out} bytes in the middle aren't kept ([monitor] log-limit)"
        )
    # A character that the limit cuts in two is left out.
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    return decoder.decode(shown, final=len(shown) < SHOWN_LOG)[:SHOWN_LOG]


def now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="microseconds")


def iso(nanoseconds: int) -> str:
    """Local time with offset and microseconds, as in the seed's examples."""
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    exact = moment + timedelta(microseconds=nanoseconds // 1000 % 1_000_000)
    return exact.astimezone().isoformat(timespec="microseconds")


def duration(seconds: float) -> str:
    """ISO 8601: PT2.486653S, PT1H2M3.5S, P1DT0S."""
    micros = round(seconds * 1_000_000)
    days, micros = divmod(micros, 86_400_000_000)
    hours, micros = divmod(micros, 3_600_000_000)
    minutes, micros = divmod(micros, 60_000_000)
    whole, fraction = divmod(micros, 1_000_000)
    tail = f".{fraction:06d}".rstrip("0") if fraction else ""
    text = "P" + (f"{days}D" if days else "") + "T"
    text += (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    return f"{text}{whole}{tail}S"
