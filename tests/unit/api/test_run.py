"""`with capsula.run(...)`, `capsula.record`, `capsula.output`, `capsula.current`."""

import asyncio
import contextlib
import decimal
import gc
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import unittest.mock
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import capsula
from capsula.api.current import LIVE
from capsula.vault import remarks
from capsula.vault.remarks import Remarks

SRC = str(Path(capsula.__file__).parents[1])


def test_a_run_records_metrics_files_tags_and_notes(project: Any) -> None:
    Path("data.csv").write_text("1\n")
    with project.run("train") as run:
        run.input("data.csv")
        for step in range(3):
            run.record("loss", 1 / (step + 1), step=step)
        run.record("best", 2)
        Path("model.pt").write_text("weights")
        run.output("model.pt", copy=True)
        run.tag("baseline", "gpu")
        run.note("the first one")
    record = project.read()
    assert (record["kind"], record["command"], record["status"]) == ("run", "train", "finished")
    assert record["metrics"] == {"loss": 1 / 3, "best": 2}
    assert record["metric_ranges"]["loss"] == {"count": 3, "min": 1 / 3, "max": 1.0}
    assert (record["tags"], record["note"]) == (["baseline", "gpu"], "the first one")
    assert record["id"] == run.id
    assert remarks.read(str(project.root / "vault"), run.id) == Remarks(("baseline", "gpu"), "the first one")
    assert run.path == str(project.capsules()[0])
    metrics = project.read("metrics.json")
    assert metrics["loss"]["step"] == [0, 1, 2]
    assert metrics["loss"]["value"] == [1.0, 0.5, 1 / 3]
    assert all(abs(moment - metrics["loss"]["time"][0]) < 60 for moment in metrics["loss"]["time"])
    assert metrics["best"] == {"step": [None], "value": [2], "time": metrics["best"]["time"]}
    after = project.read("post-run-info.json")
    assert len(after["files"]["model.pt"]["file_hash"]) == 64
    assert after["inputs"]["data.csv"]["hash_algorithm"] == "sha256"
    assert (project.capsules()[0] / "model.pt").read_text() == "weights"
    assert not (project.capsules()[0] / "live").exists()
    before = project.read("pre-run-info.json")
    assert (before["run_name"], before["source_file"]) == ("train", __file__)


def test_an_output_is_hashed_when_the_run_has_ended_and_an_input_at_once(project: Any) -> None:
    Path("file").write_text("before")
    with project.run() as run:
        run.input("file")
        run.output("file")
        Path("file").write_text("after")
    after = project.read("post-run-info.json")
    assert after["inputs"]["file"]["file_hash"] != after["files"]["file"]["file_hash"]


def test_a_directory_is_an_output_with_all_its_files_and_a_missing_one_is_told(project: Any) -> None:
    Path("out/deep").mkdir(parents=True)
    Path("out/deep/a").write_text("a")
    with project.run() as run:
        run.output(Path("out"), copy=True)
        run.output("missing")
        run.input("missing")
    after = project.read("post-run-info.json")
    assert list(after["files"]) == ["out/deep/a", "missing"]
    assert after["files"]["missing"]["error"] == after["inputs"]["missing"]["error"]
    assert project.read()["status"] == "finished"
    assert (project.capsules()[0] / "out/deep/a").read_text() == "a"


def test_an_exception_is_recorded_and_goes_on(project: Any) -> None:
    error = ValueError("odd")
    with pytest.raises(ValueError, match="odd") as caught, project.run("x"):
        raise error
    assert caught.value is error
    assert project.read()["status"] == "failed"
    told = project.read("post-run-info.json")["exception_info"]
    assert (told["exc_type"], told["exc_value"]) == ("ValueError", "odd")
    assert "raise error" in told["traceback"]


def test_a_run_may_be_asynchronous(project: Any) -> None:
    async def train(name: str) -> None:
        async with project.run(name) as run:
            assert capsula.current() is run
            await asyncio.sleep(0)
            capsula.record("name", name)
            assert capsula.current() is run

    async def both() -> None:
        await asyncio.gather(train("one"), train("two"))

    asyncio.run(both())
    assert {name: rows[0]["metrics"] for name, rows in project.by_command().items()} == {
        "one": {"name": "one"}, "two": {"name": "two"},
    }  # fmt: skip
    assert project.read("pre-run-info.json")["function_name"] == "train"


