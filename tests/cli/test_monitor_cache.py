"""`capsula monitor --cache` through the installed commands: a recorded run that is a cached action as well."""

import json
import os
import signal
import subprocess

import pytest

from recorded import Recorded

RUN = ("sh", "-c", 'echo ran >> "$MARK"; cat in.txt | tee out.txt; echo told >&2')
DECLARED = ("--cache", "--input", "in.txt", "--output", "out.txt")
PLAIN = "[capture]\ninclude-cpu = false\n"


class Project(Recorded):
    def __init__(self, ws) -> None:
        self.ws, self.root = ws, ws.root
        ws.write("capsula.toml", PLAIN)
        ws.write("in.txt", "one\n")

    def monitor(self, *options, command=RUN, environ=None, **more):
        return subprocess.run(
            ["capsula", "monitor", *options, *command],
            cwd=more.pop("cwd", self.ws.root),
            env=self.ws.environ_with(environ),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=200,
            **more,
        )

    def start(self, *options, command=RUN, **more):
        process = subprocess.Popen(
            ["capsula", "monitor", *options, *command],
            **{
                "cwd": self.ws.root,
                "env": self.ws.environ,
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                **more,
            },
        )
        self.ws.started.append(process)
        return process

    @property
    def ran(self):
        return self.ws.marks()


@pytest.fixture
def project(ws):
    return Project(ws)


def test_a_hit_says_which_run_made_the_result_and_claims_no_run_of_its_own(project):
    first = project.monitor("-q", *DECLARED)
    assert (first.returncode, first.stdout, first.stderr) == (0, "one\n", "told\n")
    project.ws.path("out.txt").unlink()
    second = project.monitor(*DECLARED)
    assert (second.returncode, second.stdout) == (0, "one\n")
    assert project.ran == 1
    assert project.ws.read("out.txt") == "one\n"

    maker, hit = project.read("capsule.json", 0), project.read("capsule.json", 1)
    assert (maker["outcome"], maker["made_by"]) == ("miss", None)
    assert maker["why"] == "it is the first run of this capsule"
    assert (hit["outcome"], hit["key"], hit["status"]) == ("hit", maker["key"], "finished")
    assert hit["made_by"]["capsule"] == maker["id"]
    assert hit["made_by"]["host"] == os.uname().nodename
    made, after = project.read("post-run-info.json", 0), project.read("post-run-info.json", 1)
    assert hit["made_by"]["run"] == made["result"]["run"]
    assert (made["started"], after["started"]) == (True, False)
    assert (after["exit_code"], after["stdout"], after["stderr"]) == (0, "one\n", "told\n")
    assert "resources" in made
    assert "resources" not in after
    assert after["result"]["restored"]["written"] == 1
    assert [row["path"] for row in after["result"]["inputs"]] == ["in.txt"]
    assert project.read("pre-run-info.json")["cache"]["outputs"] == ["out.txt"]
    lines = second.stderr.splitlines()
    assert lines[0] == "told"
    assert lines[1].startswith(f"capsula: hit: made by run {made['result']['run']} on ")
    assert lines[1].endswith(f", capsule {maker['id']}")
    assert lines[2].startswith("capsula: recorded in ")


def test_it_shares_its_results_with_capsule(project):
    ws = project.ws
    ws.capsule("-i", "in.txt", "-o", "out.txt", command=RUN)
    assert project.ran == 1
    project.monitor(*DECLARED)
    assert project.ran == 1
    assert project.read("capsule.json")["made_by"]["capsule"] is None
    ws.write("in.txt", "two\n")
    project.monitor(*DECLARED)
    assert ws.capsule("-i", "in.txt", "-o", "out.txt", command=RUN).out == "two\n"
    assert project.ran == 2


def test_the_history_of_the_store_has_it(project):
    project.monitor(*DECLARED)
    project.monitor(*DECLARED)
    rows = [json.loads(line) for line in project.ws.tool("history", "--json").out.splitlines()]
    assert {row["outcome"] for row in rows} == {"hit", "miss"}
    assert {row["id"] for row in rows} == {"sh"}


