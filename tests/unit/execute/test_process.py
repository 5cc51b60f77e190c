"""The command runs as if we weren't there: its state, its end, and the signals on their way to it."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest

# What a process can see of itself that its parent hands down.
FACTS = """
import json, os, resource, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
fds = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        fds[fd] = os.readlink("/proc/self/fd/" + fd)
    except OSError:
        pass
print(json.dumps({
    "signals": {name: status[name].strip() for name in ("SigBlk", "SigIgn", "SigCgt")},
    "umask": status["Umask"].strip(), "groups": status["Groups"].strip(), "nice": os.nice(0),
    "group": os.getpgrp(), "session": os.getsid(0), "directory": os.getcwd(), "argv": sys.argv,
    "limits": [resource.getrlimit(n) for n in range(16)],
    "environment": dict(os.environ), "fds": fds, "stdin": sys.stdin.read(),
}))
"""


# glibc's own two (32 and 33), which no program may use: its posix_spawn leaves them ignored in every child.
OF_THE_C_LIBRARY = 0b11 << 31


def facts(argv, popen):
    ran = subprocess.run(argv, capture_output=True, **popen)
    assert ran.stderr == b""
    found = json.loads(ran.stdout)
    found["signals"] = {name: int(bits, 16) & ~OF_THE_C_LIBRARY for name, bits in found["signals"].items()}
    return {**found, "fds": {fd: what for fd, what in found["fds"].items() if fd not in ("1", "2")}}


def unusual():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(1)


@pytest.mark.parametrize("prepare", [None, unusual], ids=["usual", "unusual"])
def test_the_child_finds_what_it_would_have_found_without_us(runner, tools, tmp_path, prepare):
    command = (sys.executable, "-I", "-S", "-c", FACTS, "an argument")
    with open(tmp_path / "extra", "w") as extra, open(tmp_path / "stdin", "w+") as stdin:
        stdin.write("typed\n")
        popen = {
            "stdin": stdin,
            "cwd": tmp_path,
            "umask": 0o027,
            "pass_fds": [extra.fileno()],
            "preexec_fn": prepare,
            "process_group": 0,
        }
        stdin.seek(0)
        bare = facts(command, popen)
        stdin.seek(0)
        ours = facts(runner.argv(*command), popen)
        assert str(extra.fileno()) in ours["fds"]
    for one in (bare, ours):
        del one["group"]  # a new one each time
    assert ours == bare


@pytest.mark.parametrize("prepare", [None, unusual], ids=["usual", "unusual"])
def test_signals_that_python_ignores_are_not_ignored_in_the_child(runner, prepare):
    look = ("grep", "^Sig[BI]", "/proc/self/status")

    def found(output):
        return [int(line.split()[1], 16) & ~OF_THE_C_LIBRARY for line in output.splitlines()]

    bare = subprocess.run(look, stdout=subprocess.PIPE, preexec_fn=prepare)
    assert len(found(bare.stdout)) == 2
    assert found(runner.run(*look, popen={"preexec_fn": prepare}).out) == found(bare.stdout)
    assert found(runner.run(*look, popen={"preexec_fn": prepare}, become=True).out) == found(bare.stdout)


def test_the_child_is_in_our_process_group_and_session(runner, tools):
    process = runner.start(*tools.python("import os; print(os.getpgrp(), os.getsid(0), os.getppid())"))
    out, _ = process.communicate()
    assert out.split() == [str(n).encode() for n in (os.getpgrp(), os.getsid(0), process.pid)]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_descriptor_that_is_closed_is_closed_for_the_child_too(runner, tmp_path, closed):
    # What the child leaves is found by its own means: it may have no stdout.
    look = f"ls /proc/self/fd > {tmp_path}/fds 7>&1; exit 5"
    bare = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", "sh", "-c", look])
    expected = (tmp_path / "fds").read_text()
    ours = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *runner.argv("sh", "-c", look)])
    assert (ours.returncode, (tmp_path / "fds").read_text()) == (bare.returncode, expected)
    outcome = runner.outcome()
    assert (outcome.stdout is None) == (">&-" in closed.replace("2>&-", ""))
    assert (outcome.stderr is None) == ("2>&-" in closed)
    assert outcome.cut is False


def test_nothing_of_ours_lands_on_a_closed_descriptor(runner, tools):
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *runner.argv("sh", "-c", "exit 9")])
    outcome = runner.outcome()
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (9, None, None)
    assert outcome.standard == ["/dev/null"] * 3


@pytest.mark.parametrize("code", [0, 1, 42, 126, 127, 128, 255])
def test_the_exit_code_is_the_childs(runner, code):
    ran = runner.run("sh", "-c", f"exit {code}")
    assert (ran.exit_code, ran.signal, ran.started) == (code, None, True)


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "PIPE", "USR1", "HUP"])
def test_an_end_by_a_signal_is_128_and_its_number(runner, name):
    number = getattr(signal, "SIG" + name)
    ran = runner.run("sh", "-c", f"ulimit -c 0; kill -{name} $$")
    assert (ran.exit_code, ran.signal, ran.started) == (128 + number, number, True)


def test_times_and_memory_are_the_childs(runner, tools):
    ran = runner.run(*tools.python("x = bytearray(250_000_000); n = sum(range(2_000_000))"))
    assert ran.max_rss_kb > 240_000
    assert ran.user_seconds > 0.005
    assert 0 < ran.seconds < 60
    assert 0 < ran.end_ns - ran.start_ns < 60e9


@pytest.mark.parametrize("broken", [(), ("pidfd",), ("log",), ("close",), ("pidfd", "sigwaitinfo")], ids=repr)
def test_what_is_missing_here_costs_the_command_nothing(runner, broken):
    ran = runner.run("sh", "-c", "echo out; echo err >&2; exit 3", broken=broken)
    assert (ran.out, ran.err, ran.returncode) == (b"out\n", b"err\n", 3)
    assert ran.cut == ("log" in broken or "close" in broken)
    assert ran.stdout == (None if ran.cut else b"out\n")


def test_a_parent_that_ignores_the_end_of_children_does_not_hide_the_exit_code(runner):
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)}
    assert runner.run("sh", "-c", "exit 7", popen=ignore).exit_code == 7


# ---------------------------------------------------------------- signals

# Says which signals it gets, and ends with their number when told to.
COUNTER = """
got = 0
for event in events(*{names!r}):
    if event in (b"", b"q"):
        os._exit(got)
    if isinstance(event, int):
        got += 1
        os.write(1, b"got %d\\n" % event)
