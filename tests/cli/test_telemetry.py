"""What Honeycomb and OpenTelemetry are told of a run, through the installed command."""

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from servers.certificates import Authority
from servers.nginx import Nginx
from servers.ports import free_port
from servers.receiver import Receiver

ASK = ("-c", "x", "-i", "in.txt", "-o", "out.txt")
DO = "cp in.txt out.txt"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def honeycomb(ws, receiver: Receiver) -> tuple[str, ...]:
    ws.write("in.txt", "one")
    ws.write("capsula.toml")
    ws.environ["HONEYCOMB_API_ENDPOINT"] = receiver.url
    return ("--honeycomb_dataset", "my builds", "--honeycomb_token", "hcaik_secret", *ASK)


@pytest.fixture
def otlp(ws, receiver: Receiver) -> tuple[str, ...]:
    ws.write("in.txt", "one")
    ws.write("capsula.toml")
    ws.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
    return ASK


def spans(receiver: Receiver, at: int = -1) -> dict[str, dict]:
    """By name; the run itself is called as its capsule."""
    scope = receiver.received[at].body["resourceSpans"][0]["scopeSpans"][0]
    return {span["name"]: span for span in scope["spans"]}


def attributes(span: dict) -> dict:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def test_an_event_for_each_run_has_the_fields_that_people_ask_for(ws, honeycomb, receiver) -> None:
    more = ("--honeycomb_trace_id", "t1", "--honeycomb_parent_id", "p1", "--honeycomb_kv", "branch=main")
    for ran in (1, 0, 0):
        done = ws.capsule(*honeycomb, *more, "-j", "job 7", "--honeycomb_kv", "a=b=c", do=DO)
        assert (done.ran, done.code) == (ran, 0)
    assert len(receiver.received) == 3
    miss, hit, _ = (received.body[0]["data"] for received in receiver.received)
    assert {received.path for received in receiver.received} == {"/1/batch/my%20builds"}
    assert receiver.received[0].headers["x-honeycomb-team"] == "hcaik_secret"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+\.\d{6}\+00:00", receiver.received[0].body[0]["time"])
    assert (miss["capsule_id"], miss["outcome"], miss["result_from_cache"]) == ("x", "miss", False)
    assert (hit["outcome"], hit["result_from_cache"], hit["made_by"]) == ("hit", True, miss["run"])
    assert (miss["trace.trace_id"], miss["trace.parent_id"]) == ("t1", "p1")
    assert (miss["branch"], miss["a"], miss["capsule_job"], hit["capsule_job"]) == (
        "main",
        "b=c",
        "job 7",
        "job 7",
    )
    assert miss["inputs_hash"] == hit["inputs_hash"]
    assert miss["outputs_hash"] == hit["outputs_hash"]
    assert "in.txt" in miss["inputs_hash_details"]
    assert "out.txt" in hit["outputs_hash_details"]
    assert miss["duration_ms"] > 0
    names = [[event["data"]["name"] for event in received.body] for received in receiver.received[:2]]
    assert names[0][0] == names[1][0] == "x"
    assert {"inputs", "lookup", "run", "capture"} <= set(names[0])
    assert "restore" in names[1]
    assert {event["data"]["trace.parent_id"] for event in receiver.received[0].body[1:]} == {
        miss["trace.span_id"]
    }


def test_nondeterminism_is_told(ws, honeycomb, receiver) -> None:
    do = "head -c 20 /dev/urandom > out.txt"
    ws.capsule(*honeycomb, do=do)
    ws.capsule("-p", *honeycomb, do=do)
    told = receiver.received[-1].body[0]["data"]
    assert (told["outcome"], told["non_determinism"]) == ("placebo", True)
    assert "out.txt" in told["non_determinism_details"]
    assert receiver.received[0].body[0]["data"]["non_determinism"] is False


def test_a_failure_of_ours_is_told_as_an_error(ws, honeycomb, receiver) -> None:
    ws.capsule(*honeycomb, "-i", "no such file", do=DO)
    assert "no such file" in receiver.received[-1].body[0]["data"]["error"]


