"""The recorded run against a draft in memory: what fails is a note, and the run goes on."""

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.core.found import Found
from capsula.core.secrets import mask_log, telling_values
from capsula.engine import recording
from capsula.engine.looking import Asked
from capsula.engine.recording import Recorder
from capsula.errors import CapsulaError


class MemoryDraft:
    def __init__(self, path: Path) -> None:
        self.path, self.id = str(path), "1"
        self.files: dict[str, bytes] = {}
        self.values: dict[str, Any] = {}
        self.taken: list[tuple[str, str, bool]] = []
        self.sealed: tuple[str, dict[str, object]] | None = None

    def write(self, name: str, content: bytes) -> None:
        self.files[name] = content

    def write_json(self, name: str, value: object) -> None:
        self.values[name] = json.loads(json.dumps(value))

    def take(self, source: str, name: str, *, move: bool) -> None:
        self.taken.append((source, name, move))

    def free_name(self, wanted: str) -> str:
        return wanted

    def seal(self, status: str, summary: dict[str, object]) -> None:
        self.sealed = (status, summary)


class Told:
    def __init__(self, name: str, sections: Mapping[str, Any] | Exception, **more: Any) -> None:
        self.name, self.sections, self.more = name, sections, more

    def read(self) -> Found:
        if isinstance(self.sections, Exception):
            raise self.sections
        return Found(self.sections, **self.more)


def asked(*probes: Any, **more: Any) -> list[Asked]:
    return [Asked(probe, **more) for probe in probes]


@pytest.fixture
def draft(tmp_path: Path) -> MemoryDraft:
    return MemoryDraft(tmp_path)


@pytest.fixture
def recorder(draft: MemoryDraft) -> Recorder:
    return Recorder(draft, "/root", "/cwd", lambda text: None, frozenset(["hunter22"]))


def rule(path: str, *, copy: bool = False, move: bool = False) -> Any:
    return SimpleNamespace(path=path, hash=None, copy=copy, move=move)


def test_the_context_has_what_the_probes_found(recorder: Recorder, draft: MemoryDraft) -> None:
    probes = [
        Told("host", {"platform": {"system": "Linux"}}, keys=("/platform/system",), left_out=("no GPU",)),
        Told("git:a", {"git": {"a": {"sha": "1"}}}, files={"a.diff": b"+"}),
        Told("git:b", {"git": {"b": {"sha": "2"}}}, masked=("remote",)),
    ]
    assert recording.capture(recorder, asked(*probes), ())
    context = draft.values["context.json"]
    assert list(context)[:4] == ["root_directory", "cwd", "platform", "git"]
    assert context["git"] == {"a": {"sha": "1"}, "b": {"sha": "2"}}
    assert context["probes"]["host"]["key_facts"] == ["/platform/system"]
    assert context["probes"]["git:b"]["masked"] == ["remote"]
    assert draft.files == {"a.diff": b"+"}


def test_a_probe_that_fails_is_recorded_beside_the_others(recorder: Recorder, draft: MemoryDraft) -> None:
    probes = [Told("one", ValueError("odd")), Told("two", {"two": 2}), Told("three", CapsulaError("no git"))]
    assert not recording.capture(recorder, asked(*probes), ())
    context = draft.values["context.json"]
    assert context["two"] == 2
    assert context["probes"]["one"]["failed"] == "ValueError: odd"
    assert recorder.troubles == ["can't look at one: ValueError: odd", "can't look at three: no git"]


def test_what_of_a_probe_failed_is_told_and_the_rest_is_there(recorder: Recorder, draft: MemoryDraft) -> None:
    probes = asked(Told("commands", {"commands": {"a": 1}}, failed=("b: time was up",)), required=True)
    assert not recording.capture(recorder, probes, ())
    assert draft.values["context.json"]["commands"] == {"a": 1}
    assert (recorder.troubles, recorder.missing) == (["commands: b: time was up"], ["commands"])


def test_a_probe_that_hangs_is_not_waited_for(recorder: Recorder, draft: MemoryDraft) -> None:
    let_go = threading.Event()

    class Hanging:
        name = "hanging"

        def read(self) -> Found:
            let_go.wait()
            return Found({"late": 1})

    try:
        probes = asked(Hanging(), limit=0.05) + asked(Told("after", {"a": 1}))
        assert not recording.capture(recorder, probes, ())
    finally:
        let_go.set()
    context = draft.values["context.json"]
    assert context["a"] == 1
    assert "late" not in context
    assert context["probes"]["hanging"]["failed"] == "it took more than 0.05 s, so it wasn't waited for"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_whatever_a_probe_raises_ends_with_it(
    recorder: Recorder, draft: MemoryDraft, error: BaseException
) -> None:
    class Raising:
        name = "raising"

        def read(self) -> Found:
            raise error

    assert not recording.capture(recorder, asked(Raising(), Told("b", {"b": 1}), required=True), ())
    assert draft.values["context.json"]["b"] == 1
    assert recorder.missing == ["raising"]


def test_a_probe_cannot_overwrite_what_another_found(recorder: Recorder, draft: MemoryDraft) -> None:
    probes = asked(
        Told("one", {"host": {"ci": None}, "plain": 1}),
        Told(
            "two", {"host": {"ci": "mine", "more": 2}, "plain": 2, "cwd": "/", "probes": {}, "timestamp": ""}
        ),
    )
    assert not recording.capture(recorder, probes, ())
    context = draft.values["context.json"]
    assert context["host"] == {"ci": None, "more": 2}
    assert (context["plain"], context["cwd"], set(context["probes"])) == (1, "/cwd", {"one", "two"})
    assert len(recorder.troubles) == 5


