"""As if we weren't there: exit codes, signals, stdin, closed pipes and descriptors, terminals."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import pytest

COPY = ("-i", "in", "-o", "out")
DO = "cat in > out"
# Until a signal comes. A shell that is about to `read` may miss it and wait for ever, one that waits for a child not.
WAIT = 'exec 3<> "$GO"; cat <&3 > /dev/null 2>&1 & echo > "$STARTED"; wait'


@pytest.fixture
def gates(ws):
    """`started()` returns when the command runs; `$GO` is a pipe that nobody writes to."""
    started = ws.fifo("started")
    ws.fifo("go")
    ws.write("in", "one")
    return started.read_text


# ---------------------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize("code", [0, 1, 2, 100, 125, 126, 127, 128, 200, 255])
def test_the_exit_code_is_the_command_s_own(ws, code):
    ws.write("in")
    for _ in range(2):
        done = ws.capsule("--cache_failure", "-i", "in", do=f"exit {code}")
        assert (done.code, done.err) == (code, "")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGINT]
)
def test_a_command_killed_by_a_signal_is_128_and_the_number(ws, number):
    ws.write("in")
    done = ws.capsule("-i", "in", do=f"kill -{number:d} $$")
    assert (done.ran, done.code) == (1, 128 + number)
    assert ws.entries() == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("no-such-command",), 127),
        (("./missing",), 127),
        (("./plain",), 126),
        (("./dir",), 126),
        (("in/below",), 126),
        (("./no-interpreter",), 127),
        (("",), 127),
    ],
)
def test_a_command_that_can_t_start_ends_as_in_a_shell(ws, command, code):
    ws.write("in")
    ws.write("plain", "no program", mode=0o644)
    ws.path("dir").mkdir()
    ws.write("no-interpreter", "#!/no/such/interpreter\n", mode=0o755)
    for options in ("-i", "in"), ("-i", "nothing"), ("--passive",):
        done = ws.capsule(*options, command=command)
        # A path below a file is "not a directory", which shells call 126 or 127.
        assert done.code in ((126, 127) if command == ("in/below",) else (code,)), done
        assert done.says(command[0])
        assert len(done.said) == (2 if options[1:] == ("nothing",) else 1)
    assert ws.entries() == []


def test_a_script_without_an_interpreter_line_runs(ws):
    ws.write("in")
    ws.write("script", 'echo "ran $1"\n', mode=0o755)
    assert ws.capsule("-i", "in", command=("./script", "x")).out == "ran x\n"


# ---------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1"])
def test_a_signal_that_is_sent_to_us_reaches_the_command_once(ws, gates, name):
    do = f"trap 'kill $!; echo got {name}; exit 9' {name}; {WAIT}"
    process = ws.start(*COPY, do=do)
    gates()
    process.send_signal(getattr(signal, f"SIG{name}"))
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out, err) == (9, f"got {name}\n".encode(), b"")
    assert ws.marks() == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_command_that_a_signal_ends_is_not_orphaned_or_run_again(ws, gates, number):
    process = ws.start(*COPY, do='ulimit -c 0; echo $$ > pid; exec 3<> "$GO"; echo > "$STARTED"; read _ <&3')
    gates()
    process.send_signal(number)
    assert process.wait(200) == 128 + number
    assert (process.stderr.read(), ws.marks()) == (b"", 1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ws.read("pid")), 0)


@pytest.mark.parametrize("code", [0, 7])
def test_what_an_interrupted_command_made_is_not_kept(ws, gates, code):
    do = f"trap 'kill $!; echo half > out; exit {code}' INT; {WAIT}"
    process = ws.start("--cache_failure", *COPY, do=do)
    gates()
    process.send_signal(signal.SIGINT)
    assert process.wait(200) == code
    assert (
        process.stderr.read() == b"capsule: the result is not cached: the run was interrupted by signal 2\n"
    )
    assert ws.entries() == []


def test_signals_that_were_ignored_stay_ignored_and_others_have_their_defaults(ws):
    ws.write("in")
    script = "trap '' HUP USR1; exec \"$@\""
    show = ("sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status")
    alone = signal_sets(
        subprocess.run(["sh", "-c", script, "sh", *show], capture_output=True, text=True).stdout
    )
    ws.prefix = ("sh", "-c", script, "sh")
    for options in ("-i", "in"), ("--no_such_option",), ("-b", "dummy", "-i", "in"):
        assert signal_sets(ws.capsule(*options, command=show).out) == alone


def signal_sets(status):
    # Without 32 and 33, which the C library keeps for itself.
    return [int(line.split()[1], 16) & 0x7FFFFFFF for line in status.splitlines()]


# ---------------------------------------------------------------------------------------------------- streams


def test_stdin_is_passed_on(ws):
    ws.write("in", "one")
    assert ws.capsule(*COPY, do=f"{DO}; cat", stdin=b"typed \xff\n").out == "typed \udcff\n"


def test_a_regular_file_on_stdin_is_read_on_from_where_it_stood(ws):
    ws.write("in", "one")
    with ws.write("../typed", "first\nsecond\n").open("rb", buffering=0) as stdin:
        assert stdin.read(6) == b"first\n"
        assert ws.capsule(*COPY, do=f"{DO}; cat", stdin=stdin).out == "second\n"
        assert stdin.read() == b"", "the command has read it, with the same offset"


def test_output_comes_at_once(ws, gates):
    process = ws.start(*COPY, do='echo first; echo second >&2; read _ < "$GO"; cat in > out')
    assert process.stdout.readline() == b"first\n"
    assert process.stderr.readline() == b"second\n"
    (ws.base / "go").write_text("\n")
    assert process.wait(200) == 0


def test_a_reader_that_leaves_early_does_not_lose_the_result(ws, gates):
    do = 'echo first; read _ < "$GO"; yes | head -c 300000; cat in > out'
    process = ws.start(*COPY, do=do)
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    (ws.base / "go").write_text("\n")
    assert (process.wait(200), process.stderr.read()) == (0, b"")
    ws.path("out").unlink()
    done = ws.capsule(*COPY, do=do)
    assert (done.ran, len(done.out), ws.read("out")) == (0, 300_006, "one")


@pytest.mark.parametrize("words", ["echo told", "echo told >&2", "seq 9999"])
def test_output_that_finds_no_room_is_a_failure(ws, first, words):
    ws.write("in")
    options = ("--cache_failure", "-i", "in")
    stream = "stderr" if "2" in words else "stdout"
    for end, code in (0, 1), (7, 7):
        do = f"{words}; exit {end}"
        first(*options, do=do)
        with open("/dev/full", "wb") as full:
            hit = ws.capsule(*options, do=do, **{stream: full})
            miss = ws.capsule(*options, "-t", "new", do=do, **{stream: full})
        assert (hit.ran, hit.code, miss.ran, miss.code) == (0, code, 1, code)
        if stream == "stdout":
            assert (
                hit.said
                == miss.said
                == ["not all of the command's output could be written: No space left on device"]
            )


def test_a_hit_into_a_pipe_that_nobody_reads_is_a_hit(ws, first):
    ws.write("in", "one")
    do = f"{DO}; yes | head -c 60000; echo end >&2"
    first(*COPY, do=do)
    reading, writing = os.pipe()
    os.close(reading)
    done = ws.capsule(*COPY, do=do, stdout=writing)
    os.close(writing)
    assert (done.ran, done.code, done.err) == (0, 0, "end\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_closed_for_the_command_too(ws, closed):
    ws.write("in", "one")
    do = f'{DO}; open=; for n in 0 1 2; do test -e /proc/$$/fd/$n && open="$open$n"; done; echo $open > open'
    signs = {"0": "<&-", "1": ">&-", "2": "2>&-"}
    left = "".join([number for number, sign in signs.items() if sign not in closed.split()])
    plain = ws.capsule(*COPY, do=do)
    assert (plain.ran, ws.read("open")) == (1, "012\n")

    ws.prefix = ("sh", "-c", f'exec "$@" {closed}', "sh")
    ws.path("out").unlink()
    assert ws.capsule(*COPY, do=do).ran == 0, "a hit needs no descriptors"
    assert ws.read("out") == "one"
    for options in ("-t", closed), ("-i", "nothing"), ("--no_such_option",), ("-b", "dummy"):
        done = ws.capsule(*options, *COPY, do=do)
        assert (done.ran, done.code, ws.read("open")) == (1, 0, f"{left}\n")
    quiet = ("--no_capture_stdout", "--no_capture_stderr", *COPY)
    assert [ws.capsule(*quiet, do=do).ran for _ in range(2)] == [1, 0]
    done = ws.capsule("-t", closed, *COPY, do=do)
    assert done.ran == (closed != "<&-"), "a log that could not be captured isn't stored as an empty one"


def test_further_descriptors_are_passed_on(ws):
    ws.write("in")
    ws.prefix = ("sh", "-c", 'exec "$@" 7> through', "sh")
    assert ws.capsule("-i", "in", do="echo told >&7").err == ""
    assert ws.read("through") == "told\n"


def test_a_background_process_that_keeps_the_output_open_holds_nobody_up(ws, gates):
    do = '{ read _ < "$GO"; echo late; } & cat in > out; echo told; echo > "$STARTED"'
    process = ws.start(*COPY, do=do)
    gates()
    assert process.stdout.readline() == b"told\n"
    assert process.wait(200) == 0
    assert b"not cached" in process.stderr.readline()
    (ws.base / "go").write_text("\n")
    assert process.stdout.read() == b"late\n"
    assert ws.entries() == []


def test_the_environment_is_the_caller_s(ws):
    ws.write("in")
    odd = {"A": "1", "EMPTY": "", "lower": "x", "LC_ALL": None}
    alone = subprocess.run(["env", "-0"], env=ws.environ_with(odd), capture_output=True).stdout
    done = ws.capsule("-i", "in", command=("env", "-0"), env=odd)
    added = set(done.out.split("\0")) - set(alone.decode().split("\0"))
    assert {row.partition("=")[0] for row in added} <= {"CAPSULE_INPUTS_HASH", "PWD", "OLDPWD", "SHLVL", "_"}
    assert set(alone.decode().split("\0")) <= set(done.out.split("\0"))


@pytest.mark.parametrize(
    "program", [("capsule",), (sys.executable, "-m", "capsula")], ids=["capsule", "module"]
)
def test_the_modules_of_a_project_are_not_taken_for_ours(ws, program):
    ws.write("in")
    for name in ("capsula", "json", "select", "stat", "tomllib", "unicodedata", "zlib"):
        ws.write(f"{name}.py", "raise SystemExit('a module of the project')")
    ws.write("Capsule.toml", 'input = "in"\n')
    env = {"PYTHONPATH": str(ws.root)}
    if program != ("capsule",):
        ws.path("capsula.py").unlink()  # this is what Python was asked for
    for ran in (1, 0):
        report = ws.base / f"report{ran}.json"
        words = [*program, "--json", str(report), "--", "sh", "-c", 'echo "$PYTHONPATH"']
        done = subprocess.run(words, cwd=ws.root, env={**ws.environ, **env}, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{ws.root}\n", "")
        assert json.loads(report.read_text())["ran"] is bool(ran)


def test_the_modules_of_a_project_are_not_taken_for_those_of_the_tool(ws):
    for name in ("capsula", "argparse", "json", "re", "shutil"):
        ws.write(f"{name}.py", "raise SystemExit('a module of the project')")
    ws.environ["PYTHONPATH"] = str(ws.root)
    done = ws.tool("monitor", "-q", "sh", "-c", 'echo "$PYTHONPATH"')
    assert (done.code, done.out) == (0, f"{ws.root}\n"), done
    assert ws.tool("history").code == 0


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o007])
def test_the_umask_is_the_caller_s(ws, mask):
    ws.write("in")
    assert ws.capsule("-i", "in", do="umask", umask=mask).out == f"{mask:04o}\n"


# ---------------------------------------------------------------------------------------------------- terminals


def on_a_terminal(ws, *options, do):
    """What a user would see, and the exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 111, 0, 0))
    process = ws.start(
        *options, do=do, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    seen = b""
    try:
        while more := os.read(master, 4096):
            seen += more
    except OSError:  # the last one has closed it
        pass
    os.close(master)
    return seen.decode(), process.wait(200)


def test_a_terminal_stays_a_terminal(ws):
    ws.write("in", "one")
    do = "test -t 0 && test -t 1 && test -t 2 && stty size <&1 && tty <&0 && tty < /dev/tty"
    seen, code = on_a_terminal(ws, "-i", "in", do=do)
    assert code == 0
    assert seen.startswith("33 111\r\n/dev/pts/")


def test_what_a_terminal_showed_is_shown_again_and_a_pipe_gets_plain_newlines(ws):
    ws.write("in", "one")
    do = r"printf 'a\n\033[1mb\033[0m\n'; echo c >&2"
    ran, _ = on_a_terminal(ws, *COPY, do=f"{DO}; {do}")
    for _ in range(2):
        hit, code = on_a_terminal(ws, *COPY, do=f"{DO}; {do}")
        assert (hit, code, ws.marks()) == (ran, 0, 1)
    done = ws.capsule(*COPY, do=f"{DO}; {do}")
    assert (done.ran, done.out, done.err) == (0, "a\n\033[1mb\033[0m\n", "c\n")
