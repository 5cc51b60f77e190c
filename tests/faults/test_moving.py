"""Inputs that come, go and change at any moment of a run: no result is ever stored under a key that it isn't of."""

import os
import random
import subprocess
import sys

import pytest

OPTIONS = ("-c", "moving", "-i", "src", "-o", "out")
DO = "cat src/* > out 2> /dev/null; :"

# Goes through the states of the input directory, in every way in which a state can become another.
RESTLESS = """
import os, random, sys
chance = random.Random(int(sys.argv[1]))
stop = sys.argv[2]
print("ready", flush=True)
while not os.path.exists(stop):
    name = chance.choice("abc")
    content = chance.choice(["one\\n", "two\\n"])
    how = chance.randrange(5)
    try:
        if how == 0:
            with open(name, "w") as file:
                file.write(content)
        elif how == 1:
            with open("../new", "w") as file:
                file.write(content)
            os.rename("../new", name)
        elif how == 2:
            os.unlink(name)
        elif how == 3:
            os.rename(name, chance.choice("abc"))
        else:
            with open(name, "r+") as file:
                file.write(content)
    except FileNotFoundError:
        pass
    if chance.random() < 0.3:
        os.sched_yield()
"""


def set_state(ws, state):
    for path in ws.path("src").iterdir():
        path.unlink()
    for name, content in zip("abc", state, strict=True):
        if content:
            ws.write(f"src/{name}", content)


@pytest.mark.parametrize("seed", [1, 2])
def test_inputs_that_never_stand_still(ws, seed):
    ws.path("src").mkdir()
    ws.write("src/a", "one\n")
    stop = ws.base / "stop"
    restless = subprocess.Popen(
        [sys.executable, "-S", "-c", RESTLESS, str(seed), stop], cwd=ws.path("src"), stdout=subprocess.PIPE
    )
    ws.started.append(restless)
    restless.stdout.readline()
    try:
        for _ in range(60):
            done = ws.breaking(*OPTIONS, do=DO)
            assert (done.code, done.out) == (0, ""), done
            assert len(done.said) <= 2, done
    finally:
        stop.touch()
        restless.wait(200)
    # Whatever was stored meanwhile: for each state there can be, the answer is what the command makes of it.
    contents = ("", "one\n", "two\n")
    for state in [(a, b, c) for a in contents for b in contents for c in contents if a or b or c]:
        set_state(ws, state)
        done = ws.breaking(*OPTIONS, do=DO)
        assert (done.code, ws.read("out")) == (0, "".join(state)), (state, done)
    ws.verify()


EDITS = {
    "written": "echo two > src/a",
    "with the size and the times that it had": "echo two > src/a; touch -r ../stamp src/a",
    "replaced": "echo two > new; mv new src/a",
    "removed": "rm src/a",
    "renamed": "mv src/a src/c",
    "another added": "echo two > src/c",
    "executable": "chmod 755 src/a",
    "a link": "rm src/a; ln -s b src/a",
    "a directory": "rm src/a; mkdir src/a",
    "another among them for a moment": "echo two > src/c; cat src/* > /dev/null; rm src/c",
}
BACK = "rm -rf src/a src/c; echo one > src/a"
ORDERS = {
    "before it is read": "{edit}; cat src/* > out 2> /dev/null; :",
    "after it is read": "cat src/* > out; {edit}",
    "before it is read, and put back": "{edit}; cat src/* > out 2> /dev/null; {back}",
    "in the middle, and put back": "cat src/* > out; {edit}; cat src/* >> out 2> /dev/null; {back}",
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("edit", EDITS)
def test_an_input_that_is_edited_while_the_command_runs(ws, edit, order):
    do = ORDERS[order].format(edit=EDITS[edit], back=BACK)
    ws.write("src/a", "one\n")
    ws.write("src/b", "b\n")
    (ws.base / "stamp").touch()
    os.utime(ws.base / "stamp", ns=(1, os.stat(ws.path("src/a")).st_mtime_ns))
    done = ws.breaking(*OPTIONS, do=do)
    assert (done.code, done.ran, len(done.said)) == (0, 1, 1), done
    assert "moved" in done.said[0] or "chang" in done.said[0], done
    assert ws.entries() == []


@pytest.mark.parametrize("seed", range(3))
def test_another_process_edits_while_the_command_runs(ws, seed):
    """The command reads slowly; whatever it has read when the edit comes, only a pure result may be stored."""
    chance = random.Random(seed)
    ws.write("src/a", "one\n")
    ws.write("src/b", "b\n")
    do = "cat src/a > out; sleep 0.02; cat src/b >> out; sleep 0.02; cat src/a >> out"
    for _ in range(12):
        process = ws.start(*OPTIONS, do=do)
        for _ in range(chance.randrange(4)):
            try:
                process.wait(chance.random() * 0.08)
            except subprocess.TimeoutExpired:
                ws.write(f"src/{chance.choice('ab')}", chance.choice(["one\n", "two\n", "b\n"]))
        process.communicate(timeout=200)
        assert process.returncode == 0
        done = ws.breaking(*OPTIONS, do=do)
        a, b = ws.read("src/a"), ws.read("src/b")
        assert (done.code, ws.read("out")) == (0, a + b + a), done


def test_an_input_that_vanishes_for_good_is_said_and_the_command_runs(ws):
    ws.write("src/a", "one\n")
    assert ws.breaking("-i", "src/a", do=":").ran == 1
    ws.path("src/a").unlink()
    for _ in range(2):
        done = ws.breaking("-i", "src/a", do="exit 4")
        assert (done.code, done.ran, len(done.said)) == (4, 1, 1), done
        assert "src/a" in done.said[0]