"""


def counter(tools, *names):
    return tools.waiting(COUNTER.format(names=names))


@pytest.mark.parametrize(
    "name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH"]
)
@pytest.mark.parametrize("broken", [(), ("pidfd", "sigwaitinfo")], ids=["linux", "portable"])
def test_a_signal_to_us_reaches_the_child_once_each_time(runner, tools, name, broken):
    process = runner.start(*counter(tools, name), broken=broken)
    assert process.stdout.readline() == b"ready\n"
    for _ in range(3):
        process.send_signal(getattr(signal, name))
        assert process.stdout.readline() == b"got %d\n" % getattr(signal, name)
    process.stdin.write(b"q")
    out, _ = process.communicate()
    assert (out, process.returncode) == (b"", 3)


def test_a_signal_that_ends_the_child_ends_us_after_it(runner, tools):
    process = runner.start(*tools.python("import os, signal; os.write(1, b'ready\\n'); signal.pause()"))
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    outcome = runner.outcome()
    assert (outcome.signal, outcome.stdout) == (signal.SIGTERM, b"ready\n")


def test_we_wait_for_a_child_that_takes_its_time_to_end(runner, tools):
    code = """
for event in events("SIGTERM", "SIGINT"):
    if event == b"":
        os.write(1, b"clean\\n")
        os._exit(11)
    os.write(1, b"cleaning up\\n")
