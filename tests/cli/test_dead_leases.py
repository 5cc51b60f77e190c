"""Leases of runs that are gone, or that nobody vouches for, on a real object store: who comes next doesn't wait."""

import json
import os
import re
import signal
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from pairs import DO, Machine, Pair, ended, first_line
from servers.proxy import Proxy
from servers.seaweed import Seaweed

# Nobody waits so long in a test: what isn't seen at once isn't seen.
LONG = ("--lease_time", "5m")
APART = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    server = Seaweed(tmp_path_factory.mktemp("server") / "data")
    yield server
    server.stop()


@pytest.fixture
def pair(ws, server) -> Pair:
    return Pair(ws, server)


def killed(pair: Pair, machine: Machine, *more: str) -> None:
    """It holds the lease, and then is no more."""
    process = machine.start(*LONG, *more)
    pair.until_held()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def as_if_elsewhere(pair: Pair) -> dict[str, Any]:
    """The lease that is there, as another machine, or another container, would have written it."""
    said = {**pair.lease(), "place": "0" * 32, "life": "0" * 32}
    pair.put(said)
    return said


def test_the_next_one_on_this_machine_takes_over_in_silence(ws, pair) -> None:
    """Also in another store, by another user say, that no lock has in common."""
    killed(pair, pair.machine("one", is_open=False))
    done = pair.machine("two").run()
    assert (done.ran, done.code, done.said) == (1, 0, [])
    assert pair.leases() == []


def test_of_many_who_find_it_one_takes_over_and_the_others_wait_for_that_one(ws, pair) -> None:
    killed(pair, pair.machine("one", is_open=False))
    gone = pair.lease()["run"]
    machines = {}
    for name in ("two", "three", "four"):
        machine = pair.machine(name, is_open=False)
        machines[machine.start().pid] = machine
    pair.until(lambda: pair.lease()["run"] != gone)
    heir = pair.lease()["pid"]
    processes = {process.pid: process for process in ws.started if process.pid in machines}
    for pid, process in processes.items():
        if pid != heir:
            assert first_line(process).startswith("capsule: waiting for ")
    machines[heir].end()
    for process in processes.values():
        assert ended(process) == (0, "made\n", [])
    assert ws.marks() == 2
    assert pair.leases() == []


def test_a_line_says_so_to_the_curious(ws, pair) -> None:
    killed(pair, pair.machine("one", is_open=False))
    done = pair.machine("two").run("-v")
    assert (done.ran, done.code) == (1, 0)
    assert done.says("took over from a run on ", ": its process is gone")


@pytest.mark.parametrize("where", ["here", "another container", "before a restart"])
def test_the_next_one_in_this_store_takes_over_in_silence(ws, pair, where) -> None:
    """Whatever the process was: it held the lock that the next one holds."""
    machine = pair.machine("one", is_open=False)
    killed(pair, machine)
    if where != "here":
        as_if_elsewhere(pair)
    if where == "before a restart":
        for lock in Path(machine.environ["XDG_CACHE_HOME"]).glob("capsula/locks/*"):
            lock.write_text(lock.read_text().replace(boot_id(), "another"))
    machine.environ["GATE"] = "/dev/null"
    done = machine.run()
    assert (done.ran, done.code, done.said) == (1, 0, [])
    assert pair.leases() == []


def test_who_waited_for_the_lock_says_that_and_no_more(ws, pair) -> None:
    machine = pair.machine("one", is_open=False)
    first = machine.start(*LONG)
    pair.until_held()
    machine.environ["GATE"] = "/dev/null"
    second = machine.start()
    assert first_line(second).startswith(f"capsule: waiting for process {first.pid}")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert ended(second) == (0, "made\n", [])
    assert pair.leases() == []


