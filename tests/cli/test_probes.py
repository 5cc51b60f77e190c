"""What `capsula capture` and `capsula monitor` do with probes: through the installed commands."""

import json
import os
import subprocess

import pytest

from recorded import capsules_of

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
WHO = ("-c", "user.name=me", "-c", "user.email=me@host", "-c", "init.defaultBranch=main")
HANGING = """
import time
from capsula.core.found import Found
class probe:
    name = "slow"
    def __init__(self, around): pass
    def read(self):
        time.sleep(3600)
"""
FAILING = "def probe(around, **options):\n    raise ValueError('no weather today')\n"


@pytest.fixture
def run(ws):
    def run(*words, environ=(), code=0):
        done = subprocess.run(
            words,
            cwd=ws.root,
            env={**ws.environ, **GIT, **dict(environ)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done
        return done

    return run


def captured(ws, at=-1):
    return capsules_of(ws.root)[at]


def context(ws, at=-1):
    return json.loads((captured(ws, at) / "context.json").read_text())


def key_facts(ws, at):
    """By what context.json itself says of it."""
    told = context(ws, at)
    facts = {}
    for name, probe in told["probes"].items():
        for pointer in probe["key_facts"]:
            value = told
            for step in pointer[1:].split("/"):
                value = value[step.replace("~1", "/").replace("~0", "~")]
            facts[name, pointer] = value
    return facts


def git(ws, *words):
    subprocess.run(
        ["git", *WHO, *words], cwd=ws.root, env={**ws.environ, **GIT}, check=True, capture_output=True
    )


def test_key_facts_are_the_same_in_two_captures_of_an_unchanged_machine(ws, run):
    ws.write("a.txt", "a\n")
    ws.write(
        "capsula.toml",
        "[capture]\nenvironment-variables = ['HOME', 'API_TOKEN', 'UNSET']\n"
        "[capture.files]\n'a.txt' = 'sha256'\n"
        "[capture.git.repositories]\n'a/b~c' = '.'\n[capture.commands]\nnow = 'date +%N'\n",
    )
    git(ws, "init", "-q")
    git(ws, "add", "-A")
    git(ws, "commit", "-qm", "one")
    ws.write("a.txt", "changed\n")
    for _ in range(2):
        run("capsula", "capture", "-q", environ={"API_TOKEN": "canary7canary7"})
    assert key_facts(ws, 0) == key_facts(ws, 1)
    names = {pointer for _, pointer in key_facts(ws, 0)}
    assert {
        "/platform/machine", "/cpu/flags", "/environment_variables", "/git/a~1b~0c/snapshot/tree", "/files",
        "/python/packages", "/python/version",
    } <= names  # fmt: skip
    assert not [name for name in names if name.startswith("/commands")]
    assert context(ws, 0)["commands"]["now"]["stdout"] != context(ws, 1)["commands"]["now"]["stdout"]


def test_the_changed_files_can_be_made_again_from_the_store(ws, run):
    ws.write("capsula.toml", "[capture]\n")
    ws.write("gone.txt", "1\n")
    git(ws, "init", "-q")
    git(ws, "add", "-A")
    git(ws, "commit", "-qm", "one")
    ws.path("gone.txt").unlink()
    ws.write("new/tool.sh", "#!/bin/sh\n", 0o755)
    run("capsula", "capture", "-q")
    (listed,) = captured(ws).glob("*.files.json")
    told = json.loads(listed.read_text())
    assert told["deleted"] == ["gone.txt"]
    (row,) = told["files"]
    assert (row["path"], row["mode"]) == ("new/tool.sh", "100755")
    blob = ws.store / "cas" / row["sha256"][0] / row["sha256"]
    assert blob.read_text() == "#!/bin/sh\n"
    # What a sweep keeps is what an entry names.
    run("capsula", "cache", "gc")
    os.utime(blob, (1, 1))
    run("capsula", "cache", "gc")
    assert blob.exists()
    run("capsula", "cache", "verify")


def test_a_probe_that_hangs_delays_nothing_for_longer_than_its_limit(ws, run):
    ws.write("slow.py", HANGING)
    ws.write("capsula.toml", "[capture.probes.slow]\nmodule = 'slow.py'\ntime-limit = 0.1\n")
    done = run("capsula", "monitor", "echo", "went on")
    assert done.stdout == "went on\n"
    assert "can't look at slow: it took more than 0.1 s" in done.stderr
    told = context(ws)
    assert "wasn't waited for" in told["probes"]["slow"]["failed"]
    assert told["platform"]


@pytest.mark.parametrize("how", ["its own section", "the list", "git"])
def test_what_is_required_and_fails_keeps_the_command_from_running(ws, run, how):
    ws.write("weather.py", FAILING)
    section = "[capture.probes.weather]\nmodule = 'weather.py'\n"
    texts = {
        "its own section": section + "required = true\n",
        "the list": "[capture]\nrequired = ['weather']\n" + section,
        "git": "[capture]\nrequired = ['git']\n",
    }
    ws.write("capsula.toml", texts[how])
    done = run("capsula", "monitor", "touch", "ran", code=125)
    assert not ws.exists("ran")
    assert "the command isn't run" in done.stderr
    record = json.loads((captured(ws) / "capsule.json").read_text())
    assert (record["status"], record["exit_code"]) == ("failed", 125)
    assert run("capsula", "capture", code=1).stderr
    ws.write("capsula.toml", section)
    if how != "git":
        done = run("capsula", "monitor", "touch", "ran")
        assert "no weather today" in done.stderr
        assert ws.exists("ran")


def test_where_there_is_no_place_for_a_store_all_else_is_recorded(ws, run):
    ws.write("capsula.toml", "")
    git(ws, "init", "-q")
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), "")
    run("capsula", "capture", "-q", environ=nowhere)
    run("capsula", "monitor", "-q", "true", environ=nowhere)
    run("capsula", "list", environ=nowhere)
    (repository,) = context(ws)["git"].values()
    assert "aren't in the store" in repository["snapshot"]["left_out"][0]
    assert repository["snapshot"]["patch"]


