"""What is remembered: there and back, and nothing of it is ever needed."""

import marshal
import os
import select
from pathlib import Path

import pytest

from capsula.worktree.kept import Memory, alone, write_whole

LOOK = (1, 2, 3, 4, 0o100644)


def filled(path: Path) -> Memory:
    memory = Memory(str(path))
    memory.inputs = ({"": ({"a": LOOK, "d": ()}, frozenset(["a"]), {"a": "h"}, b"f", b"l")}, {})
    memory.outputs = ({"o": ({"\udcff": LOOK}, None, {"\udcff": "h"}, b"", b"")}, {})
    memory.followed = {"/l": (LOOK, "h")}
    memory.made = {"/o/x": LOOK}
    return memory


def values(memory: Memory) -> tuple[object, ...]:
    return memory.inputs, memory.outputs, memory.followed, memory.made


def test_it_comes_back(tmp_path: Path) -> None:
    memory = filled(tmp_path / "new" / "place" / "m")
    memory.save()
    assert values(Memory(memory.path)) == values(memory)
    assert os.stat(memory.path).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "new").st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / "new" / "place") == ["m"]


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    filled(tmp_path / "m").save()
    before = os.stat(tmp_path / "m")
    again = Memory(str(tmp_path / "m"))
    again.save()
    assert os.stat(tmp_path / "m").st_ino == before.st_ino
    again.made = {}
    again.save()
    assert os.stat(tmp_path / "m").st_ino != before.st_ino


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:-1],
        lambda content: content[:30],
        lambda content: b"other " + content,
        lambda content: content[:14] + b"\xff" * 20,
        lambda content: content[:14] + marshal.dumps((1, 2, 3), 2),
        lambda content: content[:14] + marshal.dumps("words", 2),
        lambda content: content[:14] + marshal.dumps(7, 2),
        lambda content: bytes(len(content)),
    ],
)
def test_a_damaged_file_is_no_memory(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "m"
    filled(path).save()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    memory = Memory(str(path))
    assert values(memory) == (({}, {}), ({}, {}), {}, {})
    memory.made = {"/x": LOOK}
    memory.save()
    assert Memory(str(path)).made == {"/x": LOOK}


def test_without_a_file_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    memory = Memory("")
    memory.made = {"/x": LOOK}
    memory.save()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not write_whole(str(tmp_path / "file" / "m"), b"x")
    (tmp_path / "m").mkdir()
    assert not write_whole(str(tmp_path / "m"), b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "m"]
    assert not write_whole("/proc/nothing/here", b"x")


def test_a_file_is_replaced_and_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"before")
    with path.open("rb") as reader:
        assert write_whole(str(path), b"after")
        assert reader.read() == b"before"
    assert path.read_bytes() == b"after"


def test_what_another_process_made_meanwhile_counts_as_well(tmp_path: Path) -> None:
    ours, other = Memory(str(tmp_path / "m")), Memory(str(tmp_path / "m"))
    ours.made = {"/a": LOOK}
    other.made = {"/b": LOOK}
    other.save()
    ours.reload_made()
    assert ours.made == {"/a": LOOK, "/b": LOOK}


def test_what_nobody_made_meanwhile_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(str(tmp_path / "m"))
    memory.made = {"/a": LOOK}
    memory.save()
    again = Memory(memory.path)
    for name in ("loads", "dumps"):
        monkeypatch.setattr(f"marshal.{name}", lambda *_: pytest.fail("this takes long"))
    again.reload_made()
    again.save()
    memory.reload_made()
    memory.save()
    assert again.made == memory.made == {"/a": LOOK}


def test_inputs_that_nobody_asked_for_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "m").save()
    memory = Memory(str(tmp_path / "m"))
    with monkeypatch.context() as patched:
        patched.setattr("marshal.loads", lambda *_: pytest.fail("nobody asked for them"))
        memory.made = {"/new": LOOK}
        memory.save()
    again = Memory(memory.path)
    assert values(again) == (*values(filled(tmp_path / "m"))[:3], {"/new": LOOK})
    again.inputs = ({}, {})
    again.save()
    assert Memory(memory.path).inputs == ({}, {})
    assert memory.inputs == filled(tmp_path / "m").inputs


def test_what_could_not_be_saved_is_saved_the_next_time(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    memory = Memory(str(tmp_path / "m"))
    memory.made = {"/a": LOOK}
    memory.save()
    (tmp_path / "m").rmdir()
    memory.save()
    assert Memory(memory.path).made == {"/a": LOOK}


@pytest.mark.parametrize("dies", [False, True])
def test_two_do_not_restore_at_once(tmp_path: Path, dies: bool) -> None:
    path = str(tmp_path / "state" / "m")
    reading, writing = os.pipe()
    go_reading, go_writing = os.pipe()
    child = os.fork()
    if child == 0:
        with alone(path):
            os.write(writing, b"in")
            os.read(go_reading, 1)
            if dies:
                os._exit(0)
        os._exit(0)
    assert os.read(reading, 2) == b"in"
    second = os.fork()
    if second == 0:
        with alone(path):
            os.write(writing, b"2")
        os._exit(0)
    assert not select.select([reading], [], [], 0.1)[0]
    os.write(go_writing, b"x")
    assert os.read(reading, 1) == b"2"
    for pid in (child, second):
        assert os.waitpid(pid, 0)[1] == 0
    for fd in (reading, writing, go_reading, go_writing):
        os.close(fd)


def test_where_no_lock_can_be_had_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("", str(tmp_path / "file" / "m"), "/proc/nothing/m"):
        with alone(path):
            pass
