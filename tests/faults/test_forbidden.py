"""What may not be read or written: the command runs all the same, and one line says why nothing is kept."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

OPTIONS = ("-c", "forbidden", "-i", "in", "-o", "dist")
DO = "mkdir -p dist; cat in > dist/a; echo said; exit 3"


def run_right(ws, *options, ran=None, lines=1, **keywords):
    ws.path("in").touch()
    done = ws.capsule("--cache_failure", *OPTIONS, *options, do=DO, **keywords)
    assert (done.code, done.out) == (3, "said\n"), done
    assert len(done.said) == lines, done
    assert ran is None or done.ran == ran, done
    assert ws.read("dist/a") == ws.read("in")
    return done


@pytest.fixture
def forbidding(ordinary):
    """Makes paths forbidden, and takes that back in the end."""
    ordinary.write("in", "one")
    opened = []

    def forbid(path, mode):
        opened.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield forbid
    for path, mode in reversed(opened):
        path.chmod(mode)


def test_a_home_that_cannot_be_written(ordinary, forbidding):
    ws = ordinary
    del ws.environ["XDG_CACHE_HOME"]
    forbidding(ws.base / "home", 0o500)
    for _ in range(2):
        assert "can't be written" in run_right(ws, ran=1).said[0]


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_cache_directory_that_cannot_be_written(ordinary, forbidding, mode):
    ws = ordinary
    ws.cache.mkdir()
    forbidding(ws.cache, mode)
    for _ in range(2):
        run_right(ws, ran=1)


def test_a_store_that_can_only_be_read_still_answers(ordinary, forbidding):
    ws = ordinary
    run_right(ws, ran=1, lines=0)
    for folder, _, _ in os.walk(ws.store):
        forbidding(Path(folder), 0o500)
    for _ in range(3):
        run_right(ws, ran=0, lines=0)
    shutil.rmtree(ws.path("dist"))
    run_right(ws, ran=0, lines=0)
    ws.write("in", "two")
    for _ in range(2):
        assert "can't be written" in run_right(ws, ran=1).said[0]


@pytest.mark.parametrize("what", ["cas", "ac", "tmp", "locks", "recall", "state", "ids", "journal"])
@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_each_directory_of_the_store_is_closed(ordinary, forbidding, what, mode):
    ws = ordinary
    run_right(ws, ran=1, lines=0)
    ws.forget_records()
    (ws.store / what).mkdir(exist_ok=True)
    forbidding(ws.store / what, mode)
    for content in ("one", "two", "one"):
        ws.write("in", content)
        done = ws.capsule("--cache_failure", *OPTIONS, do=DO)
        assert (done.code, done.out, ws.read("dist/a")) == (3, "said\n", content), done
        assert len(done.said) <= 1, done


@pytest.mark.parametrize("what", ["blobs", "entries"])
def test_what_is_stored_cannot_be_read(ordinary, forbidding, what):
    ws = ordinary
    run_right(ws, ran=1, lines=0)
    ws.forget_records()
    for path in ws.blobs() if what == "blobs" else ws.entries():
        forbidding(path, 0)
    shutil.rmtree(ws.path("dist"))
    for _ in range(2):
        run_right(ws, ran=1)
        ws.forget_records()
        shutil.rmtree(ws.path("dist"))


def test_an_input_that_cannot_be_read(ordinary, forbidding):
    ws = ordinary
    ws.write("src/open", "open")
    forbidding(ws.write("src/shut", "shut"), 0o000)
    for options, ran in ((("-i", "src"), [1, 1]), (("-i", "src", "-i", "!src/shut"), [1, 0])):
        runs = [ws.capsule(*options, do="cat src/open; exit 0") for _ in range(2)]
        assert [done.ran for done in runs] == ran
        assert {done.out for done in runs} == {"open"}
        if ran == [1, 1]:
            assert all(len(done.said) == 1 and "src/shut" in done.said[0] for done in runs)


def test_an_input_directory_that_cannot_be_listed(ordinary, forbidding):
    ws = ordinary
    ws.write("src/shut/x", "x")
    forbidding(ws.path("src/shut"), 0o000)
    for _ in range(2):
        done = ws.capsule("-i", "src", do="exit 5")
        assert (done.code, done.ran, len(done.said)) == (5, 1, 1)
        assert "src/shut" in done.said[0]


def test_an_output_directory_that_cannot_be_written(ordinary, forbidding):
    """Ours to open, as for what the command itself made read-only; the mode it had comes back."""
    ws = ordinary
    do = "mkdir -p dist/sub; cat in > dist/sub/a; exit 3"
    run = ("--cache_failure", *OPTIONS)
    assert ws.capsule(*run, do=do).ran == 1
    ws.path("dist/sub/a").unlink()
    forbidding(ws.path("dist/sub"), 0o500)
    done = ws.capsule(*run, do=do)
    assert (done.ran, ws.read("dist/sub/a")) == (0, "one"), done
    assert ws.path("dist/sub").stat().st_mode & 0o777 == 0o755


def test_a_place_for_outputs_that_is_another_s(ordinary, forbidding):
    """A directory that isn't declared and may not be written: nothing can be put back, and nothing is touched."""
    ws = ordinary
    do = 'cat in > "$PLACE/a" 2> /dev/null; exit 3'
    place = ws.path("place")
    place.mkdir()
    options = ("--cache_failure", "-i", "in", "-o", "place/a")
    env = {"PLACE": str(place)}
    assert ws.capsule(*options, do=do, env=env).ran == 1
    ws.path("place/a").write_text("edited")
    forbidding(ws.path("place/a"), 0o444)
    forbidding(place, 0o500)
    done = ws.capsule(*options, do=do, env=env)
    assert done.code == 3
    if done.ran:
        assert len(done.said) == 1, done
        assert ws.read("place/a") == "edited"
        assert not list(ws.store.glob("trash/*"))
    assert oct(place.stat().st_mode)[-3:] == "500"
    assert [path.name for path in place.iterdir()] == ["a"]


