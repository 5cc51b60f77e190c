"""`capsula history`: what ran, and how it is shown."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from capsula.cli.render import columns_of
from cli.desk import Desk, on_terminal, row

ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")

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