def test_one_of_another_machine_that_may_be_alive_is_waited_for(ws, pair) -> None:
    """It has our host name, and a number that no process here has."""
    killed(pair, pair.machine("one", is_open=False))
    said = as_if_elsewhere(pair)
    second = pair.machine("two").start()
    assert first_line(second).startswith(f"capsule: waiting for {said['host']} (for 10 min at most")
    second.send_signal(signal.SIGINT)
    assert ended(second)[0] == -signal.SIGINT
    assert ws.marks() == 1


@pytest.mark.skipif(
    subprocess.run([*APART, "true"], capture_output=True, check=False).returncode != 0,
    reason="no namespaces can be made here",
)
@pytest.mark.parametrize("which", ["holder", "other"])
def test_of_a_process_in_another_container_nothing_is_concluded(ws, pair, which) -> None:
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    ws.prefix = APART if which == "holder" else ()
    first = one.start(*LONG)
    pair.until_held()
    ws.prefix = APART if which == "other" else ()
    second = two.start()
    assert first_line(second).startswith("capsule: waiting for ")
    one.end()
    assert ended(first)[:2] == (0, "made\n")
    assert ended(second) == (0, "made\n", [])
    assert ws.marks() == 1


def test_one_that_is_old_by_the_clock_of_the_store_is_not_waited_for(ws, pair) -> None:
    killed(pair, pair.machine("one", is_open=False))
    said = {**as_if_elsewhere(pair), "seconds": 1}
    pair.put(said)
    pair.until_old(3)
    done = pair.machine("two").run()
    assert (done.ran, done.code, done.said) == (1, 0, [])
    assert pair.leases() == []


def test_when_it_ends_while_it_is_waited_for_one_line_is_all(ws, pair) -> None:
    killed(pair, pair.machine("one", is_open=False))
    pair.put({**as_if_elsewhere(pair), "seconds": 2})
    done = pair.machine("two").run()
    assert (done.ran, done.code) == (1, 0)
    assert len(done.said) <= 1, done.said
    assert pair.leases() == []


# ---------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_command_runs_leaves_no_lease(ws, pair, number) -> None:
    # A shell may go on after an interrupt, which would be its right.
    process = pair.machine("one", is_open=False).start(*LONG, do='exec cat "$GATE"')
    pair.until_held()
    process.send_signal(number)
    assert ended(process)[0] == 128 + number
    assert pair.leases() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_command_leaves_no_lease(ws, pair, number) -> None:
    """A result that comes so slowly that others are told that we are at it."""
    proxy = Proxy(pair.server.port)
    try:
        one = pair.machine("one", is_open=False)
        two = pair.machine("two", endpoint=f"http://127.0.0.1:{proxy.port}")
        content = os.urandom(1_000_000)
        for machine in (one, two):
            (machine.root / "in.txt").write_bytes(content)
        first = one.start()
        pair.until_held()
        second = two.start(*LONG)
        assert first_line(second).startswith("capsule: waiting for ")
        proxy.fail("hole", 8000)
        one.end()
        assert ended(first)[0] == 0
        assert pair.leases() == []
        pair.until_held()
        second.send_signal(number)
        assert ended(second) == (-number, "", [])
        assert pair.leases() == []
        assert ws.marks() == 1
    finally:
        proxy.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_result_is_sent_leaves_no_lease(ws, pair, number) -> None:
    proxy = Proxy(pair.server.port)
    try:
        machine = pair.machine("one", endpoint=f"http://127.0.0.1:{proxy.port}", is_open=False)
        (machine.root / "in.txt").write_bytes(os.urandom(1_000_000))
        process = machine.start(*LONG)
        pair.until_held()

        def come() -> None:
            # What was to be sent doesn't go on as long as it lives.
            process.send_signal(number)
            process.wait()

        proxy.at_request_bytes(500_000, come)
        machine.end()
        assert ended(process)[:2] == (0, "made\n")
        assert obstore.list(pair.direct, f"{pair.prefix}/ac").collect() == []
        assert pair.leases() == []
    finally:
        proxy.stop()


