"""A terminal stays a terminal: its size, its modes, its keys, and what it makes of the output."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import pytest


class Screen:
    """A real pseudo-terminal that plays the user's: keys go in, and what would be seen comes out."""

    def __init__(self, runner):
        self.runner = runner
        self.master, self.slave = pty.openpty()
        self.seen = b""
        self.process = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, columns * 8, rows * 16))

    def start(self, *command, popen=None, argv=None, **options):
        """In a session of its own whose controlling terminal this is, as after a login."""
        streams = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, **(popen or {})}
        slave = self.slave
        self.process = subprocess.Popen(
            argv or self.runner.argv(*command, **options),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),  # noqa: PLW1509 — one thread
            pass_fds=[slave],
            **streams,
        )
        self.runner.started.append(self.process)
        return self.process

    def keys(self, keys):
        os.write(self.master, keys)

    def until(self, text):
        """What is on the screen when this has appeared."""
        while text not in self.seen:
            self.seen += os.read(self.master, 1000)
        shown, _, self.seen = self.seen.partition(text)
        return shown + text

    def modes(self):
        return termios.tcgetattr(self.master)

    def finish(self):
        """The outcome."""
        assert self.process.wait(200) is not None
        os.close(self.slave)
        self.slave = -1
        try:
            while more := os.read(self.master, 1000):
                self.seen += more
        except OSError:
            pass
        return self.runner.outcome(returncode=self.process.returncode)

    def hang_up(self):
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


@pytest.fixture
def screen(runner):
    screen = Screen(runner)
    yield screen
    screen.hang_up()


@pytest.mark.parametrize("terminals", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=repr)
def test_the_command_sees_a_terminal_where_there_is_one(screen, runner, tools, tmp_path, terminals):
    code = f"import os; open({str(tmp_path / 'found')!r}, 'w').write(repr([fd for fd in (0, 1, 2) if os.isatty(fd)]))"
    names = ("stdin", "stdout", "stderr")
    screen.start(
        *tools.python(code), popen={names[fd]: subprocess.DEVNULL for fd in {0, 1, 2}.difference(terminals)}
    )
    assert screen.finish().returncode == 0
    assert (tmp_path / "found").read_text() == repr(list(terminals))


def test_the_terminal_does_its_own_work_and_the_log_has_what_was_written(screen, tools):
    code = r"import os; os.write(1, b'one\n\ttwo\x00\xff\x1b[1m'); os.write(2, b'err\r\n\n')"
    screen.start(*tools.python(code))
    outcome = screen.finish()
    assert (outcome.stdout, outcome.stderr) == (b"one\n\ttwo\x00\xff\x1b[1m", b"err\r\n\n")
    assert sorted(screen.seen.split(b"err")) == sorted(
        [b"one\r\n\ttwo\x00\xff\x1b[1m", b"\r\r\n\r\n"],
    )
    assert (outcome.cut, outcome.left_open) == (False, False)


def test_a_long_output_to_a_terminal_is_whole(screen):
    screen.start("seq", "20000")
    screen.until(b"\r\n20000\r\n")
    outcome = screen.finish()
    assert outcome.stdout == b"".join(b"%d\n" % n for n in range(1, 20001))


def test_keys_reach_the_command_and_the_terminal_is_still_the_controlling_one(screen, tools):
    code = """
import os
tty = os.open("/dev/tty", os.O_RDWR)
same = os.tcgetpgrp(tty) == os.getpgrp() and os.fstat(0).st_rdev == os.stat(os.ttyname(0)).st_rdev
print("same" if same else "other", flush=True)
print("typed", input(), flush=True)
"""
    screen.start(*tools.python(code))
    screen.until(b"same\r\n")
    screen.keys(b"hello\r")
    assert screen.until(b"typed hello\r\n") == b"hello\r\ntyped hello\r\n"
    assert screen.finish().stdout == b"same\ntyped hello\n"


SIZE = """
for event in events("SIGWINCH"):
    if event == b"q":
        break
    os.write(1, b"size %d %d\\n" % os.get_terminal_size(2)[::-1])
"""


def test_the_window_has_its_size_and_changes_with_it(screen, tools):
    screen.resize(33, 77)
    screen.start(*tools.waiting(SIZE))
    screen.until(b"ready\r\n")
    screen.keys(b"?\r")
    screen.until(b"size 33 77\r\n")
    for rows, columns in ((40, 100), (41, 101)):
        screen.resize(rows, columns)
        screen.until(b"size %d %d\r\n" % (rows, columns))
    screen.keys(b"q\r")
    assert screen.finish().returncode == 0


