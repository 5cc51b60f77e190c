"""`capsula export` and `capsula import` through the installed command."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest


class Place:
    """A project with a vault of its own."""

    def __init__(self, ws, name: str) -> None:
        self.ws = ws
        self.root: Path = ws.base / name
        self.root.mkdir()
        (self.root / "capsula.toml").write_text("[capture]\ninclude-cpu = false\n")

    def run(self, *words: str, **more):
        return subprocess.run(
            words,
            cwd=self.root,
            env=self.ws.environ,
            timeout=200,
            **{"stdin": subprocess.DEVNULL, "capture_output": True, **more},
        )

    def capsula(self, *words: str, code: int = 0, **more):
        done = self.run("capsula", *words, **more)
        assert done.returncode == code, done
        return done

    def record(self, *command: str) -> str:
        """The name of the new capsule."""
        before = set(self.capsules())
        self.run("capsula", "monitor", "-q", *command)
        (new,) = set(self.capsules()) - before
        return new

    def capsules(self) -> list[str]:
        return sorted(path.parent.name for path in self.root.glob("vault/*/capsule.json"))

    def list(self):
        return [json.loads(line) for line in self.capsula("list", "-n", "0", "--json").stdout.splitlines()]


@pytest.fixture
def here(ws):
    return Place(ws, "here")


@pytest.fixture
def there(ws):
    return Place(ws, "there")


def test_a_run_is_exported_and_imported_elsewhere(here, there):
    name = here.record("sh", "-c", "echo said; exit 3")
    here.capsula("tag", "@latest", "baseline")
    here.capsula("note", "@latest", "the good one")
    done = here.capsula("export", "@latest")
    assert f"{name}.tar.gz: 1 capsule (" in done.stdout.decode()
    done = there.capsula("import", f"../here/{name}.tar.gz")
    assert f"../here/{name}.tar.gz: 1 capsule imported\n" in done.stdout.decode()
    assert "baseline" in done.stdout.decode()
    assert there.capsules() == [name]
    assert there.capsula("show", "@latest", "--file", "stdout.txt").stdout == b"said\n"
    assert there.capsula("tag", "@latest").stdout == b"baseline\n"
    assert there.capsula("note", "@latest").stdout == b"the good one\n"
    assert b"all as they were sealed" in there.capsula("show", "--verify").stdout
    again = there.capsula("import", f"../here/{name}.tar.gz").stdout.decode()
    assert "0 capsules imported, 1 there already" in again
    assert there.capsules() == [name]


def test_all_of_a_vault_goes_through_a_pipe(here, there):
    names = sorted([here.record("true"), here.record("false")])
    packed = here.capsula("export", "--all", "-o", "-").stdout
    assert packed == here.capsula("export", *names, "-o", "-").stdout
    done = there.capsula("import", "-", "--json", stdin=None, input=packed)
    told = json.loads(done.stdout)
    assert sorted(row["name"] for row in told["new"]) == names == there.capsules()
    assert all(Path(row["path"], "capsule.json").exists() for row in told["new"])


@pytest.mark.parametrize("ending", [".tar", ".tar.xz", ".tgz"])
def test_the_name_says_how_it_is_compressed(here, there, ending):
    name = here.record("true")
    told = json.loads(here.capsula("export", name, "-o", f"b{ending}", "--json").stdout)
    assert told["file"] == str(here.root / f"b{ending}")
    assert told["size"] == (here.root / f"b{ending}").stat().st_size
    listed = here.run("tar", "tf", f"b{ending}").stdout.decode().splitlines()
    assert listed[:2] == ["capsula-bundle.json", f"{name}/"]
    (here.root / f"b{ending}").rename(here.root / "renamed")
    there.capsula("import", "../here/renamed")
    assert there.capsules() == [name]


def test_a_dry_run_says_what_is_in_it_and_makes_nothing(here, there):
    name = here.record("true")
    here.capsula("export", name, "-o", "b.tar.gz")
    done = there.capsula("import", "-n", "../here/b.tar.gz")
    assert "1 capsule would be imported" in done.stdout.decode()
    assert name in done.stdout.decode()
    assert not (there.root / "vault").exists()
    content = bytearray((here.root / "b.tar.gz").read_bytes())
    content[-5] ^= 1
    (here.root / "b.tar.gz").write_bytes(content)
    assert b"it is damaged" in there.capsula("import", "-n", "../here/b.tar.gz", code=1).stderr


def test_one_bad_file_of_several_is_named_and_the_others_come(here, there):
    names = [here.record("true"), here.record("false")]
    for at, name in enumerate(names):
        here.capsula("export", name, "-o", f"{at}.tar.gz")
    (here.root / "bad").write_text("x")
    done = there.capsula(
        "import", "../here/0.tar.gz", "../here/bad", "../here/gone", "../here/1.tar.gz", code=1
    )
    assert b"../here/bad: it is" in done.stderr
    assert b"../here/gone: No such file" in done.stderr
    assert there.capsules() == sorted(names)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("export",), 2, "there is no capsule named"),
        (("export", "--all", "@latest"), 2, "--all is all of them"),
        (("export", "nothing"), 2, "there is no capsule nothing"),
        (("export", "@latest", "-o", "b.zip"), 2, "b.zip doesn't say how"),
        (("export", "@latest", "-o", "directory.tar"), 2, "is a directory"),
        (("export", "@latest", "-o", "gone/b.tar"), 1, "No such file"),
        (("export", "@latest", "-o", "-", "--json"), 2, "can't both go to stdout"),
        (("import", "gone.tar.gz"), 1, "gone.tar.gz: No such file"),
        (("import", "capsula.toml"), 1, "capsula.toml: it is no bundle"),
    ],
)
def test_what_can_t_be_is_said(here, words, code, said):
    here.record("true")
    (here.root / "directory.tar").mkdir()
    before = sorted(os.listdir(here.root))
    done = here.capsula(*words, code=code)
    assert said in done.stderr.decode()
    assert sorted(os.listdir(here.root)) == before


def test_a_file_of_the_same_name_is_written_over_only_when_it_is_named(here):
    name = here.record("true")
    (here.root / f"{name}.tar.gz").write_text("mine")
    assert b"already" in here.capsula("export", name, code=2).stderr
    assert (here.root / f"{name}.tar.gz").read_text() == "mine"
    here.capsula("export", name, "-o", f"{name}.tar.gz")
    here.capsula("import", "-n", f"{name}.tar.gz")


def test_an_export_that_is_killed_leaves_nothing_of_it(here):
    """It kills itself when it reads the first file of the capsule."""
    name = here.record("sh", "-c", "echo said")
    (here.root / "b.tar.gz").write_text("before")
    before = sorted(os.listdir(here.root))
    script = (
        "import os, signal, sys; from capsula.vault import packing; "
        "packing._read = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "from capsula.cli.capsula import main; sys.exit(main())"
    )
    done = here.run(sys.executable, "-c", script, "export", name, "-o", "b.tar.gz")
    assert done.returncode == -signal.SIGKILL, done
    assert sorted(os.listdir(here.root)) == before
    assert (here.root / "b.tar.gz").read_text() == "before"


def test_a_file_system_without_files_that_have_no_name_will_do(here):
    name = here.record("true")
    script = "import os, sys; del os.O_TMPFILE; from capsula.cli.capsula import main; sys.exit(main())"
    assert here.run(sys.executable, "-c", script, "export", name, "-o", "b.tar").returncode == 0
    here.capsula("import", "-n", "b.tar")
    assert not list(here.root.glob(".*.new"))


def test_a_running_one_is_refused_and_nothing_is_left(here):
    holding = subprocess.Popen(
        ["capsula", "monitor", "-q", "sh", "-c", "echo started; read line"],
        cwd=here.root,
        env=here.ws.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holding:
        assert holding.stdout.readline() == b"started\n"
        done = here.capsula("export", "@latest", "-o", "b.tar.gz", code=1)
        everything = here.capsula("export", "--all", "-o", "b.tar.gz", code=1)
        holding.communicate(b"\n")
    assert b"isn't sealed: it is running" in done.stderr
    assert b"left out: " in everything.stderr
    assert b"no sealed capsule" in everything.stderr
    assert not list(here.root.glob("*b.tar*"))
    here.capsula("export", "@latest", "-o", "b.tar.gz")


def test_a_damaged_one_is_refused_and_the_file_before_stays(here):
    name = here.record("true")
    here.capsula("export", name, "-o", "b.tar")
    before = (here.root / "b.tar").read_bytes()
    (here.root / "vault" / name / "post-run-info.json").unlink()
    done = here.capsula("export", name, "-o", "b.tar", code=1)
    assert f"{name}/post-run-info.json: No such file" in done.stderr.decode()
    assert (here.root / "b.tar").read_bytes() == before
    assert not list(here.root.glob(".*.new"))


def test_of_all_the_damaged_ones_are_named_and_the_others_come(here, there):
    names = [here.record("echo", str(number)) for number in range(5)]
    vault = here.root / "vault"
    (vault / names[0] / "capsule.json").chmod(0o600)
    (vault / names[0] / "capsule.json").write_text("{")
    (vault / names[1] / "capsule.json").unlink()
    stdout = vault / names[2] / "stdout.txt"
    stdout.unlink()
    stdout.write_text("7\n")
    (vault / names[3] / "post-run-info.json").unlink()
    done = here.capsula("export", "--all", "-o", "-", code=1)
    said = done.stderr.decode()
    assert f"left out: {names[0]} is damaged: capsule.json: Expecting" in said
    assert f"left out: {names[1]} is damaged: capsule.json: it isn't there" in said
    assert f"left out: {names[2]}/stdout.txt: other bytes than were sealed" in said
    assert f"left out: {names[3]}/post-run-info.json: No such file" in said
    there.capsula("import", "-", input=done.stdout, stdin=None)
    assert there.capsules() == [names[4]]
    here.capsula("rm", "-y", *names)


def test_an_import_that_is_killed_leaves_nothing_of_it(here, there):
    """At several places of the archive: what it was given so far has been written, and it waits for more."""
    names = sorted([here.record("seq", "20000"), here.record("seq", "30000")])
    packed = here.capsula("export", *names, "-o", "-").stdout
    here.capsula("export", *names, "-o", "b.tar")
    plain = (here.root / "b.tar").read_bytes()
    for share in (0.1, 0.5, 0.9, 1):
        killed = subprocess.Popen(
            ["capsula", "import", "-"], cwd=there.root, env=there.ws.environ, stdin=subprocess.PIPE
        )
        with killed:
            killed.stdin.write(plain[: int(share * len(plain))])
            killed.stdin.flush()
            # It has read all but what a pipe can hold: at the last place it waits for the end of its input.
            killed.send_signal(signal.SIGKILL)
            assert killed.wait() == -signal.SIGKILL
        assert there.capsules() == []
        assert b"capsule" not in there.capsula("list").stdout
    there.capsula("import", "-", stdin=None, input=packed)
    assert there.capsules() == names
    assert {path.name for path in there.root.glob("vault/.capsula/incoming/*")} <= {".lock"}
    for name in names:
        there.capsula("show", name, "--verify")


def test_a_link_that_leads_out_is_taken_only_by_those_who_ask_for_it(here, there):
    (here.root / "folder").mkdir()
    (here.root / "folder/link").symlink_to("/etc/hostname")
    (here.root / "capsula.toml").write_text("[capture.files]\nfolder = { copy = true }\n")
    name = here.record("true")
    done = here.capsula("export", name, "-o", "b.tar.gz")
    assert f"{name}/folder/link leads out of its capsule" in done.stderr.decode()
    done = there.capsula("import", "../here/b.tar.gz", code=1)
    assert f"{name}/folder/link in it is a link that leads out" in done.stderr.decode()
    assert there.capsules() == []
    there.capsula("import", "--any-links", "../here/b.tar.gz")
    assert os.readlink(there.root / "vault" / name / "folder/link") == "/etc/hostname"


def test_a_second_capsule_of_the_same_environment_takes_less_than_a_hundredth(here):
    """Of what the first takes, in blocks; with copied files, packages, and a change that isn't committed."""
    who = ("-c", "user.name=me", "-c", "user.email=me@host", "-c", "init.defaultBranch=main")
    (here.root / "model.bin").write_bytes(os.urandom(4 << 20))
    if here.run("cp", "--reflink=always", "model.bin", "clone").returncode == 0:
        pytest.skip("this file system shares blocks, which du counts once for each file")
    (here.root / "clone").unlink(missing_ok=True)
    (here.root / "data.txt").write_text("before\n")
    (here.root / "capsula.toml").write_text("[capture.files]\n'model.bin' = { copy = true }\n")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "one")):
        assert here.run("git", *who, *words).returncode == 0
    (here.root / "data.txt").write_text("after\n" * 50_000)
    used = [0]
    for _ in range(3):
        here.record("true")
        done = here.run("du", "-s", "--block-size=1", "vault")
        used.append(int(done.stdout.split()[0]))
    first, second, third = (after - before for before, after in pairwise(used))
    assert first > 4 << 20
    assert max(second, third) < first / 100
