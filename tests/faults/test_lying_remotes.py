"""Remote stores that give other bytes, other entries or other answers than they should: nothing wrong comes of it, and
the run that finds out makes it good where the server lets it.
"""

import random
import shutil
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.client import HTTPMessage

import grpc
import obstore
import pytest

from capsula.core.digest import digest_of
from faults.stores import ASK, CONTENT, DO, Shared, another_machine, exchange, fill, is_right, meanwhile
from servers.reapi_double import Double, Habits
from servers.seaweed import Seaweed

# Not what others store: a server keeps what was spoiled.
ONE, OTHER = (random.Random(seed).randbytes(len(CONTENT)) for seed in (5, 6))
# Two outputs of one size.
COPY = "mkdir -p out; cp in.bin out/one; cp other.bin out/two; echo loud"
ASK_BOTH = ("-c", "lying", "-i", "in.bin", "-i", "other.bin", "-o", "out")


def test_a_blob_under_the_name_of_another(ws, shared: Shared) -> None:
    ws.write("in.bin", ONE)
    ws.write("other.bin", OTHER)
    place = "swapped-blobs"
    options = shared.through(place)
    assert ws.capsule(*options, *ASK_BOTH, do=COPY).said == []
    exchange(shared, place, "cas", digest_of(ONE).hash, digest_of(OTHER).hash)
    another_machine(ws)
    done = ws.capsule(*options, *ASK_BOTH, do=COPY)
    assert (done.ran, done.code, done.out, len(done.said)) == (1, 0, "loud\n", 1), done
    assert (ws.path("out/one").read_bytes(), ws.path("out/two").read_bytes()) == (ONE, OTHER)
    ws.verify()
    another_machine(ws)
    done = ws.capsule(*options, *ASK_BOTH, do=COPY)
    assert (done.code, done.out) == (0, "loud\n")
    assert (ws.path("out/one").read_bytes(), ws.path("out/two").read_bytes()) == (ONE, OTHER)
    # casd doesn't take again what it takes itself to have.
    assert (done.ran == 0) == (shared.kind != "grpc"), done


def test_an_entry_under_the_name_of_another(ws, shared: Shared) -> None:
    place = "swapped-entries"
    options = shared.through(place)
    keys = []
    for content in (CONTENT[2:], CONTENT):
        ws.write("in.bin", content)
        before = set(ws.entries())
        assert ws.capsule(*options, *ASK, do=DO).said == []
        keys += [path.name for path in set(ws.entries()) - before]
    exchange(shared, place, "ac", *keys)
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    ws.verify()
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, [])


ESCAPES = "\x1b[31mred\x1b]0;title\x07 \x9b\x00 end"


def test_what_a_server_says_commands_no_terminal_and_is_one_line(ws) -> None:
    ws.write("capsula.toml")
    ws.write("in.bin", CONTENT)
    double = Double(Habits(says=ESCAPES + "\r\n", exhausted=1 << 30, storm=grpc.StatusCode.INVALID_ARGUMENT))
    reply = f"HTTP/1.1 400 {ESCAPES}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    for answer, url in ((reply, "http"), (f"{ESCAPES}\r\n".encode("latin-1"), "http"), (b"", "grpc")):
        with Answering(answer) as port:
            address = f"{url}://127.0.0.1:{port}" if answer else f"grpc://{double.target}"
            done = ws.capsule("-b", address, "--remote_mode", "r", *ASK, do=DO)
        another_machine(ws)
        assert (done.ran, done.code, len(done.said)) == (1, 0, 1), done
        assert url in done.said[0]
        assert done.err.removesuffix("\n").isprintable(), done.err
    double.stop()


@pytest.mark.parametrize(
    ("head", "advice"),
    [
        (
            "301 Moved\r\nLocation: https://me:word@other.example/x",
            "it is at https://***@other.example/x now",
        ),
        ("405 Not Allowed", "dav_methods PUT"),
        ("413 Too Large", "client_max_body_size"),
        ("403 Forbidden", "--remote_header"),
    ],
)
def test_what_is_set_up_wrong_is_told_with_what_to_change(ws, head: str, advice: str) -> None:
    with Answering(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode()) as port:
        done = ws.tool("cache", "doctor", f"http://127.0.0.1:{port}")
    assert done.code == 1
    assert advice in done.out, done


