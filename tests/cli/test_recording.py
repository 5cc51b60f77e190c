"""Recorded runs through the installed commands: `capsula capture`, `capsula monitor`, `@capsula.monitor`."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d")


# ---------------------------------------------------------------------------------------------------- capture


def test_a_capture_writes_the_context_of_the_seed(project):
    project.write(
        "capsula.toml", "[capture]\nenvironment-variables = ['HOME']\n[capture.files]\n'a.txt' = 'sha256'\n"
    )
    project.write("a.txt", "a\n")
    project.git("init", "-q")
    project.git("add", ".")
    project.git("commit", "-qm", "one")
    done = project.run("capsula", "capture")
    assert done.returncode == 0, done
    (capsule,) = project.capsules()
    assert done.stdout.decode().strip() == str(capsule)
    context = project.read("context.json")
    assert context["root_directory"] == context["cwd"] == str(project.root)
    assert set(context["platform"]) == {
        "machine", "node", "platform", "release", "version", "system", "processor", "python",
    }  # fmt: skip
    assert context["environment_variables"] == {"HOME": str(project.ws.home)}
    (repository,) = context["git"].values()
    assert (repository["sha"], repository["branch"]) == (project.git("rev-parse", "HEAD"), "main")
    assert context["files"]["a.txt"]["hash_algorithm"] == "sha256"
    assert len(context["files"]["a.txt"]["file_hash"]) == 64
    assert {"brand_raw", "count", "flags"} & set(context["cpu"])
    assert project.read("capsule.json")["status"] == "finished"


def test_a_preparing_command_that_fails_is_said_and_the_rest_is_captured(project):
    project.write(
        "capsula.toml",
        "[capture]\ninclude-cpu = false\npre-capture-commands = ['echo one > first', 'exit 3', 'echo > third']\n",
    )
    done = project.run("capsula", "capture")
    assert done.returncode == 1
    assert b"the pre-capture command exit 3 failed (exit code 3)" in done.stderr
    assert (project.root / "first").exists()
    assert not (project.root / "third").exists()
    assert "platform" in project.read("context.json")
    assert "exit code 3" in project.read("capsule.json")["troubles"][0]


# ---------------------------------------------------------------------------------------------------- monitor


def test_a_monitored_command_is_recorded_and_what_it_writes_is_passed_on(project):
    project.write(
        "capsula.toml",
        "[capture]\ninclude-cpu = false\n[monitor.item.plot.files]\n'out.png' = {hash = 'sha256', move = true}\n",
    )
    done = project.monitor("-i", "plot", "sh", "-c", "echo told; echo warned >&2; echo figure > out.png")
    assert (done.returncode, done.stdout) == (0, b"told\n")
    assert done.stderr.startswith(b"warned\ncapsula: recorded in ")
    before, after = project.read("pre-run-info.json"), project.read("post-run-info.json")
    assert before["args"] == ["sh", "-c", "echo told; echo warned >&2; echo figure > out.png"]
    assert before["root_directory"] == before["cwd"] == str(project.root)
    assert TIME.fullmatch(before["timestamp"])
    assert TIME.fullmatch(after["timestamp"])
    assert re.fullmatch(r"PT[\d.]+S", after["run_time"])
    assert (after["stdout"], after["stderr"], after["exit_code"]) == ("told\n", "warned\n", 0)
    assert after["files"]["out.png"]["hash_algorithm"] == "sha256"
    assert (project.capsules()[0] / "out.png").read_text() == "figure\n"
    assert not (project.root / "out.png").exists()
    assert "platform" in project.read("context.json")


def test_the_options_of_the_command_are_its_own(project):
    done = project.monitor("-q", "printf", "%s ", "-i", "--help", "--", "-C")
    assert done.stdout == b"-i --help -- -C "


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no command to run"),
        (("-x", "true"), "no option -x"),
        (("-i", "nothing", "true"), "there is no item nothing"),
        (("-C", "/nowhere/at/all", "true"), "/nowhere/at/all"),
        (("-i",), "-i needs a value"),
    ],
)
def test_what_was_typed_wrong_is_said_before_anything_runs(project, words, said):
    done = project.monitor(*words)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert project.capsules() == []


def test_a_vault_that_cannot_be_does_not_stop_the_command(project):
    project.write("vault", "a file of the user's")
    done = project.monitor("echo", "told")
    assert (done.returncode, done.stdout) == (0, b"told\n")
    assert b"not recorded" in done.stderr
    assert project.ws.read("vault") == "a file of the user's"


def test_a_sealed_capsule_names_all_its_files_and_is_read_only(project):
    project.monitor("-q", "echo", "told")
    (capsule,) = project.capsules()
    named = {file["name"] for file in project.read("capsule.json")["files"]}
    there = {str(path.relative_to(capsule)) for path in capsule.rglob("*") if not path.is_dir()}
    assert named == there - {"capsule.json"}
    assert all(path.stat().st_mode & 0o222 == 0 for path in capsule.rglob("*") if path.is_file())
    assert (project.root / "vault").stat().st_mode & 0o777 == 0o700
    assert (project.root / "vault/.gitignore").read_text().strip() == "*"


def test_a_killed_recorder_leaves_a_capsule_that_says_so(project):
    process = subprocess.Popen(
        ["capsula", "monitor", "sh", "-c", "echo begun; exec sleep 60"],
        cwd=project.root, env=project.environ, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert project.read("capsule.json")["status"] == "running"


# ---------------------------------------------------------------------------------------------------- decorator

HEAD = "import capsula, json, sys\n"


def test_a_decorated_function_is_recorded(project):
    done = project.python(
        HEAD
        + """
