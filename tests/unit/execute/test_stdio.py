"""Replaying logs to our own descriptors."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.execute.stdio import in_order


def test_chunks_come_out_on_their_descriptors(runner):
    ran = runner.run(replay=[(1, b"a\xff\0"), (2, b"b"), (1, b"c"), (2, b"")])
    assert (ran.out, ran.err, ran.returncode) == (b"a\xff\0c", b"b", 0)


def test_chunks_come_out_in_their_order(runner):
    ran = runner.run(replay=[(1, b"1"), (2, b"2"), (1, b"3"), (2, b"4")], popen={"stderr": subprocess.STDOUT})
    assert ran.out == b"1234"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_descriptor_gets_nothing(runner, closed):
    argv = runner.argv(replay=[(1, b"out"), (2, b"err")])
    ran = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *argv], capture_output=True)
    assert (ran.stdout, ran.stderr, ran.returncode) == (
        b"" if " >" in " " + closed else b"out",
        b"" if "2>" in closed else b"err",
        0,
    )


def test_a_reader_that_goes_away_takes_only_its_own_stream(runner, tools):
    ours, theirs = os.pipe()
    os.close(ours)
    ran = runner.run(replay=[(1, b"x", 300_000), (2, b"err"), (1, b"more")], popen={"stdout": theirs})
    os.close(theirs)
    assert (ran.err, ran.returncode) == (b"err", 0)


def test_a_stdout_that_does_not_block_gets_everything(runner, tools):
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    process = runner.start(replay=[(1, b"x", 300_000), (2, b"done")], popen={"stdout": theirs})
    os.close(theirs)
    tools.eventually(lambda: tools.state_of(process.pid) == "S")
    with os.fdopen(ours, "rb") as out:
        assert len(out.read()) == 300_000
    assert process.stderr.read() == b"done"
    assert process.wait() == 0


logs = st.binary(max_size=60)
orders = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 30)), max_size=8)


@given(logs, logs, orders, st.booleans())
def test_no_byte_is_lost_or_made_up_whatever_the_order_says(
    tmp_path_factory, stdout, stderr, order, in_files
):
    logs = [stdout, stderr]
    if in_files:
        folder = tmp_path_factory.mktemp("logs")
        for at, content in enumerate(logs):
            (folder / str(at)).write_bytes(content)
            logs[at] = str(folder / str(at))
    chunks = list(in_order(logs[0], logs[1], order))
    assert b"".join(content for number, content in chunks if number == 1) == stdout
    assert b"".join(content for number, content in chunks if number == 2) == stderr


def test_chunks_follow_the_order_and_are_small(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"x" * 200_000 + b"end")
    chunks = list(in_order(str(log), b"ab", ((2, 1), (1, 200_000), (2, 1), (1, 3))))
    assert max(len(content) for _, content in chunks) <= 65536
    merged = b"".join(content for _, content in chunks)
    assert merged == b"a" + b"x" * 200_000 + b"b" + b"end"
