"""What a run says of itself: nothing torn or lost, whoever speaks at the same time, and columns in the end."""

import json
import math
import multiprocessing
import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.engine import columns, live
from capsula.engine.columns import Column
from capsula.engine.live import Pen, metric_line


@pytest.fixture
def capsule(tmp_path: Path) -> Path:
    live.open_live(str(tmp_path))
    return tmp_path


def read_back(capsule: Path) -> dict[str, Any]:
    said = columns.read(live.close_live(str(capsule)))
    columns.write_metrics(str(capsule), said.metrics)
    found: dict[str, Any] = json.loads((capsule / "metrics.json").read_text(), parse_constant=refused)
    return found


def refused(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def speak(path: str, name: str, count: int) -> None:
    pen = Pen(path)
    for step in range(count):
        pen.write(metric_line(name, step * 0.5, step, float(step)))


def test_what_processes_and_threads_say_at_once_is_all_there(capsule: Path) -> None:
    context = multiprocessing.get_context("fork")
    speakers: list[Any] = [
        context.Process(target=speak, args=(str(capsule), f"p{at}", 2000)) for at in range(3)
    ]
    speakers += [threading.Thread(target=speak, args=(str(capsule), f"t{at}", 2000)) for at in range(3)]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join()
    found = read_back(capsule)
    assert sorted(found) == ["p0", "p1", "p2", "t0", "t1", "t2"]
    for metric in found.values():
        assert metric["step"] == list(range(2000))
        assert metric["value"] == [step * 0.5 for step in range(2000)]


def test_a_pen_that_threads_share_loses_nothing(capsule: Path) -> None:
    pen = Pen(str(capsule))

    def write(name: str) -> None:
        for step in range(1000):
            # Two that open a file each at first write to one of them later: it is the time that says the order.
            pen.write(metric_line(name, step, step, float(step)))

    threads = [threading.Thread(target=write, args=(f"t{at}",)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(metric["value"] == list(range(1000)) for metric in read_back(capsule).values())


def test_a_fork_writes_to_a_file_of_its_own(capsule: Path) -> None:
    pen = Pen(str(capsule))
    pen.write(metric_line("a", 1, None, 0.0))
    process = multiprocessing.get_context("fork").Process(
        target=pen.write, args=(metric_line("a", 2, None, 1.0),)
    )
    process.start()
    process.join()
    assert len(list((capsule / "live").iterdir())) == 2
    assert read_back(capsule)["a"]["value"] == [1, 2]


def test_a_descriptor_that_became_another_file_is_not_written_to(capsule: Path) -> None:
    pen = Pen(str(capsule))
    pen.write(metric_line("a", 1, None, 0.0))
    number = max(int(name) for name in os.listdir("/proc/self/fd") if leads_below(name, capsule))
    os.close(number)
    with open(capsule / "the-user-s", "wb") as file:
        while file.fileno() != number:
            os.dup2(file.fileno(), number)
            break
        pen.write(metric_line("a", 2, None, 1.0))
    assert (capsule / "the-user-s").read_bytes() == b""
    assert read_back(capsule)["a"]["value"] == [1, 2]


def leads_below(name: str, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith(f"{folder}/")
    except OSError:
        return False


def test_lines_of_several_files_are_merged_by_time(capsule: Path) -> None:
    first, second = Pen(str(capsule)), Pen(str(capsule))
    for pen, times in ((first, (1.0, 4.0)), (second, (2.0, 3.0))):
        for moment in times:
            pen.write(metric_line("a", moment, None, moment))
    assert read_back(capsule)["a"]["value"] == [1.0, 2.0, 3.0, 4.0]


def test_a_damaged_line_costs_only_itself(capsule: Path) -> None:
    lines = [
        metric_line("a", 1, 1, 0.0),
        b'["a",2\n',
        b"\n",
        b"[1]\n",
        b"\xff]\n",
        metric_line("a", 3, 3, 1.0),
    ]
    (capsule / "live/x.jsonl").write_bytes(b"".join(lines) + b'["a",4,')
    said = columns.read(live.close_live(str(capsule)))
    assert said.metrics["a"].value.values.tolist() == [1, 3]
    assert said.unread == 4


def test_nobody_begins_to_speak_to_a_capsule_that_has_ended(capsule: Path) -> None:
    assert live.is_live(str(capsule))
    live.close_live(str(capsule))
    assert not live.is_live(str(capsule))
    with pytest.raises(FileNotFoundError):
        Pen(str(capsule)).write(b"{}\n")


ANY = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(), st.lists(st.integers(), max_size=3)
)


def told(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)]
    return value


@given(st.lists(st.tuples(st.sampled_from(["a", "b é\n"]), ANY, st.none() | st.integers())))
def test_whatever_is_recorded_comes_back(rows: list[tuple[str, Any, int | None]]) -> None:
    said = columns.Said()
    parsed = columns._parsed([metric_line(*row, 0.5) for row in rows], said)
    by_name: dict[str, columns.Metric] = {}
    for row in parsed:
        by_name.setdefault(row[0], columns.Metric()).extend([tuple(row)])
    for name, metric in by_name.items():
        mine = [row for row in rows if row[0] == name]
        assert json.loads("".join(metric.value.pieces())) == [told(value) for _, value, _ in mine]
        assert json.loads("".join(metric.step.pieces())) == [step for *_, step in mine]
    assert said.unread == 0


def test_a_column_of_numbers_is_an_array() -> None:
    column = Column()
    column.extend([1.0, math.nan])
    column.extend([2.0])
    assert type(column.values).__name__ == "array"
    column.extend(["text"])
    assert column.values == [1.0, pytest.approx(math.nan, nan_ok=True), 2.0, "text"]
    column.extend([2**70])
    assert json.loads("".join(column.pieces())) == [1.0, "NaN", 2.0, "text", 2**70]


def test_the_extent_of_a_metric_passes_over_what_is_no_number() -> None:
    metric = columns.Metric()
    metric.extend([("a", value, None, 0.0) for value in (3, math.nan, 1.5, "x", math.inf)])
    assert metric.extent() == {"count": 5, "min": 1.5, "max": "Infinity"}
    assert metric.last() == "Infinity"


def test_a_million_records_need_little_memory(capsule: Path) -> None:
    line = metric_line("loss", 0.1234567, 1, 1764104400.123456)
    (capsule / "live/x.jsonl").write_bytes(line * 1_000_000)
    metric = columns.read(live.close_live(str(capsule))).metrics["loss"]
    arrays = [metric.step.values, metric.value.values, metric.time.values]
    assert [len(each) for each in arrays] == [1_000_000] * 3
    assert all(memoryview(each).nbytes == 8_000_000 for each in arrays)


def test_more_files_than_a_process_may_open_are_read(capsule: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(300):
        line = metric_line("a", number, number, float(number))
        (capsule / f"live/{(number * 7) % 300:03}-x.jsonl").write_bytes(line)
    # What this process has open already isn't counted.
    most = max(map(int, os.listdir("/proc/self/fd"))) + 50
    assert most - len(os.listdir("/proc/self/fd")) < 300
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        said = columns.read(live.close_live(str(capsule)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert said.metrics["a"].value.values.tolist() == list(range(300))
    assert said.metrics["a"].step.values.tolist() == list(range(300))


def test_a_pen_that_many_threads_open_at_once_loses_nothing(capsule: Path) -> None:
    barrier = threading.Barrier(8, timeout=30)
    pen = Pen(str(capsule))

    def write(number: int) -> None:
        barrier.wait()
        pen.write(metric_line("a", number, None, 0.0))

    for _ in range(20):
        pen.close()
        threads = [threading.Thread(target=write, args=(at,)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(read_back(capsule)["a"]["value"]) == sorted([*range(8)] * 20)


def test_a_line_that_the_disk_cut_short_does_not_spoil_the_next(capsule: Path, monkeypatch: Any) -> None:
    pen = Pen(str(capsule))
    real = os.write
    monkeypatch.setattr(os, "write", lambda number, line: real(number, line[:4]))
    with pytest.raises(OSError, match="only a part"):
        pen.write(metric_line("a", 1, None, 0.0))
    monkeypatch.undo()
    pen.write(metric_line("a", 2, None, 1.0))
    said = columns.read(live.close_live(str(capsule)))
    assert said.metrics["a"].value.values.tolist() == [2]
    assert said.unread == 1
