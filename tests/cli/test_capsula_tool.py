"""The tool `capsula`, through the installed commands: the store in numbers, kept small, checked, emptied; the runs."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sysconfig
import termios
import time
from pathlib import Path

import pytest

from capsula.cli.render import columns_of

SCRIPTS = Path(sysconfig.get_path("scripts"))
ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")
Done = subprocess.CompletedProcess[str]


class Desk:
    """A home, a directory to work in, and the installed commands."""

    def __init__(self, path: Path) -> None:
        self.home, self.work = path / "home", path / "work"
        self.home.mkdir()
        (self.work / "src").mkdir(parents=True)
        (self.work / "src" / "a").write_text("one\n")
        self.store = self.home / ".cache" / "capsula"
        self.environ = {
            "HOME": str(self.home),
            "PATH": f"{SCRIPTS}:/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }

    def run(
        self, program: str, *words: str | Path | bytes, cwd: Path | None = None, **environ: str | None
    ) -> Done:
        assert (SCRIPTS / program).exists(), "install the package first: make .venv/capsula.stamp"
        known = {name: value for name, value in {**self.environ, **environ}.items() if value is not None}
        return subprocess.run(
            [SCRIPTS / program, *words],
            cwd=cwd or self.work,
            env=known,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )

    def tool(self, *words: str | Path, code: int = 0, **environ: str | None) -> str:
        """What `capsula` says on stdout."""
        done = self.run("capsula", *words, **environ)
        assert done.returncode == code, done
        return done.stdout

    def refused(self, *words: str | Path, code: int = 2, **environ: str | None) -> str:
        """What it says on stderr; nothing is on stdout."""
        done = self.run("capsula", *words, **environ)
        assert (done.returncode, done.stdout) == (code, ""), done
        return done.stderr

    def numbers(self, *words: str) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = json.loads(self.tool("cache", "stats", "--json", *words))
        return found

    def copy(self, *options: str | bytes) -> Done:
        """A capsule that makes dist/x of src/a."""
        script = "mkdir -p dist && cp src/a dist/x && echo copied"
        done = self.run("capsule", "-i", "src/**", "-o", "dist", *options, "--", "sh", "-c", script)
        assert (done.returncode, done.stdout) == (0, "copied\n"), done
        return done

    def edit(self, content: str) -> None:
        (self.work / "src" / "a").write_text(content)

    def journal(self, *rows: dict[str, object]) -> Path:
        """A store of its own that has a journal and nothing else."""
        store = self.home / "other"
        (store / "journal").mkdir(parents=True, exist_ok=True)
        with (store / "journal" / "journal.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return store

    def files(self, kind: str) -> list[Path]:
        return sorted(path for path in (self.store / kind).rglob("*") if path.is_file())

    def bury(self, name: str = "mine", content: str = "mine\n") -> Path:
        """A file of the user's that a hit moves to the trash."""
        self.copy()
        buried = self.work / "dist" / name
        buried.write_text(content)
        assert "moved to the trash" in self.copy().stderr
        assert not buried.exists()
        return buried


def row(moment: float, outcome: str, **more: object) -> dict[str, object]:
    return {"time": moment, "id": "build", "outcome": outcome, "why": "", "seconds": 2.0, "bytes": 0, **more}