def test_files_are_taken_and_a_missing_one_is_a_note(
    recorder: Recorder, draft: MemoryDraft, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    recorder.root = str(tmp_path)
    recording.take(recorder, [rule("a", copy=True), rule("gone", move=True), rule("a")])
    assert draft.taken == [(f"{tmp_path}/a", "a", False)]
    assert recorder.troubles == ["can't move gone: it isn't there"]


def test_after_a_preparing_command_that_fails_the_others_are_not_run(recorder: Recorder) -> None:
    ran: list[str] = []

    def run(command: str) -> int:
        ran.append(command)
        return len(ran) - 1

    assert not recording.run_first(recorder, ["a", "b", "c"], run)
    assert ran == ["a", "b"]
    assert recording.run_first(recorder, [], run)


def outcome(**fields: Any) -> Any:
    nothing: dict[str, Any] = {"exit_code": 0, "started": True, "order": (), "seconds": 1.5}
    nothing |= {"start_ns": 0, "end_ns": 1_700_000_000_123_456_789, "left_open": False, "cut": False}
    nothing |= {"signal": None, "write_error": None, "interrupted_by": 0, "reason": ""}
    nothing |= {"stdout": None, "stderr": None}
    return SimpleNamespace(**{**nothing, **fields})


def test_logs_are_kept_whole_and_without_credentials(recorder: Recorder, draft: MemoryDraft) -> None:
    log = b"one\n\xff not text\nkey is hunter22\n"
    captured = SimpleNamespace(content=log, path=None, size=len(log), left_out=0)
    record = recording.after_command(recorder, outcome(stdout=captured), {}, {})
    assert record["stdout"] == "one\n\\xff not text\nkey is ***\n"
    assert record["stderr"] is None
    assert b"hunter22" not in (Path(draft.path) / "stdout.txt").read_bytes()
    assert recorder.notes == ["stdout: what looks like a credential was left out in 1 place(s)"]


def test_a_log_without_credentials_is_kept_byte_for_byte(
    recorder: Recorder, draft: MemoryDraft, tmp_path: Path
) -> None:
    log = b"\xff\x00\n" * 3_000_000
    spool = tmp_path / "spool"
    spool.write_bytes(log)
    captured = SimpleNamespace(content=None, path=str(spool), size=len(log), left_out=0)
    record = recording.after_command(recorder, outcome(stdout=captured), {}, {})
    assert (Path(draft.path) / "stdout.txt").read_bytes() == log
    assert len(record["stdout"]) == recording.SHOWN_LOG
    assert not spool.exists()


def test_of_a_long_log_the_beginning_is_shown_in_whole_characters(recorder: Recorder, tmp_path: Path) -> None:
    log = "€".encode() * recording.SHOWN_LOG
    (tmp_path / "spool").write_bytes(log)
    captured = SimpleNamespace(content=None, path=str(tmp_path / "spool"), size=len(log), left_out=0)
    record = recording.after_command(recorder, outcome(stdout=captured), {}, {})
    assert record["stdout"] == "€" * (recording.SHOWN_LOG // 3)


def test_samples_are_a_line_a_column(recorder: Recorder, draft: MemoryDraft) -> None:
    recording.write_samples(recorder, {"seconds": [0.1, 0.2], "cpu": [0.0, 0.1]})
    text = draft.files["samples.json"].decode()
    assert json.loads(text) == {"seconds": [0.1, 0.2], "cpu": [0.0, 0.1]}
    assert text.count("\n") == 4
    recording.write_samples(recorder, {"seconds": [], "cpu": []})
    assert len(draft.files) == 1


def test_without_a_vault_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    recorder = Recorder(None, str(tmp_path), "/", lambda text: None)
    assert recording.capture(recorder, asked(Told("a", {"a": 1})), [rule("x", copy=True)])
    recording.after_command(recorder, outcome(), {}, {})
    recorder.seal("finished", {})
    assert recorder.troubles == []


def test_times_are_local_with_offset_and_microseconds() -> None:
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d"
    assert re.fullmatch(shape, recording.now())
    assert re.fullmatch(shape, recording.iso(1_700_000_000_123_456_789))
    assert ".123456" in recording.iso(1_700_000_000_123_456_789)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "PT0S"), (2.486653, "PT2.486653S"), (60, "PT1M0S"), (3723.5, "PT1H2M3.5S"), (90_000, "P1DT1H0S")],
)
def test_durations_are_those_of_iso_8601(seconds: float, text: str) -> None:
    assert recording.duration(seconds) == text


@given(st.text(), st.text(min_size=6, alphabet="abcdef"))
def test_a_value_that_must_not_get_out_never_does(text: str, value: str) -> None:
    shown, _ = mask_log(f"{text}{value}\n{text}", frozenset([value]))
    assert value not in shown.replace("***", "\0")


def test_which_values_must_not_get_out() -> None:
    assert telling_values({"API_TOKEN": "abcdefgh", "AUTH": "no", "HOME": "/home/me"}) == {"abcdefgh"}
    assert mask_log("a\nb", frozenset()) == ("a\nb", 0)
    assert mask_log("see https://me:word@host/x", frozenset()) == ("see https://***@host/x", 1)


def test_what_is_known_of_packages_is_in_a_file_of_its_own(draft: MemoryDraft) -> None:
    rows = [{"name": "numpy", "version": "2.0", "origin": {"kind": "index"}}]
    probe = Told("python", {"python": {"version": "3.11", "distributions": rows}})
    recorder = Recorder(draft, "/", "/", print)
    recording.capture(recorder, asked(probe), ())
    assert draft.values["context.json"]["python"] == {"version": "3.11", "packages": {"numpy": "2.0"}}
    assert draft.values["packages.json"] == {"distributions": rows}