def test_a_window_that_changes_is_no_matter_when_only_stdin_is_a_terminal(screen, runner, tools):
    process = screen.start(
        *tools.waiting(SIZE.replace("size(2)", "size(0)")),
        popen={"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
    )
    assert process.stdout.readline() == b"ready\n"
    screen.resize(40, 100)
    assert process.stdout.readline() == b"size 40 100\n"
    screen.keys(b"q\r")
    assert screen.finish().returncode == 0


def test_the_command_is_told_of_a_new_size_when_its_terminal_has_it(screen, runner, tools):
    # Not the controlling terminal, so the kernel tells nobody: what the child gets is from us. In a group of its own:
    # we tell all of our group, and in that of the tests another one may be counting such signals.
    popen = {"stdout": screen.slave, "stderr": screen.slave, "process_group": 0}
    process = runner.start(*tools.waiting(SIZE), popen=popen)
    screen.until(b"ready\r\n")
    screen.resize(50, 120)
    process.send_signal(signal.SIGWINCH)
    screen.until(b"size 50 120\r\n")
    process.send_signal(signal.SIGWINCH)  # somebody's own, with nothing new
    screen.until(b"size 50 120\r\n")
    process.stdin.write(b"q")
    process.stdin.close()
    assert process.wait() == 0


# ---------------------------------------------------------------- keys that are signals

COUNTER = """
got = 0
for event in events("SIGINT", "SIGQUIT", "SIGUSR1"):
    if event == b"q":
        os._exit(got)
    if isinstance(event, int):
        got += 1
        os.write(1, b"got %d\\n" % event)
"""


@pytest.mark.parametrize(("key", "number"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)])
def test_ctrl_c_reaches_the_command_once_each_time(screen, tools, key, number):
    process = screen.start(*tools.waiting(COUNTER))
    screen.until(b"ready\r\n")
    for _ in range(2):
        screen.keys(key)
        screen.until(b"got %d\r\n" % number)
        # What we would send, if we did, came before this.
        process.send_signal(signal.SIGUSR1)
        screen.until(b"got %d\r\n" % signal.SIGUSR1)
    screen.keys(b"q\r")
    assert screen.finish().returncode == 4


def test_ctrl_c_ends_a_command_that_lets_it(screen, tools):
    screen.start("sh", "-c", "echo ready; exec sleep 1000")
    screen.until(b"ready\r\n")
    screen.keys(b"\x03")
    outcome = screen.finish()
    assert (outcome.returncode, outcome.signal) == (130, signal.SIGINT)
    assert outcome.stdout == b"ready\n"


def test_the_last_words_after_ctrl_c_are_not_lost(screen, tools):
    code = """
for event in events("SIGINT"):
    os.write(1, b"x" * 30_000 + b"bye\\n")
    os._exit(3)
"""
    screen.start(*tools.waiting(code), last=True)
    screen.until(b"ready\r\n")
    screen.keys(b"\x03")
    screen.until(b"bye\r\n")
    outcome = screen.finish()
    assert (outcome.returncode, outcome.stdout[-5:]) == (3, b"xbye\n")


def test_a_terminal_that_hangs_up_ends_the_command(screen, tools):
    screen.start("sh", "-c", "echo ready; exec sleep 1000")
    screen.until(b"ready\r\n")
    screen.hang_up()
    assert screen.process.wait(200) == 128 + signal.SIGHUP


# Plays the shell: starts a job in the foreground, and brings it back when it has been stopped.
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def ready():
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
job = subprocess.Popen(sys.argv[1:], preexec_fn=ready)
_, status = os.waitpid(job.pid, os.WUNTRACED)
while os.WIFSTOPPED(status):
    os.tcsetpgrp(0, os.getpgrp())
    os.write(2, b"stopped\\n")
    os.read(0, 1)
    os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
    _, status = os.waitpid(job.pid, os.WUNTRACED)
os._exit(os.waitstatus_to_exitcode(status))
"""


def test_ctrl_z_stops_us_and_the_command_and_both_go_on(screen, runner, tools):
    code = "import os; os.write(1, b'ready %d\\n' % os.getpid()); os._exit(os.read(0, 1)[0])"
    screen.start(argv=[*tools.python(SHELL), *runner.argv(*tools.python(code))])
    child = int(screen.until(b"\r\n").split()[1])
    screen.keys(b"\x1a")
    screen.until(b"stopped\r\n")
    tools.eventually(lambda: tools.state_of(child) == "T")
    screen.keys(b"\r")
    tools.eventually(lambda: tools.state_of(child) == "S")
    screen.keys(b"A\r")
    assert screen.finish().returncode == ord("A")


# ---------------------------------------------------------------- modes


def test_a_program_that_changes_the_modes_of_its_stdout_changes_the_real_ones(screen, tools):
    # As curses does it: no echo and no lines while it runs, and back to what there was.
    code = """
