"""Functions that several call at once, that are interrupted or killed, and whose store is damaged or away."""

import signal

import pytest

from cli.functions import HEAD, SQUARE, Project


@pytest.fixture
def project(ws):
    return Project(ws)


WAITS = """
@capsula.monitor(cache=True)
def work():
    ran()
    return open(GATE).read()
"""


def test_of_two_processes_and_of_two_threads_at_once_one_runs(project):
    gate = project.ws.fifo("gate")
    project.ws.write(
        "script.py",
        HEAD
        + WAITS
        + """
import threading
threads = [threading.Thread(target=lambda: print(work())) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
""",
    )
    first = project.start()
    with open(gate, "w") as opened:  # waits until the function reads from it
        second = project.start()
        assert "waiting for process" in second.stderr.readline()
        opened.write("done")
    assert [process.communicate(timeout=200)[0] for process in (first, second)] == ["done\ndone\n"] * 2
    assert project.ran == 1


def test_to_wait_for_another_can_be_interrupted_and_begun_again(project):
    gate = project.ws.fifo("gate")
    project.ws.write(
        "script.py",
        HEAD
        + WAITS
        + """
try:
    print(work())
except KeyboardInterrupt:
    print("interrupted", flush=True)
    print(work())
""",
    )
    first = project.start()
    with open(gate, "w") as opened:
        second = project.start()
        assert "waiting for process" in second.stderr.readline()
        second.send_signal(signal.SIGINT)
        assert second.stdout.readline() == "interrupted\n"
        assert "waiting for process" in second.stderr.readline()
        opened.write("done")
    assert [process.communicate(timeout=200)[0] for process in (first, second)] == ["done\n"] * 2
    assert project.ran == 1
    statuses = sorted(project.read("capsule.json", at)["status"] for at in range(3))
    assert statuses == ["finished", "finished", "interrupted"]


def test_after_a_kill_the_next_one_runs(project):
    gate = project.ws.fifo("gate")
    script = """
@capsula.monitor(cache=True)
def work():
    ran()
    if not os.path.exists("go"):
        open(GATE).read()
    return 1
print(work())
"""
    project.ws.write("script.py", HEAD + script)
    process = project.start()
    with open(gate, "w"):
        process.send_signal(signal.SIGKILL)
        process.wait(200)
    project.ws.write("go")
    for _ in range(2):
        assert project.python(script).stdout == "1\n"
    assert project.ran == 2


@pytest.mark.parametrize("what", ["entry", "blob"])
def test_with_a_damaged_store_the_function_runs(project, what):
    script = """
@capsula.monitor(cache=True)
def work():
    ran()
    return "x" * 5000
print(len(work()))
"""
    project.python(script)
    (entry,) = project.ws.entries()
    blobs = [path for path in project.ws.store.glob("cas/*/*") if path.stat().st_size > 5000]
    path = entry if what == "entry" else blobs[0]
    path.chmod(0o600)
    path.write_bytes(b"no" + path.read_bytes()[2:])
    done = project.python(script)
    assert (done.stdout, project.ran) == ("5000\n", 2)
    assert "the stored result" in done.stderr
    assert project.python(script).stdout == "5000\n"
    assert project.ran == 2


def test_without_a_store_the_function_runs(project):
    for environ in ({"HOME": None, "XDG_CACHE_HOME": None}, {"CAPSULE_ARGS": "--passive"}):
        done = project.python(SQUARE + "print(square(3))", environ=environ)
        assert done.stdout == "{'n': 9, 'seed': 0}\n"
        assert "square() is not cached: " in done.stderr
    assert project.ran == 2


@pytest.mark.parametrize("more", ["", " --strict_remote", " --strict"])
def test_a_store_that_is_not_reached_is_no_reason_not_to_run(project, more):
    asked = {"CAPSULE_ARGS": f"--remote http://127.0.0.1:1/cache{more}"}
    for _ in range(2):
        done = project.python(SQUARE + "print(square(3))", environ=asked)
        assert (done.returncode, done.stdout) == (0, "{'n': 9, 'seed': 0}\n")
    assert project.ran == 1


def test_a_forked_child_does_not_wait_for_what_its_parent_s_threads_hold(project):
    project.ws.fifo("gate")
    done = project.python(
        """
import threading
PARENT = str(os.getpid())
@capsula.monitor(cache=True)
def work():
    ran()
    if PARENT == str(os.getpid()):
        open(GATE).read()
    return 1
thread = threading.Thread(target=work)
thread.start()
with open(GATE, "w"):  # waits until the thread reads from it
    child = os.fork()
    if child == 0:
        os._exit(7 if work() == 1 else 8)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""
    )
    assert (done.stdout, done.returncode) == ("7\n", 0)
    assert project.ran == 2