@capsula.monitor(include_return_value=True)
def main(n: int, seed: int | None = None) -> float:
    print("told")
    return n / 2

print(main(3), main(4, seed=1), main.__name__)
"""
    )
    assert done.stdout == b"told\ntold\n1.5 2.0 main\n", done
    assert len(project.capsules()) == 2
    before, after = project.read("pre-run-info.json", 0), project.read("post-run-info.json", 0)
    assert (before["function_name"], before["args"], before["kwargs"]) == ("main", [3], {})
    assert before["arguments"] == {"n": 3, "seed": None}
    assert before["source_file"].endswith("script.py")
    assert before["source_line"] == 3
    assert (after["return_value"], after["exception_info"]) == (1.5, None)
    assert project.read("post-run-info.json", 1)["return_value"] == 2.0


def test_methods_coroutines_generators_and_pickles_work(project):
    done = project.python(
        HEAD
        + """
import asyncio, pickle

class Model:
    @capsula.monitor
    def fit(self, x): return x + 1
    @staticmethod
    @capsula.monitor
    def still(x): return x

@capsula.monitor
async def later(x):
    await asyncio.sleep(0)
    return x

@capsula.monitor
def numbers(n):
    got = yield n
    return got

@capsula.monitor
async def stream(n):
    for x in range(n):
        yield x

@capsula.monitor
def eat(items): return list(items)

async def main():
    return [await later(1), [x async for x in stream(3)]]

print(Model().fit(1), Model.still(2), asyncio.run(main()), eat(x for x in (1, 2)))
g = numbers(5)
print(next(g))
try:
    g.send("sent")
except StopIteration as end:
    print(end.value)
