"""What the command writes: passed on at once, kept whole, in the order in which it came."""

import fcntl
import os
import subprocess
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.execute import relay
from capsula.execute.log import Order

EVERY_BYTE = bytes(range(256)) * 3

# Writes what it is told: lines "1 text" and "2 text" on stdin.
OBEDIENT = """
import os, sys
for line in sys.stdin.buffer:
    os.write(int(line[:1]), line[2:])
"""


def test_every_byte_goes_through_and_is_kept(runner, tools):
    ran = runner.run(
        *tools.python("import os; b = bytes(range(256)) * 3; os.write(1, b); os.write(2, b[::-1])")
    )
    assert (ran.out, ran.err) == (EVERY_BYTE, EVERY_BYTE[::-1])
    assert (ran.stdout, ran.stderr) == (EVERY_BYTE, EVERY_BYTE[::-1])
    assert (ran.cut, ran.reason, ran.left_open, ran.write_error) == (False, "", False, None)


def test_output_is_passed_on_at_once_and_its_order_kept(runner, tools):
    process = runner.start(*tools.python(OBEDIENT))
    said = [(1, b"one\n"), (2, b"two\n"), (1, b"three\n"), (1, b"four\n"), (2, b"five\n"), (1, b"six\n")]
    for number, text in said:
        process.stdin.write(b"%d %s" % (number, text))
        process.stdin.flush()
        # It is here while the command still waits for its next line.
        assert (process.stdout if number == 1 else process.stderr).readline() == text
    process.stdin.close()
    assert process.wait() == 0
    assert runner.outcome().order == [[1, 4], [2, 4], [1, 11], [2, 5], [1, 4]]


def test_two_descriptors_of_one_pipe_are_two_streams(runner, tools):
    process = runner.start(*tools.python(OBEDIENT), popen={"stderr": subprocess.STDOUT})
    for number in (1, 2, 1):
        process.stdin.write(b"%d line %d\n" % (number, number))
        process.stdin.flush()
        assert process.stdout.readline() == b"line %d\n" % number
    process.stdin.close()
    assert process.wait() == 0
    outcome = runner.outcome()
    assert (outcome.stdout, outcome.stderr) == (b"line 1\nline 1\n", b"line 2\n")
    assert outcome.order == [[1, 7], [2, 7], [1, 7]]


@pytest.mark.parametrize("capture", [(True, False), (False, True), (False, False)])
def test_what_is_not_to_be_captured_is_the_commands_own(runner, capture):
    ran = runner.run("sh", "-c", "readlink /proc/self/fd/1; readlink /proc/self/fd/2 >&2", capture=capture)
    for wanted, log, out in ((capture[0], ran.stdout, ran.out), (capture[1], ran.stderr, ran.err)):
        assert out.startswith(b"pipe:")
        assert log == (out if wanted else None)
    assert ran.cut is False


@pytest.mark.parametrize(("size", "spooled"), [(0, False), (1000, False), (1001, True), (200_000, True)])
def test_a_log_over_the_limit_is_in_a_file(runner, tools, size, spooled):
    code = f"import os, sys; sys.stdout.buffer.write(bytes(k % 251 for k in range({size})))"
    ran = runner.run(*tools.python(code), memory_limit=1000)
    assert (ran.stdout, ran.stdout_size, ran.stdout_spooled) == (ran.out, size, spooled)
    assert len(ran.out) == size
    assert len(list((runner.folder / "spool").iterdir())) == int(spooled)


@pytest.mark.parametrize(
    "options", [{"spool_dir": None}, {"spool_dir": "/no/such"}, {"broken": ["fsize"]}], ids=repr
)
def test_a_log_that_cannot_be_kept_is_no_matter_to_the_command(runner, tools, options):
    # fsize: the file can't grow past 300,000 bytes, as on a disk that is full.
    ran = runner.run(*tools.python("import os; os.write(2, b'err'); os.write(1, bytes(500_000))"), **options)
    assert (len(ran.out), ran.err, ran.returncode) == (500_000, b"err", 0)
    assert (ran.stdout, ran.stderr, ran.cut) == (None, b"err", True)
    assert ran.reason.startswith("stdout: its log can't be kept: ")
    assert list((runner.folder / "spool").iterdir()) == []


def test_memory_is_flat_in_the_size_of_the_output(runner):
    little = runner.run("sh", "-c", "head -c 1000 /dev/zero", popen={"stdout": subprocess.DEVNULL})
    much = runner.run("sh", "-c", "head -c 200M /dev/zero", popen={"stdout": subprocess.DEVNULL})
    assert much.stdout_size == 200 << 20
    assert much.our_rss_kb < little.our_rss_kb + 4000


