"""What a real collector of OpenTelemetry understands of the traces of runs."""

import re
from collections.abc import Iterator

import pytest

from servers.rotel import Rotel, Seen

ASK = ("-c", "x", "-i", "in.txt", "-o", "out.txt")
DO = "cp in.txt out.txt"


@pytest.fixture
def rotel(ws, tmp_path) -> Iterator[Rotel]:
    server = Rotel(tmp_path / "rotel")
    ws.write("in.txt", "one")
    ws.write("capsula.toml")
    ws.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url
    yield server
    server.stop()


def traces(rotel: Rotel) -> list[list[Seen]]:
    """The spans of each run in the order of the runs, the run itself first."""
    found: list[list[Seen]] = []
    for span in rotel.spans():
        if "capsule_id" in span.attributes:
            found.append([])
        found[-1].append(span)
    return found


def test_a_run_arrives_as_a_trace(ws, rotel) -> None:
    ws.environ |= {"OTEL_SERVICE_NAME": "our builds", "OTEL_RESOURCE_ATTRIBUTES": "team=build%20it"}
    done = ws.capsule(*ASK, do=f"{DO}; exit 3", report=True)
    assert (done.ran, done.code) == (1, 3)
    ((whole, *parts),) = traces(rotel)
    assert whole.resource == {"service.name": ("Str", "our builds"), "team": ("Str", "build it")}
    assert (whole.fields["Name"], whole.fields["Parent ID"]) == ("x", "")
    assert re.fullmatch("[0-9a-f]{32}", whole.fields["Trace ID"])
    assert re.fullmatch("[0-9a-f]{16}", whole.fields["ID"])
    assert {part.fields["Name"] for part in parts} == {"inputs", "lookup", "run", "capture"}
    assert {part.fields["Parent ID"] for part in parts} == {whole.fields["ID"]}
    assert {part.fields["Trace ID"] for part in parts} == {whole.fields["Trace ID"]}
    assert len({span.fields["ID"] for span in (whole, *parts)}) == len(parts) + 1
    for part in parts:
        assert whole.start_ns <= part.start_ns <= part.end_ns <= whole.end_ns
    assert whole.attributes["outcome"] == ("Str", "miss")
    assert whole.attributes["exit_code"] == ("Int", "3")
    assert whole.attributes["result_from_cache"] == ("Bool", "false")
    assert whole.attributes["seconds_run"][0] == "Double"
    assert whole.attributes["run"] == ("Str", done.report["run"])


def test_a_hit_names_the_run_that_made_it(ws, rotel) -> None:
    for ran in (1, 0):
        assert ws.capsule(*ASK, do=DO).ran == ran
    (miss, *_), (hit, *_) = traces(rotel)
    assert hit.attributes["outcome"] == ("Str", "hit")
    assert hit.attributes["made_by"] == miss.attributes["run"]
    assert hit.fields["Trace ID"] != miss.fields["Trace ID"]


def test_spans_may_be_packed(ws, rotel) -> None:
    assert ws.capsule(*ASK, do=DO, env={"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}).code == 0
    ((whole, *_),) = traces(rotel)
    assert whole.attributes["outcome"] == ("Str", "miss")


def test_nested_runs_are_one_trace(ws, rotel) -> None:
    inner = "capsule -c inner -i in.txt -o inner.txt -- cp in.txt inner.txt"
    ws.capsule(*ASK, do=f"{inner}; {DO}", env={"TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    (inside, *_), (outside, *_) = traces(rotel)
    assert (inside.fields["Name"], outside.fields["Name"]) == ("inner", "x")
    assert {span.fields["Trace ID"] for span in (inside, outside)} == {"ab" * 16}
    assert inside.fields["Parent ID"] == outside.fields["ID"]
    assert outside.fields["Parent ID"] == "cd" * 8


def test_an_error_of_ours_is_one_there(ws, rotel) -> None:
    ws.capsule(*ASK, "-i", "no such file", do=DO)
    ((whole, *_),) = traces(rotel)
    assert "no such file" in whole.fields["Status message"]
    assert whole.fields["Status code"] == "STATUS_CODE_ERROR"


@pytest.mark.parametrize("word", [b"\xff\xfe", "Größe ∑ 🚀".encode(), b"a\x01b"])
def test_any_word_of_a_command_arrives(ws, rotel, word) -> None:
    assert ws.capsule(*ASK, command=("sh", "-c", "cp in.txt out.txt", word)).code == 0
    ((whole, *_),) = traces(rotel)
    kind, told = whole.attributes["command"]
    assert kind == "Str"
    assert "cp in.txt out.txt" in told


def test_what_is_said_to_honeycomb_of_a_trace_is_for_honeycomb(ws, rotel) -> None:
    """Its ids may be any words; OpenTelemetry's are of a fixed form, and a collector refuses all spans for another."""
    options = ("--honeycomb_trace_id", "build 7", "--honeycomb_parent_id", "step 1")
    assert not ws.capsule("-v", *options, *ASK, do=DO).says("not sent")
    ((whole, *_),) = traces(rotel)
    assert whole.fields["Parent ID"] == ""