def test_one_object_may_be_entered_by_several_tasks(project: Any) -> None:
    shared = project.run("shared")

    async def enter(number: int) -> None:
        async with shared:
            capsula.record("number", number)
            await asyncio.sleep(0)
            await asyncio.sleep(0) if number else None
            capsula.record("again", number)

    async def both() -> None:
        await asyncio.gather(enter(0), enter(1))

    asyncio.run(both())
    found = [row["metrics"] for row in project.by_command()["shared"]]
    assert sorted(found, key=lambda row: row["number"]) == [
        {"number": 0, "again": 0}, {"number": 1, "again": 1},
    ]  # fmt: skip


class Tensor:
    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


class Many:
    shape = (2,)

    def item(self) -> float:
        raise ValueError("more than one")


class Rude:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(0.25), 0.25),
        (Tensor(0.75), 0.75),
        (decimal.Decimal("0.5"), 0.5),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (np.float64("nan"), "NaN"),
        ("text", "text"),
        (None, None),
        ({"a": 1}, {"a": 1}),
        (True, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_recorded_as_the_number_that_it_is(project: Any, value: Any, told: Any) -> None:
    with project.run() as run:
        run.record("x", value)
    assert project.read("metrics.json")["x"]["value"] == [told]
    assert project.read()["metrics"]["x"] == told


@pytest.mark.parametrize(
    "make",
    [Rude, Many, object, lambda: 10**5000, lambda: 1j, lambda: np.zeros(5), lambda: b"x", lambda: [Rude()]],
)
def test_no_value_is_so_odd_that_recording_it_fails(project: Any, make: Any, capsys: Any) -> None:
    value = make()
    with project.run() as run:
        run.record("x", value, step=value)
        run.record(value, 1)
        run.output(value)
        run.input(value)
        run.note(value)
        run.tag(value)
    assert project.read()["status"] == "finished"
    assert "x" in project.read("metrics.json")


def test_outside_of_any_run_there_is_one_warning_and_no_error(project: Any, capsys: Any) -> None:
    for step in range(5):
        capsula.record("loss", 0.5, step)
        capsula.output("file")
    assert capsys.readouterr().err == "capsula: loss is not recorded: there is no run here\n"
    assert capsula.current() is None


def test_after_its_end_a_run_takes_nothing_and_says_so_once(project: Any, capsys: Any) -> None:
    with project.run() as run:
        pass
    for _ in range(3):
        run.record("late", 1)
    assert capsys.readouterr().err.count("has ended") == 1
    assert not (project.capsules()[0] / "live").exists()


def test_the_innermost_run_is_the_current_one(project: Any) -> None:
    with project.run("outer") as outer:
        with project.run("inner") as inner:
            assert capsula.current() is inner
            assert os.environ[LIVE] == inner.path
        assert capsula.current() is outer
        assert os.environ[LIVE] == outer.path
    assert LIVE not in os.environ
    found = project.by_command()
    assert found["inner"][0]["parent"] == found["outer"][0]["id"] == outer.id


def test_a_thread_has_the_run_that_it_was_started_in(project: Any) -> None:
    """Also when another run is live at the same time, so that nobody could guess."""
    barrier = threading.Barrier(2, timeout=30)

    def work() -> None:
        barrier.wait()
        thread = threading.Thread(target=lambda: capsula.record("who", threading.current_thread().name))
        thread.name = threading.current_thread().name
        thread.start()
        thread.join()
        barrier.wait()

    def in_a_run() -> None:
        with project.run(threading.current_thread().name):
            work()

    threads = [threading.Thread(target=in_a_run, name=name) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = project.by_command()
    assert {name: rows[0]["metrics"]["who"] for name, rows in found.items()} == {"one": "one", "two": "two"}
    assert found["one"][0]["parent"] is None


def test_a_thread_beside_a_run_is_not_taken_for_a_part_of_it(project: Any, capsys: Any) -> None:
    begun, said = threading.Event(), threading.Event()
    seen = []

    def other() -> None:
        begun.wait(30)
        capsula.record("x", 1)
        with project.run("beside"):
            seen.append(capsula.current())
        said.set()

    thread = threading.Thread(target=other)
    thread.start()
    with project.run("run"):
        begun.set()
        said.wait(30)
    thread.join()
    found = project.by_command()
    assert found["beside"][0]["parent"] is None
    assert "metrics" not in found["run"][0]
    assert "x is not recorded: there is no run here" in capsys.readouterr().err


def test_tasks_beside_each_other_are_not_parts_of_each_other(project: Any) -> None:
    async def one(number: int) -> None:
        async with project.run(f"{number}"):
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*[one(number) for number in range(5)])

    asyncio.run(all_of_them())
    assert {row["parent"] for rows in project.by_command().values() for row in rows} == {None}


def test_within_a_monitored_command_threads_beside_a_run_speak_to_the_command(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with project.run("command") as command:
        path = command.path
        script = """
import capsula, threading
begun, said = threading.Event(), threading.Event()
def other():
    begun.wait(30)
    capsula.record("beside", 1)
    said.set()
thread = threading.Thread(target=other)
thread.start()
with capsula.run("inner") as run:
    begun.set()
    said.wait(30)
thread.join()
"""
        Path("script.py").write_text(script)
        environ = {**os.environ, "PYTHONPATH": SRC, LIVE: path}
        assert subprocess.run([sys.executable, "script.py"], env=environ).returncode == 0
    found = project.by_command()
    assert found["command"][0]["metrics"] == {"beside": 1}
    assert found["inner"][0]["parent"] == command.id


def test_a_variable_of_the_user_s_stays(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with project.run():
        os.environ[LIVE] = "/theirs"
    assert os.environ.pop(LIVE) == "/theirs"


def test_a_python_program_that_a_run_starts_records_into_it(project: Any) -> None:
    script = "import capsula; capsula.record('child', 1); capsula.output('made'); print(capsula.current().id)"
    with project.run("parent") as run:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": SRC},
            capture_output=True,
            text=True,
        )
    assert (done.stdout.strip(), done.stderr) == (run.id, "")
    assert project.read()["metrics"] == {"child": 1}
    assert list(project.read("post-run-info.json")["files"]) == ["made"]


def test_a_fork_does_not_seal_the_capsule_of_its_parent(project: Any) -> None:
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(project.run("parent"))
        child = os.fork()
        if child == 0:
            try:
                capsula.record("child", 1)
                stack.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert json.loads(Path(run.path, "capsule.json").read_text())["status"] == "running"
        run.record("parent", 2)
    assert project.read()["metrics"] == {"child": 1, "parent": 2}


def test_credentials_are_left_out_of_what_is_recorded(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    word = "canary7canary7"
    monkeypatch.setenv("MY_TOKEN", word)

    def work() -> None:
        with project.run(f"run {word}") as run:
            run.record("x", f"it is {word}")
            run.record("y", {"deep": [word]})
            run.note(word)
            run.tag(word)
            raise ValueError(word)

    with pytest.raises(ValueError, match=word):
        work()
    for path in project.capsules()[0].iterdir():
        assert word not in path.read_text(), path


def test_where_no_capsule_can_be_made_the_block_runs_all_the_same(project: Any, capsys: Any) -> None:
    Path("vault").write_text("a file of the user's")
    with project.run("x") as run:
        run.record("loss", 1)
        run.output("x")
        assert capsula.current() is run
    assert (run.path, run.id) == ("", "")
    assert capsys.readouterr().err.count("not recorded") == 1


def test_an_unknown_item_is_a_warning(project: Any, capsys: Any) -> None:
    with project.run("x", items=["nothing"]):
        pass
    assert "there is no item nothing" in capsys.readouterr().err
    assert project.read()["troubles"] == ["there is no item nothing"]


def test_the_files_of_an_item_belong_to_a_run(project: Any) -> None:
    Path("capsula.toml").write_text(
        "[monitor]\ncapture = false\n[monitor.item.x.files]\n'made' = {hash = 'sha256', move = true}\n"
    )
    with project.run("x", items="x"):
        Path("made").write_text("made")
    assert (project.capsules()[0] / "made").read_text() == "made"
    assert project.read()["items"] == ["x"]


def test_a_run_without_a_name_has_that_of_its_place(project: Any) -> None:
    with project.run():
        pass
    name, _, line = project.read()["command"].partition(":")
    assert name == "test_run.py"
    assert "with project.run():" in Path(__file__).read_text().splitlines()[int(line) - 1]


def test_a_mock_is_no_number(project: Any) -> None:
    with project.run() as run:
        run.record("x", unittest.mock.MagicMock(spec=int))
    assert project.read("metrics.json")["x"]["value"][0]["type"] == "unittest.mock.MagicMock"


def test_without_stderr_nothing_is_said_on_stdout(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    capsula.record("x", 1)
    assert capsys.readouterr().out == ""


def test_a_vault_that_goes_away_meanwhile_stops_nothing(project: Any, capsys: Any) -> None:
    with project.run() as run:
        run.record("x", 1)
        shutil.rmtree(project.root / "vault")
        run.record("x", 2)
        run.output("capsula.toml", copy=True)
    assert not (project.root / "vault").exists()
    assert "capsula: " in capsys.readouterr().err


def test_a_cancelled_task_is_interrupted(project: Any) -> None:
    async def work() -> None:
        async with project.run("work"):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert project.read()["status"] == "interrupted"


def test_of_very_many_metrics_some_are_in_the_summary_and_all_in_the_columns(project: Any) -> None:
    with project.run() as run:
        for number in range(1200):
            run.record(f"m{number}", number)
    assert len(project.read()["metrics"]) == 1000
    assert len(project.read("metrics.json")) == 1200


def test_a_run_keeps_nothing_of_the_program_alive(project: Any) -> None:
    class Big: ...

    big = Big()
    seen = weakref.ref(big)
    same = project.monitor(lambda value: value)
    with project.run() as run:
        run.record("x", big)
        same(big)
    with pytest.raises(ValueError, match="x"):
        project.monitor(lambda value: int("x"))(big)
    del big
    gc.collect()
    assert seen() is None


@pytest.mark.timeout(60)
def test_a_pipe_that_is_named_as_a_file_does_not_hold_the_program(project: Any) -> None:
    Path("capsula.toml").write_text(
        "[monitor]\ncapture = false\n[monitor.item.x.files]\n'pipe' = {hash = 'sha256'}\n"
    )
    os.mkfifo("pipe")
    with project.run("x", items=["x"]) as run:
        run.input("pipe")
        run.output(project.root / "pipe")
        run.input("/dev/zero")
    after = project.read("post-run-info.json")
    assert after["files"]["pipe"]["error"] == after["inputs"]["pipe"]["error"] == "it is no file"
    assert "error" in after["inputs"]["/dev/zero"]


def test_of_a_large_directory_some_files_are_hashed(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsula.engine.said.MOST_FILES", 3)
    Path("out").mkdir()
    for number in range(5):
        Path(f"out/{number}").touch()
    with project.run() as run:
        run.output("out")
    assert len(project.read("post-run-info.json")["files"]) == 3
    assert project.read()["notes"] == [f"{project.root}/out: 2 more files aren't hashed"]


def test_in_a_directory_that_was_removed_a_run_is_recorded(
    project: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gone = tmp_path_factory.mktemp("gone")
    os.chdir(gone)
    gone.rmdir()
    with project.run() as run:
        run.record("x", 1)
        run.output("relative")
    os.chdir(project.root)
    assert project.read()["metrics"] == {"x": 1}


def test_what_the_program_never_ends_is_sealed_when_it_ends(project: Any) -> None:
    script = """
import capsula
@capsula.monitor
def numbers():
    yield 1
    yield 2
values = numbers()
next(values)
run = capsula.run("by hand").__enter__()
run.record("x", 1)
"""
    Path("script.py").write_text(script)
    environ = {**os.environ, "PYTHONPATH": SRC}
    done = subprocess.run([sys.executable, "script.py"], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = project.by_command()
    assert {name: rows[0]["status"] for name, rows in found.items()} == {
        "numbers": "interrupted", "by hand": "interrupted",
    }  # fmt: skip
    assert found["by hand"][0]["metrics"] == {"x": 1}
