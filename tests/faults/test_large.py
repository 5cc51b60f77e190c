"""Much of everything: files, outputs, log. Time grows with the number, memory with nothing."""

import json
import os
import shutil
import subprocess
import sys

import pytest

MIB = 1 << 20
# A bare interpreter has 10 MiB; what is allowed above that holds the modules and a few buffers of a MiB.
MODEST = 60 * MIB
# The system adds the memory of whoever starts a process to that of the process: so it is started by somebody small.
MEASURE = (
    "import os, sys; pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ); _, status, usage = os.wait4(pid, 0);"
    "print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, file=open(sys.argv[1], 'w'))"
)


def measured(ws, program, *words, **popen):
    """Exit code and greatest memory of a command."""
    report = ws.base / "measured"
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURE, report, program, *words],
        cwd=ws.root,
        env=ws.environ,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=300,
        **popen,
    )
    code, memory = report.read_text().split()
    return int(code), int(memory)


def run_measured(ws, *options, do, **popen):
    before = ws.marks()
    code, memory = measured(ws, "capsule", *ws.argv(options, do), **popen)
    return code, memory, ws.marks() - before


def make_files(folder, count, each=100):
    for number in range(0, count, each):
        below = folder / f"{number // each:04}"
        below.mkdir(parents=True)
        for name in range(number, min(number + each, count)):
            fd = os.open(f"{below}/{name}.txt", os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, b"content of %d\n" % name)
            os.close(fd)


def test_fifty_thousand_inputs_and_three_thousand_outputs(ws):
    make_files(ws.path("src"), 50_000)
    options = ("-i", "src", "-o", "dist")
    do = "mkdir -p dist; seq 3000 | split -l 1 -a 4 - dist/f; find src -type f | wc -l"

    def run():
        done = ws.capsule(*options, do=do)
        assert (done.code, done.out.strip(), done.err) == (0, "50000", ""), done
        assert len(os.listdir(ws.path("dist"))) == 3000
        assert ws.read("dist/faaaa") == "1\n"
        return done.ran

    assert [run() for _ in range(3)] == [1, 0, 0]
    shutil.rmtree(ws.path("dist"))
    assert run() == 0
    ws.write("src/0250/25000.txt", "edited")
    assert [run() for _ in range(2)] == [1, 0]
    ws.path("src/0499/49999.txt").rename(ws.path("src/0499/moved.txt"))
    assert [run() for _ in range(2)] == [1, 0]
    explained = ws.capsule("--dry_run", *options, do=do + "; :")
    assert explained.ran == 0
    assert "miss" in explained.err


def counted_calls(ws, count):
    """How many calls a miss, a hit, a recall and a recall that restores make with so many inputs and outputs."""
    shutil.rmtree(ws.root)
    shutil.rmtree(ws.store, ignore_errors=True)
    make_files(ws.path("src"), count)
    options = ("-c", "count", "-i", "src", "-o", "dist")
    do = f"mkdir -p dist; seq {count // 4} | split -l 1 -a 4 - dist/f"
    counts = []
    for what in ("miss", "hit", "recall", "restore"):
        if what == "recall":
            for _ in range(2):
                ws.breaking(*options, do=do, clock=100_000)
        if what == "restore":
            shutil.rmtree(ws.path("dist"))
        done = ws.breaking(*options, do=do, kind="list", clock=100_000)
        assert (done.code, done.ran) == (0, int(what == "miss")), done
        counts.append(done.count)
    return counts


def test_the_work_grows_with_the_number_of_files_and_not_faster(ws):
    few, many, more = counted_calls(ws, 200), counted_calls(ws, 2200), counted_calls(ws, 4200)
    for a, b, c in zip(few, many, more, strict=True):
        assert b > a
        # Two thousand more cost as much as the two thousand before.
        assert c - b < 1.15 * (b - a) + 100, (few, many, more)


def room_for(ws, size):
    if shutil.disk_usage(ws.base).free < size:
        pytest.skip("there isn't enough room on the disk")


def test_gigabytes_of_log_are_streamed_and_kept_with_flat_memory(on_disk):
    """For a moment they are on the disk twice: as they come, and as they are stored (zeros take no room there)."""
    ws = on_disk
    free = shutil.disk_usage(ws.base).free
    size = (5 if free > 12 << 30 else 2) << 30
    room_for(ws, 6 << 30)
    ws.write("in", "one")
    code, memory, ran = run_measured(
        ws, "-i", "in", do=f"head -c {size} /dev/zero", stdout=subprocess.DEVNULL
    )
    assert (code, ran) == (0, 1)
    assert memory < MODEST
    assert [blob.stat().st_size for blob in ws.blobs() if blob.stat().st_size > MIB] == [size]
    assert not list((ws.store / "tmp").iterdir())


def test_a_long_log_is_replayed_with_flat_memory(on_disk):
    ws, size = on_disk, 300 * MIB
    ws.write("in", "one")
    for expected in (1, 0, 0):
        with subprocess.Popen(["wc", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as counter:
            code, memory, ran = run_measured(
                ws, "-i", "in", do=f"head -c {size} /dev/zero", stdout=counter.stdin
            )
            counter.stdin.close()
            assert int(counter.stdout.read()) == size
        assert (code, ran) == (0, expected)
        assert memory < MODEST
    assert not list((ws.store / "tmp").iterdir())


def test_an_output_of_a_gigabyte_is_kept_put_back_and_verified_with_flat_memory(on_disk):
    ws = on_disk
    room_for(ws, 4 << 30)
    ws.write("in", "one")
    do = "truncate -s 1G big; printf end >> big"
    options = ("-i", "in", "-o", "big")
    for expected in (1, 0, 0):
        code, memory, ran = run_measured(ws, *options, do=do)
        assert (code, ran) == (0, expected)
        assert memory < MODEST
        assert ws.path("big").stat().st_size == (1 << 30) + 3
        ws.path("big").unlink()
    code, memory = measured(ws, "capsula", "cache", "verify", stdout=subprocess.DEVNULL)
    assert code == 0
    assert memory < MODEST


def test_a_large_input_is_read_with_flat_memory(ws):
    ws.path("in").touch()
    os.truncate(ws.path("in"), 1 << 30)
    code, memory, ran = run_measured(ws, "-i", "in", do=":")
    assert (code, ran) == (0, 1)
    assert memory < MODEST


def test_the_report_of_many_files_is_whole(ws):
    make_files(ws.path("src"), 5000)
    report = ws.base / "report.json"
    assert ws.capsule("--json", str(report), "-i", "src", do=":").code == 0
    assert len(json.loads(report.read_text())["inputs"]) == 5000


def test_a_command_line_of_a_megabyte(ws):
    names = [f"{number}-" + "n" * 95 for number in range(10_000)]
    ws.write("in", "one")
    do = "echo $#"
    for ran in (1, 0):
        done = ws.capsule("-i", "in", command=("sh", "-c", f'echo ran >> "$MARK"; {do}', "sh", *names))
        assert (done.out, done.ran) == ("10000\n", ran)
