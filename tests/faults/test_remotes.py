"""Remote stores on bad days, real ones behind a proxy: the command's result is right, its exit code its own, at most
one line is said, and nothing wrong is stored or restored.
"""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.digest import digest_of
from capsula.store.http import HttpStore
from capsula.testing import soon
from faults.stores import (
    ASK,
    CONTENT,
    DO,
    KINDS,
    SHORT,
    Shared,
    Stores,
    another_machine,
    fill,
    is_right,
    lose_blobs,
    meanwhile,
    waiting,
)
from servers.proxy import A_BLOB, Proxy

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
    # On a busy machine a short time may be up before the fault is met.
    for seconds in (0.7, 6, 60):
        try:
            # What is made in its place needn't get there.
            short = ("--remote_timeout", f"{seconds}s", "--upload_timeout", "0.7s")
            done = ws.capsule(*options, *short, *ASK, do=DO)
        finally:
            if fault == "refused":
                shared.proxy.listen()
        assert is_right(ws, done), done
        assert len(done.said) <= 1, done.err
        assert done.err.count("\n") == len(done.said), done.err
        if fault == "refused" or shared.proxy.faults > before:
            break
        another_machine(ws)
    else:
        pytest.fail("the fault was never met")
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


@pytest.mark.parametrize("shared", KINDS, indirect=True)
def test_a_server_that_starts_again_while_it_is_sent_to(ws, shared: Shared) -> None:
    """What was on the way is lost with its connection; it is sent anew, in the same run."""
    options = shared.options(shared.proxy.port, "again")
    # Bytes of no other test: a server that has them already isn't sent them, and nothing is interrupted.
    content = CONTENT[1:]
    ws.write("in.bin", content)
    halfway, over = threading.Event(), threading.Event()

    def at_half() -> None:
        halfway.set()
        over.set()

    def restart() -> None:
        over.wait()
        if halfway.is_set():
            shared.proxy.refuse()
            shared.proxy.listen()

    shared.proxy.at_request_bytes(len(content) // 2, at_half)
    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        done = ws.capsule(*options, *ASK, do=DO)
    finally:
        over.set()
        restarting.join()
    assert halfway.is_set()
    assert (done.ran, done.code, done.out, done.said) == (1, 0, "loud\n", []), done.err
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.code, done.out, done.said) == (0, 0, "loud\n", []), done.err
    assert ws.path("out/big").read_bytes() == content


def test_a_connection_that_was_closed_meanwhile_is_no_failure(stores: Stores, tmp_path: Path) -> None:
    shared = stores["http"]
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