# ---------------------------------------------------------------- who reads it


def test_an_endless_command_ends_when_nobody_reads_it(runner):
    process = runner.start("yes")
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait() == 128 + 13
    outcome = runner.outcome()
    assert (outcome.cut, outcome.write_error) == (True, None)
    assert "nobody reads it" in outcome.reason
    assert outcome.stdout_size >= relay.UNSEEN_LIMIT


def test_a_finite_output_that_nobody_reads_to_its_end_is_kept_whole(runner, tools):
    process = runner.start("sh", "-c", "echo first; read go; seq 300000; exit 4", memory_limit=10_000_000)
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.wait() == 4
    outcome = runner.outcome()
    assert outcome.stdout_size == 6 + len("".join(f"{n}\n" for n in range(1, 300001)))
    assert (outcome.cut, outcome.write_error) == (False, None)


def test_a_disk_that_is_full_under_our_stdout_is_reported(runner):
    with open("/dev/full", "wb") as full:
        ran = runner.run("sh", "-c", "echo out; echo err >&2", popen={"stdout": full})
    assert (ran.write_error, ran.stdout, ran.err, ran.returncode) == (28, b"out\n", b"err\n", 0)


def test_a_stdout_that_takes_nothing_holds_up_nothing_else(runner, tools):
    process = runner.start(
        *tools.python("import os; os.write(1, bytes(200_000)); os.write(2, b'done\\n'); os.read(0, 1)")
    )
    # Its own pipe and ours hold less than that: without room in our stdout, the command can't have come this far.
    assert os.read(process.stdout.fileno(), 150_000)
    assert process.stderr.readline() == b"done\n"


def test_a_stderr_comes_through_while_stdout_is_full(runner, tools):
    code = """
import os, threading
os.write(1, b"x")
stuck = threading.Thread(target=os.write, args=(1, bytes(1_000_000)), daemon=True)
stuck.start()
while got := os.read(0, 1):
    os.write(2, got)
os._exit(0)
"""
    process = runner.start(*tools.python(code))
    for _ in range(50):
        process.stdin.write(b"!")
        process.stdin.flush()
        assert os.read(process.stderr.fileno(), 10) == b"!"


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return sum(int(ticks) for ticks in stat.read().rpartition(")")[2].split()[11:13])


def test_a_stdout_that_does_not_block_loses_nothing_and_costs_no_time(runner, tools):
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)  # as node does with a pipe that it shares
    process = runner.start(*tools.python("import os; os.write(1, bytes(300_000))"), popen={"stdout": theirs})
    os.close(theirs)
    with os.fdopen(ours, "rb") as out:
        # Full, and nobody reads: it waits, asleep, not in a loop.
        tools.eventually(lambda: tools.state_of(process.pid) == "S")
        used = cpu_ticks(process.pid)
        waiting = time.monotonic() + 0.2
        tools.eventually(lambda: time.monotonic() > waiting)
        assert cpu_ticks(process.pid) - used <= 5
        assert len(out.read()) == 300_000
    assert process.wait() == 0


@pytest.mark.parametrize("kind", ["file", "append", "null", "socket"])
def test_whatever_our_stdout_is(runner, tmp_path, kind):
    import socket

    ends = socket.socketpair() if kind == "socket" else ()
    names = {"file": (tmp_path / "out", "wb"), "append": (tmp_path / "out", "ab"), "null": (os.devnull, "wb")}
    (tmp_path / "out").write_bytes(b"before\n")
    with ends[0] if ends else open(*names[kind]) as stdout:
        ran = runner.run("sh", "-c", "seq 3", popen={"stdout": stdout})
        if ends:
            assert ends[1].recv(100) == b"1\n2\n3\n"
            ends[1].close()
    assert ran.stdout == b"1\n2\n3\n"
    written = {"file": b"1\n2\n3\n", "append": b"before\n1\n2\n3\n"}.get(kind, b"before\n")
    assert (tmp_path / "out").read_bytes() == written


# ---------------------------------------------------------------- what the command leaves behind


