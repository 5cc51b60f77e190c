"""`capsula cache`: the store in numbers, kept small, checked, emptied, and what is in its trash."""

import fcntl
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from blackbox import SCRIPTS
from cli.desk import Desk, on_terminal, row

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