def test_a_current_directory_that_is_gone(ws):
    gone = ws.base / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec capsule -i in -o out -- sh -c 'echo ran; exit 6'"
    done = subprocess.run(["sh", "-c", script], env=ws.environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (6, "ran\n"), done
    assert done.stderr.count("capsule: ") == 1


@pytest.mark.parametrize("home", [None, "", "relative", "/dev/null", "/proc/nowhere"])
def test_no_place_for_a_store(ordinary, home):
    ws = ordinary
    ws.write("in", "one")
    for name in ("XDG_CACHE_HOME", "HOME"):
        del ws.environ[name]
    env = {} if home is None else {"HOME": home}
    for _ in range(2):
        done = run_right(ws, env=env)
        assert done.ran == 1


@pytest.fixture
def stranger(ws):
    """Commands run as somebody who owns nothing of the workspace and has no home."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become somebody else")
    place = Path(tempfile.mkdtemp(prefix="capsula-tests-"))
    place.chmod(0o755)
    mark = ws.mark
    mark.touch(0o666)
    ws.root = place / "work"
    ws.root.mkdir()
    ws.environ |= {"HOME": f"{place}/work/home", "XDG_CACHE_HOME": ""}
    ws.prefix = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    probe = [*ws.prefix, "sh", "-c", f"capsule --version && touch {mark}"]
    if subprocess.run(probe, env=ws.environ, cwd="/", capture_output=True).returncode:
        # This Python, or where temporary files go, is root's alone. So root becomes a stranger to the workspace:
        # without its privileges it may do there what anybody may.
        ws.prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
        os.chown(ws.root, 65534, 65534)
    yield ws
    shutil.rmtree(place)


def test_a_checkout_of_somebody_else_s_and_no_home(stranger):
    ws = stranger
    ws.write("in", "one")
    for _ in range(2):
        done = ws.capsule("--cache_failure", "-i", "in", do="cat in; exit 9")
        assert (done.out, done.code, done.ran, len(done.said)) == ("one", 9, 1, 1), done
    store = ws.root / "store"
    store.mkdir()
    store.chmod(0o777)
    for ran in (1, 0):
        done = ws.capsule("--store", str(store), "--cache_failure", "-i", "in", do="cat in; exit 9")
        assert (done.out, done.code, done.ran, done.said) == ("one", 9, ran, []), done
    done = ws.capsule("--store", str(store), "-i", "in", "-o", "out", do="cat in > out")
    assert (done.ran, done.code != 0) == (1, True), "the command itself may not write there"
