"""A disk that is full: the command's result and output are what they would be without us, and one line says why."""

import os
import shutil
import subprocess

import pytest

OPTIONS = ("-c", "full", "-i", "in", "-o", "dist")
DO = (
    "mkdir -p dist; cat in > dist/small; yes $(cat in) | head -c 300000 > dist/large; echo said; echo told >&2;"
    "exit 3"
)


@pytest.fixture
def store_on(ws, mount):
    """Puts the store on a small disk."""

    def put(size):
        disk = mount(f"size={size}")
        ws.prefix = disk.prefix
        ws.environ["XDG_CACHE_HOME"] = str(disk.path)
        ws.cache, ws.store = disk.seen, disk.seen / "capsula"
        return disk

    return put


def run_right(ws, content, *more):
    ws.write("in", content)
    done = ws.capsule("--cache_failure", *more, *OPTIONS, do=DO)
    assert (done.code, done.out) == (3, "said\n"), done
    assert [line for line in done.err.splitlines() if not line.startswith("capsule: ")] == ["told"]
    assert ws.read("dist/small") == content
    assert ws.read("dist/large") == ((content + "\n") * 300000)[:300000]
    return done


@pytest.mark.parametrize("room", [0, 4096, 8192, 20480, 65536, 200_000, 400_000])
def test_a_full_store_keeps_nothing_and_says_so_in_one_line(ws, store_on, room):
    disk = store_on("2m")
    run_right(ws, "first")
    disk.fill(leave=room)
    for content in "second", "third":
        done = run_right(ws, content)
        assert done.ran == 1
        assert len(done.said) == (0 if room > 380_000 and content == "second" else 1), done
        if done.said:
            assert "full" in done.said[0], done
    # What is there can still be had, unless what is in its place can neither go to the trash nor be known for ours.
    done = run_right(ws, "first")
    assert len(done.said) == done.ran, done
    shutil.rmtree(ws.path("dist"))
    assert run_right(ws, "first").ran == 0
    disk.make_room()
    for ran in (1, 0):
        assert run_right(ws, "fourth").ran == ran
    ws.verify()


def test_a_store_that_is_full_from_the_first_byte(ws, store_on):
    disk = store_on("64k")
    disk.fill()
    for _ in range(2):
        done = run_right(ws, "one")
        assert done.ran == 1
        assert len(done.said) == 1, done


def test_a_store_without_inodes(ws, store_on):
    store_on("2m,nr_inodes=12")
    for content in "one", "two":
        done = run_right(ws, content)
        assert (done.ran, len(done.said)) == (1, 1), done


def test_with_strict_the_command_has_run_and_its_exit_code_stands(ws, store_on):
    disk = store_on("1m")
    disk.fill()
    assert run_right(ws, "one", "--strict").ran == 1


@pytest.mark.parametrize("recalled", [True, False], ids=["recalled", "the whole way"])
def test_a_full_workspace_stays_as_it_was_when_outputs_cannot_be_put_back(ws, mount, recalled):
    disk = mount("size=1m")
    ws.prefix = disk.prefix
    work = disk.path / "work"
    seen = disk.seen / "work"
    seen.mkdir()
    (seen / "in").write_text("one")
    do = "mkdir -p dist; cat in > dist/small; head -c 300000 /dev/zero > dist/large"

    def run():
        return ws.capsule("-i", "in", "-o", "dist", do=do, cwd=work)

    assert run().ran == 1
    if recalled:
        shutil.rmtree(ws.store / "recall", ignore_errors=True)
        while not ws.records():
            run()
    (seen / "dist" / "large").unlink()
    (seen / "dist" / "notes").write_text("mine")
    (seen / "dist" / "small").write_text("edited")
    disk.fill(leave=16384)
    before = {path.name: path.read_bytes() for path in (seen / "dist").iterdir()}
    # The command itself has room for nothing either: it fails, as it would without us.
    done = run()
    assert done.ran == 1
    assert done.code != 0
    assert len(done.said) == 1, done
    assert "restore" in done.said[0] or "write" in done.said[0], done
    assert (seen / "dist" / "notes").read_text() == "mine"
    assert {name for name in before if name != "large"} <= {path.name for path in (seen / "dist").iterdir()}
    assert [path.name for path in seen.iterdir() if path.name.startswith(".capsula")] == []
    assert list(ws.store.glob("trash/*")) == []
    disk.make_room()
    assert run().ran == 0
    assert (seen / "dist" / "large").stat().st_size == 300000
    assert [(folder / "item").read_text() for folder in sorted(ws.store.glob("trash/*"))] != []


def test_the_stream_goes_on_when_the_log_has_no_room(ws, store_on):
    """A log goes to a file when it is long; that file is where the disk is full."""
    disk = store_on("1m")
    ws.write("in", "one")
    line = "0123456789abcdef" * 4
    do = f"yes {line} | head -c 6500000; echo end >&2; exit 5"
    done = ws.capsule("--cache_failure", "-i", "in", do=do)
    assert (done.code, done.ran) == (5, 1)
    assert done.out == ((line + "\n") * 100_000)[:6_500_000]
    assert done.err.startswith("end\n")
    assert len(done.said) == 1, done
    assert list((disk.seen / "capsula" / "tmp").iterdir()) == []
    assert ws.entries() == []


def test_a_trash_without_room_leaves_the_user_s_file_where_it_is(ws, store_on):
    disk = store_on("1m")
    ws.write("in", "one")
    do = "mkdir -p dist; cat in > dist/made"
    assert ws.capsule(*OPTIONS, do=do).ran == 1
    ws.write("dist/work", b"a day's work" * 10_000)
    disk.fill(leave=20_000)
    done = ws.capsule(*OPTIONS, do=do)
    assert (done.code, ws.path("dist/work").read_bytes()) == (0, b"a day's work" * 10_000), done
    assert len(done.said) == 1, done
    assert ws.read("dist/made") == "one"
    disk.make_room()
    assert ws.capsule(*OPTIONS, do=do).ran == 0
    assert not ws.path("dist/work").exists()
    assert [(folder / "item").read_bytes() for folder in ws.store.glob("trash/*")] == [
        b"a day's work" * 10_000
    ]


def test_what_the_command_writes_to_a_full_disk_is_its_own_failure(ws, mount):
    disk = mount("size=64k")
    ws.prefix = disk.prefix
    ws.write("in", "one")
    target = disk.seen / "stdout"
    with target.open("wb") as out:
        done = ws.capsule("-i", "in", do="yes | head -c 1000000; exit 4", stdout=out)
    assert (done.code, done.ran) == (4, 1)
    assert len(done.said) >= 1
    assert os.path.getsize(target) <= 65536
    assert subprocess.run(["cmp", "-n", "1000", target, "-"], input=b"y\n" * 500).returncode == 0