def test_an_edited_input_is_a_miss_that_is_explained_in_the_capsule(project):
    project.monitor(*DECLARED)
    project.ws.write("in.txt", "two\n")
    assert project.monitor(*DECLARED).stdout == "two\n"
    assert project.read("capsule.json")["why"] == "in.txt was edited"
    assert project.ran == 2


def test_what_the_items_name_is_declared(project):
    project.ws.write(
        "capsula.toml",
        PLAIN
        + "[monitor.item.copy]\ncache = true\nenvironment-variables = ['MODE']\n"
        + "[monitor.item.copy.inputs]\n'in.txt' = 'sha256'\n"
        + "[monitor.item.copy.files]\n'out.txt' = {hash = 'sha256', move = true}\n",
    )
    for _ in range(2):
        assert project.monitor("-i", "copy").stdout == "one\n"
        assert (project.capsules()[-1] / "out.txt").read_text() == "one\n"
        assert not project.ws.exists("out.txt")
    assert project.ran == 1
    assert project.read("post-run-info.json")["files"] == project.read("post-run-info.json", 0)["files"]
    assert project.read("capsule.json")["outcome"] == "hit"
    project.monitor("-i", "copy", environ={"MODE": "fast"})
    assert project.read("capsule.json")["why"] == "variable MODE is set now"
    project.monitor("-i", "copy", "--no-cache")
    assert project.ran == 3
    assert "outcome" not in project.read("capsule.json")


def test_the_path_of_an_item_is_no_pattern_and_starts_at_the_root(project):
    ws = project.ws
    ws.write(
        "capsula.toml", PLAIN + "[monitor]\ncache = true\n[monitor.item.x.inputs]\n'da[t]a/*.txt' = 'md5'\n"
    )
    ws.write("da[t]a/*.txt", "one")
    ws.write("da[t]a/b.txt", "one")
    command, below = ("sh", "-c", 'echo ran >> "$MARK"'), ws.path("da[t]a")
    for edited, runs in ((None, 1), (None, 1), ("b.txt", 1), ("*.txt", 2)):
        if edited:
            ws.write(f"da[t]a/{edited}", "two")
        project.monitor("-i", "x", command=command, cwd=below)
        assert project.ran == runs, edited


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        (("--cache",), {}, "nothing says what the result depends on"),
        (("--cache", "--output", "out.txt"), {}, "nothing says what the result depends on"),
        (DECLARED, {"CAPSULE_ARGS": "--passive"}, "--passive"),
        (DECLARED, {"CAPSULE_ARGS": "-b dummy"}, "the backend dummy keeps nothing"),
        (DECLARED, {"CAPSULE_ARGS": "--nonsense"}, "--nonsense"),
        (DECLARED, {"HOME": None, "XDG_CACHE_HOME": None}, "no place for the store"),
        ((*DECLARED, "--cache-context", "cwd"), {}, "no section cwd that may change a result"),
        ((*DECLARED, "--input", "no/such/*.file"), {}, "no input matches 'no/such/*.file'"),
    ],
)
def test_what_cannot_be_cached_is_said_runs_and_is_recorded(project, options, environ, said):
    for _ in range(2):
        done = project.monitor(*options, environ=environ)
        assert (done.returncode, done.stdout) == (0, "one\n")
        assert sum(said in line for line in done.stderr.splitlines()) == 1, done.stderr
        assert said in project.read("capsule.json")["why"]
        assert project.read("capsule.json")["outcome"] == "uncached"
        assert project.read("post-run-info.json")["stdout"] == "one\n"
    assert project.ran == 2


@pytest.mark.parametrize("more", ["", " --strict_remote", " --strict"])
def test_a_store_that_is_not_reached_is_no_reason_not_to_run(project, more):
    asked = {"CAPSULE_ARGS": f"--remote http://127.0.0.1:1/cache{more}"}
    for _ in range(2):
        done = project.monitor(*DECLARED, environ=asked)
        assert (done.returncode, done.stdout) == (0, "one\n")
    assert project.ran == 1


