"""Many at once: on one key, on many keys, in one workspace and in many, while the store is swept all the time."""

import shutil
import subprocess
import sys
import time

import pytest

from capsula.store.disk import DiskStore
from capsula.store.sweep import sweep

CROWD = 20
PATIENCE = 240
DO = 'mkdir -p dist; cat in > dist/a; cat in in > dist/b; read x < in; echo "made of $x"; echo "told of $x" >&2'
OPTIONS = ("-c", "crowd", "-i", "in", "-o", "dist")


def ended(ws, process):
    out, err = process.communicate(timeout=PATIENCE)
    said = [line for line in err.decode().splitlines() if line.startswith("capsule: ")]
    told = [line for line in err.decode().splitlines() if not line.startswith("capsule: ")]
    return process.returncode, out.decode(), told, said


def everyone(ws, processes):
    return [ended(ws, process) for process in processes]


def test_twenty_on_one_key_in_one_workspace(ws):
    """The gate opens when all of them wait, but for the one that runs."""
    ws.write("in", "one\n")
    gate = ws.base / "gate"
    do = f"while [ ! -e {gate} ]; do sleep 0.02; done; {DO}"
    errors = [ws.base / f"err{number}" for number in range(CROWD)]
    processes = []
    for path in errors:
        with path.open("wb") as err:
            processes.append(ws.start(*OPTIONS, do=do, stderr=err))
    waiting = [path for path in errors if "waiting for process" in path.read_text()]
    while len(waiting) < CROWD - 1:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
        waiting = [path for path in errors if "waiting for process" in path.read_text()]
    gate.touch()
    results = [(process.communicate(timeout=PATIENCE)[0], process.returncode) for process in processes]
    assert ws.marks() == 1
    assert set(results) == {(b"made of one\n", 0)}
    for path in errors:
        said = path.read_text().splitlines()
        assert [line for line in said if "waiting" not in line] == ["told of one"]
    assert ws.read("dist/b") == "one\none\n"
    ws.verify()


def test_twenty_on_one_key_in_twenty_workspaces(ws):
    places = [ws.base / f"checkout{number}" for number in range(CROWD)]
    for place in places:
        place.mkdir()
        (place / "in").write_text("one\n")
    results = everyone(ws, [ws.start(*OPTIONS, do=DO, cwd=place) for place in places])
    assert {result[:2] for result in results} == {(0, "made of one\n")}
    assert {(place / "dist/b").read_text() for place in places} == {"one\none\n"}
    assert ws.marks() == 1
    ws.verify()


@pytest.mark.parametrize("first", [True, False], ids=["misses", "hits"])
def test_twenty_keys_in_one_workspace(ws, first):
    def run_all():
        processes = []
        for number in range(CROWD):
            ws.write(f"in{number}", f"{number}\n")
            do = f"mkdir -p out{number}; cat in{number} > out{number}/x; echo {number}"
            processes.append(ws.start("-i", f"in{number}", "-o", f"out{number}", do=do))
        for number, result in enumerate(everyone(ws, processes)):
            assert result == (0, f"{number}\n", [], [])
            assert ws.read(f"out{number}/x") == f"{number}\n"

    run_all()
    assert ws.marks() == CROWD
    if not first:
        for number in range(CROWD):
            shutil.rmtree(ws.path(f"out{number}"))
        run_all()
        assert ws.marks() == CROWD
    ws.verify()


@pytest.mark.parametrize("what", ["gone", "edited"])
def test_twenty_hits_that_put_the_same_outputs_back(ws, what):
    """They are in each other's way: some may find it done, or run the command, but all of them come out right."""
    ws.write("in", "one\n")
    ws.capsule(*OPTIONS, do=DO)
    for _ in range(3):
        if what == "gone":
            shutil.rmtree(ws.path("dist"))
        else:
            ws.write("dist/a", "edited by hand\n")
        results = everyone(ws, [ws.start(*OPTIONS, do=DO) for _ in range(CROWD)])
        assert {result[:2] for result in results} == {(0, "made of one\n")}, results
        assert (ws.read("dist/a"), ws.read("dist/b")) == ("one\n", "one\none\n")
        assert sorted(path.name for path in ws.path("dist").iterdir()) == ["a", "b"]
        if what == "edited":
            buried = [(folder / "item").read_text() for folder in ws.store.glob("trash/*")]
            assert "edited by hand\n" in buried
            shutil.rmtree(ws.store / "trash")
    assert ws.marks() == 1, "nobody had to run it again"
    assert sorted(path.name for path in ws.root.iterdir()) == ["dist", "in"]
    ws.verify()


SWEEPER = """
import os, sys, time
from capsula.store.sweep import sweep
root, stop = sys.argv[1:]
while not os.path.exists(stop):
    # As if an hour had passed since everything was stored: what isn't reached goes at once.
    sweep(root, 30000, now=lambda: time.time() + float(os.environ["AHEAD"]))
"""


@pytest.mark.parametrize("ahead", ["0", "4000"], ids=["as ever", "an hour later"])
def test_sweeps_all_the_time_while_twenty_run_and_hit(ws, ahead):
    """A store that holds a third of what is wanted, with sweeps in the background and one process that only sweeps."""
    stop = ws.base / "stop"
    sweeper = subprocess.Popen(
        [sys.executable, "-P", "-c", SWEEPER, ws.store, stop], env=ws.environ | {"AHEAD": ahead}
    )
    ws.started.append(sweeper)
    places = [ws.base / f"checkout{number}" for number in range(4)]
    for place in places:
        place.mkdir()
    do = 'cat in > out; for n in 1 2 3 4 5; do cat in >> out; done; read x < in; echo "$x"'
    try:
        for turn in range(6):
            processes = []
            for number, place in enumerate(places):
                content = f"{(turn + number) % 5} " * 1000 + "\n"
                (place / "in").write_text(content)
                if turn % 2:
                    (place / "out").unlink()
                options = ("--store_size", "30000", "-i", "in", "-o", "out")
                processes.append((place, content, ws.start(*options, do=do, cwd=place)))
            for place, content, process in processes:
                code, out, told, said = ended(ws, process)
                assert (code, out.split(), told) == (0, content.split(), []), said
                assert (place / "out").read_text() == content * 6
                assert all("waiting" in line or "blob" in line for line in said), said
    finally:
        stop.touch()
        assert sweeper.wait(200) == 0
    if ahead == "0":
        ws.verify()


def test_a_sweep_never_takes_what_a_run_is_about_to_need(ws):
    """The clock of the sweep is an hour ahead, so that it takes whatever no entry reaches."""
    ws.write("in", "one\n")
    store = DiskStore(str(ws.store), now=time.time)
    for number in range(10):
        ws.write("in", f"{number}\n")
        process = ws.start(*OPTIONS, do=DO)
        while process.poll() is None:
            sweep(store.root, 0, now=lambda: time.time() + 4000)
        assert ended(ws, process)[:2] == (0, f"made of {number}\n")
        assert ws.read("dist/a") == f"{number}\n"
        ws.capsule(*OPTIONS, do=DO)
        assert ws.read("dist/a") == f"{number}\n"
