"""Clocks that jump, and file systems whose clock ticks so slowly that an edit can't be seen: contents decide."""

import os
import random
import shutil
import subprocess

import pytest

OPTIONS = ("-c", "time", "-i", "in", "-o", "out")
DO = 'cat in > out; echo "made of $(cat in)"'
DAY = 86400
YEAR = 365 * DAY * 10**9


def edit_in_place(ws, name, content):
    """Same file, same size: all that changes is the content, and the times as far as the file system has a clock."""
    with open(ws.path(name), "r+b") as file:
        file.write(content.encode())


def run_right(ws, content, **keywords):
    done = ws.breaking(*OPTIONS, do=DO, **keywords)
    assert (done.code, done.out, ws.read("out")) == (0, f"made of {content}\n", content), done
    return done


@pytest.fixture(params=["here", "ticks", "seconds"])
def slow_clock(request, ws, mount):
    """The workspace on file systems of different clocks: as it is; ticks of the kernel (ramfs); whole seconds."""
    if request.param == "here":
        return ws
    if request.param == "ticks":
        disk = mount("mode=755", "ramfs")
    else:
        image = ws.base / "image"
        image.touch()
        os.truncate(image, 32 << 20)
        make = ["mkfs.ext4", "-q", "-F", "-I", "128", image]
        if shutil.which("mkfs.ext4") is None or subprocess.run(make, capture_output=True).returncode:
            pytest.skip("there is no mkfs.ext4 to make a file system with a clock of seconds")
        disk = mount("loop", "ext4", str(image))
    if disk.prefix:
        pytest.skip("only root can mount this where everybody sees it")
    ws.root = disk.path / "work"
    ws.root.mkdir()
    return ws


def test_edit_and_run_at_once_a_hundred_times(slow_clock):
    """The classic: an edit of the same size in the same tick as the run before it. Every content has its result."""
    ws = slow_clock
    ws.write("in", "content 0000")
    seen = set()
    for number in range(100):
        content = f"content {number * 7 % 11:04}"
        edit_in_place(ws, "in", content)
        assert run_right(ws, content).ran == (content not in seen)
        seen.add(content)
        if number % 3 == 0:
            assert run_right(ws, content).ran == 0


def test_outputs_edited_right_after_a_run_are_repaired_and_kept_in_the_trash(slow_clock):
    ws = slow_clock
    ws.write("in", "content 0000")
    for number in range(30):
        content = f"content {number:04}"
        edit_in_place(ws, "in", content)
        run_right(ws, content)
        for turn in range(2):
            edited = f"EDIT{turn}    {number:04}"
            edit_in_place(ws, "out", edited)
            assert run_right(ws, content).ran == 0
            buried = {(folder / "item").read_text() for folder in ws.store.glob("trash/*")}
            assert buried == {edited}
            shutil.rmtree(ws.store / "trash")


def test_any_order_of_edits_and_runs(slow_clock):
    """Against the simplest model: what comes out is what is in."""
    ws = slow_clock
    chance = random.Random(7)
    ws.write("in", "content 0")
    content = "content 0"
    run_right(ws, content)
    for number in range(150):
        step = chance.choice(
            ["edit", "edit", "replace", "edit out", "remove out", "touch", "run", "run", "forget"]
        )
        if step == "edit":
            content = f"content {chance.randrange(4)}"
            edit_in_place(ws, "in", content)
        elif step == "replace":
            content = f"content {chance.randrange(4)}"
            ws.write("new", content).rename(ws.path("in"))
        elif step == "edit out" and ws.path("out").exists():
            edited = f"EDIT {number:04}"
            edit_in_place(ws, "out", edited)
            # The command overwrites what it makes anew, as it always has; a hit never does.
            if run_right(ws, content).ran == 0:
                assert edited in [(folder / "item").read_text() for folder in ws.store.glob("trash/*")]
        elif step == "remove out":
            ws.path("out").unlink(missing_ok=True)
        elif step == "touch":
            os.utime(ws.path("in"))
        elif step == "forget":
            ws.forget_records()
        if step == "run":
            run_right(ws, content)
    run_right(ws, content)
    ws.verify()


# ------------------------------------------------------------------------------------------- clocks


def test_the_clock_jumps_between_runs(ws):
    """Far ahead everything looks old and is remembered; back again, everything is from the future and is read again."""
    chance = random.Random(3)
    ws.write("in", "content 0")
    seen = set()
    for number in range(60):
        content = f"content {number * 5 % 7}"
        edit_in_place(ws, "in", content)
        clock = chance.choice([0, 10, -10, DAY, -DAY, 40 * DAY, -4000 * DAY])
        assert run_right(ws, content, clock=clock).ran == (content not in seen)
        seen.add(content)
        if number % 2:
            assert run_right(ws, content, clock=chance.choice([0, DAY, -DAY])).ran == 0
        if number % 5 == 0:
            ws.path("out").unlink()
            assert run_right(ws, content, clock=chance.choice([0, DAY, -DAY])).ran == 0
    ws.verify()


@pytest.mark.parametrize("shift", [YEAR, -YEAR, -40 * YEAR])
def test_files_from_the_future_and_from_long_ago(ws, shift):
    ws.write("in", "content 0")
    now = os.stat(ws.path("in")).st_mtime_ns
    seen = set()
    for number in range(30):
        content = f"content {number * 2 % 5}"
        edit_in_place(ws, "in", content)
        os.utime(ws.path("in"), ns=(now + shift, now + shift))  # the same at every turn
        assert run_right(ws, content).ran == (content not in seen)
        seen.add(content)
        os.utime(ws.path("out"), ns=(now + shift, now + shift))
        assert run_right(ws, content).ran == 0


def test_a_store_from_the_future_is_swept_and_used(ws):
    """Entries and blobs were stored while the clock was years ahead."""
    for number in range(6):
        ws.write("in", f"content {number}")
        run_right(ws, f"content {number}", clock=4000 * DAY)
    assert ws.tool("cache", "gc").code == 0
    ws.verify()
    for number in range(6):
        ws.write("in", f"content {number}")
        assert run_right(ws, f"content {number}").ran == 0


def test_a_cached_failure_expires_by_a_clock_that_jumps(ws):
    """It may expire too early or too late, but it is never another result."""
    ws.write("in", "one")
    options = ("--cache_failure", "--cache_failure_ttl", "1h", *OPTIONS)
    do = "cat in > out; exit 3"
    for clock in (0, DAY, 0, -DAY, DAY, -4000 * DAY, 0):
        done = ws.breaking(*options, do=do, clock=clock)
        assert (done.code, ws.read("out")) == (3, "one"), clock
