"""Two machines with the same action at once, on a real object store: one makes the result, the other takes it."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pairs import ASK, DO, Machine, Pair, ended, first_line
from servers.ceph import Ceph
from servers.proxy import Proxy
from servers.seaweed import Seaweed
from servers.swift import Swift


@pytest.fixture(
    scope="module", params=[Seaweed, *(pytest.param(kind, marks=pytest.mark.full) for kind in (Ceph, Swift))]
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = request.param(tmp_path_factory.mktemp("server") / "data")
    yield server
    server.stop()


@pytest.fixture
def pair(ws, server) -> Pair:
    return Pair(ws, server)


def test_two_machines_at_once_run_it_once(ws, pair) -> None:
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    first = one.start()
    pair.until_held()
    second = two.start()
    line = first_line(second)
    assert line.startswith("capsule: waiting for "), line
    assert line.endswith(" (for 10 min at most: --lease_wait), which is running the same action\n")
    one.end()
    assert ended(first) == (0, "made\n", [])
    assert ended(second) == (0, "made\n", [])
    assert ws.marks() == 1
    assert (two.root / "out.txt").read_bytes() == b"input"
    assert pair.leases() == []


def test_a_command_that_is_known_to_be_long_is_held_before_it_runs(ws, pair) -> None:
    """Its last run here took long: so no second goes by in which another machine may begin as well."""
    one = pair.machine("one", is_open=False)
    first = one.start()
    pair.until_held()
    while not ws.marks():
        assert first.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(1.1)
    one.end()
    assert ended(first)[0] == 0
    # Nobody waits long for letting go: what a server is too slow for stays until it has ended.
    left = pair.leases()
    (one.root / "in.txt").write_bytes(b"another")
    second = one.start()
    # Whoever opens the gate finds the command at work, and by then there is a lease.
    with one.gate.open("w") as gate:
        held = pair.leases()
        gate.write("go\n")
    assert ended(second)[0] == 0
    assert len({*held} - {*left}) == 1


def test_when_the_holders_network_is_cut_the_other_goes_on(ws, pair) -> None:
    proxy = Proxy(pair.server.port)
    try:
        cut = f"http://127.0.0.1:{proxy.port}"
        one = pair.machine("one", "--lease_time", "1s", "--upload_timeout", "1s", endpoint=cut, is_open=False)
        two = pair.machine("two")
        first = one.start()
        pair.until_held()
        proxy.refuse()
        done = two.run()
        assert (done.ran, done.code) == (1, 0), done
        # None, if it was long ago by then that anything was heard of it.
        assert len(done.said) <= 1
        one.end()
        code, out, said = ended(first)
        assert (code, out) == (0, "made\n")
        assert len(said) <= 1, said
    finally:
        proxy.stop()
    assert pair.leases() == []


def test_when_it_fails_there_the_other_runs_it(ws, pair) -> None:
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    for machine in (one, two):
        (machine.root / "in.txt").unlink()
        (machine.root / "in.txt").mkdir()
        (machine.root / "in.txt" / "file").write_bytes(b"x")
    first = one.start()
    pair.until_held()
    second = two.start()
    assert first_line(second).startswith("capsule: waiting for ")
    one.end()
    assert ended(first)[0] == 1
    code, _, said = ended(second)
    assert (code, ws.marks()) == (1, 2), said


def test_a_capsule_inside_of_itself_does_not_wait_for_its_own_end(ws, pair) -> None:
    """Also where its store is another, so that no lock of this machine tells it."""
    one = pair.machine("one", is_open=False)
    (one.root / "do").write_text(
        'cp in.txt out.txt; [ -e ../inside ] && exit; : > ../inside; read line < "$GATE"; '
        f"capsule --store ../other {' '.join([*one.options, *ASK])} -- sh do"
    )
    first = ws.start(*one.options, *ASK, command=("sh", "do"), cwd=one.root, env=one.environ)
    pair.until_held()
    one.end()
    assert ended(first) == (0, "", [])


def test_ctrl_c_ends_the_waiting_and_runs_nothing(ws, pair) -> None:
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    first = one.start()
    pair.until_held()
    second = two.start()
    first_line(second)
    second.send_signal(signal.SIGINT)
    assert ended(second)[0] == -signal.SIGINT
    one.end()
    assert ended(first)[0] == 0
    assert ws.marks() == 1


@pytest.mark.parametrize("wait", ["0", "1s"])
def test_it_waits_no_longer_than_it_shall(ws, pair, wait) -> None:
    machine = pair.machine("one")
    report = ws.base / "report.json"
    machine.run("--dry_run", "--json", str(report))
    key = json.loads(report.read_bytes())["key"]
    pair.put(
        {"run": "r", "host": "evil\nhost", "pid": 1, "seconds": 300, "beat": 1, "place": "", "life": ""}, key
    )
    done = machine.run("--lease_wait", wait)
    assert (done.ran, done.code) == (1, 0)
    if wait == "0":
        assert done.said == []
    else:
        assert len(done.said) == 1, done.said
        assert done.said[0].startswith("waiting for evil\\nhost (for 1 s at most")
    # It is another's, and stays.
    assert len(pair.leases()) == 1


def test_with_neither_nothing_is_asked(ws, pair) -> None:
    proxy = Proxy(pair.server.port)
    try:
        machine = pair.machine("one", endpoint=f"http://127.0.0.1:{proxy.port}")
        proxy.storm(403, lambda verb, path: "/lease/" in path)
        assert machine.run("--lease_wait", "0", "--lease_time", "0").said == []
        assert proxy.faults == 0
        shutil.rmtree(machine.environ["XDG_CACHE_HOME"])
        (machine.root / "in.txt").write_bytes(b"another")
        # And what is refused of it is no trouble.
        done = machine.run()
        assert (done.ran, done.said) == (1, [])
        assert proxy.faults == 1
    finally:
        proxy.stop()


def monitor(machine: Machine, *options: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        ["capsula", "monitor", "--cache", "--input", "in.txt", "--output", "out.txt", "sh", "-c", DO],
        cwd=machine.root,
        env={**machine.environ, "CAPSULE_ARGS": " ".join(machine.options)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    machine.ws.started.append(process)
    return process


def test_recorded_runs_wait_for_each_other_as_well(ws, pair) -> None:
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    for machine in (one, two):
        (machine.root / "capsula.toml").write_text("[capture]\ninclude-cpu = false\n")
    first = monitor(one)
    pair.until_held()
    second = monitor(two)
    line = first_line(second)
    while "waiting for" not in line:
        assert line, "it doesn't wait"
        line = first_line(second)
    one.end()
    assert ended(first)[:2] == (0, "made\n")
    assert ended(second)[:2] == (0, "made\n")
    outcomes = [
        json.loads(path.read_bytes())["outcome"]
        for machine in (one, two)
        for path in machine.root.glob("vault/*/capsule.json")
    ]
    assert outcomes == ["miss", "hit"]
    assert pair.leases() == []


PROGRAM = """
import capsula

