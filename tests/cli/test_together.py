"""Several at once, one within another, and kills: one runs, the others wait, and nobody waits for ever."""

import os
import signal

import pytest

COPY = ("-i", "in", "-o", "out")
# Says that it has started, and goes on when it is told to.
SLOW = 'echo > "$STARTED"; read _ < "$GO"; cat in > out; echo made'


@pytest.fixture
def gates(ws):
    """`started()` returns when the command runs, `go()` lets it end."""
    started, go = ws.fifo("started"), ws.fifo("go")
    ws.write("in", "one")

    class Gates:
        def started(self):
            started.read_text()

        def go(self):
            go.write_text("\n")

    return Gates()


def until_waiting(process):
    line = process.stderr.readline().decode()
    assert line.startswith("capsule: waiting for process "), line
    return int(line.split()[4].rstrip(","))


def test_of_two_at_once_one_runs_and_the_other_waits_and_hits(ws, gates):
    leader = ws.start(*COPY, do=SLOW)
    gates.started()
    follower = ws.start(*COPY, do=SLOW)
    assert until_waiting(follower) == leader.pid
    gates.go()
    assert (leader.wait(200), follower.wait(60)) == (0, 0)
    assert (leader.stdout.read(), follower.stdout.read()) == (b"made\n", b"made\n")
    assert (ws.marks(), ws.read("out")) == (1, "one")


def test_in_two_checkouts_at_once_one_runs_and_the_other_gets_the_outputs(ws, gates):
    other = ws.base / "other"
    other.mkdir()
    (other / "in").write_text("one")
    leader = ws.start(*COPY, do=SLOW)
    gates.started()
    follower = ws.start(*COPY, do=SLOW, cwd=other)
    until_waiting(follower)
    gates.go()
    assert (leader.wait(200), follower.wait(60)) == (0, 0)
    assert (ws.marks(), (other / "out").read_text()) == (1, "one")


def test_of_many_at_once_on_one_key_one_runs(ws):
    ws.write("in", "one")
    many = [ws.start(*COPY, do="cat in > out; echo made") for _ in range(12)]
    assert [(process.wait(200), process.stdout.read()) for process in many] == [(0, b"made\n")] * 12
    assert (ws.marks(), ws.read("out")) == (1, "one")


def test_of_many_at_once_on_many_keys_each_has_its_own_result(ws):
    """Two for each key, each key in a checkout of its own, all with one store."""
    many = []
    for number in range(12):
        folder = ws.base / f"checkout{number}"
        folder.mkdir()
        (folder / "in").write_text(str(number % 6))
        many.append((folder, ws.start("-c", "id", *COPY, do="cat in > out", cwd=folder)))
    for number, (folder, process) in enumerate(many):
        assert process.wait(200) == 0
        assert (folder / "out").read_text() == str(number % 6)
    assert ws.marks() == 6


def test_different_keys_do_not_wait_for_each_other(ws, gates):
    leader = ws.start(*COPY, do=SLOW)
    gates.started()
    assert ws.capsule("-i", "in", "-o", "out2", do="cat in > out2").ran == 1
    gates.go()
    assert leader.wait(200) == 0


def test_when_the_leader_fails_the_follower_runs(ws, gates):
    leader = ws.start(*COPY, do=f"{SLOW}; exit 3")
    gates.started()
    follower = ws.start(*COPY, do=f"{SLOW}; exit 3")
    until_waiting(follower)
    gates.go()
    assert leader.wait(200) == 3
    gates.started()
    gates.go()
    assert follower.wait(200) == 3
    assert ws.marks() == 2


def test_when_the_leader_is_killed_the_follower_runs(ws, gates):
    alive, held = os.pipe()
    leader = ws.start(*COPY, do=SLOW, start_new_session=True, pass_fds=[held])
    os.close(held)
    gates.started()
    follower = ws.start(*COPY, do=SLOW)
    until_waiting(follower)
    os.killpg(leader.pid, signal.SIGKILL)
    assert os.read(alive, 1) == b"", "its command is gone too, and won't take what the other one is told"
    os.close(alive)
    gates.started()
    gates.go()
    assert follower.wait(200) == 0
    assert (ws.marks(), ws.read("out")) == (2, "one")
    assert ws.capsule(*COPY, do=SLOW).ran == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_mid_run_leaves_no_entry(ws, gates, number):
    process = ws.start(*COPY, do=f"echo half > out; {SLOW}", start_new_session=True)
    gates.started()
    os.killpg(process.pid, number)
    assert process.wait(200) == (-9 if number == signal.SIGKILL else 128 + number)
    assert ws.entries() == []
    assert ws.capsule(*COPY, do="cat in > out").ran == 1
    assert ws.read("out") == "one"


def test_a_placebo_beside_a_run_of_the_same_key_waits_and_compares(ws, gates):
    leader = ws.start(*COPY, do=SLOW)
    gates.started()
    placebo = ws.start("-p", *COPY, do=SLOW)
    until_waiting(placebo)
    gates.go()
    assert leader.wait(200) == 0
    gates.started()
    gates.go()
    assert placebo.wait(200) == 0
    assert b"deterministic" in placebo.stderr.read()
    assert ws.marks() == 2


# ------------------------------------------------------------------------------------------- one within another


def test_a_capsule_within_a_capsule_caches_both(ws):
    ws.write("in", "one")
    inner = "capsule -i in -o part -- sh -c 'echo inner >> \"$MARK\"; cat in > part'"
    do = f"{inner} && cat part > out"
    assert ws.capsule(*COPY, do=do).ran == 2
    assert ws.capsule(*COPY, do=do).ran == 0
    for name in "part", "out":
        ws.path(name).unlink()
    assert ws.capsule(*COPY, do=f"{do}; :").ran == 1, "the outer one is new, the inner one is known"
    assert ws.read("part") == "one"


def test_a_capsule_of_the_same_key_within_itself_does_not_wait_for_itself(ws):
    ws.write("in", "one")
    ws.write("build", '#!/bin/sh\necho ran >> "$MARK"\ncat in > out\n', mode=0o755)
    ws.write(
        "build",
        '#!/bin/sh\necho ran >> "$MARK"\n'
        'if [ -z "$INNER" ]; then export INNER=1; exec capsule -i in -o out -- ./build; fi\ncat in > out\n',
        mode=0o755,
    )
    done = ws.capsule(*COPY, command=("./build",))
    assert (done.code, done.ran, ws.read("out")) == (0, 2, "one")
    assert "waiting" not in done.err
    assert ws.capsule(*COPY, command=("./build",)).ran == 0


def test_options_in_capsule_args_reach_the_inner_capsule(ws):
    ws.write("in", "one")
    inner = "capsule -i in -o part -- sh -c 'echo inner >> \"$MARK\"; cat in > part'"
    do = f"{inner} && cat part > out"
    assert ws.capsule(*COPY, do=do).ran == 2
    assert ws.capsule(*COPY, do=do, env={"CAPSULE_ARGS": "--passive"}).ran == 2