class Answering:
    """A server that says the same to everybody."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                with self._listener.accept()[0] as client:
                    client.recv(1 << 16)
                    client.sendall(self._answer)
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1 << 16)
            except OSError:
                if self._listener.fileno() < 0:
                    return


# ------------------------------------------------------------------------------------------------ only S3

ENTRIES, BLOBS = "entries", "blobs"


def buckets(port: int) -> tuple[str, ...]:
    url = f"http://127.0.0.1:{port}"
    return ("-b", "s3", "--s3_bucket", ENTRIES, "--s3_bucket_objects", BLOBS, "--s3_endpoint", url)


@pytest.mark.parametrize("shared", ["s3"], indirect=True)
def test_a_bucket_that_is_deleted_between_the_entry_and_the_blobs(ws, shared: Shared) -> None:
    assert isinstance(shared.server, Seaweed)
    for bucket in (ENTRIES, BLOBS):
        obstore.put(shared.server.store(bucket), "made", b"by this")
    options = buckets(shared.proxy.port)
    assert ws.capsule(*options, *ASK, do=DO).said == []
    another_machine(ws)
    shared.server.remove_bucket(BLOBS)
    # This server makes a bucket for whoever writes to it; S3 doesn't.
    gone = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
    shared.proxy.storm(404, lambda verb, path: verb == "PUT", body=gone)
    for _ in range(2):
        done = ws.capsule(*options, *ASK, do=DO)
        assert is_right(ws, done), done
        assert (done.ran, len(done.said)) == (1, 1), done
        assert "NoSuchBucket" in done.said[0]
        another_machine(ws)
    shared.proxy.heal()
    assert ws.capsule(*options, *ASK, do=DO).ran == 1
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, [])
    ws.verify()


@pytest.mark.parametrize("shared", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_is_said_also_by_who_only_reads(ws, shared: Shared) -> None:
    options = ("-b", "s3://tset/x", "--s3_endpoint", f"http://127.0.0.1:{shared.server.port}")
    done = ws.capsule(*options, "--remote_mode", "r", *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    assert "NoSuchBucket" in done.said[0]


@pytest.mark.parametrize("shared", ["s3"], indirect=True)
@pytest.mark.parametrize("minutes", [-30, 30])
def test_a_clock_that_is_wrong(ws, shared: Shared, minutes: int) -> None:
    """The date that the signature is for is another than the server's; it looks at that first."""
    options = fill(ws, shared)

    def shift(headers: HTTPMessage) -> None:
        date = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        headers.replace_header("x-amz-date", f"{date + timedelta(minutes=minutes):%Y%m%dT%H%M%SZ}")

    shared.proxy.alter = shift
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    assert "RequestTimeTooSkewed" in done.said[0]
    ws.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{shared.proxy.port}"
    done = ws.tool("cache", "doctor", options[1])
    assert done.code == 1
    assert "the clock here or there is wrong" in done.out
    shared.proxy.alter = None
    # What couldn't be sent meanwhile still can.
    assert ws.tool("cache", "push", options[1]).code == 0
    ws.verify()


# ------------------------------------------------------------------------------------------------ only gRPC


@pytest.fixture
def double(ws):
    server = Double(Habits())
    ws.write("capsula.toml")
    ws.write("in.bin", CONTENT)
    yield server
    server.stop()


def bearing(server: Double, token: str) -> tuple[str, ...]:
    return ("-b", f"grpc://{server.target}", "--remote_header", f"Authorization: Bearer {token}")


def test_a_token_that_expires_while_the_command_runs(ws, double: Double) -> None:
    double.habits.token = "old"

    def expire() -> None:
        double.habits.token = "new"

    done = meanwhile(ws, expire, *bearing(double, "old"))
    assert (done.ran, done.code, done.out, len(done.said)) == (1, 7, "loud\n", 1), done
    assert "UNAUTHENTICATED" in done.said[0]
    assert double.entries == {}
    # It waits for somebody with a good one.
    done = ws.capsule(*bearing(double, "new"), "-t", "another", *ASK, do=DO)
    assert (done.ran, done.said, len(double.entries)) == (1, [], 2)


@pytest.mark.parametrize("call", ["get_result", "batch_read", "read"])
def test_a_token_that_expires_while_a_result_is_asked_for(ws, double: Double, call: str) -> None:
    double.habits.token = "old"
    double.habits.batch = 100_000  # so that one blob comes in a batch, the other in a stream
    assert ws.capsule(*bearing(double, "old"), *ASK, do=DO).said == []
    another_machine(ws)

    def expire() -> None:
        double.habits.token = "new"

    double.before[call] = expire
    done = ws.capsule(*bearing(double, "old"), *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    assert "UNAUTHENTICATED" in done.said[0]
    ws.verify()


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_a_storm_of_refusals_by_grpc(ws, double: Double, code: grpc.StatusCode) -> None:
    options = ("-b", f"grpc://{double.target}")
    assert ws.capsule(*options, *ASK, do=DO).said == []
    another_machine(ws)
    double.habits.storm, double.habits.exhausted = code, 1 << 30
    double.asked.clear()
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    assert code.name in done.said[0]
    # What it can, and three times for the entry.
    assert double.asked == {"capabilities": 1, "get_result": 3}
    # One that is over soon is waited for, and isn't said.
    another_machine(ws)
    double.habits.exhausted = 2
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, [])


@pytest.mark.parametrize("shared", ["http", "s3"], indirect=True)
@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_expire_between_the_entry_and_the_blobs(ws, shared: Shared, status: int) -> None:
    options = fill(ws, shared)
    shared.proxy.storm(status, lambda verb, path: "/cas/" in path)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    assert str(status) in done.said[0]
    ws.verify()


@pytest.mark.parametrize("shared", ["s3"], indirect=True)
def test_what_is_sent_late_takes_nobodys_place(ws, shared: Shared) -> None:
    place = "late"
    options = shared.through(place)
    shared.proxy.storm(503, lambda verb, path: verb == "PUT")
    done = ws.capsule(*options, "--upload_timeout", "1s", *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    shared.proxy.heal()
    # Another machine, which is quicker.
    assert ws.capsule(*options, *ASK, do=DO, env={"XDG_CACHE_HOME": str(ws.base / "other")}).said == []
    store = shared.server.store()
    [entry] = [each["path"] for page in obstore.list(store, f"{place}/ac") for each in page]
    first = bytes(obstore.get(store, entry).bytes())
    # The first one sends what waits along with what it makes next.
    shutil.rmtree(next(ws.cache.rglob("remotes")))
    done = ws.capsule(*options, "-t", "another", *ASK, do=DO)
    assert (done.ran, done.said) == (1, [])
    assert not [path for path in ws.cache.rglob("spool/*/*") if path.is_file()]
    assert len([each for page in obstore.list(store, f"{place}/ac") for each in page]) == 2
    assert bytes(obstore.get(store, entry).bytes()) == first