def test_a_failure_is_not_cached_and_its_exit_code_is_the_command_s(project):
    for _ in range(2):
        done = project.monitor(*DECLARED, command=("sh", "-c", 'echo ran >> "$MARK"; exit 3'))
        assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert project.ran == 2
    assert project.read("post-run-info.json")["result"]["not_stored"] == "the command failed (exit code 3)"


def test_the_vault_is_no_input_wherever_it_is(project):
    project.ws.write("capsula.toml", "vault-directory = 'runs/kept'\n" + PLAIN)
    command = ("sh", "-c", 'echo ran >> "$MARK"')
    for _ in range(3):
        project.monitor("--cache", "--input", "**", command=command)
    assert project.ran == 1


def test_key_facts_of_the_context_count_when_they_are_asked_for(project):
    project.ws.write(
        "capsula.toml",
        "[capture]\ninclude-cpu = false\nenvironment-variables = ['SEEN']\n"
        "[monitor]\ncache-context = ['environment_variables', 'python', 'platform']\n",
    )
    for value in ("a", "a", "b"):
        project.monitor(*DECLARED, environ={"SEEN": value})
    assert project.ran == 2
    assert project.read("capsule.json")["why"] == "context environment_variables changed"
    project.ws.write("capsula.toml", PLAIN)
    for value in ("b", "c"):
        project.monitor(*DECLARED, environ={"SEEN": value})
    assert project.ran == 3


def test_long_logs_are_replayed_and_recorded(project):
    size = 9 << 20
    command = ("sh", "-c", f'echo ran >> "$MARK"; head -c {size} /dev/zero')
    for _ in range(2):
        assert len(project.monitor("-q", *DECLARED[:3], command=command).stdout) == size
    assert project.ran == 1
    assert (project.capsules()[1] / "stdout.txt").stat().st_size == size
    assert list((project.ws.store / "tmp").iterdir()) == []


def test_of_two_at_once_one_runs_and_the_other_hits(project):
    gate = project.ws.fifo("gate")
    command = ("sh", "-c", 'echo ran >> "$MARK"; read x < "$GATE"; echo "$x" | tee out.txt')
    first = project.start(*DECLARED, command=command)
    with open(gate, "w") as opened:  # waits until the command reads from it
        second = project.start(*DECLARED, command=command)
        assert "capsula: waiting for process" in second.stderr.readline()
        opened.write("done\n")
    assert (first.communicate(timeout=200)[0], second.communicate(timeout=60)[0]) == ("done\n", "done\n")
    assert project.ran == 1
    assert [project.read("capsule.json", at)["outcome"] for at in (0, 1)] == ["miss", "hit"]


def test_after_a_kill_the_next_one_runs_and_keeps_its_result(project):
    gate = project.ws.fifo("gate")
    command = ("sh", "-c", 'echo ran >> "$MARK"; [ -e go ] || read x < "$GATE"; echo made | tee out.txt')
    process = project.start(*DECLARED, command=command, start_new_session=True)
    with open(gate, "w"):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(200)
    project.ws.write("go")
    for _ in range(2):
        assert project.monitor(*DECLARED, command=command).stdout == "made\n"
    assert project.ran == 2
    assert [project.read("capsule.json", at)["status"] for at in range(3)] == ["running", *["finished"] * 2]


@pytest.mark.parametrize("what", ["entry", "blob"])
def test_a_damaged_store_is_said_and_the_command_runs(project, what):
    project.monitor(*DECLARED)
    project.ws.path("out.txt").unlink()
    (entry,) = project.ws.entries()
    path = entry if what == "entry" else project.ws.blob(b"one\n")
    path.chmod(0o600)
    path.write_bytes(b"no" + path.read_bytes()[2:])
    done = project.monitor(*DECLARED)
    assert done.stdout == "one\n"
    assert project.ran == 2
    assert "the stored result" in done.stderr
    assert "the stored result" in project.read("capsule.json")["why"]
    project.monitor(*DECLARED)
    assert project.ran == 2