print(pickle.loads(pickle.dumps(eat)) is eat)
"""
    )
    assert done.stdout.decode() == "2 2 [1, [0, 1, 2]] [1, 2]\n5\nsent\nTrue\n", done
    assert len(project.capsules()) == 6
    assert {project.read("capsule.json", at)["status"] for at in range(6)} == {"finished"}


def test_a_nested_call_names_its_parent(project):
    project.python(
        HEAD + "@capsula.monitor\ndef inner(): pass\n@capsula.monitor\ndef outer(): inner()\nouter()\n"
    )
    records = {project.read("capsule.json", at)["command"]: project.read("capsule.json", at) for at in (0, 1)}
    outer, inner = records["__main__.outer"], records["__main__.inner"]
    assert (outer["parent"], inner["parent"]) == (None, outer["id"])
    done = project.monitor("-q", sys.executable, "script.py")
    assert done.returncode == 0
    later = [project.read("capsule.json", at) for at in range(2, 5)]
    ids = {record["command"].rpartition(".")[2]: record["id"] for record in later}
    parents = {record["command"].rpartition(".")[2]: record["parent"] for record in later}
    assert parents["outer"] == next(record["id"] for record in later if record["kind"] == "monitor")
    assert parents["inner"] == ids["outer"]


def test_a_project_that_cannot_be_read_does_not_stop_the_function(project):
    project.write("capsula.toml", "vault-director = 'x'\n")
    done = project.python(HEAD + "@capsula.monitor\ndef f(): return 1\nprint(f())\n")
    assert done.stdout == b"1\n"
    assert b"not recorded" in done.stderr


def test_importing_capsula_imports_next_to_nothing(project):
    done = project.run(
        sys.executable, "-c", "import sys; a = set(sys.modules); import capsula; print(set(sys.modules) - a)"
    )
    assert done.stdout == b"{'capsula'}\n"


# ---------------------------------------------------------------------------------------------------- list, show


def test_capsules_are_listed_and_shown(project):
    done = project.run("capsula", "list")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"no such capsule" in done.stderr
    project.write("capsula.toml", "[capture]\ninclude-cpu = false\n[monitor.item.x]\n")
    project.monitor("-q", "-i", "x", "echo", "first")
    project.monitor("-q", "sh", "-c", "echo second; exit 3")
    first, second = project.capsules()
    listed = project.run("capsula", "list").stdout.decode().splitlines()
    assert [line.split()[0] for line in listed] == ["capsule", second.name, first.name]
    assert len(project.run("capsula", "list", "--status", "failed").stdout.splitlines()) == 2
    assert len(project.run("capsula", "list", "-i", "x").stdout.splitlines()) == 2
    assert json.loads(project.run("capsula", "list", "-n", "1", "--json").stdout)["name"] == second.name
    shown = project.run("capsula", "show").stdout.decode()
    assert "failed, exit code 3" in shown
    assert "  second" in shown
    assert "echo first" in project.run("capsula", "show", "x").stdout.decode()
    whole = json.loads(project.run("capsula", "show", "@-2", "--json").stdout)
    assert (whole["post-run-info"]["stdout"], whole["context"]["cwd"]) == ("first\n", str(project.root))
    assert project.run("capsula", "show", first.name, "--file", "stdout.txt").stdout == b"first\n"
    done = project.run("capsula", "show", first.name, "--file", "../../capsula.toml")
    assert (done.returncode, done.stdout) == (2, b"")
    assert project.run("capsula", "show", "nothing").returncode == 2


def test_a_capsule_that_was_changed_is_found_out(project):
    project.monitor("-q", "echo", "told")
    done = project.run("capsula", "show", "--verify")
    assert done.returncode == 0, done
    assert b"all as they were sealed" in done.stdout
    log = project.capsules()[0] / "stdout.txt"
    log.chmod(0o600)
    log.write_text("something else")
    done = project.run("capsula", "show", "--verify")
    assert (done.returncode, done.stdout) == (1, b"  stdout.txt: other bytes than were sealed\n")


# ---------------------------------------------------------------------------------------------------- diff


def test_what_differs_between_two_runs_is_told(project):
    project.write("job.py", "import sys\nprint('fixed')\nprint('lr', sys.argv[1])\n")
    project.git("init")
    project.git("add", "job.py")
    project.git("commit", "-m", "x")
    project.monitor("-q", sys.executable, "job.py", "0.1")
    project.monitor("-q", sys.executable, "job.py", "0.1")
    done = project.run("capsula", "diff", "--exit-code")
    assert (done.returncode, done.stderr) == (0, b""), done
    assert b"Nothing that is recorded differs" in done.stdout
    project.write("job.py", "import sys\nprint('fixed')\nprint('lr', sys.argv[1])\nsys.exit(4)\n")
    project.monitor("-q", sys.executable, "job.py", "0.2", environ={"SCALE": "3"})
    done = project.run("capsula", "diff", "@-2", "@latest", "--exit-code", "-u")
    assert done.returncode == 1
    told = [" ".join(line.split()) for line in done.stdout.decode().splitlines()]
    assert told[3:] == [
        *("How it ended", "status finished → failed", "exit_code 0 → 4", ""),
        *("Command", "[2] 0.1 → 0.2", ""),
        *("Code", "work job.py changed in the second only (+1 -0)", ""),
        *("Variables", "SCALE (none) → 3", ""),
        *("Logs", "stdout, line 2 lr 0.1 → lr 0.2"),
        *("--- - stdout", "+++ + stdout", "@@ -1,2 +1,2 @@", "fixed", "-lr 0.1", "+lr 0.2"),
    ]
    told = json.loads(project.run("capsula", "diff", "--json", "--only", "command").stdout)
    assert (told["same"], [section["name"] for section in told["sections"]]) == (False, ["command"])
    assert project.run("capsula", "diff", "--only", "comand").returncode == 2
    assert project.run("capsula", "diff", "nothing").returncode == 2
