"""Servers that are killed and started again while a result is on its way: the run gets through, or says so once."""

import threading
from collections.abc import Callable

import pytest

from faults.stores import ASK, CONTENT, DO, Shared, another_machine, fill, is_right

# However long the server takes.
PATIENT = ("--remote_timeout", "60s", "--upload_timeout", "60s")


def restarting(shared: Shared) -> tuple[Callable[[], None], threading.Event]:
    """Restarts the server when called, quicker than anybody looks; the event says that it was."""
    over = threading.Event()

    def restart() -> None:
        with shared.proxy.held():
            shared.server.restart()
        over.set()

    return restart, over


def test_a_server_that_is_killed_and_started_again_while_it_is_sent_to(ws, shared: Shared) -> None:
    ws.write("in.bin", CONTENT[::-1])  # which nobody else has sent
    options = shared.through("restart-sent")
    restart, over = restarting(shared)
    shared.proxy.at_request_bytes(len(CONTENT) // 2, restart)
    done = ws.capsule(*options, *PATIENT, *ASK, do=DO)
    assert over.is_set()
    assert (done.ran, done.code, done.out, done.said) == (1, 0, "loud\n", []), done
    another_machine(ws)
    done = ws.capsule(*options, *PATIENT, *ASK, do=DO)
    assert (done.ran, done.code, done.out, done.said) == (0, 0, "loud\n", []), done
    assert ws.path("out/big").read_bytes() == CONTENT[::-1]
    ws.verify()


def test_a_server_that_is_killed_and_started_again_while_it_sends(ws, shared: Shared) -> None:
    options = fill(ws, shared, "restart-fetched")
    restart, over = restarting(shared)
    shared.proxy.at_answer_bytes(len(CONTENT) // 2, restart)
    done = ws.capsule(*options, *PATIENT, *ASK, do=DO)
    assert over.is_set()
    assert is_right(ws, done), done
    assert (done.ran, done.said) == (0, []), done
    ws.verify()


@pytest.mark.parametrize("shared", ["http", "grpc"], indirect=True)
def test_a_server_that_stays_away(ws, shared: Shared) -> None:
    options = fill(ws, shared, "stays-away")

    def leave() -> None:
        shared.server.kill()
        shared.proxy.drop()

    shared.proxy.at_answer_bytes(len(CONTENT) // 2, leave)
    try:
        done = ws.capsule(*options, *ASK, do=DO)
    finally:
        shared.server.start()
    assert is_right(ws, done), done
    assert (done.ran, len(done.said)) == (1, 1), done
    ws.verify()
