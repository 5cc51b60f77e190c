"""`capsula monitor` beside a command: as if it weren't there, whatever happens to either of them, and what it saw."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from recorded import Recorded

PATIENCE = 200
# Until a signal comes. A shell that is about to `read` may miss it and wait for ever, one that waits for a child not.
WAIT = 'exec 3<> "$GO"; cat <&3 > /dev/null 2>&1 & echo > "$STARTED"; wait'


class Monitored(Recorded):
    """A project with little to capture, and commands that wait for a word: `started()` returns when the command runs,
    `go()` lets it go on."""

    def __init__(self, ws) -> None:
        self.ws, self.root = ws, ws.root
        ws.write("capsula.toml", "[monitor]\ncapture = false\n")
        self._started, self._go = ws.fifo("started"), ws.fifo("go")

    def argv(self, do: str, *options: str) -> list[str]:
        return ["capsula", "monitor", *options, "sh", "-c", do]

    def run(self, do: str, *options: str, **popen):
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        if "input" in popen:
            del popen["stdin"]
        return subprocess.run(
            self.argv(do, *options), cwd=self.ws.root, env=self.ws.environ, timeout=PATIENCE, **popen
        )

    def start(self, do: str, *options: str, **popen):
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        process = subprocess.Popen(
            self.argv(do, "-q", *options), cwd=self.ws.root, env=self.ws.environ, **popen
        )
        self.ws.started.append(process)
        return process

    def started(self) -> None:
        assert self._started.read_text() == "\n"

    def go(self) -> None:
        self._go.write_text("\n")


@pytest.fixture
def monitored(ws):
    return Monitored(ws)


# ---------------------------------------------------------------------------------------------------- resources


def test_what_the_whole_tree_used_is_recorded(monitored):
    # How often it is looked at depends on what a look costs, and that on how much runs on the machine.
    for seconds in (2, 12, 60):
        used = run_the_tree(monitored, seconds)
        if used["peak_memory"] >= 160 << 20:
            break
    record = monitored.read()
    assert used["peak_memory"] >= 160 << 20
    assert used["largest_process"] < 160 << 20
    assert record["peak_memory"] == used["peak_memory"]
    assert used["written"] >= 5_000_000
    assert used["read"] >= 5_000_000
    assert used["processes"] >= 3
    assert 0 < used["user_seconds"] + used["system_seconds"] == pytest.approx(record["cpu_seconds"])
    assert used["unknown"] == []
    samples = monitored.read("samples.json")
    assert {len(column) for column in samples.values()} == {used["samples"]}
    assert max(samples["rss"]) == used["peak_memory"] or used["largest_process"] == used["peak_memory"]
    assert samples["written"][-1] == used["written"]
    assert used["sampling_seconds"] > 0


def run_the_tree(monitored, seconds):
    """Two processes with 80 MiB each, together for so long, in one run; what was recorded of it."""
    hold = "x = bytearray(80 << 20); open('ready', 'a').write('1')"
    wait = "while len(open('ready').read()) < 2: pass"
    stay = f"end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: time.sleep(0.01)"
    code = f"import time\n{hold}\n{wait}\n{stay}"
    monitored.ws.write("hold.py", code)
    monitored.ws.write("ready")
    done = monitored.run(
        f"{sys.executable} -S hold.py & {sys.executable} -S hold.py & wait; head -c 5000000 /dev/zero"
    )
    assert done.returncode == 0, done
    return monitored.read("post-run-info.json")["resources"]


def test_a_short_command_has_its_numbers_too(monitored):
    assert monitored.run("exit 3").returncode == 3
    used = monitored.read("post-run-info.json")["resources"]
    assert used["samples"] >= 1
    assert used["largest_process"] is None
    assert used["samples"] >= 3 or used["peak_memory"] is None
    assert "of the recorder" in used["unknown"][0]


@pytest.mark.parametrize("options", [(), ("--cache", "--input", "capsula.toml")])
def test_output_that_finds_no_room_is_a_failure(monitored, options):
    for end, code in (0, 1), (7, 7):
        with open("/dev/full", "wb") as full:
            done = monitored.run(f"seq 9999; exit {end}", "-q", *options, stdout=full)
        assert done.returncode == code
        assert done.stderr.decode().count("could be written: No space left on device") == 1
        notes = monitored.read("post-run-info.json")["notes"]
        assert [note for note in notes if "No space left on device" in note]


def test_where_the_directory_was_removed_the_command_runs(monitored):
    place = monitored.ws.root / "gone"
    place.mkdir()
    do = 'rmdir "$PWD"; exec capsula monitor sh -c "echo told; exit 3"'
    done = subprocess.run(
        ["sh", "-c", do], cwd=place, env=monitored.ws.environ, capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (3, b"told\n")
    assert b"not recorded: there is no current directory" in done.stderr


def test_inputs_are_hashed_before_the_run_and_files_after_it(monitored):
    monitored.ws.write(
        "capsula.toml",
        "[monitor]\ncapture = false\n"
        "[monitor.item.x.inputs]\n'data' = 'sha256'\n[monitor.item.x.files]\n'data' = 'sha256'\n",
    )
    monitored.ws.write("data", "before")
    assert monitored.run("printf after > data", "-i", "x").returncode == 0
    import hashlib

    for name, section, content in (
        ("pre-run-info.json", "inputs", b"before"),
        ("post-run-info.json", "files", b"after"),
    ):
        assert monitored.read(name)[section]["data"]["file_hash"] == hashlib.sha256(content).hexdigest()


def test_a_run_within_a_run_names_its_parent(monitored):
    inner = "capsula monitor -q sh -c 'echo inner'"
    assert monitored.run(f"{inner}; capsule -i capsula.toml -- {inner}").stdout == b"inner\ninner\n"
    outer, first, second = (monitored.read(at=at) for at in range(3))
    assert outer["parent"] is None
    assert first["parent"] == second["parent"] == outer["id"]
    assert monitored.read("post-run-info.json", 0)["stdout"] == "inner\ninner\n"


# ---------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT"])
def test_a_signal_reaches_the_command_once_and_its_own_end_counts(monitored, name):
    do = f"trap 'kill $!; echo got {name}; exit 9' {name}; {WAIT}"
    process = monitored.start(do)
    monitored.started()
    process.send_signal(getattr(signal, f"SIG{name}"))
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (9, f"got {name}\n".encode(), b"")
    record, after = monitored.read(), monitored.read("post-run-info.json")
    assert (record["status"], record["exit_code"]) == ("interrupted", 9)
    assert (after["interrupted_by"], after["signal"]) == (getattr(signal, f"SIG{name}"), None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_command_that_a_signal_ends_is_recorded_as_interrupted(monitored, number):
    process = monitored.start('ulimit -c 0; echo $$ > pid; exec 3<> "$GO"; echo > "$STARTED"; read _ <&3')
    monitored.started()
    process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    record, after = monitored.read(), monitored.read("post-run-info.json")
    assert (record["status"], record["exit_code"], after["signal"]) == ("interrupted", 128 + number, number)
    with pytest.raises(ProcessLookupError):
        os.kill(int(monitored.ws.read("pid")), 0)


def test_a_command_that_lives_through_one_interrupt_gets_the_second(monitored):
    do = (
        "n=0; trap 'n=$((n + 1)); echo got $n; [ $n = 2 ] && { kill $!; exit 7; }' INT;"
        f" {WAIT}; while :; do wait; done"
    )
    process = monitored.start(do)
    monitored.started()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"got 1\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"got 2\n"
    assert process.wait(PATIENCE) == 7
    assert (monitored.read()["status"], monitored.read()["exit_code"]) == ("interrupted", 7)


SLOW = "[monitor]\ncapture = false\n[monitor.item.slow.files]\n'large' = 'sha256'\n"


def sealing(monitored, do: str, size: int):
    """A run whose command has ended, and whose record takes time: a file of its item is large (and sparse)."""
    monitored.ws.write("capsula.toml", SLOW)
    os.truncate(monitored.ws.write("large"), size)
    process = monitored.start(do, "-i", "slow")
    assert process.stdout.read() == b"told\n", "stdout is closed for its reader when the command has ended"
    time.sleep(0.1)  # a signal that comes sooner may be the one that has ended the command
    return process


def test_a_signal_while_the_record_is_sealed_is_waited_for_and_the_second_is_not(monitored):
    process = sealing(monitored, "echo told; exit 4", 1 << 43)
    process.send_signal(signal.SIGINT)
    assert (
        process.stderr.readline()
        == b"capsula: the record is being sealed; once more, and it is left as it is\n"
    )
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 4
    record = monitored.read()
    assert (record["status"], record["exit_code"]) == ("failed", 4)
    assert "a signal came twice" in record["troubles"][0]
    assert "files" not in record


def test_one_signal_while_the_record_is_sealed_does_not_lose_it(monitored):
    process = sealing(monitored, "echo told", 1 << 43)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith(b"capsula: the record is being sealed")
    os.truncate(monitored.ws.path("large"), 0)
    assert process.wait(PATIENCE) == 0
    assert monitored.read()["status"] == "finished"
    assert monitored.read("post-run-info.json")["files"]["large"]["file_hash"] is not None


def test_a_killed_recorder_leaves_the_command_and_what_it_does_unharmed(monitored):
    process = monitored.start(
        'echo $$ > pid; echo > "$STARTED"; read _ < "$GO"; echo done > result; echo > "$STARTED"'
    )
    monitored.started()
    process.kill()
    process.wait()
    monitored.go()
    monitored.started()
    assert monitored.ws.read("result") == "done\n"
    assert monitored.read()["status"] == "running"


def test_a_killed_recorder_leaves_no_credential_behind(monitored):
    """A log is on the disk as it is printed, until the credentials are left out of it."""
    process = monitored.start(
        'i=0; while [ $i -lt 9000 ]; do echo "TOKEN=canary-7c1e $i ................"; i=$((i + 1)); done;'
        ' echo > "$STARTED"; read _ < "$GO"',
        stdout=subprocess.PIPE,
    )
    seen = b""
    while not seen.endswith(b"canary-7c1e 8999 ................\n"):
        piece = os.read(process.stdout.fileno(), 1 << 16)
        assert piece, seen[-100:]
        seen += piece
    monitored.started()
    process.kill()
    process.wait()
    monitored.go()
    (capsule,) = monitored.capsules()
    written = [path for path in capsule.rglob("*") if path.is_file()]
    assert [path for path in written if b"canary-7c1e" in path.read_bytes()] == []


# ---------------------------------------------------------------------------------------------------- terminals


class Screen:
    """A terminal of its own for a session that a shell with job control leads, as people have it."""

    def __init__(self, monitored) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 111, 0, 0))
        self.process = subprocess.Popen(
            ["sh", "-i"],
            cwd=monitored.ws.root, env={**monitored.ws.environ, "PS1": "", "PS2": "", "ENV": ""},
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  no threads here
        )  # fmt: skip
        monitored.ws.started.append(self.process)
        os.close(slave)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, (text, self.seen)
            self.seen += os.read(self.master, 4096)
        self.seen = self.seen.partition(text.encode())[2]

    def close(self) -> None:
        # With the leader of the session, the terminal hangs up on all that still run on it.
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def until_stopped(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, f"{pid} doesn't stop"
        time.sleep(0.002)


@pytest.fixture
def screen(monitored):
    made = Screen(monitored)
    yield made
    made.close()


def test_a_terminal_stays_a_terminal(monitored, screen):
    monitored.ws.write(
        "look.sh", "test -t 0 && test -t 1 && test -t 2 && stty size <&1 && tty <&0 && echo 'at''end'"
    )
    screen.type("capsula monitor -q sh look.sh\n")
    screen.wait_for("33 111")
    screen.wait_for("/dev/pts/")
    screen.wait_for("atend")


def test_ctrl_c_is_the_command_s_own_and_recorded_as_an_interrupt(monitored, screen):
    monitored.ws.write(
        "stay.sh", "trap 'kill $!; echo n''o; exit 5' INT; sleep 600 >&- 2>&- & echo be''gun; wait"
    )
    screen.type("capsula monitor -q sh stay.sh; echo it was $?\n")
    screen.wait_for("begun")
    screen.type("\x03")
    screen.wait_for("no")
    screen.wait_for("it was 5")
    record = monitored.read()
    assert (record["status"], record["exit_code"]) == ("interrupted", 5)
    assert monitored.read("post-run-info.json")["interrupted_by"] == signal.SIGINT


def test_ctrl_z_stops_both_and_fg_goes_on(monitored, screen):
    monitored.ws.write("stay.sh", "echo $$ > pid; echo be''gun; read word; echo got $word")
    screen.type("capsula monitor -q sh stay.sh\n")
    screen.wait_for("begun")
    screen.type("\x1a")
    screen.wait_for("Stopped")
    # The shell waits for its own child only: until the command has stopped, too, it takes what is typed.
    until_stopped(int(monitored.ws.read("pid")))
    screen.type("echo back in the sh''ell; fg\n")
    screen.wait_for("back in the shell")
    screen.wait_for("capsula monitor")
    screen.type("typed\n")
    screen.wait_for("got typed")
    screen.type("echo en''ded\n")
    screen.wait_for("ended")
    assert monitored.read()["status"] == "finished"


# ---------------------------------------------------------------------------------------------------- streams


def test_stdin_is_the_command_s_own(monitored):
    assert monitored.run("cat", input=b"typed \xff\n").stdout == b"typed \xff\n"
    assert (monitored.capsules()[0] / "stdout.txt").read_bytes() == b"typed \xff\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_closed_for_the_command_too(monitored, closed):
    do = "open=; for n in 0 1 2; do test -e /proc/$$/fd/$n && open=$open$n; done; echo $open > open"
    words = " ".join(["capsula", "monitor", "-q", "sh", "-c", f"'{do}'", closed])
    done = subprocess.run(
        ["sh", "-c", words], cwd=monitored.ws.root, env=monitored.ws.environ, timeout=PATIENCE
    )
    assert done.returncode == 0
    signs = {"0": "<&-", "1": ">&-", "2": "2>&-"}
    left = "".join([number for number, sign in signs.items() if sign not in closed.split()])
    assert monitored.ws.read("open") == f"{left}\n"
    assert monitored.read()["status"] == "finished"


def test_a_reader_that_leaves_early_ends_the_command_as_it_would_without_us(monitored):
    words = "capsula monitor -q yes | head -n 1"
    done = subprocess.run(
        ["sh", "-c", words],
        cwd=monitored.ws.root,
        env=monitored.ws.environ,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == (b"y\n", b"")
    record = monitored.read()
    assert (record["status"], record["exit_code"]) == ("failed", 128 + signal.SIGPIPE)


def test_a_long_log_is_kept_whole(monitored):
    done = monitored.run("yes | head -c 3000000; yes n | head -c 2000000 >&2", "-q")
    capsule = monitored.capsules()[0]
    assert (capsule / "stdout.txt").read_bytes() == done.stdout == b"y\n" * 1_500_000
    assert (capsule / "stderr.txt").read_bytes() == done.stderr == b"n\n" * 1_000_000
    assert sum(count for _, count in monitored.read("post-run-info.json")["order"]) == 5_000_000
    left = {path.name for path in capsule.iterdir()}
    assert left == {
        "capsule.json", "post-run-info.json", "pre-run-info.json", "samples.json", "stdout.txt", "stderr.txt",
    }  # fmt: skip


def test_of_a_long_log_with_a_credential_nothing_else_is_left_out(monitored):
    word = "x9canary7canary7"
    monitored.ws.environ["MY_TOKEN"] = word
    done = monitored.run('yes | head -c 1000000; echo "it is $MY_TOKEN"; yes | head -c 1000000', "-q")
    assert word.encode() in done.stdout
    assert (monitored.capsules()[0] / "stdout.txt").read_bytes() == done.stdout.replace(word.encode(), b"***")
    assert not any(word.encode() in path.read_bytes() for path in monitored.capsules()[0].iterdir())


def test_a_vault_without_room_for_the_log_costs_the_log_alone(monitored):
    """A limit on the size of files stands for the full disk: the command has raised it again for itself."""
    do = "ulimit -f unlimited; yes | head -c 3000000; echo told >&2; exit 6"
    words = ["sh", "-c", 'ulimit -S -f 1000; exec "$@"', "sh", *monitored.argv(do)]
    done = subprocess.run(
        words, cwd=monitored.ws.root, env=monitored.ws.environ, capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (6, b"y\n" * 1_500_000)
    assert done.stderr.startswith(b"told\ncapsula: stdout: its log can't be kept: ")
    after = monitored.read("post-run-info.json")
    assert (after["exit_code"], after["stdout"], after["stderr"]) == (6, None, "told\n")
    assert "its log can't be kept" in after["notes"][0]


def test_a_vault_that_goes_away_while_the_command_runs_does_not_harm_it(monitored):
    process = monitored.start('echo told; echo > "$STARTED"; read _ < "$GO"; echo more; exit 6')
    monitored.started()
    shutil.rmtree(monitored.ws.path("vault"))
    monitored.go()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (6, b"told\nmore\n")
    assert b"capsula: can't " in err


def test_where_the_command_removes_the_vault_nothing_is_said_to_be_in_it(monitored):
    done = monitored.run("rm -rf vault; exit 4")
    assert done.returncode == 4
    assert b"capsula: can't seal the capsule" in done.stderr
    assert b"recorded in" not in done.stderr


def test_of_a_log_that_is_too_long_beginning_and_end_are_kept(project):
    project.write("capsula.toml", '[capture]\ninclude-cpu = false\n[monitor]\nlog-limit = "10KiB"\n')
    done = project.monitor("-q", "seq", "100000")
    assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 100001))
    log = (project.capsules()[-1] / "stdout.txt").read_bytes()
    assert log.startswith(b"1\n2\n3\n")
    assert log.endswith(b"\n99999\n100000\n")
    assert b"bytes are left out here]" in log
    assert len(log) < 11000
    notes = project.read("post-run-info.json")["notes"]
    assert any(note.startswith("stdout: ") and "log-limit" in note for note in notes)
    project.write("capsula.toml", "[capture]\ninclude-cpu = false\n[monitor]\nlog-limit = 0\n")
    project.monitor("-q", "seq", "100000")
    assert (project.capsules()[-1] / "stdout.txt").read_bytes() == done.stdout
    project.write("capsula.toml", '[monitor]\nlog-limit = "much"\n')
    refused = project.monitor("true")
    assert refused.returncode == 2
    assert b"log-limit" in refused.stderr