import os, termios
before = termios.tcgetattr(1)
modes = termios.tcgetattr(1)
modes[3] &= ~(termios.ECHO | termios.ICANON)
modes[6][termios.VMIN] = 2
termios.tcsetattr(1, termios.TCSADRAIN, modes)
os.write(1, b"raw\\n")
os.read(0, 2)
termios.tcsetattr(1, termios.TCSADRAIN, before)
"""
    before = screen.modes()
    screen.start(*tools.python(code))
    screen.until(b"raw\r\n")
    during = screen.modes()
    assert before[3] & ~during[3] == termios.ECHO | termios.ICANON
    assert (during[1], during[6][termios.VMIN]) == (before[1], 2)
    screen.keys(b"ab")
    assert screen.finish().returncode == 0
    assert screen.modes() == before
    assert b"a" not in screen.seen


def test_a_command_that_takes_the_foreground_may_change_the_modes(screen, runner, tools):
    # A shell in a capsule, and a job of its that draws on the screen.
    code = """
import os, signal, termios
ours = os.getpgrp()
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.setpgid(0, 0)
os.tcsetpgrp(0, os.getpgrp())
modes = termios.tcgetattr(1)
modes[3] &= ~termios.ECHO
termios.tcsetattr(1, termios.TCSADRAIN, modes)
os.write(1, b"quiet\\n")
os.read(0, 1)
os.tcsetpgrp(0, ours)
os._exit(9)
"""
    screen.start(argv=[*tools.python(SHELL), *runner.argv(*tools.python(code))])
    screen.until(b"quiet\r\n")
    assert not screen.modes()[3] & termios.ECHO
    screen.keys(b"\r")
    assert screen.finish().returncode == 9
    assert b"stopped" not in screen.seen


def test_without_a_pseudo_terminal_the_command_has_the_real_one(screen, tools):
    screen.start(*tools.python("import os; os.write(1, b'%d\\n' % os.isatty(1))"), broken=["openpty"])
    screen.until(b"1\r\n")
    outcome = screen.finish()
    assert (outcome.stdout, outcome.stderr, outcome.cut, outcome.returncode) == (None, None, True, 0)
    assert "no more terminals" in outcome.reason


def test_a_process_left_behind_goes_on_writing_to_the_terminal(screen, tmp_path):
    os.mkfifo(tmp_path / "go")
    # It must outlive the session's leader, and the SIGHUP that the terminal sends when that one ends.
    left = f"trap '' HUP; (read go < {tmp_path}/go; echo later) & echo now"
    process = screen.start("sh", "-c", left)
    screen.until(b"now\r\n")
    assert process.wait() == 0
    assert screen.runner.outcome().left_open is True
    (tmp_path / "go").write_text("go\n")
    screen.until(b"later\r\n")


def test_a_command_that_closes_and_opens_its_terminal_again_keeps_it(screen, tools):
    code = """
import os
name = os.ttyname(1)
os.write(1, b"one\\n")
os.close(1), os.close(2)
os.read(0, 1)
again = os.open(name, os.O_WRONLY | os.O_NOCTTY)
os.write(again, b"two\\n")
"""
    screen.start(*tools.python(code))
    screen.until(b"one\r\n")
    screen.keys(b"\r")
    screen.until(b"two\r\n")
    assert screen.finish().stdout == b"one\ntwo\n"


def test_nothing_about_terminals_is_imported_without_one(tools):
    code = f"""
import os, sys
sys.path.insert(0, {str(tools.source)!r})
before = set(sys.modules)
from capsula.execute.process import run_command
assert run_command(("true",), dict(os.environb), spool_dir=None).exit_code == 0
print(*sorted(set(sys.modules) - before))
"""
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert set(ran.stdout.split()) <= {
        "_signal", "_thread", "capsula", "capsula.execute", "capsula.execute.log", "capsula.execute.process",
        "capsula.execute.relay", "capsula.execute.signals", "capsula.execute.spawn", "capsula.execute.stdio",
        "errno", "resource", "select", "time",
    }  # fmt: skip