"""
    process = runner.start(*tools.waiting(code))
    assert process.stdout.readline() == b"ready\n"
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        assert process.stdout.readline() == b"cleaning up\n"
    process.stdin.close()
    assert process.wait() == 11
    assert runner.outcome().stdout == b"ready\ncleaning up\ncleaning up\nclean\n"


def test_what_was_ignored_at_our_start_is_ignored_by_us_and_not_passed_on(runner, tools):
    nohup = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = runner.start(*counter(tools, "SIGHUP", "SIGUSR1"), popen=nohup)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == b"got %d\n" % signal.SIGUSR1
    process.stdin.write(b"q")
    assert process.communicate()[0] == b""
    assert process.returncode == 1


def test_a_signal_that_came_before_the_child_was_made_waits_for_it(runner, tools):
    # Blocked by whoever started us and already pending: it must neither be lost nor end us.
    def pending():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)

    code = "import signal; print(signal.sigwait([signal.SIGTERM]))"
    ran = runner.run(*tools.python(code), popen={"preexec_fn": pending})
    assert (ran.out, ran.returncode) == (b"%d\n" % signal.SIGTERM, 0)


@pytest.mark.parametrize("last", [True, False])
def test_a_signal_after_the_childs_end_ends_us(runner, tools, tmp_path, last):
    os.mkfifo(tmp_path / "stay")
    process = runner.start("sh", "-c", "exit 6", last=last, stay=str(tmp_path / "stay"), spool_dir=None)
    tools.eventually(runner.report.exists)
    process.terminate()
    # Recording may be cut short; what the command answered may not.
    assert process.wait() == (6 if last else -signal.SIGTERM)


@pytest.mark.parametrize("last", [True, False])
def test_a_signal_ends_us_when_the_child_has_ended_but_nobody_takes_its_output(runner, tools, last):
    code = "import os; os.write(1, bytes(120_000)); os.read(0, 1); os._exit(6)"
    process = runner.start(*tools.python(code), last=last)
    # 64 KiB are in our stdout, the rest can't be passed on, and the child is gone.
    tools.eventually(lambda: tools.children_of(process.pid))
    process.stdin.close()
    tools.eventually(lambda: not tools.children_of(process.pid))

    def ended():
        process.terminate()
        return process.poll() is not None

    tools.eventually(ended)
    assert process.returncode == (6 if last else -signal.SIGTERM)


def test_nothing_of_ours_is_left_open_or_running(runner):
    ran = runner.run("sh", "-c", "echo out; echo err >&2")
    assert ran.fds_left == [fd for fd in ran.fds_left if fd == ran.fds_left[0]]


def test_several_commands_run_one_after_the_other_in_one_process(runner, tools):
    code = f"""
import os, sys, time
sys.path.insert(0, {str(tools.source)!r})
from capsula.execute.process import run_command
before = sorted(os.listdir("/proc/self/fd")), sorted(os.listdir("/proc/self/task"))
codes = [run_command(("sh", "-c", f"echo {{n}}; exit {{n}}"), dict(os.environb), spool_dir=None).exit_code
         for n in range(5)]
# A thread that has said its last word is still seen for a moment.
for _ in range(6000):
    after = sorted(os.listdir("/proc/self/fd")), sorted(os.listdir("/proc/self/task"))
    if after == before:
        break
    time.sleep(0.01)
assert codes == [0, 1, 2, 3, 4], codes
assert before == after, (before, after)
try:
    os.kill(os.getpid(), 2)
    os.read(0, 1)
except KeyboardInterrupt:
    print("as before")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, stdin=subprocess.PIPE)
    assert (ran.stdout, ran.stderr) == (b"0\n1\n2\n3\n4\nas before\n", b"")


@pytest.mark.parametrize("reader", ["there", "gone"])
def test_a_stream_that_is_always_full_is_read_in_larger_pieces_and_comes_whole(runner, tools, reader):
    code = "import os\nfor n in range(40): os.write(1, bytes([n]) * 500_000)"
    process = runner.start(*tools.python(code), popen={"stdin": subprocess.DEVNULL})
    expected = b"".join(bytes([n]) * 500_000 for n in range(40))
    if reader == "gone":
        process.stdout.close()
        process.stdout = None
    out, err = process.communicate(timeout=200)
    done = runner.outcome()
    assert (process.returncode, err, done.stdout_size) == (0, b"", len(expected))
    assert out == (expected if reader == "there" else None)
    assert done.stdout == expected[: 1 << 20]
