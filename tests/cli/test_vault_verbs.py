"""The verbs that find, mark and remove capsules, through the installed command."""

import json
import subprocess
import sys

import pytest


class Vault:
    """A project whose vault fills, and the verbs in it."""

    def __init__(self, ws) -> None:
        self.ws = ws
        self.place = ws.root / "vault"
        ws.write("capsula.toml", "[monitor]\ncapture = false\n[monitor.item.a]\n[monitor.item.b]\n")

    def run(self, *words: str, code: int = 0) -> str:
        """What it prints on stdout."""
        done = self.call(*words)
        assert done.returncode == code, done
        return done.stdout

    def call(self, *words: str, **more) -> subprocess.CompletedProcess[str]:
        environ = {**self.ws.environ, **more.pop("environ", {})}
        return subprocess.run(
            ["capsula", *words], cwd=self.ws.root, env=environ, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=200, **more,
        )  # fmt: skip

    def monitor(self, *words: str) -> str:
        """The name of the new capsule."""
        before = set(self.names())
        self.call("monitor", *words)
        (name,) = set(self.names()) - before
        return name

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.place.glob("*/capsule.json"))

    def listed(self, *words: str) -> list[dict]:
        return [json.loads(line) for line in self.run("list", "--json", *words).splitlines()]


@pytest.fixture
def vault(ws):
    return Vault(ws)


# ----------------------------------------------------------------------------------------------- tags, notes


def test_tags_and_notes_lie_beside_the_sealed_capsule(vault):
    name = vault.monitor("true")
    assert vault.run("tag", "@latest", "good", "baseline", "good") == f"{name}: baseline, good\n"
    assert vault.run("note", name, "the one for the paper") == ""
    assert vault.run("tag", name) == "baseline\ngood\n"
    assert vault.run("note", name) == "the one for the paper\n"
    shown = json.loads(vault.run("show", "--json"))
    assert (shown["tags"], shown["note"]) == (["baseline", "good"], "the one for the paper")
    page = vault.run("show")
    assert "baseline, good" in page
    assert "Note\n  the one for the paper" in page
    assert "all as they were sealed" in vault.run("show", "--verify")


def test_tags_and_notes_are_taken_away_again(vault):
    name = vault.monitor("true")
    vault.run("tag", name, "a", "b")
    assert vault.run("tag", name, "--remove", "a") == f"{name}: b\n"
    assert vault.run("tag", name, "--remove", "a", code=1) == f"{name}: b\n"
    vault.run("note", name, "x")
    vault.run("note", name, "")
    assert vault.run("note", name) == ""
    assert "has no note" in vault.call("note", name).stderr


def test_what_a_run_said_of_itself_is_shown_and_can_be_changed(vault):
    vault.ws.write(
        "run.py",
        "import capsula\nwith capsula.run('x') as run:\n    run.tag('own')\n    run.note('inside')\n",
    )
    subprocess.run([sys.executable, "run.py"], cwd=vault.ws.root, env=vault.ws.environ, check=True)
    (name,) = vault.names()
    assert vault.run("tag", name, "given") == f"{name}: given, own\n"
    assert vault.run("note", name) == "inside\n"
    vault.run("note", name, "outside")
    for words in (("list", "--json"), ("show", "--json")):
        said = json.loads(vault.run(*words))
        assert (said["tags"], said["note"]) == (["given", "own"], "outside")
    assert [each["name"] for each in vault.listed("--tag", "own")] == [name]
    assert vault.run("tag", name, "--remove", "own", "given") == f"{name}: no tags\n"
    assert vault.listed("--tag", "own") == []


@pytest.mark.parametrize(
    "words", [("tag", "@latest", "a b"), ("tag", "@latest", "--remove"), ("tag", "nothing", "a")]
)
def test_what_can_t_be_tagged_is_refused(vault, words):
    vault.monitor("true")
    assert vault.call(*words).returncode == 2
    assert not list(vault.place.glob(".capsula/notes/*.json"))


# ----------------------------------------------------------------------------------------------------- list


def test_a_list_is_chosen_by_conditions_items_tags_status_and_time(vault):
    good = vault.monitor("-i", "a", "sh", "-c", "echo good")
    bad = vault.monitor("-i", "b", "sh", "-c", "exit 3")
    vault.run("tag", good, "kept")
    questions = {
        ("-i", "a"): [good],
        ("-i", "a", "-i", "b"): [bad, good],
        ("-t", "kept"): [good],
        ("--status", "failed"): [bad],
        ("--where", "exit_code = 3"): [bad],
        ("--where", "exit_code >= 0", "--where", "not tags = kept"): [bad],
        ("-w", "command ~ GOOD or items = b"): [bad, good],
        ("--since", "1h"): [bad, good],
        ("--until", "1h"): [],
        ("--since", "2020-01-01", "--until", "2021-01-01T12:00"): [],
        ("-n", "1"): [bad],
        ("-n", "1", "--reverse"): [good],
        ("--sort", "exit_code"): [good, bad],
        ("--sort", "exit_code", "-r"): [bad, good],
    }
    assert {words: [each["name"] for each in vault.listed(*words)] for words in questions} == questions


