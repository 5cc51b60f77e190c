"""A vault that is closed, full, damaged or left behind by something that died: the verbs that find capsules answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


class Vault:
    def __init__(self, ws) -> None:
        self.ws = ws
        self.place: Path = ws.root / "vault"
        ws.write("capsula.toml", "[monitor]\ncapture = false\n")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.ws.prefix, "capsula", *words], cwd=self.ws.root, env=self.ws.environ, capture_output=True,
            text=True, stdin=subprocess.DEVNULL, timeout=200,
        )  # fmt: skip

    def monitor(self, *words: str) -> None:
        assert self.call("monitor", "-q", *words).returncode == 0

    def names(self) -> list[str]:
        done = self.call("list", "--json", "-n", "0")
        assert (done.returncode, done.stderr) == (0, ""), done
        return [json.loads(line)["name"] for line in done.stdout.splitlines()]

    def runs(self) -> set[str]:
        return {path.parent.name for path in self.place.glob("*/capsule.json")}


@pytest.fixture
def vault(ordinary):
    made = Vault(ordinary)
    for number in range(3):
        made.monitor("echo", f"run {number}")
    yield made
    subprocess.run(["chmod", "-R", "u+rwX", made.ws.root], check=True)


@pytest.mark.parametrize("has_index", [True, False])
def test_a_vault_that_cannot_be_written_to_answers(vault, has_index):
    if has_index:
        vault.names()
    vault.place.chmod(0o500)
    if has_index:
        (vault.place / ".capsula").chmod(0o500)
    assert set(vault.names()) == vault.runs()
    assert "run 1" in vault.call("search", "run 1").stdout
    assert vault.call("show", "@-2").returncode == 0
    for words in (
        ("tag", "@latest", "x"),
        ("note", "@latest", "x"),
        ("rm", "-y", "@latest"),
        ("gc", "--keep-last", "0"),
    ):
        done = vault.call(*words)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), done
    assert len(vault.runs()) == 3


@pytest.mark.parametrize("name", ["index.sqlite", "notes", "."])
@pytest.mark.parametrize("trouble", ["closed", "a file", "a directory"])
def test_whatever_lies_in_the_place_of_the_index_the_capsules_are_listed(vault, name, trouble):
    path = vault.place / ".capsula" / name
    vault.call("tag", "@latest", "x")
    if trouble == "closed":
        path.chmod(0)
    else:
        path.rename(vault.ws.root / "aside")
        path.write_bytes(b"\0" * 5000) if trouble == "a file" else path.mkdir()
    assert set(vault.names()) == vault.runs()


def test_a_capsule_that_cannot_be_looked_into_is_told_of_and_hides_no_other(vault):
    closed = vault.place / vault.names()[0]
    closed.chmod(0)
    rows = [json.loads(line) for line in vault.call("list", "--json").stdout.splitlines()]
    assert {row["path"]: row["status"] for row in rows}[str(closed)] == "damaged"
    assert len(rows) == 3


def test_on_a_full_disk_the_vault_answers(vault, mount):
    disk = mount("size=1m")
    project = disk.path / "project"
    subprocess.run(["cp", "-a", vault.ws.root, disk.seen / "project"], check=True)
    disk.fill()
    done = subprocess.run(
        [*disk.prefix, "capsula", "list", "-C", project, "--json"],
        env=vault.ws.environ, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done


KILLER = """
import os, sys
from capsula.cli.capsula import main
count, kinds = int(sys.argv.pop(1)), sys.argv.pop(1).split(",")
def watch(event, _):
    global count
    if event in kinds:
        count -= 1
        if count == 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(watch)
sys.argv[0] = "capsula"
sys.exit(main())
"""


@pytest.mark.parametrize("moment", [3, 6, 7, 8])
@pytest.mark.parametrize("words", [("rm", "-y", "@latest"), ("gc", "--keep-last", "1")])
def test_a_kill_at_any_moment_leaves_whole_capsules(vault, words, moment):
    before = vault.runs()
    subprocess.run(
        [sys.executable, "-c", KILLER, str(moment), "os.rename,os.remove,os.rmdir,os.mkdir,sqlite3.connect", *words],
        cwd=vault.ws.root, env=vault.ws.environ, capture_output=True, timeout=200,
    )  # fmt: skip
    assert vault.runs() <= before
    assert set(vault.names()) == vault.runs()
    for place in vault.place.glob("[!.]*"):
        sealed = json.loads((place / "capsule.json").read_text())["files"]
        assert all((place / row["name"]).exists() for row in sealed), place
    assert vault.call("gc").returncode == 0
    assert not list((vault.place / ".capsula").glob("removed/*"))


def test_the_first_indexing_tells_how_far_it_is_on_a_terminal_only(vault):
    import pty

    script = "import time; real = time.monotonic; time.monotonic = lambda: real() * 1e6; "
    script += "import sys; from capsula.cli.capsula import main; sys.exit(main())"
    for is_terminal in (True, False):
        for left in (vault.place / ".capsula").glob("index*"):
            left.unlink()
        master, terminal = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-c", script, "list"], cwd=vault.ws.root, env=vault.ws.environ,
            stdout=subprocess.PIPE, stderr=terminal if is_terminal else subprocess.PIPE, timeout=200,
        )  # fmt: skip
        os.close(terminal)
        said = b""
        try:
            said = os.read(master, 4096)
        except OSError:
            assert not is_terminal
        os.close(master)
        assert done.returncode == 0
        assert (b"indexing: 100 %" in said) is is_terminal
        assert is_terminal or done.stderr == b""