@capsula.monitor(cache=True, inputs=["in.txt"])
def work():
    with open("gate") as gate:
        gate.readline()
    with open("mark", "a") as mark:
        mark.write("ran\\n")
    return 42

print(work(), flush=True)
print(work(), flush=True)
"""


def test_functions_wait_for_each_other_as_well(ws, pair) -> None:
    one, two = pair.machine("one", is_open=False), pair.machine("two")
    started = []
    for machine in (one, two):
        (machine.root / "capsula.toml").write_text("[capture]\ninclude-cpu = false\n")
        (machine.root / "program.py").write_text(PROGRAM)
        (machine.root / "gate").symlink_to(machine.environ["GATE"])
        process = subprocess.Popen(
            [sys.executable, "program.py"],
            cwd=machine.root,
            env={**machine.environ, "CAPSULE_ARGS": " ".join(machine.options)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        ws.started.append(process)
        started.append(process)
        if machine is one:
            pair.until_held()
    line = first_line(started[1])
    while "waiting for" not in line:
        assert line, "it doesn't wait"
        line = first_line(started[1])
    one.end()
    for process in started:
        code, out, said = ended(process)
        assert (code, out) == (0, "42\n42\n"), said
    assert ((one.root / "mark").read_text(), (two.root / "mark").exists()) == ("ran\n", False)
    assert pair.leases() == []
