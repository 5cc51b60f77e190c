"""Remote stores on bad days, real ones behind a proxy: the command's result is right, its exit code its own, at most
one line is said, and nothing wrong is stored or restored.
"""

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import obstore
import pytest

from capsula.core.digest import digest_of
from capsula.store.http import HttpStore
from capsula.testing import soon
from faults.conftest import Done
from servers.casd import Casd
from servers.nginx import Nginx
from servers.process import Server
from servers.proxy import A_BLOB, Proxy
from servers.seaweed import KEY, SECRET, Seaweed

KINDS = ("http", "s3", "grpc")
CONTENT = random.Random(4).randbytes(300_000)
DO = "mkdir -p out; cp in.bin out/big; echo small > out/small; echo loud"
ASK = ("-c", "faults", "-i", "in.bin", "-o", "out")
# Where nothing comes any more, the budget ends it; where the answer is a byte late, nothing does.
SHORT = ("--remote_timeout", "0.7s", "--upload_timeout", "0.7s")


@dataclass
class Shared:
    """A store of a team: `options` lead to it through `proxy`, `direct` don't."""

    kind: str
    server: Server
    proxy: Proxy
    filled: set[tuple[str, ...]] = field(default_factory=set)

    def options(self, port: int, place: str) -> tuple[str, ...]:
        if self.kind == "s3":
            return ("-b", f"s3://{Seaweed.bucket}/{place}", "--s3_endpoint", f"http://127.0.0.1:{port}")
        # Another tag is another key: there is one action cache for all.
        slash = "-t" if self.kind == "grpc" else ""
        return (
            "-b",
            f"{self.kind}://127.0.0.1:{port}" + (f"/{place}" if not slash else ""),
            *((slash, place) if slash else ()),
        )


MAKERS: dict[str, Callable[[Path], Server]] = {"http": Nginx, "s3": Seaweed, "grpc": Casd}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Shared]]:
    base = tmp_path_factory.mktemp("servers")

    class OnDemand(dict[str, Shared]):
        def __missing__(self, kind: str) -> Shared:
            server = MAKERS[kind](base / kind)
            self[kind] = Shared(kind, server, Proxy(server.port))
            return self[kind]

    stores = OnDemand()
    yield stores
    for shared in stores.values():
        shared.proxy.stop()
        shared.server.stop()


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest, made: dict[str, Shared], ws) -> Iterator[Shared]:
    ws.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    ws.write("capsula.toml")
    ws.write("in.bin", CONTENT)
    yield made[request.param]
    made[request.param].proxy.heal()


def another_machine(ws) -> None:
    for place in (ws.cache, ws.path("out")):
        shutil.rmtree(place, ignore_errors=True)


def is_right(ws, done) -> bool:
    return (done.code, done.out) == (0, "loud\n") and (
        ws.path("out/big").read_bytes(),
        ws.path("out/small").read_bytes(),
    ) == (CONTENT, b"small\n")


def fill(ws, shared: Shared, place: str = "filled") -> tuple[str, ...]:
    """Put the result there, without the proxy; the options that lead to it through the proxy."""
    direct = shared.options(shared.server.port, place)
    if direct not in shared.filled:
        done = ws.capsule(*direct, *ASK, do=DO)
        assert (done.ran, done.said) == (1, [])
        shared.filled.add(direct)
    another_machine(ws)
    return shared.options(shared.proxy.port, place)


FAULTS: dict[str, Callable[[Proxy], None]] = {
    "refused": Proxy.refuse,
    "reset": lambda proxy: proxy.fail("reset"),
    "reset in a blob": lambda proxy: proxy.fail("reset", A_BLOB),
    "black hole": lambda proxy: proxy.fail("hole"),
    "black hole in a blob": lambda proxy: proxy.fail("hole", A_BLOB),
    "a byte a second": lambda proxy: proxy.fail("slow"),
    "a byte a second in a blob": lambda proxy: proxy.fail("slow", A_BLOB),
    "cut short": lambda proxy: proxy.fail("cut"),
    "cut short in a blob": lambda proxy: proxy.fail("cut", A_BLOB),
    "spoiled": lambda proxy: proxy.fail("spoil"),
    "spoiled in a blob": lambda proxy: proxy.fail("spoil", A_BLOB),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_while_a_result_is_asked_for(ws, shared: Shared, fault: str) -> None:
    options = fill(ws, shared)
    before = shared.proxy.faults
    FAULTS[fault](shared.proxy)
    try:
        done = ws.capsule(*options, *SHORT, *ASK, do=DO)
    finally:
        if fault == "refused":
            shared.proxy.listen()
    assert is_right(ws, done), done
    assert len(done.said) <= 1, done.err
    assert done.err.count("\n") == len(done.said), done.err
    assert fault == "refused" or shared.proxy.faults > before
    shared.proxy.heal()
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, [])
    ws.verify()


SENDING = ("refused", "reset", "black hole", "a byte a second", "cut short", "spoiled")