def test_a_list_shows_the_columns_that_are_asked_for(vault):
    name = vault.monitor("-i", "a", "-i", "b", "true")
    vault.run("tag", name, "x")
    assert vault.run("list", "--columns", "capsule,exit_code,items,nothing").splitlines() == [
        "  capsule                 exit_code  items  nothing",
        f"  {name}          0  a, b",
    ]
    (row,) = vault.listed("--columns", "exit_code,items,tags,nothing,path")
    assert row.pop("id")
    assert row == {
        "exit_code": 0,
        "items": ["a", "b"],
        "tags": "x",
        "nothing": None,
        "path": f"{vault.place}/{name}",
    }


def test_a_list_shows_tags_and_notes(vault):
    name = vault.monitor("true")
    assert "tags" not in vault.run("list")
    vault.run("tag", name, "baseline")
    vault.run("note", name, "first line\nsecond")
    head, row = vault.run("list").splitlines()
    assert head.split() == ["capsule", "started", "kind", "status", "time", "tags", "note", "command"]
    assert "baseline" in row
    assert "first line" in row
    assert "second" not in row


def test_a_name_that_no_capsule_has_is_said_with_the_nearest(vault):
    vault.monitor("true")
    done = vault.call("list", "--where", "exit_cod = 0", "--columns", "capsule,secnds")
    assert done.returncode == 0
    assert "no capsule has exit_cod; did you mean exit_code?" in done.stderr
    assert "no capsule has secnds; did you mean seconds?" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--where", "exit_code"), "expected an operator"),
        (("--since", "yesterday-ish"), "expected a time like"),
        (("--status", "finishd"), "did you mean finished?"),
        (("--wher", "a = 1"), "did you mean --where?"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(vault, words, said):
    done = vault.call("list", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_list_tells_of_capsules_that_run_that_crashed_and_that_are_damaged(vault):
    done = vault.monitor("true")
    ready = vault.ws.path("ready")
    vault.ws.write("wait.sh", "mkfifo go; touch ready; read line < go\n")
    running = subprocess.Popen(
        ["capsula", "monitor", "sh", "wait.sh"], cwd=vault.ws.root, env=vault.ws.environ
    )
    try:
        while not ready.exists():
            assert running.poll() is None
        (live,) = set(vault.names()) - {done}
        assert vault.call("rm", "-y", live).returncode == 2
        assert {each["name"]: each["status"] for each in vault.listed()} == {
            done: "finished",
            live: "running",
        }
    finally:
        running.kill()
        running.wait()
        with vault.ws.path("go").open("r+b", buffering=0) as go:
            go.write(b"\n")  # the command ends, too
    assert {each["name"]: each["status"] for each in vault.listed()} == {done: "finished", live: "crashed"}
    assert [each["name"] for each in vault.listed("--status", "crashed")] == [live]
    record = vault.place / done / "capsule.json"
    sealed = record.read_text()
    record.chmod(0o600)
    record.write_text("{")
    assert {each["path"]: each["status"] for each in vault.listed()} == {
        f"{vault.place}/{done}": "damaged",
        f"{vault.place}/{live}": "crashed",
    }
    assert "damaged" in vault.run("list")
    record.write_text(sealed)
    assert {each["name"]: each["status"] for each in vault.listed()} == {done: "finished", live: "crashed"}


# --------------------------------------------------------------------------------------------------- search


def test_a_search_says_where_the_text_stands(vault):
    printed = vault.monitor("sh", "-c", "echo one; echo Needle in hay")
    noted = vault.monitor("true")
    vault.run("note", noted, "no needle here")
    lines = vault.run("search", "NEEDLE").splitlines()
    assert lines == [
        f"{noted}  finished",
        "  note  no needle here",
        f"{printed}  finished",
        "  command  sh -c echo one; echo Needle in hay",
        "  stdout.txt:2  Needle in hay",
    ]
    first, second = (json.loads(line) for line in vault.run("search", "--json", "needle").splitlines())
    assert (first["name"], first["found"]) == (
        noted,
        [{"where": "note", "line": None, "text": "no needle here"}],
    )
    assert {"where": "stdout.txt", "line": 2, "text": "Needle in hay"} in second["found"]
    assert vault.run("search", "needle", "-n", "1").splitlines()[0] == f"{noted}  finished"
    assert (
        vault.run("search", "needle", "--where", "command ~ echo").splitlines()[0] == f"{printed}  finished"
    )


@pytest.mark.parametrize("text", ["-x", "--flag", "--a_b", "-h"])
def test_a_text_that_looks_like_an_option_is_searched_for_behind_two_hyphens(vault, text):
    name = vault.monitor("echo", "+", f"[{text}]")
    assert vault.run("search", "--", f"[{text}]") != ""
    assert json.loads(vault.run("search", "--json", "--", text))["name"] == name
    assert vault.run("note", name, "--", text) == ""
    assert vault.run("note", name) == f"{text}\n"
    assert vault.call("search", "--", "--no-such").returncode == 1


def test_a_damaged_capsule_is_listed_and_shown_with_the_reason(vault):
    names = [vault.monitor("echo", "hello") for _ in range(2)]
    record = vault.place / names[0] / "capsule.json"
    record.chmod(0o600)
    record.write_text("{")
    (vault.place / names[1] / "capsule.json").unlink()
    whys = ["capsule.json: Expecting property name", "capsule.json: it isn't there"]
    for name, why in zip(names, whys, strict=True):
        (line,) = [line for line in vault.run("list").splitlines() if name in line]
        assert "damaged" in line
        assert why in line
        (row,) = [row for row in vault.listed("--status", "damaged") if row["path"].endswith(name)]
        assert row["troubles"][0].startswith(why)
        for asked in (name, f"vault/{name}"):
            page = vault.run("show", asked)
            assert "damaged" in page
            assert why in page
            assert "hello" in page, "what is there is shown"
    assert vault.run("rm", "-y", *names) != ""
    assert vault.listed() == []


def test_what_of_a_capsule_can_t_be_read_is_said_and_the_rest_shown(vault):
    vault.monitor("echo", "hello")
    (vault.place / vault.names()[0] / "pre-run-info.json").write_text("{")
    (vault.place / vault.names()[0] / "context.json").write_text("{")
    done = vault.call("show")
    assert (done.returncode, "hello" in done.stdout) == (0, True)
    assert "context.json: Expecting" in done.stderr
    assert json.loads(vault.run("show", "--json"))["context"] == {}
    assert vault.run("rm", "-y", "@latest") != ""


def test_a_search_that_finds_nothing_ends_with_1(vault):
    vault.monitor("true")
    done = vault.call("search", "nowhere to be found")
    assert (done.returncode, done.stdout) == (1, "")
    assert "in no capsule" in done.stderr
    assert vault.call("search", "").returncode == 2


# ------------------------------------------------------------------------------------------------ rm and gc


def test_what_is_removed_is_gone(vault):
    names = [vault.monitor("true") for _ in range(3)]
    assert vault.call("rm", names[0]).returncode == 2  # nobody can be asked
    assert len(vault.names()) == 3
    said = vault.run("rm", "-y", "@latest", "@-2", names[2])
    assert said.startswith("Removed 2 capsules: ")
    assert "KiB freed" in said
    assert vault.names() == names[:1]
    assert [each["name"] for each in vault.listed()] == names[:1]
    assert vault.call("rm", "-y", names[0], "nothing").returncode == 2
    assert vault.names() == names[:1]


def test_gc_keeps_what_is_marked_and_what_it_is_told_to_keep(vault):
    names = [vault.monitor("true") for _ in range(5)]
    vault.run("tag", names[0], "good")
    assert vault.run("gc") == "Nothing to remove.\nKept 5 capsules, 1 of them with tags or notes.\n"
    tried = vault.run("gc", "--keep-last", "2", "--dry-run")
    assert [line.split()[0] for line in tried.splitlines()[:-1]] == [names[2], names[1]]
    assert tried.splitlines()[-1].startswith("Would remove 2 things: ")
    assert len(vault.names()) == 5
    assert vault.run("gc", "--keep-last", "2").startswith("Removed 2 capsules: ")
    assert set(vault.names()) == {names[0], *names[3:]}
    assert vault.run("gc", "--older-than", "1h").startswith("Nothing")
    assert vault.run("gc", "--older-than", "0").startswith("Removed 2 capsules")
    assert vault.names() == [names[0]]


def test_gc_finishes_a_removal_and_takes_crashed_runs(vault):
    name = vault.monitor("true")
    left = vault.place / ".capsula" / "removed" / "abc"
    left.mkdir(parents=True)
    (left / "file").write_text("x")
    crashed = vault.place / name / "capsule.json"
    crashed.chmod(0o600)
    crashed.write_text(
        json.dumps({**json.loads(crashed.read_text()), "status": "running", "boot_id": "another"})
    )
    assert vault.run("gc").startswith("Removed 1 leftover: ")
    assert vault.names() == [name]
    assert vault.run("gc", "--crashed", "0").startswith("Removed 1 capsule: ")
    assert vault.names() == []


def test_a_python_without_sqlite_is_named(vault):
    vault.monitor("true")
    script = (
        "import sys; sys.modules['sqlite3'] = None; from capsula.cli.capsula import main; sys.exit(main())"
    )
    words = [sys.executable, "-c", script, "list"]
    done = subprocess.run(words, cwd=vault.ws.root, env=vault.ws.environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "built without sqlite3" in done.stderr
    assert "inside capsula" not in done.stderr
