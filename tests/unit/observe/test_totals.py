"""Counters that only grow, whatever becomes of the journal; and their text, as Prometheus' own parser reads it."""

import json
import math
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from capsula.observe import journal, totals
from capsula.observe.exposition import Gauge, text
from capsula.observe.totals import COUNTERS, MOST, OTHERS, Totals, count


def line(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "time": 1000.0 + number,
        "id": "x",
        "outcome": "miss",
        "seconds": 2.0,
        "bytes": 10,
        "stored": True,
        "not_stored": "",
        "reason": "file",
        **fields,
    }


class Store:
    def __init__(self, base: Path) -> None:
        self.root = str(base)
        self.number = 0

    def run(self, times: int = 1, **fields: Any) -> None:
        for _ in range(times):
            self.number += 1
            journal.append(self.root, line(self.number, **fields))

    def runs(self) -> float:
        return sum(count(self.root).counts["runs"].values())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def value(found: Totals, name: str, *labels: str) -> float:
    return found.counts[name][labels]


def test_each_line_is_counted_once(store) -> None:
    store.run(3)
    assert store.runs() == 3
    assert store.runs() == 3
    store.run(2)
    assert store.runs() == 5


def test_what_is_counted_of_a_line(store) -> None:
    store.run(reason="variable", seconds=1.5)
    store.run(outcome="hit", seconds=4.0, bytes=70, reason="", remote="")
    store.run(outcome="hit", seconds=4.0, bytes=30, reason="", remote="s3://b")
    store.run(outcome="placebo", verdict="differs", stored=False, not_stored="no")
    store.run(outcome="uncached", reason="store", stored=False, id="y")
    store.run(outcome="miss", reason="", id="old")
    journal.append(store.root, {"time": 1.0, "trouble": "fetch", "remote": "s3://b", "why": "away"})
    found = count(store.root)
    assert found.counts["runs"] == {
        ("x", "miss"): 1,
        ("x", "hit"): 2,
        ("x", "placebo"): 1,
        ("y", "uncached"): 1,
        ("old", "miss"): 1,
    }
    assert found.counts["misses"] == {("variable",): 1, ("unknown",): 1}
    assert found.counts["uncached"] == {("store",): 1}
    assert found.counts["hits"] == {("local",): 1, ("remote",): 1}
    assert (value(found, "saved", "x"), value(found, "run", "x"), value(found, "restored")) == (8.0, 3.5, 100)
    assert (value(found, "stored"), value(found, "not_stored")) == (20, 1)
    assert found.counts["placebos"] == {("differs",): 1}
    assert found.counts["remote_errors"] == {("s3://b", "fetch"): 1}
    assert (found.since, found.last) == (1001.0, 1006.0)


def test_they_survive_that_the_journal_forgets(store, monkeypatch) -> None:
    monkeypatch.setattr(journal, "LIMIT", 2000)
    seen = 0.0
    for round_ in range(30):
        store.run(random.Random(round_).randrange(8))
        found = store.runs()
        assert found == store.number >= seen
        seen = found


def test_lines_that_came_and_went_unseen_are_missing_and_nothing_falls(store, monkeypatch) -> None:
    store.run(5)
    assert store.runs() == 5
    monkeypatch.setattr(journal, "LIMIT", 500)
    store.run(100)
    found = store.runs()
    assert 5 < found <= 105
    assert store.runs() == found


def test_they_survive_that_the_journal_is_removed(store) -> None:
    store.run(4)
    assert store.runs() == 4
    (Path(store.root) / "journal" / "journal.jsonl").unlink()
    assert store.runs() == 4
    store.run(2)
    assert store.runs() == 6


def test_a_line_that_is_being_written_is_counted_when_it_is_whole(store) -> None:
    store.run(2)
    path = Path(store.root) / "journal" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"time": 5.0, "id": "x", "out')
    assert store.runs() == 2
    path.write_bytes(whole + b'{"time": 5.0, "id": "x", "outcome": "hit"}\n')
    assert store.runs() == 3
    path.write_bytes(b'{"time": 6.0, "id": "x", "out')
    assert store.runs() == 3, "not even its first line is whole"


def test_who_counts_at_once_counts_nothing_twice(store) -> None:
    store.run(50)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.runs(), range(16)))
    assert found == [50] * 16


@pytest.mark.parametrize("content", ["", "[]", "null", '{"format": 1}', '{"format": 9}', "{" * 100_000])
def test_what_cannot_be_read_of_it_is_counted_anew(store, content) -> None:
    store.run(3)
    store.runs()
    (Path(store.root) / "totals" / "totals.json").write_text(content)
    assert store.runs() == 3