def test_a_variable_is_kept_on_purpose_for_one_run(ws, run):
    ws.write("capsula.toml", "[capture]\nenvironment-variables = ['API_TOKEN']\n")
    environ = {"API_TOKEN": "canary7canary7", "OTHER_TOKEN": "canary8canary8"}
    for words in (("capture", "-q", "--keep", "API_TOKEN"), ("monitor", "-q", "--keep=API_TOKEN", "true")):
        run("capsula", *words, environ=environ)
        assert context(ws)["environment_variables"] == {"API_TOKEN": "canary7canary7"}
        assert "canary8canary8" not in "".join(path.read_text() for path in captured(ws).glob("*.json"))
    run("capsula", "capture", "-q", environ=environ)
    assert context(ws)["environment_variables"] == {"API_TOKEN": "***"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[capture]\nrequired = ['gti']\n", "did you mean git?"),
        ("[capture.probes.git]\nmodule = 'x'\n", "a probe of Capsula has this name"),
        ("[capture.probes.x]\nmodule = 3\n", "module: expected"),
        ("[capture.probes.x]\nrequired = 'yes'\n", "required: expected true or false"),
        ("[capture.probes.x]\ntime-limit = -1\n", "time-limit: expected a number"),
        ("[capture.probes]\nx = 3\n", "expected a table"),
        ("[capture]\ntime-limit = -1\n", "expected a number, 0 or more"),
        ("[capture]\ntime-limit = true\n", "expected a number"),
        ("[capture.git]\nfile-limit-mib = 'x'\n", "expected a whole number"),
        ("[capture.git]\nfile-limits = 3\n", "did you mean file-limit-mib?"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_said_with_its_line(ws, run, text, said):
    ws.write("capsula.toml", text)
    done = run("capsula", "capture", code=2)
    assert said in done.stderr
    assert "capsula.toml:" in done.stderr


def test_the_python_of_the_command_is_described(ws, run):
    subprocess.run(["python3", "-m", "venv", "--without-pip", "other"], cwd=ws.root, check=True)
    ws.write("capsula.toml", "")
    done = run("capsula", "monitor", "-q", "other/bin/python", "-c", "import sys; print(sys.prefix)")
    told = context(ws)["python"]
    assert (told["of"], told["prefix"]) == ("command", done.stdout.strip())
    assert "capsula" not in told["packages"]
