"""What programs say of themselves, through the installed commands: recorded, found, shown, and there after a crash."""

import json
import os
import signal
import subprocess
import sys

import pytest

TRAIN = """
import capsula, sys
for step in range(3):
    capsula.record("loss", 1 / (step + 1), step)
capsula.output("model.txt")
open("model.txt", "w").close()
capsula.current().tag("baseline")
"""


@pytest.fixture
def project(ws):
    ws.write("capsula.toml", "[capture]\ninclude-cpu = false\n")
    ws.write("train.py", TRAIN)
    return ws


def run(project, *words, **more):
    done = subprocess.run(
        words, cwd=project.root, env=project.environ, capture_output=True, text=True, **more
    )
    return done


def record(project):
    (path,) = project.root.glob("vault/*/capsule.json")
    return json.loads(path.read_text())


def test_a_program_of_a_monitored_command_records_into_its_capsule(project):
    done = run(project, "capsula", "monitor", "-q", "sh", "-c", f"{sys.executable} train.py; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    told = record(project)
    assert told["metrics"] == {"loss": 1 / 3}
    (after,) = project.root.glob("vault/*/post-run-info.json")
    assert "model.txt" in json.loads(after.read_text())["files"]
    shown = run(project, "capsula", "show").stdout
    assert "loss" in shown
    assert "baseline" in shown


@pytest.mark.parametrize(("condition", "count"), [("metrics.loss < 0.5", 1), ("metrics.loss < 0.1", 0)])
def test_a_run_is_found_by_its_metrics_and_tags(project, condition, count):
    run(project, "capsula", "monitor", "-q", sys.executable, "train.py")
    found = run(project, "capsula", "list", "--json", "--where", condition)
    assert len(found.stdout.splitlines()) == count, found
    assert len(run(project, "capsula", "list", "--json", "--tag", "baseline").stdout.splitlines()) == 1


def test_two_programs_at_once_record_all_that_they_say(project):
    project.write("say.py", "import capsula, sys\nfor x in range(500): capsula.record(sys.argv[1], x, x)\n")
    script = f"{sys.executable} say.py a & {sys.executable} say.py b & {sys.executable} say.py a & wait"
    assert run(project, "capsula", "monitor", "-q", "sh", "-c", script).returncode == 0
    (path,) = project.root.glob("vault/*/metrics.json")
    found = json.loads(path.read_text())
    assert found["b"]["value"] == list(range(500))
    assert sorted(found["a"]["value"]) == sorted([*range(500), *range(500)])


def test_what_was_recorded_before_a_crash_is_shown(project):
    project.write(
        "crash.py",
        "import capsula, os, signal\n"
        "with capsula.run('crash') as run:\n"
        "    for x in range(7): run.record('loss', x, x)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    assert run(project, sys.executable, "crash.py").returncode == -signal.SIGKILL
    assert record(project)["status"] == "running"
    shown = run(project, "capsula", "show").stdout
    assert "crashed" in shown
    assert "step 0 to 6" in shown


def test_a_process_that_ends_without_a_word_loses_none(project):
    project.write("end.py", "import capsula, os\nfor x in range(100): capsula.record('x', x)\nos._exit(0)\n")
    run(project, "capsula", "monitor", "-q", sys.executable, "end.py")
    assert record(project)["metric_ranges"]["x"]["count"] == 100


def test_a_program_that_outlives_the_run_is_not_in_the_way(project):
    """A sealed capsule isn't changed, and the program isn't stopped."""
    project.write(
        "late.py",
        "import capsula\n"
        "capsula.record('x', 1)\n"
        "open('begun', 'w').close()\n"  # who runs the command waits for it to be opened
        "open('gate').close()\n"  # until the run has ended and the test has looked
        "capsula.record('x', 2); capsula.output('late.py')\n"
        "open('ended', 'w').close()\n",
    )
    for name in ("begun", "gate", "ended"):
        os.mkfifo(project.root / name)
    script = f"{sys.executable} late.py 2>late.err >/dev/null & cat begun"
    done = run(project, "capsula", "monitor", "-q", "sh", "-c", script, timeout=200)
    assert done.returncode == 0, done
    (project.root / "gate").open("w").close()
    (project.root / "ended").read_bytes()
    assert run(project, "capsula", "show", "--verify").returncode == 0
    assert record(project)["metrics"] == {"x": 1}
    assert project.read("late.err").count("capsula: ") == 1