@pytest.mark.parametrize("broken", [(), ("proc",)])
def test_a_process_that_the_command_leaves_behind_goes_on_writing(runner, tools, tmp_path, broken):
    os.mkfifo(tmp_path / "go")
    left = f"(read go < {tmp_path}/go; echo later; echo too >&2) & echo now"
    process = runner.start("sh", "-c", left, lock=True, broken=broken)
    assert process.stdout.readline() == b"now\n"
    assert process.wait() == 0
    outcome = runner.outcome()
    assert (outcome.left_open, outcome.stdout, outcome.stderr, outcome.cut) == (True, b"now\n", b"", False)
    # Who holds our stdout now is one process, with nothing of ours but what it copies …
    holders = tools.holders_of(process.stdout.fileno())
    assert len(holders) == 1
    assert tools.eventually(lambda: len(os.listdir(f"/proc/{holders[0]}/fd")) == 4)
    # … and no lock.
    with open(f"{runner.report}.held") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for number in (1, 2, 3, 15):
        os.kill(holders[0], number)
    (tmp_path / "go").write_text("go\n")
    assert process.stdout.read() == b"later\n"
    assert process.stderr.read() == b"too\n"
    tools.eventually(lambda: tools.state_of(holders[0]) in ("", "Z"))


def test_a_process_left_behind_that_has_only_one_stream_does_not_hold_the_other(runner, tools, tmp_path):
    os.mkfifo(tmp_path / "go")
    process = runner.start("sh", "-c", f"(read go < {tmp_path}/go; echo later) 2>/dev/null & exit 3")
    assert process.wait() == 3
    assert process.stderr.read() == b""
    (tmp_path / "go").write_text("go\n")
    assert process.stdout.read() == b"later\n"


def test_a_process_left_behind_gets_sigpipe_when_nobody_reads_it(runner, tools, tmp_path):
    os.mkfifo(tmp_path / "go")
    process = runner.start("sh", "-c", f"(read go < {tmp_path}/go; exec yes) & echo $!")
    left = int(process.stdout.readline())
    assert process.wait() == 0
    holders = tools.holders_of(process.stdout.fileno())
    process.stdout.close()
    (tmp_path / "go").write_text("go\n")
    for pid in (left, *holders):
        tools.eventually(lambda pid=pid: tools.state_of(pid) in ("", "Z"))


def test_a_process_left_behind_that_never_stops_writing_does_not_hold_us(runner, tools):
    process = runner.start("sh", "-c", "yes & echo $! >&2; exit 8")
    left = int(process.stderr.readline())
    tools.eventually(lambda: process.poll() is not None or not process.stdout.read1(1 << 16))
    assert process.returncode == 8
    outcome = runner.outcome()
    assert outcome.left_open is True
    process.stdout.close()
    tools.eventually(lambda: tools.state_of(left) in ("", "Z"))


def test_all_that_the_command_itself_wrote_is_there_however_slowly_it_is_taken(runner, tools):
    # Some of it in our stdout, some in our hands, and the rest in the command's pipe when it has long ended.
    code = "import os; os.write(1, bytes(180_000)); os.read(0, 1); os._exit(0)"
    process = runner.start(*tools.python(code))
    tools.eventually(lambda: tools.children_of(process.pid))
    process.stdin.close()
    tools.eventually(lambda: not tools.children_of(process.pid))
    late = time.monotonic() + 4 * relay.GRACE
    tools.eventually(lambda: time.monotonic() > late)
    assert len(process.stdout.read()) == 180_000
    assert process.wait() == 0
    assert (runner.outcome().stdout_size, runner.outcome().left_open) == (180_000, False)


# ---------------------------------------------------------------- the order


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 9)), max_size=300))
def test_the_order_of_a_short_log_is_exact(turns):
    order = Order()
    for number, count in turns:
        order.add(number, count)
    flat = [number for number, count in turns for _ in range(count)]
    assert [number for number, count in order.turns() for _ in range(count)] == flat
    assert all(one[0] != next_one[0] for one, next_one in pairwise(order.turns()))


@settings(deadline=None, max_examples=20)
@given(st.integers(8000, 40000), st.sampled_from([1, 2]), st.integers(0, 100))
def test_the_order_of_an_endless_log_loses_resolution_but_no_byte(turns, first, tail):
    order = Order()
    for turn in range(turns):
        order.add(first if turn % 2 == 0 else 3 - first, 1 + turn % 3)
    for _ in range(tail):
        order.add(first, 5)
    kept = order.turns()
    assert len(kept) <= 8192
    counts = {1: 0, 2: 0}
    for number, count in kept:
        counts[number] += count
    expected = {first: sum(1 + turn % 3 for turn in range(0, turns, 2)) + 5 * tail}
    expected[3 - first] = sum(1 + turn % 3 for turn in range(1, turns, 2))
    assert counts == expected
    assert all(one[0] != next_one[0] for one, next_one in pairwise(kept))