def test_a_signal_to_a_recorded_run_leaves_no_lease(ws, pair) -> None:
    machine = pair.machine("one", is_open=False)
    (machine.root / "capsula.toml").write_text("[capture]\ninclude-cpu = false\n")
    process = subprocess.Popen(
        ["capsula", "monitor", "--cache", "--input", "in.txt", "--output", "out.txt", "sh", "-c", DO],
        cwd=machine.root,
        env={**machine.environ, "CAPSULE_ARGS": " ".join([*machine.options, *LONG])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ws.started.append(process)
    pair.until_held()
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 128 + signal.SIGTERM
    assert pair.leases() == []


# ---------------------------------------------------------------------------------------------------- trust


class Signers:
    """Keys by name, and a file that trusts the one that is called ci, on its main branch and for capsules x*."""

    def __init__(self, ws) -> None:
        self.base = ws.base
        said = {name: ws.tool("keygen", str(ws.base / f"{name}.pem")).out for name in ("ci", "pr")}
        rights = 'refs = ["refs/heads/main"]\nids = ["x*"]\n'
        (ws.base / "trust.toml").write_text(said["ci"] + rights)
        (ws.base / "revoked.toml").write_text(said["ci"] + rights + "revoked = true\n")
        (ws.base / "others.toml").write_text(said["ci"] + 'ids = ["y*"]\n')
        self.trust = ("--trust", str(ws.base / "trust.toml"))

    def signing(
        self, name: str = "ci", ref: str = "refs/heads/main", tier: str = "trusted"
    ) -> tuple[str, ...]:
        return ("--sign_key", str(self.base / f"{name}.pem"), "--ref", ref, "--tier", tier)


@pytest.fixture
def signers(ws) -> Signers:
    return Signers(ws)


def test_one_that_is_signed_by_who_may_is_waited_for(ws, pair, signers) -> None:
    ws.environ["USER"] = "somebody"
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    first = one.start(*signers.signing(), *LONG)
    pair.until_held()
    claim = re.search(rb"5:claim,\d+:([0-9a-f]+),", b64decode(pair.lease()["signature"]))
    assert claim is not None
    said = bytes.fromhex(claim[1].decode())
    assert b"refs/heads/main" in said
    assert b"somebody" not in said, "who it is, a result tells those who get it"
    second = two.start(*signers.trust)
    assert first_line(second).startswith("capsule: waiting for ")
    one.end()
    assert ended(first) == (0, "made\n", [])
    assert ended(second) == (0, "made\n", [])
    assert ws.marks() == 1


@pytest.mark.parametrize("how", ["unsigned", "unknown key", "ref", "tier", "capsule", "revoked"])
def test_one_of_who_may_not_is_not_waited_for(ws, pair, signers, how) -> None:
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    signing = {
        "unsigned": (),
        "unknown key": signers.signing("pr"),
        "ref": signers.signing(ref="refs/heads/feature"),
        "tier": signers.signing(tier="untrusted"),
    }
    trust = {"capsule": "others.toml", "revoked": "revoked.toml"}.get(how, "trust.toml")
    first = one.start(*signing.get(how, signers.signing()), *LONG)
    pair.until_held()
    holder = pair.lease()["run"]
    done = two.run("--trust", str(ws.base / trust), "--remote_mode", "r")
    assert (done.ran, done.code, done.said) == (1, 0, [])
    assert pair.lease()["run"] == holder
    one.end()
    assert ended(first)[0] == 0


def test_one_that_was_changed_is_not_waited_for(ws, pair, signers) -> None:
    """Or is of another action: all that it says is signed."""
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    killed(pair, one, *signers.signing())
    said = pair.lease()
    assert said["signature"]
    pair.put({**said, "place": "", "life": ""})
    done = two.run(*signers.trust)
    assert (done.ran, done.code, done.said) == (1, 0, [])
    (two.root / "in.txt").write_bytes(b"another")
    report = ws.base / "report.json"
    two.run("--dry_run", "--json", str(report))
    pair.put(said, json.loads(report.read_bytes())["key"])
    done = two.run(*signers.trust)
    assert (done.ran, done.code, done.said) == (1, 0, [])
