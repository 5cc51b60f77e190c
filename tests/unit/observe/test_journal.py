"""The journal: whole lines whatever happens, in JSON that anybody can read, and not for ever."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.observe import journal
from capsula.observe.journal import append, append_line, line_of, quoted, read

TEXTS = st.one_of(st.text(max_size=10), st.binary(max_size=6).map(os.fsdecode))


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_any_text_is_quoted_as_json_does(text: str) -> None:
    assert json.loads(quoted(text)) == json.loads(json.dumps(text))
    assert quoted(text).isascii()
    assert "\n" not in quoted(text)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        TEXTS,
        st.one_of(
            TEXTS,
            st.integers(-(2**60), 2**60),
            st.booleans(),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=5,
    )
)
def test_a_line_is_json(fields: dict[str, "str | int | float | bool"]) -> None:
    assert json.loads(line_of(fields)) == json.loads(json.dumps(fields))


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    assert list(read(root)) == []
    for number in range(3):
        append(root, {"run": number, "why": 'a "b" \udcff\n', "stored": number == 1, "seconds": 0.5})
    assert [row["run"] for row in read(root)] == [0, 1, 2]
    assert [row["stored"] for row in read(root)] == [False, True, False]
    assert next(read(root))["why"] == 'a "b" \udcff\n'
    assert (tmp_path / "store" / "journal").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store" / "journal" / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_lines_that_are_not_whole_are_passed_over(tmp_path: Path) -> None:
    append(str(tmp_path), {"run": 1})
    path = tmp_path / "journal" / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"run": \n[1]\n"text"\n\xff\xfe\n\n' + bytes(100) + b"\n")
    append(str(tmp_path), {"run": 2})
    assert [row["run"] for row in read(str(tmp_path))] == [1, 2]


def test_a_full_disk_costs_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(str(tmp_path), {"run": 1})
    write = os.write

    with monkeypatch.context() as patch:
        patch.setattr("capsula.observe.journal.posix.write", lambda fd, line: write(fd, line[:5]))
        append(str(tmp_path), {"run": 2})
    append(str(tmp_path), {"run": 3})
    assert [row["run"] for row in read(str(tmp_path))] == [1, 3]


def test_a_place_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (str(tmp_path / "file"), "/proc/nothing"):
        append(root, {"run": 1})
        assert list(read(root)) == []


def test_an_old_journal_is_put_away_and_a_very_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LIMIT", 200)
    for number in range(100):
        append(str(tmp_path), {"run": number})
        assert len(os.listdir(tmp_path / "journal")) <= 2
        assert sum(path.stat().st_size for path in (tmp_path / "journal").iterdir()) < 450
    runs = [row["run"] for row in read(str(tmp_path))]
    assert runs == list(range(int(str(runs[0])), 100))
    assert len(runs) >= 15


def test_two_who_find_it_full_do_not_put_away_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One had it open before the other renamed it: what it renames next would be the new file, over all the old."""
    monkeypatch.setattr(journal, "LIMIT", 200)
    for number in range(12):
        append(str(tmp_path), {"run": number})
    before = len(list(read(str(tmp_path))))
    write = os.write
    turn = []

    def interrupted(fd: int, line: bytes) -> int:
        if not turn:
            turn.append(1)
            append(str(tmp_path), {"run": "other", "why": "x" * 200})  # and puts the file away
        return write(fd, line)

    with monkeypatch.context() as patch:
        patch.setattr("capsula.observe.journal.posix.write", interrupted)
        append(str(tmp_path), {"run": "ours"})
    runs = [row["run"] for row in read(str(tmp_path))]
    assert {"ours", "other"} <= set(runs)
    assert len(runs) == before + 2


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            for number in range(100):
                append_line(str(tmp_path), b'{"run": %d, "why": "%b"}\n' % (child * 100 + number, b"x" * 300))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert sorted(int(str(row["run"])) for row in read(str(tmp_path))) == list(range(400))