def test_lines_of_any_kind_are_no_trouble(store) -> None:
    store.run()
    with (Path(store.root) / "journal" / "journal.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n[]\n\n" + b"[" * 5000 + b"\n")
        for odd in (
            {"outcome": "hit", "id": 7, "seconds": "long", "bytes": -5},
            {"outcome": ["hit"]},
            {"outcome": "hit", "seconds": -1, "time": 1e300},
            {"outcome": "miss", "seconds": True, "reason": {}},
            {"trouble": 3},
        ):
            file.write(json.dumps(odd).encode() + b"\n")
    found = count(store.root)
    assert all(
        amount >= 0 and math.isfinite(amount) for rows in found.counts.values() for amount in rows.values()
    )
    assert sum(found.counts["runs"].values()) == 4


def test_there_is_no_end_of_series(store) -> None:
    found = Totals()
    for number in range(MOST + 50):
        found.see(line(number, id=f"capsule {number}"))
    runs = found.counts["runs"]
    assert len(runs) == MOST + 1
    assert runs[OTHERS, OTHERS] == 50
    found.see(line(0, id="capsule 3"))
    assert runs["capsule 3", "miss"] == 2


def test_what_cannot_be_kept_is_an_error(store) -> None:
    store.run()
    (Path(store.root) / "totals").write_text("in the way")
    with pytest.raises(OSError, match="totals"):
        count(store.root)
    assert sum(count(store.root, save=False).counts["runs"].values()) == 1


def test_nothing_is_left_beside_it(store) -> None:
    store.run()
    store.runs()
    assert sorted(os.listdir(f"{store.root}/{totals.FOLDER}")) == ["lock", "totals.json"]


# ---------------------------------------------------------------------------------------------------- the text


def parsed(content: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(content)}


def test_prometheus_reads_all_of_it(store) -> None:
    store.run(2)
    store.run(outcome="hit", seconds=0.25)
    families = parsed(
        text("/s", count(store.root), [Gauge("store_bytes", "Room.", {("blobs",): 7}, ("kind",))])
    )
    runs = {(s.labels["capsule"], s.labels["outcome"]): s.value for s in families["capsula_runs"].samples}
    assert runs == {("x", "miss"): 2, ("x", "hit"): 1, ("x", "placebo"): 0, ("x", "uncached"): 0}
    assert families["capsula_saved_seconds"].samples[0].value == 0.25
    assert {family.type for name, family in families.items() if name != "capsula_store_bytes"} == {"counter"}
    assert families["capsula_store_bytes"].type == "gauge"
    assert all(family.documentation for family in families.values())
    for family in families.values():
        for sample in family.samples:
            assert sample.labels["store"] == "/s"
            assert (family.type == "counter") == sample.name.endswith("_total")


def test_first_samples_are_there_before_anything_has_run() -> None:
    families = parsed(text("/s", Totals(), []))
    assert {s.labels["tier"]: s.value for s in families["capsula_hits"].samples} == {"local": 0, "remote": 0}
    assert [s.value for s in families["capsula_restored_bytes"].samples] == [0]


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a\nb", "a\\nb", 'x{y="z"} 1\n# EOF', "\udcff", "é ✓", "", " "]
)
def test_a_name_of_any_kind_is_one_label(name) -> None:
    found = Totals()
    found.see(line(id=name))
    families = parsed(text(f"/store of {name}", found, []))
    (told,) = {sample.labels["capsule"] for sample in families["capsula_runs"].samples}
    assert told == name.encode("utf-8", "backslashreplace").decode()
    assert families["capsula_runs"].samples[0].labels["store"].endswith(told)


def test_every_line_is_of_one_family_and_none_is_there_twice(store) -> None:
    store.run(3)
    lines = text("/s", count(store.root), []).splitlines()
    series = [each.rpartition(" ")[0] for each in lines if not each.startswith("#")]
    assert len(series) == len(set(series))
    types = [each.split()[2] for each in lines if each.startswith("# TYPE")]
    assert len(types) == len(set(types)) <= len(COUNTERS)
    assert lines == [each.rstrip() for each in lines]


def test_numbers_are_exact() -> None:
    found = Totals()
    found.see(line(seconds=1e14, bytes=123456789012345))
    found.see(line(seconds=0.1))
    families = parsed(text("/s", found, []))
    assert families["capsula_stored_bytes"].samples[0].value == 123456789012355
    assert families["capsula_run_seconds"].samples[0].value == 1e14 + 0.1
