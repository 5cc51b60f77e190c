"""The processes of a command, found in /proc: all of them, nobody else's, and nothing that they did is lost."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsula.execute import family as families
from capsula.execute.family import Family

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

# Takes words on stdin, and answers each when it is done.
TALKING = """
import os, sys
def child(code):
    if os.fork() == 0:
        exec(code)
        os._exit(0)
held = []
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


_NUMBERS = count()


class Command:
    """A command that does what it is told, and the family that it heads."""

    def __init__(self) -> None:
        # Another worker's orphans must not be taken for ours.
        value = b"%d-%d" % (os.getpid(), next(_NUMBERS))
        self.family = Family(b"CAPSULA_TEST_MARK=" + value)
        environ = {**os.environb, b"CAPSULA_TEST_MARK": value}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TALKING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            text=True,
        )
        self.family.begin(self.process.pid)

    def do(self, code: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(200)
        self.process.stdout.close()


@pytest.fixture
def command() -> Iterator[Command]:
    made = Command()
    yield made
    made.close()


WAITING = "os.read(0, 1)"


def test_memory_is_that_of_all_processes_together(command: Command) -> None:
    command.do("ready, go = os.pipe(), os.pipe()")
    for _ in range(3):
        command.do("child('x = bytearray(60 << 20); os.write(ready[1], b\"1\"); os.read(go[0], 1)')")
    command.do("[os.read(ready[0], 1) for _ in range(3)]")
    usage = command.family.look()
    assert usage.processes == 4
    assert usage.threads >= 4
    assert 180 << 20 <= usage.rss < 400 << 20
    command.do("os.write(go[1], b'123'); [os.wait() for _ in range(3)]")
    after = command.family.look()
    assert after.processes == 1
    assert after.rss < 60 << 20


def test_what_an_ended_child_did_is_not_lost(command: Command, tmp_path: Path) -> None:
    before = command.family.look()
    spin = "while os.times().user < 0.1: pass"
    write = f"open({str(tmp_path / 'x')!r}, 'wb').write(bytes(3 << 20))"
    command.do(f"child({spin!r}); child({write!r}); os.wait(); os.wait()")
    after = command.family.look()
    assert after.written - before.written >= 3 << 20
    assert after.user - before.user >= 0.09


def test_a_grandchild_whose_parent_has_ended_still_belongs_to_it(command: Command) -> None:
    command.do("out, go = os.pipe(), os.pipe()")
    command.do(
        "child('''if os.fork() == 0: os.setsid(); os.write(out[1], str(os.getpid()).encode()); os.read(go[0], 1)''')"
    )
    command.do("os.wait(); pid = os.read(out[0], 20)")
    assert command.family.look().processes == 2
    command.do("os.write(go[1], b'1')")


def test_an_orphan_counts_up_to_when_it_was_seen(
    command: Command, tools: SimpleNamespace, tmp_path: Path
) -> None:
    command.do("out, go = os.pipe(), os.pipe()")
    target = str(tmp_path / "x")
    command.do(
        f"child('''if os.fork() == 0: open({target!r}, \"wb\").write(bytes(5 << 20));"
        " os.write(out[1], str(os.getpid()).encode()); os.read(go[0], 1)''')"
    )
    command.do("os.wait(); pid = os.read(out[0], 20)")
    seen = command.family.look()
    assert seen.written >= 5 << 20
    command.do("os.write(go[1], b'1')")
    tools.eventually(lambda: command.family.look().processes == 1)
    assert command.family.look().written >= 5 << 20


def test_another_s_process_does_not_belong_to_it() -> None:
    command = Command()
    other = subprocess.Popen(["sleep", "60"])
    try:
        assert command.family.look().processes == 1
    finally:
        other.kill()
        other.wait()
        command.close()


def test_one_that_has_ended_and_was_not_waited_for_still_tells(tools: SimpleNamespace) -> None:
    command = Command()
    command.do("held.append(bytes(20 << 20)); open('/dev/null', 'wb').write(held[0])")
    assert command.process.stdin is not None
    command.process.stdin.close()
    tools.eventually(lambda: tools.state_of(command.process.pid) == "Z")
    usage = command.family.look()
    assert usage.written >= 20 << 20
    assert (usage.rss, usage.processes) == (0, 0)
    assert command.process.stdout is not None
    command.process.stdout.close()
    command.process.wait(200)
    assert command.family.look().written >= 20 << 20


def test_a_number_that_is_another_process_s_by_now_is_not_taken_for_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.family.look()
    real = families._stat

    def later(number: str) -> Any:
        fields = real(number)
        if fields is not None and number == str(command.process.pid):
            fields[19] = b"%d" % (int(fields[19]) + 1)
        return fields

    monkeypatch.setattr(families, "_stat", later)
    assert command.family.look().processes == 0


def test_a_name_with_brackets_and_blanks_is_read_past(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 ("
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        fields = families._stat(str(process.pid))
        assert fields is not None
        assert int(fields[1]) == os.getpid()
    finally:
        process.kill()
        process.wait()