@pytest.mark.parametrize("fault", SENDING)
def test_a_fault_while_a_result_is_sent(ws, shared: Shared, fault: str) -> None:
    options = shared.options(shared.proxy.port, f"sent-{SENDING.index(fault)}")

    def bring_about() -> None:
        FAULTS[fault](shared.proxy)

    done = meanwhile(ws, bring_about, *options, *SHORT)
    if fault == "refused":
        shared.proxy.listen()
    shared.proxy.heal()
    assert (done.ran, done.code, done.out) == (1, 7, "loud\n"), done
    assert len(done.said) <= 1, done.err
    assert done.err.count("\n") == len(done.said), done.err
    # A later run sends it.
    for record in ws.store.glob("remotes/*"):
        record.unlink()
    done = ws.capsule(*options, "-t", "another", *ASK, do=DO)
    assert (done.ran, done.code, done.said) == (1, 0, [])
    assert [path for path in ws.store.glob("spool/*/*") if path.is_file()] == []
    another_machine(ws)
    done = ws.capsule(*options, "--cache_failure", *ASK, command=waiting(ws))
    assert (done.ran, done.code, done.out, done.said) == (0, 7, "loud\n", []), done
    assert ws.path("out/big").read_bytes() == CONTENT
    ws.verify()


@pytest.mark.parametrize("status", [403, 429, 500, 503])
@pytest.mark.parametrize("shared", ["http", "s3"], indirect=True)
def test_a_storm_of_refusals(ws, shared: Shared, status: int) -> None:
    options = fill(ws, shared)
    shared.proxy.storm(status)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done.err
    assert str(status) in done.said[0]
    shared.proxy.heal()
    another_machine(ws)
    # One that is over soon is waited for.
    shared.proxy.storm(status, times=2)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    if status != 403:
        assert (done.ran, done.said) == (0, [])


@pytest.mark.parametrize("shared", ["http", "s3"], indirect=True)
def test_a_storm_among_the_blobs_is_waited_for(ws, shared: Shared) -> None:
    options = fill(ws, shared)
    shared.proxy.storm(503, lambda verb, path: "/cas/" in path, times=2)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, [])


@pytest.mark.parametrize("shared", ["http", "s3"], indirect=True)
def test_credentials_that_expire_while_the_command_runs(ws, shared: Shared) -> None:
    options = shared.options(shared.proxy.port, "expired")
    shared.proxy.storm(403, lambda verb, path: False)
    done = meanwhile(ws, lambda: shared.proxy.storm(403), *options)
    assert (done.ran, done.code, len(done.said)) == (1, 7, 1), done.err
    assert "403" in done.said[0] or "denied" in done.said[0].lower(), done.said
    assert [path for path in ws.store.glob("spool/*/*") if path.is_file()]


def test_a_blob_that_goes_between_the_entry_and_its_fetching(ws, shared: Shared) -> None:
    options = fill(ws, shared, "going")
    shared.filled.clear()
    lose_blobs(shared)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert done.ran == 1
    assert len(done.said) <= 1, done.err
    # The run has mended it.
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, [])


def lose_blobs(shared: Shared) -> None:
    """Every blob goes, every entry stays."""
    if isinstance(shared.server, Seaweed):
        store = shared.server.store()
        keys = [each["path"] for page in obstore.list(store) for each in page if "/cas/" in each["path"]]
        obstore.delete(store, keys)
        return
    assert isinstance(shared.server, Nginx | Casd)
    for path in shared.server.data.rglob("*"):
        if path.is_file() and "cas" in path.relative_to(shared.server.data).parts:
            path.unlink()


@pytest.mark.parametrize("shared", KINDS, indirect=True)
def test_a_server_that_starts_again_while_it_is_sent_to(ws, shared: Shared) -> None:
    """What was on the way is lost with its connection; it is sent anew, in the same run."""
    options = shared.options(shared.proxy.port, "again")
    halfway = threading.Event()
    shared.proxy.at_request_bytes(len(CONTENT) // 2, halfway.set)

    def restart() -> None:
        halfway.wait(60)
        shared.proxy.refuse()
        shared.proxy.listen()

    restarting = threading.Thread(target=restart)
    restarting.start()
    done = ws.capsule(*options, *ASK, do=DO)
    restarting.join()
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (1, []), done.err
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, [])


def waiting(ws) -> tuple[str, ...]:
    """A command that fails, and waits for the test before."""
    return ("sh", "-c", f'echo ran >> "$MARK"; {DO}; echo > "$BASE/began"; read x < "$BASE/go"; exit 7')


def meanwhile(ws, do: Callable[[], None], *options: str):
    """The end of a run, in which something was done between the lookup and the sending."""
    ws.environ["BASE"] = str(ws.base)
    for name in ("began", "go"):
        os.mkfifo(ws.base / name)
    before = ws.marks()
    process = ws.start(*options, "--cache_failure", *ASK, "--", *waiting(ws))
    (ws.base / "began").read_text()
    do()
    (ws.base / "go").write_text("\n")
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out.decode(), err.decode(), ws.marks() - before)


def test_a_connection_that_was_closed_meanwhile_is_no_failure(
    made: dict[str, Shared], tmp_path: Path
) -> None:
    shared = made["http"]
    store = HttpStore(f"http://127.0.0.1:{shared.proxy.port}/closed")
    content = tmp_path / "content"
    content.write_bytes(b"content")
    digest = digest_of(b"content")
    before = shared.proxy.connections
    for _ in range(2):
        store.send([digest], lambda _: str(content), soon())
        assert store.missing([digest], soon()) == []
        shared.proxy.drop()
    store.close()
    assert shared.proxy.connections == before + 2