def test_spans_go_where_the_standard_variables_say(ws, otlp, receiver) -> None:
    ws.environ |= {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=abc%20d,other=1",
        "OTEL_RESOURCE_ATTRIBUTES": "team=build",
        "OTEL_SERVICE_NAME": "our builds",
    }
    for ran in (1, 0, 0):
        assert ws.capsule(*otlp, do=DO).ran == ran
    assert [received.path for received in receiver.received] == ["/v1/traces"] * 3
    assert receiver.received[0].headers["x-key"] == "abc d"
    resource = receiver.received[0].body["resourceSpans"][0]["resource"]
    assert attributes(resource) == {"service.name": "our builds", "team": "build"}
    found = spans(receiver, 0)
    whole = found.pop("x")
    assert set(found) == {"inputs", "lookup", "run", "capture"}
    assert {span["parentSpanId"] for span in found.values()} == {whole["spanId"]}
    assert {span["traceId"] for span in found.values()} == {whole["traceId"]}
    for span in found.values():
        assert (
            int(whole["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        )
    assert attributes(whole)["outcome"] == "miss"
    assert attributes(spans(receiver, 1)["x"])["outcome"] == "hit"


def test_what_a_capsule_runs_belongs_to_the_same_trace(ws, otlp, receiver) -> None:
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    do = f'printf %s "$TRACEPARENT" > trace.txt; capsule -c inner -i in.txt -o inner.txt -- cp in.txt inner.txt; {DO}'
    ws.capsule(*otlp, do=do, env={"TRACEPARENT": parent})
    inner, outer = spans(receiver, 0)["inner"], spans(receiver, 1)["x"]
    assert inner["traceId"] == outer["traceId"] == "ab" * 16
    assert outer["parentSpanId"] == "cd" * 8
    assert inner["parentSpanId"] == outer["spanId"]
    assert ws.read("trace.txt") == f"00-{outer['traceId']}-{outer['spanId']}-01"


def test_the_trace_is_not_in_the_key(ws, otlp, receiver) -> None:
    assert ws.capsule(*otlp, do=DO, env={"TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-01"}).ran == 1
    assert ws.capsule(*otlp, do=DO, env={"TRACEPARENT": f"00-{'cd' * 16}-{'ab' * 8}-01"}).ran == 0


@pytest.mark.parametrize(
    "env",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "console"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-00"},
    ],
)
def test_who_wants_no_traces_gets_none(ws, otlp, receiver, env) -> None:
    assert ws.capsule(*otlp, do=DO, env=env).ran == 1
    assert receiver.received == []


@pytest.mark.parametrize("env", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_where_no_traces_are_wanted_the_caller_s_goes_on(ws, otlp, env) -> None:
    done = ws.capsule(*otlp, do='echo "[$TRACEPARENT]"', env={"TRACEPARENT": "mine", **env})
    assert done.out == "[mine]\n"


@pytest.mark.parametrize(
    "env",
    [
        {"OTEL_TRACES_EXPORTER": "console, otlp"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"},
        {"OTEL_TRACES_SAMPLER": "parentbased_always_off", "TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-01"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "0"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
    ],
)
def test_who_wants_traces_gets_them(ws, otlp, receiver, env) -> None:
    assert ws.capsule(*otlp, do=DO, env=env).ran == 1
    assert len(receiver.received) == 1


def test_what_no_request_can_have_is_told_without_it(ws, honeycomb, receiver) -> None:
    """A key that was pasted with a line break, most of all."""
    ws.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
    ws.environ["OTEL_EXPORTER_OTLP_HEADERS"] = "x-key=hunter2%0A3"
    done = ws.capsule("-v", *honeycomb, do=DO)
    assert (done.ran, done.code) == (1, 0)
    assert done.says("telemetry not sent", "a header has a character")
    assert "hunter2" not in done.err
    ws.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://[::1"
    done = ws.capsule(*honeycomb, do=DO)
    assert (done.code, done.said) == (0, [])
    assert ws.capsule("--honeycomb_dataset", "d", *ASK, do=DO, env={"HONEYCOMB_API_KEY": "key\n"}).code == 0
    assert receiver.received[-1].headers["x-honeycomb-team"] == "key"


def test_a_shared_store_is_told_of_and_so_is_its_trouble(ws, otlp, receiver, tmp_path) -> None:
    server = Nginx(tmp_path / "nginx")
    try:
        for ran in (1, 0):
            assert ws.capsule("-b", server.url, *otlp, do=DO).ran == ran
            shutil.rmtree(ws.store)
            ws.path("out.txt").unlink()
    finally:
        server.stop()
    assert ws.capsule("-b", server.url, *otlp, do=DO).ran == 1
    miss, hit, alone = (attributes(spans(receiver, at)["x"]) for at in range(3))
    assert ("remote" in miss, hit["remote"]) == (False, server.url)
    assert "remote_errors" not in hit
    assert alone["remote_errors"].splitlines()[0] == f"lookup {server.url}: Connection refused"


def test_a_collector_with_a_certificate_of_ones_own_authority(ws, otlp, receiver, tmp_path) -> None:
    authority = Authority(tmp_path / "keys")
    client, tls = authority.issue("client"), authority.issue("server")
    more = f"location /v1/ {{ proxy_pass {receiver.url}; }}"
    server = Nginx(tmp_path / "nginx", tls=tls, clients=authority.ca, more=more)
    try:
        ws.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url
        done = ws.capsule("-v", *otlp, do=DO)
        assert done.says("telemetry not sent", "certificate"), done
        ws.environ["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(authority.ca)
        ws.environ["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(client.cert)
        ws.environ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"] = str(client.key)
        assert ws.capsule(*otlp, do=DO).code == 0
    finally:
        server.stop()
    assert receiver.received


def test_a_run_that_was_refused_has_no_exit_code(ws, honeycomb, receiver) -> None:
    assert ws.capsule(*honeycomb, "--strict", "-i", "no such file", do=DO).code == 125
    assert "exit_code" not in receiver.received[-1].body[0]["data"]


def test_without_anybody_who_listens_the_environment_is_the_caller_s(ws) -> None:
    ws.write("in.txt", "one")
    done = ws.capsule("-i", "in.txt", do='echo "[$TRACEPARENT]"', env={"TRACEPARENT": "mine"})
    assert done.out == "[mine]\n"


@pytest.mark.parametrize("trouble", ["away", "overloaded", "silent"])
def test_a_receiver_that_is_away_costs_nothing_and_gets_it_later(ws, honeycomb, receiver, trouble) -> None:
    options = honeycomb
    if trouble == "away":
        ws.environ["HONEYCOMB_API_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    receiver.answer = {"away": 200, "overloaded": 503, "silent": None}[trouble]
    done = ws.capsule(*options, do=f"{DO}; exit 5")
    assert (done.ran, done.code, done.said) == (1, 5, [])
    waiting = list(ws.store.glob("telemetry/*.json"))
    assert len(waiting) == 1
    assert b"hcaik_secret" not in waiting[0].read_bytes()
    if trouble == "away":
        kept = json.loads(waiting[0].read_text())
        kept["url"] = kept["url"].replace(ws.environ["HONEYCOMB_API_ENDPOINT"], receiver.url)
        waiting[0].write_text(json.dumps(kept))
        ws.environ["HONEYCOMB_API_ENDPOINT"] = receiver.url
    receiver.answer = 200
    receiver.go.set()
    if trouble == "silent":
        # One that let us wait isn't asked again for a minute: this run isn't late, and it is told later, too.
        assert ws.capsule(*options, do=DO).code == 0
        assert (len(list(ws.store.glob("telemetry/*.json"))), receiver.received) == (2, [])
        for record in ws.store.glob("remotes/*"):
            record.unlink()
        for path in sorted(ws.store.glob("telemetry/*.json"))[1:]:
            path.unlink()
    assert ws.capsule(*options, do=DO).code == 0
    assert [received.body[0]["data"]["exit_code"] for received in receiver.received] == [0, 5]
    assert not list(ws.store.glob("telemetry/*.json"))


def test_a_receiver_whose_answer_never_ends_does_not_keep_the_run_from_ending(ws, honeycomb) -> None:
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        with listener.accept()[0] as client:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
            while not over.wait(0.05):
                try:
                    client.sendall(b".")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        ws.environ["HONEYCOMB_API_ENDPOINT"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        dripping = threading.Thread(target=drip, args=(listener,))
        dripping.start()
        done = ws.capsule("-v", *honeycomb, do=f"{DO}; exit 5")
        over.set()
        dripping.join()
    assert (done.ran, done.code) == (1, 5)
    assert done.says("no answer in time")
    assert len(list(ws.store.glob("telemetry/*.json"))) == 1


def test_what_is_refused_is_not_kept(ws, honeycomb, receiver) -> None:
    receiver.answer = 401
    done = ws.capsule("-v", *honeycomb, do=DO)
    assert (done.ran, done.code) == (1, 0)
    assert done.says("401")
    assert "hcaik_secret" not in done.err
    assert not list(ws.store.glob("telemetry/*"))


def test_credentials_are_not_told(ws, otlp, receiver) -> None:
    ws.capsule(*otlp, command=("sh", "-c", "true", "--password", "hunter2secret"))
    assert receiver.received
    assert "hunter2secret" not in json.dumps(receiver.received[-1].body)


# ---------------------------------------------------------------------------------------------------- recorded runs


def test_a_recorded_command_is_a_span_and_what_it_runs_is_below_it(ws, otlp, receiver) -> None:
    outer = "0af7651916cd43dd8448eb211c80319c"
    ws.environ["TRACEPARENT"] = f"00-{outer}-b7ad6b7169203331-01"
    done = ws.tool("monitor", "-q", "capsule", *otlp, "--", "cp", "in.txt", "out.txt")
    assert done.code == 0, done
    inner, run = spans(receiver, 0), spans(receiver, 1)
    assert set(run) == {"monitor", "context", "run", "record"}
    assert {span["traceId"] for span in (*inner.values(), *run.values())} == {outer}
    assert run["monitor"]["parentSpanId"] == "b7ad6b7169203331"
    assert inner["x"]["parentSpanId"] == run["monitor"]["spanId"]
    assert run["run"]["parentSpanId"] == run["monitor"]["spanId"]
    told = attributes(run["monitor"])
    assert (told["outcome"], told["exit_code"], told["command"]) == (
        "finished", "0", "capsule -c x -i in.txt -o out.txt -- cp in.txt out.txt",
    )  # fmt: skip
    assert json.loads(ws.tool("show", "--file", "capsule.json").out)["id"] == told["recorded"]


def test_a_recorded_command_that_is_cached_tells_what_capsule_tells(ws, otlp, receiver) -> None:
    asked = ("monitor", "-q", "--cache", "--input", "in.txt", "--output", "out.txt")
    for _ in range(2):
        assert ws.tool(*asked, "sh", "-c", "echo $TRACEPARENT; cp in.txt out.txt").code == 0
    miss, hit = (attributes(spans(receiver, at)["sh"]) for at in (0, 1))
    assert (miss["outcome"], hit["outcome"], hit["made_by"]) == ("miss", "hit", miss["run"])
    assert miss["recorded"] != hit["recorded"]
    assert {"inputs", "lookup", "run", "capture"} <= set(spans(receiver, 0))
    assert "restore" in spans(receiver, 1)


def test_a_collector_that_is_away_is_no_trouble_of_a_recorded_command(ws, otlp) -> None:
    ws.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    done = ws.tool("monitor", "-q", "sh", "-c", "echo told; exit 3")
    assert (done.code, done.out, done.err) == (3, "told\n", "")
