"""Counters for people who run fleets: `capsula cache stats --json` and `--prometheus`."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from servers.nginx import Nginx
from servers.ports import free_port

ASK = ("-c", "x", "-i", "in.txt", "-o", "out.txt")
DO = "cp in.txt out.txt"
SCHEMA = Path(__file__).parents[2] / "src/capsula/schemas/cache-stats.schema.json"

Series = dict[tuple[str, ...], float]


def read(content: str) -> Series:
    """Every sample by its name and the values of its labels but the store."""
    return {
        (
            sample.name,
            *(value for name, value in sorted(sample.labels.items()) if name != "store"),
        ): sample.value
        for family in text_string_to_metric_families(content)
        for sample in family.samples
    }


def counters(ws) -> Series:
    done = ws.tool("cache", "stats", "--prometheus", "-")
    assert (done.code, done.err) == (0, "")
    return {key: value for key, value in read(done.out).items() if key[0].endswith("_total")}


def numbers(ws) -> dict:
    told = json.loads(ws.tool("cache", "stats", "--json").out)
    assert list(Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(told)) == []
    return told


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    server = Nginx(tmp_path / "nginx")
    yield server
    server.stop()


def test_what_ran_is_counted_by_why(ws) -> None:
    ws.write("in.txt", "one")
    ws.capsule(*ASK, do=DO)
    ws.capsule(*ASK, do=DO)
    ws.warm(*ASK, do=DO)
    ws.write("in.txt", "two")
    ws.capsule(*ASK, do=DO)
    ws.capsule(*ASK, do=f"{DO}; true")
    ws.capsule("-t", "tag", "-e", "NOTHING", *ASK, do=f"{DO}; true")
    ws.capsule(*ASK, do=DO, program="placebo")
    ws.capsule("-c", "x", "-i", "nothing*", do=DO)
    ws.capsule("-b", "none", *ASK, do=DO)
    found = counters(ws)
    reasons = {key[1]: value for key, value in found.items() if key[0] == "capsula_misses_total"}
    assert reasons == {"first": 1, "file": 1, "argv": 1, "several": 1}
    assert found["capsula_uncached_total", "other"] == 1
    assert found["capsula_uncached_total", "options"] == 1
    assert found["capsula_placebos_total", "same"] == 1
    hits = found["capsula_runs_total", "x", "hit"]
    assert hits == found["capsula_hits_total", "local"] >= 2
    assert found["capsula_hits_total", "remote"] == 0
    assert found["capsula_stored_bytes_total",] > 0
    assert found["capsula_saved_seconds_total", "x"] > 0


def test_a_shared_store_is_told_apart(ws, nginx) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    ws.capsule("-b", nginx.url, *ASK, do=DO)
    for path in ws.store.glob("ac/*/*"):
        path.unlink()
    shutil.rmtree(ws.store / "recall", ignore_errors=True)  # there is none of what was too fresh
    ws.path("out.txt").unlink()
    assert ws.capsule("-b", nginx.url, *ASK, do=DO).ran == 0
    ws.warm("-b", nginx.url, *ASK, do=DO)
    found = counters(ws)
    assert found["capsula_hits_total", "remote"] == 1
    assert found["capsula_hits_total", "local"] >= 1
    assert [key for key in found if key[0] == "capsula_remote_errors_total"] == []
    away = f"http://127.0.0.1:{free_port()}"
    ws.write("in.txt", "two")
    assert ws.capsule("-b", away, *ASK, do=DO).ran == 1
    assert counters(ws)["capsula_remote_errors_total", "lookup", away] == 1
    # What is said of it is no run.
    assert (
        ws.tool("history", "-n", "0").out.count("\n")
        == sum(value for key, value in counters(ws).items() if key[0] == "capsula_runs_total") + 1
    )


def test_what_cannot_be_sent_is_counted(ws, nginx) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    (nginx.data / "later").write_text("in the way")
    ws.capsule("-b", f"{nginx.url}/later", *ASK, do=DO)
    assert counters(ws)["capsula_remote_errors_total", "send", f"{nginx.url}/later"] == 1


def test_they_never_fall(ws) -> None:
    ws.write("in.txt", "one")
    before: Series = {}
    for after in (None, ("gc", "--max-size", "0"), ("clear", "--yes"), ("clear", "--all", "--yes")):
        ws.capsule(*ASK, do=DO)
        found = counters(ws)
        assert all(found[key] >= value for key, value in before.items())
        before = found
        if after is not None:
            assert ws.tool("cache", *after).code == 0
    # The last run was never asked for before everything went.
    ws.capsule(*ASK, do=DO)
    ws.tool("cache", "clear", "--all", "--yes")
    assert (
        counters(ws)["capsula_runs_total", "x", "miss"] + counters(ws)["capsula_runs_total", "x", "hit"] == 5
    )
    told = numbers(ws)
    assert told["journal"]["runs"] == 0
    assert sum(row["value"] for row in told["totals"]["runs"]) == 5


def test_json_is_as_its_schema_says(ws) -> None:
    empty = numbers(ws)
    assert (empty["totals"]["runs"], empty["totals"]["since"]) == ([], None)
    assert not ws.store.exists()
    ws.write("in.txt", "one")
    ws.capsule(*ASK, do=DO)
    told = numbers(ws)
    assert told["totals"]["runs"] == [{"capsule": "x", "outcome": "miss", "value": 1}]
    assert told["totals"]["since"] == told["totals"]["last"] == told["journal"]["since"]


def test_the_file_is_replaced_as_a_whole_and_readable_for_all(ws) -> None:
    folder = ws.base / "textfile"
    folder.mkdir()
    target = folder / "capsula.prom"
    ws.write("in.txt", "one")
    umask = os.umask(0o077)
    try:
        for _ in range(2):
            ws.capsule(*ASK, do=DO)
            before = target.stat().st_ino if target.exists() else 0
            done = ws.tool("cache", "stats", "--prometheus", str(target))
            assert (done.code, done.out, done.err) == (0, "", "")
            assert os.listdir(folder) == ["capsula.prom"]
            assert target.stat().st_mode & 0o777 == 0o644
            assert target.stat().st_ino != before
    finally:
        os.umask(umask)
    found = read(target.read_text())
    assert found["capsula_runs_total", "x", "hit"] == 1
    assert found["capsula_store_objects", "results"] == 1
    assert found["capsula_store_limit_bytes",] == 10 << 30
    assert found["capsula_last_run_timestamp_seconds",] > 1_000_000_000


def test_without_a_store_there_are_zeros(ws) -> None:
    found = counters(ws)
    assert found["capsula_hits_total", "local"] == 0
    assert not ws.store.exists()


def test_what_cannot_be_written_is_said(ws) -> None:
    done = ws.tool("cache", "stats", "--prometheus", str(ws.base / "nowhere" / "x.prom"))
    assert (done.code, done.out) == (1, "")
    assert "can't write" in done.err
    for more in (["--json"], ["--remote"]):
        assert ws.tool("cache", "stats", "--prometheus", "-", *more).code == 2
    ws.write("in.txt", "one")
    ws.capsule(*ASK, do=DO)
    (ws.store / "totals").write_text("in the way")
    done = ws.tool("cache", "stats", "--prometheus", "-")
    assert (done.code, done.out) == (1, "")
    assert "can't be kept" in done.err
    assert numbers(ws)["totals"]["runs"][0]["value"] == 1