def on_terminal(
    desk: Desk, *words: str | Path, width: int = 80, typed: str = "", **environ: str
) -> tuple[str, int]:
    """What a terminal of that width shows, and the exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    if typed:
        os.write(ours, typed.encode())
    process = subprocess.Popen(
        [SCRIPTS / "capsula", *words],
        cwd=desk.work,
        env={**desk.environ, "TERM": "xterm", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), process.wait(200)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# ---------------------------------------------------------------------------------------------------- the command line


def test_it_tells_its_version_and_its_verbs(desk: Desk) -> None:
    assert re.fullmatch(r"capsula \d+\.\d+\.\d+\S*\n", desk.tool("--version"))
    assert desk.tool("--version").split()[1] == desk.run("capsule", "--version").stdout.split()[1]
    about = desk.tool("--help")
    assert "cache" in about
    assert "history" in about
    verbs = desk.tool("cache", "--help")
    for verb in "stats", "gc", "verify", "clear", "trash":
        assert re.search(rf"^ +{verb} +\w", verbs, re.MULTILINE)
        assert f"usage: capsula cache {verb}" in desk.tool("cache", verb, "-h")
    for page in about, verbs:
        assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("words", [(), ("cache",)])
def test_without_a_verb_it_lists_the_verbs_and_fails(desk: Desk, words: tuple[str, ...]) -> None:
    assert desk.refused(*words).startswith("usage: capsula")


@pytest.mark.parametrize(
    ("line", "wrong", "hint"),
    [
        ("cahce stats", "cahce", "did you mean cache?"),
        ("histroy", "histroy", "did you mean history?"),
        ("cache stat", "stat", "did you mean stats?"),
        ("cache trash restroe x", "restroe", "did you mean restore?"),
        ("cache xyzzy", "xyzzy", "one of: stats, gc, verify, clear, doctor, push, show, trash"),
        ("cache stats --jsn", "--jsn", "did you mean --json?"),
        ("history --outcome hits", "hits", "did you mean hit?"),
        ("history -n few", "few", "capsula history --help"),
        ("history --since 2x", "2x", "capsula history --help"),
        ("cache gc --max-size 1Q", "1Q", "capsula cache gc --help"),
        ("cache clear more", "more", "capsula cache clear --help"),
        ("cache trash restore", "ID", "capsula cache trash restore --help"),
        ("-i src -- make", "runs no command", "capsule [options] -- command"),
        ("-- make", "runs no command", "capsule [options] -- command"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_meant(desk: Desk, line: str, wrong: str, hint: str) -> None:
    what, blank, hinted = desk.refused(*line.split()).splitlines()
    assert what.startswith("capsula: ")
    assert wrong in what
    assert blank == ""
    assert hinted.startswith("hint: ")
    assert hint in hinted


def test_underscores_and_hyphens_are_the_same(desk: Desk) -> None:
    desk.copy()
    assert "limit of 1 B" in desk.tool("cache", "gc", "--max_size=1")
    assert "limit of 1 B" in desk.tool("cache", "gc", "--max-size", "1")


# ---------------------------------------------------------------------------------------------------- which store


def test_a_store_that_is_not_there_yet_is_empty_and_stays_away(desk: Desk) -> None:
    for line in "cache stats", "cache gc", "cache verify", "cache clear --yes", "cache trash", "history":
        done = desk.run("capsula", *line.split())
        assert done.returncode == 0, done
    assert not desk.store.exists()
    assert "To begin:\n\n  capsule " in desk.tool("cache", "stats")
    assert "To begin:\n\n  capsule " in desk.run("capsula", "history").stderr
    assert desk.tool("history") == ""


def test_it_is_the_store_that_capsule_uses_there(desk: Desk) -> None:
    own, variable, local = desk.home / "own", desk.home / "variable", desk.work / "local"
    (desk.home / ".capsules.toml").write_text(f'store = "{own}"\nstore_size = "3GiB"\n')
    assert desk.numbers()["store"] == str(own)
    assert desk.numbers()["limit"] == 3 << 30
    desk.copy()
    assert desk.numbers()["entries"]["count"] == 1
    (desk.work / "Capsule.toml").write_text('store = "local"\n[one]\n[two]\nstore = "two"\n')
    assert desk.numbers()["store"] == str(local)
    desk.environ["CAPSULE_ARGS"] = "-f Capsule.toml:two"
    assert desk.numbers()["store"] == str(desk.work / "two")
    desk.environ["CAPSULE_ARGS"] = f"--store {variable} --store_size 0"
    assert desk.numbers()["store"] == str(variable)
    assert desk.numbers()["limit"] == 0
    assert desk.numbers("--store", "given")["store"] == str(desk.work / "given")
    del desk.environ["CAPSULE_ARGS"]
    assert f'"store": "{own}"' in desk.tool("cache", "stats", "--json", CAPSULE_ARGS="-c anything")


def test_the_store_may_be_named_before_the_verb(desk: Desk) -> None:
    for line in (
        "--store x cache stats --json",
        "cache --store x stats --json",
        "cache stats --json --store=x",
    ):
        assert json.loads(desk.tool(*line.split()))["store"] == str(desk.work / "x")


def test_wrong_settings_are_told_with_their_place(desk: Desk) -> None:
    file = desk.home / ".capsules.toml"
    file.write_text('\nstoer = "x"\n')
    said = desk.refused("cache", "stats")
    assert f"{file}:2: stoer" in said
    assert "hint: did you mean store?" in said
    file.unlink()
    assert "CAPSULE_ARGS: there is no option --stoer" in desk.refused("history", CAPSULE_ARGS="--stoer x")
    assert "CAPSULE_ARGS: the ' at" in desk.refused("history", CAPSULE_ARGS="--store 'x")
    assert "HOME" in desk.refused("cache", "stats", code=1, HOME=None)


@pytest.mark.parametrize(
    "line", ["cache clear --all --yes", "cache gc", "cache verify", "cache stats", "history"]
)
def test_a_directory_that_is_no_store_is_left_alone(desk: Desk, line: str) -> None:
    other = desk.work / "project"
    for name in "state/mine", "ids/mine", "recall/mine", "tmp/mine":
        (other / name).parent.mkdir(parents=True)
        (other / name).write_text("mine")
        os.utime(other / name, (0, 0))
    assert f"{other} is no store" in desk.refused(*line.split(), "--store", other, code=1)
    assert sum(path.is_file() for path in other.rglob("*")) == 4
    assert "is no directory" in desk.refused(*line.split(), "--store", other / "ids" / "mine", code=1)


# ---------------------------------------------------------------------------------------------------- cache stats


def test_stats_count_what_is_stored_and_what_ran(desk: Desk) -> None:
    desk.copy()
    desk.copy()
    desk.edit("two\n")
    desk.copy()
    desk.run("capsule", "-c", "wrong", "-i", "nothing*", "--", "true")
    numbers = desk.numbers()
    assert numbers["entries"]["count"] == len(desk.files("ac")) == 2
    assert numbers["blobs"]["count"] == len(desk.files("cas"))
    assert numbers["blobs"]["bytes"] == sum(path.stat().st_size for path in desk.files("cas"))
    assert numbers["bytes"] == numbers["blobs"]["bytes"] + numbers["entries"]["bytes"]
    assert numbers["quarantine"]["count"] == numbers["temporary"]["count"] == numbers["trash"]["count"] == 0
    told = numbers["journal"]
    assert [told[name] for name in ("runs", "hits", "misses", "uncached")] == [4, 1, 2, 1]
    assert told["hit_rate"] == pytest.approx(1 / 3)
    shown = desk.tool("cache", "stats")
    assert re.search(r"^  results +2 ", shown, re.MULTILINE)
    assert "of 10.0 GiB" in shown
    assert "1 hit, 2 misses, 1 uncached" in shown
    assert re.search(r"^  hit rate +33 % ", shown, re.MULTILINE)


def test_the_capsules_that_saved_most_come_first(desk: Desk) -> None:
    moment = time.time()
    store = desk.journal(
        row(moment, "hit", id="little", seconds=1.0, bytes=1024),
        row(moment, "miss", id="much", seconds=90.0, bytes=5000),
        *[row(moment, "hit", id="much", seconds=90.0, bytes=1024)] * 3,
        row(moment, "uncached", id="never"),
    )
    shown = desk.tool("cache", "stats", "--store", store)
    capsules = re.findall(r"^  (little|much|never) +(\d+) +(\d+ %|-) +(\S.*)$", shown, re.MULTILINE)
    assert capsules == [
        ("much", "4", "75 %", "4 min 30 s"),
        ("little", "1", "100 %", "1.0 s"),
        ("never", "1", "-", "0 ms"),
    ]
    assert re.search(r"time saved +4 min 31 s$", shown, re.MULTILINE)
    assert re.search(r"time run +1 min 32 s$", shown, re.MULTILINE)
    assert re.search(r"restored +4.0 KiB$", shown, re.MULTILINE)


def bars(shown: str) -> list[str]:
    """The columns of a plot, each from below."""
    lines = [line[10:].ljust(60) for line in shown.splitlines() if line[8:9] in ("│", "┤")]
    return ["".join(line[place] for line in reversed(lines)) for place in range(0, 60, 2)]


def test_the_hit_rate_is_drawn_over_time(desk: Desk) -> None:
    day, moment = 86400, time.time()
    rows = []
    for age in range(20, -1, -1):
        if age != 5:  # a day without a run
            hits = 4 if age < 5 else 2 if age < 10 else 0
            rows += [row(moment - age * day, "hit")] * hits + [row(moment - age * day, "miss")] * (4 - hits)
    rows.append(row(moment + 9999 * day, "hit"))  # the clock was wrong then
    shown = desk.tool("cache", "stats", "--store", desk.journal(*rows))
    assert "Hit rate by day" in shown
    drawn = bars(shown)
    assert drawn[:11] == ["▁   "] * 11
    assert drawn[11:15] == ["██  "] * 4
    assert drawn[15] == "    "
    assert drawn[16:21] == ["████"] * 5
    assert "".join(drawn[21:]).strip() == ""
    below = shown.splitlines()[-1].split()
    assert below[0] == time.strftime("%b", time.gmtime(moment - 20 * day))
    assert below[-1] == time.strftime("%d", time.gmtime(moment))


@pytest.mark.parametrize(
    ("hours", "step"), [(0.3, "minute"), (2, "5 minutes"), (24, "hour"), (60, "3 hours"), (24 * 80, "week")]
)
def test_the_plot_s_step_fits_the_history(desk: Desk, hours: float, step: str) -> None:
    moment = time.time()
    store = desk.journal(row(moment - hours * 3600, "hit"), row(moment, "miss"))
    assert f"Hit rate by {step}\n" in desk.tool("cache", "stats", "--store", store)


def test_a_single_moment_is_not_drawn(desk: Desk) -> None:
    store = desk.journal(row(1e9, "hit"), row(1e9, "miss"))
    assert "Hit rate by" not in desk.tool("cache", "stats", "--store", store)


def test_an_encoding_without_blocks_gets_letters(desk: Desk) -> None:
    store = desk.journal(*[row(time.time() - age * 3600, "hit", id="日本") for age in range(12)])
    shown = desk.tool("cache", "stats", "--store", store, PYTHONIOENCODING="ascii")
    assert shown.isascii()
    assert "# # #" in shown
    assert "\\u65e5" in shown
    assert "h\\xfctte" in desk.tool("cache", "stats", "--store", "hütte", PYTHONIOENCODING="ascii")


# ---------------------------------------------------------------------------------------------------- cache gc


def age(desk: Desk, seconds: float = 7200) -> None:
    for path in [*desk.files("cas"), *desk.files("ac")]:
        moment = path.stat().st_mtime - seconds
        os.utime(path, (moment, moment))


def test_gc_removes_what_was_used_longest_ago(desk: Desk) -> None:
    desk.edit("x" * 40_000)
    desk.copy()
    age(desk)
    desk.edit("y" * 40_000)
    desk.copy()
    age(desk)
    before = desk.numbers()["bytes"]
    said = desk.tool("cache", "gc", "--max-size", "70KB")
    assert "Removed 1 result and " in said
    assert "Kept 1 result and " in said
    freed = re.search(r": (\d+)\.\d KiB freed", said)
    assert freed is not None
    assert int(freed[1]) >= 39
    assert desk.numbers()["bytes"] < before - 39_000
    (desk.work / "dist" / "x").unlink()
    desk.copy()
    desk.edit("x" * 40_000)
    desk.copy()
    outcomes = [json.loads(line)["outcome"] for line in desk.tool("history", "--json").splitlines()]
    assert outcomes == ["miss", "miss", "hit", "miss"]


def test_gc_without_need_removes_nothing_and_says_so(desk: Desk) -> None:
    desk.copy()
    age(desk)
    assert desk.tool("cache", "gc").startswith("Nothing to remove.\nKept 1 result and ")
    assert desk.numbers()["entries"]["count"] == 1


def test_gc_waits_for_another_sweep(desk: Desk) -> None:
    desk.copy()
    (desk.store / "locks").mkdir(exist_ok=True)
    with (desk.store / "locks" / "sweep").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [SCRIPTS / "capsula", "cache", "gc"]
        process = subprocess.Popen(
            command, env=desk.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        assert process.poll() is None
        fcntl.flock(lock, fcntl.LOCK_UN)
        stdout, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert "Kept 1 result" in stdout


# ---------------------------------------------------------------------------------------------------- cache verify


def spoil(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_verify_finds_a_sound_store_sound(desk: Desk) -> None:
    desk.copy()
    assert re.fullmatch(
        r"Checked \d+ blobs \(.*\) and 1 result: all as they were stored\.\n", desk.tool("cache", "verify")
    )


def test_verify_names_what_is_bad_and_the_next_run_heals_it(desk: Desk) -> None:
    desk.edit("A content that is nowhere else\n")
    desk.copy()
    bad = next(path for path in desk.files("cas") if path.read_bytes().startswith(b"A content"))
    spoil(bad)
    said = desk.tool("cache", "verify", code=1)
    assert f"{bad.name}  blob: " in said
    assert f"{desk.files('quarantine')[0].name[:64]}" == bad.name
    assert "result: something in it is gone" in said
    assert "2 bad" in said
    assert "all as they were stored" in desk.tool("cache", "verify")
    (desk.work / "dist" / "x").unlink()
    desk.copy()
    (desk.work / "dist" / "x").unlink()
    desk.copy()
    assert (desk.work / "dist" / "x").read_text() == "A content that is nowhere else\n"
    outcomes = [json.loads(line)["outcome"] for line in desk.tool("history", "--json").splitlines()]
    assert outcomes == ["miss", "miss", "hit"]


def test_verify_finds_a_bad_entry(desk: Desk) -> None:
    desk.copy()
    (entry,) = desk.files("ac")
    spoil(entry)
    assert f"{entry.name}  result: not as it was stored; set aside" in desk.tool("cache", "verify", code=1)
    assert not entry.exists()


def test_verify_of_a_store_that_cannot_be_written_to_says_what_is_bad_and_leaves_it(desk: Desk) -> None:
    # Root without its capabilities is held by permissions as anybody is.
    bound = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    desk.copy()
    (entry,) = desk.files("ac")
    spoil(entry)
    for path in (desk.store, *desk.store.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = subprocess.run(
        [*bound, SCRIPTS / "capsula", "cache", "verify", f"--store={desk.store}"],
        cwd="/",
        env=desk.environ,
        capture_output=True,
        text=True,
    )
    for path in (desk.store, *desk.store.rglob("*")):
        path.chmod(0o700)
    assert done.returncode == 1, done
    assert f"{entry.name}  result: not as it was stored; left there" in done.stdout
    assert "verify it again as somebody who may" in done.stdout
    assert entry.exists()


def test_a_store_of_limited_size_forgets_what_was_used_longest_ago_by_itself(desk: Desk) -> None:
    """Not at once: what is younger than an hour stays, so the clock of the files is set back."""
    for number in range(6):
        desk.edit(f"{number} " * 20_000)
        desk.copy("--store_size", "1G")
    old = time.time() - 10_000
    for path in (*desk.files("ac"), *desk.files("cas")):
        os.utime(path, (old, old))
    # A sweep runs in the background, and may take longer than the next run, whose result is young and stays.
    first = set(desk.files("ac"))
    assert len(first) == 6
    deadline = time.monotonic() + 150
    while len(first.intersection(desk.files("ac"))) > 3 and time.monotonic() < deadline:
        (desk.store / "size").write_text(f"{10**6} {int(time.time()) - 100}\n")
        desk.edit(f"again {time.monotonic()}")
        desk.copy("--store_size", "150K")
        time.sleep(0.2)
    assert len(first.intersection(desk.files("ac"))) <= 3
    assert "all as they were stored" in desk.tool("cache", "verify")


# ---------------------------------------------------------------------------------------------------- cache clear


def test_clear_needs_a_yes(desk: Desk) -> None:
    desk.copy()
    assert "hint: --yes" in desk.refused("cache", "clear")
    assert desk.numbers()["entries"]["count"] == 1


def test_clear_removes_results_and_keeps_trash_and_journal(desk: Desk) -> None:
    desk.bury()
    assert "Removed 1 result and " in desk.tool("cache", "clear", "--yes")
    numbers = desk.numbers()
    assert [numbers[kind]["count"] for kind in ("entries", "blobs", "records", "trash")] == [0, 0, 0, 1]
    assert numbers["journal"]["runs"] == 2
    desk.copy()
    assert json.loads(desk.tool("history", "--json", "-n", "1"))["outcome"] == "miss"


def test_clear_all_empties_trash_and_journal_too(desk: Desk) -> None:
    desk.bury()
    assert "trash and the journal are empty" in desk.tool("cache", "clear", "--all", "--yes")
    numbers = desk.numbers()
    assert numbers["trash"]["count"] == numbers["journal"]["runs"] == numbers["bytes"] == 0


@pytest.mark.parametrize(
    ("typed", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1), ("\x04", 1, 1)]
)
def test_on_a_terminal_clear_asks(desk: Desk, typed: str, code: int, left: int) -> None:
    desk.copy()
    shown, ended = on_terminal(desk, "cache", "clear", typed=typed)
    assert "Remove 1 result and" in shown
    assert str(desk.store) in shown
    assert ended == code
    assert desk.numbers()["entries"]["count"] == left


# ---------------------------------------------------------------------------------------------------- cache trash


def test_the_trash_is_listed_and_gives_back(desk: Desk) -> None:
    buried = desk.bury()
    listed = desk.tool("cache", "trash")
    assert listed == desk.tool("cache", "trash", "list")
    title, line = listed.splitlines()
    assert title.split() == ["id", "moved", "size", "capsule", "was", "at"]
    assert line.endswith(f"  5 B  sh       {buried}")
    item = json.loads(desk.tool("cache", "trash", "list", "--json"))
    assert line.split()[0] == item["id"]
    assert item["path"] == str(buried)
    assert desk.tool("cache", "trash", "restore", item["id"]) == f"Put back {buried}.\n"
    assert buried.read_text() == "mine\n"
    assert desk.tool("cache", "trash") == ""


def test_an_item_can_be_put_elsewhere_and_the_beginning_of_its_id_will_do(desk: Desk) -> None:
    desk.bury("one")
    desk.bury("two")
    first, second = [
        json.loads(line)["id"] for line in desk.tool("cache", "trash", "list", "--json").splitlines()
    ]
    assert "write more of it" in desk.refused("cache", "trash", "restore", "20")
    (desk.work / "back").mkdir()
    desk.tool("cache", "trash", "restore", first, "--to", "back")
    assert (desk.work / "back" / "one").read_text() == "mine\n"
    desk.tool("cache", "trash", "restore", "20", "--to", "there/as this")
    assert (desk.work / "there" / "as this").read_text() == "mine\n"
    assert second in desk.refused("cache", "trash", "restore", second)


def test_nothing_is_overwritten_by_what_comes_from_the_trash(desk: Desk) -> None:
    buried = desk.bury()
    buried.write_text("newer\n")
    assert "is there already" in desk.refused("cache", "trash", "restore", "20", code=1)
    assert buried.read_text() == "newer\n"
    assert len(desk.tool("cache", "trash").splitlines()) == 2


def test_emptying_the_trash_needs_a_yes(desk: Desk) -> None:
    desk.bury()
    assert "hint: --yes" in desk.refused("cache", "trash", "empty")
    assert desk.tool("cache", "trash", "empty", "--yes") == "Deleted 1 item: 5 B freed.\n"
    assert desk.tool("cache", "trash") == ""
    assert desk.tool("cache", "trash", "empty", "--yes") == "The trash is empty.\n"


# ---------------------------------------------------------------------------------------------------- history


def test_history_tells_what_ran_newest_last(desk: Desk) -> None:
    desk.copy()
    desk.copy()
    desk.edit("two\n")
    desk.copy()
    desk.run("capsule", "-c", "bad", "-i", "src/**", "--", "sh", "-c", "exit 3")
    title, *lines = desk.tool("history").splitlines()
    assert title.split() == ["when", "capsule", "outcome", "saved/ran", "exit", "why"]
    assert [line.split()[3] for line in lines] == ["miss", "hit", "miss", "miss"]
    assert "first run" in lines[0]
    assert lines[2].endswith("src/a was edited")
    assert re.search(r" bad +miss +\d+ ms +3  .*; not kept: the command failed", lines[3])
    assert re.match(r"  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  sh ", lines[0])


def test_history_can_be_asked_for_a_part(desk: Desk) -> None:
    moment = time.time()
    store = desk.journal(
        row(moment - 7200, "miss", id="a"),
        row(moment - 60, "hit", id="a"),
        row(moment - 50, "uncached", id="b"),
        row(moment - 40, "placebo", id="b", verdict="differs"),
        *[row(moment - 30 + place, "hit", id="c", seconds=float(place)) for place in range(30)],
    )

    def ask(line: str) -> list[tuple[str, str]]:
        rows = desk.tool("history", "--json", "--store", store, *line.split()).splitlines()
        return [(json.loads(text)["id"], json.loads(text)["outcome"]) for text in rows]

    assert ask("") == [("c", "hit")] * 20
    assert ask("-n 0")[:4] == [("a", "miss"), ("a", "hit"), ("b", "uncached"), ("b", "placebo")]
    assert len(ask("-n 0")) == 34
    assert ask("--id a") == [("a", "miss"), ("a", "hit")]
    assert ask("--id a --id b -n 3") == [("a", "hit"), ("b", "uncached"), ("b", "placebo")]
    assert ask("--outcome miss --outcome placebo") == [("a", "miss"), ("b", "placebo")]
    assert ask("--since 1h --id a") == [("a", "hit")]
    assert ask("--id nobody") == []
    assert "outputs differ from the cached result" in desk.tool("history", "--store", store, "--id", "b")


def test_an_id_that_is_nearly_one_is_named(desk: Desk) -> None:
    store = desk.journal(row(time.time(), "hit", id="unit-tests"))
    assert (
        "hint: there is a capsule unit-tests"
        in desk.run("capsula", "history", "--store", store, "--id", "unit-test").stderr
    )


def test_names_of_any_bytes_are_shown_escaped(desk: Desk) -> None:
    desk.copy("-c", b"na\xffme\n\x1b[31m")
    shown = desk.tool("history")
    assert r"na\xffme\n\x1b[31m" in shown
    assert "\x1b" not in shown
    assert r"na\xffme\n\x1b[31m" in desk.tool("cache", "stats")
    assert json.loads(desk.tool("history", "--json"))["id"] == "na\udcffme\n\x1b[31m"


def test_a_journal_with_other_lines_is_read_around_them(desk: Desk) -> None:
    store = desk.journal(row(1e9, "hit"))
    with (store / "journal" / "journal.jsonl").open("ab") as file:
        file.write(b'{"time": 1, "outc\n\xff\xfe\n[]\n"text"\n{"time": NaN, "outcome": "hit"}\n{}\n')
        file.write(b'{"time": 1e400, "outcome": "hit"}\n{"time": 1e300, "outcome": "hit"}\n')
        file.write(b'{"time": 5, "outcome": "hit", "seconds": "x", "bytes": null, "id": 7}\n')
    assert len(desk.tool("history", "--json", "--store", store).splitlines()) == 2
    assert "1970-01-01 00:00:05" in desk.tool("history", "--store", store)
    assert desk.numbers("--store", str(store))["journal"]["hits"] == 2


# ---------------------------------------------------------------------------------------------------- streams


def test_a_reader_that_leaves_is_no_error(desk: Desk) -> None:
    store = desk.journal(*[row(time.time(), "hit", why="x" * 400)] * 2000)
    script = 'capsula history -n 0 --store "$0" | head -1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(["bash", "-c", script, store], env=desk.environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")
    assert len(done.stdout.splitlines()) == 1


def test_output_that_can_not_be_written_is_an_error(desk: Desk) -> None:
    store = desk.journal(row(time.time(), "hit"))
    for redirected, code in ((">/dev/full", 1), (">&-", 0), ("2>&-", 0)):
        command = ["sh", "-c", f'capsula history --store "$0" {redirected}', store]
        done = subprocess.run(command, env=desk.environ, capture_output=True, text=True)
        assert done.returncode == code, done
        assert done.stderr == ("capsula: No space left on device\n" if code else "")


@pytest.fixture
def busy(desk: Desk) -> Path:
    """A journal with long whys, ids and wide characters."""
    rows = []
    for place, name in enumerate(
        ["build", "a capsule with quite a long id, isn't it", "日本語の名前" * 4] * 9
    ):
        moment = time.time() - (27 - place) * 40_000
        outcome = ("hit", "miss", "placebo")[place % 3]
        rows.append(
            row(moment, outcome, id=name, why="src/a was edited; " * 9, exit_code=place % 5, seconds=75.0)
        )
    return desk.journal(*rows)


@pytest.mark.parametrize("width", [72, 80, 120])
def test_on_a_terminal_no_line_is_wider_than_it(desk: Desk, busy: Path, width: int) -> None:
    for line in "history", "cache stats":
        shown, code = on_terminal(desk, *line.split(), "--store", busy, width=width)
        assert code == 0
        lines = [ESCAPE.sub("", text) for text in shown.splitlines() if str(busy) not in text]
        assert "\x1b" not in "".join(lines)
        assert len(lines) > 15
        assert max(columns_of(text) for text in lines) <= width
    assert "…" in on_terminal(desk, "history", "--store", busy)[0]


def test_colours_are_for_terminals_that_want_them(desk: Desk, busy: Path) -> None:
    assert "\x1b[32mhit\x1b[0m" in on_terminal(desk, "history", "--store", busy)[0]
    for line in "history", "cache stats":
        words = (*line.split(), "--store", busy)
        assert "\x1b" not in on_terminal(desk, *words, NO_COLOR="1")[0]
        assert "\x1b" not in on_terminal(desk, *words, TERM="dumb")[0]
        assert "\x1b" not in desk.tool(*words, TERM="xterm", COLUMNS="80")
    assert "…" not in desk.tool("history", "--store", busy, COLUMNS="80")


def test_the_last_of_many_says_so_on_a_terminal(desk: Desk, busy: Path) -> None:
    assert (
        "the last 3 of 27; all of them with -n 0"
        in on_terminal(desk, "history", "-n", "3", "--store", busy)[0]
    )
    assert "of 27" not in desk.tool("history", "-n", "3", "--store", busy)
