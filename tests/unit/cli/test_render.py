"""Text for people, drawn."""

import io
import re

from capsula.cli.render import Cell, Column, Progress, Sheet, columns_of, cut, meter, percent, plot, table

ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_after_a_second_and_cleans_up() -> None:
    shown = Terminal()
    times = [0.0]
    progress = Progress("verifying", 400, shown, clock=lambda: times[0])
    for moment in 0.5, 1.5, 1.51, 2.0:
        times[0] = moment
        progress.add(100)
    assert ESCAPE.sub("", shown.getvalue()) == "\rverifying: 50 %\rverifying: 100 %"
    progress.end()
    assert shown.getvalue().endswith("\r\x1b[K")


def test_progress_of_several_parts_counts_where_nobody_knows_how_much_there_is() -> None:
    shown = Terminal()
    times = [0.0]
    progress = Progress("", 0, shown, clock=lambda: times[0])
    for moment, told in (
        (1.5, ("listing", 1000, 0)),
        (2.0, ("listing", 2000, 0)),
        (3.0, ("reading", 500, 2000)),
    ):
        times[0] = moment
        progress.tell(*told)
    assert ESCAPE.sub("", shown.getvalue()) == "\rlisting: 1000\rlisting: 2000\rreading: 25 %"


def test_progress_of_short_work_and_in_a_pipe_shows_nothing() -> None:
    short, pipe = Terminal(), io.StringIO()
    for stream, ends in ((short, 0.9), (pipe, 9.0)):
        times = [0.0]
        progress = Progress("verifying", 10, stream, clock=lambda times=times: times[0])  # type: ignore[misc]
        times[0] = ends
        progress.add(5)
        progress.end()
        assert stream.getvalue() == ""


def test_only_all_is_a_hundred_percent() -> None:
    assert [percent(share) for share in (0, 0.001, 0.01, 0.5, 0.994, 0.999, 1, 1.2)] == [
        "0 %",
        "<1 %",
        "1 %",
        "50 %",
        ">99 %",
        ">99 %",
        "100 %",
        "120 %",
    ]
    sheet = Sheet()
    assert [meter(share, sheet, 4) for share in (0, 0.5, 0.99, 1, 2)] == [
        "░░░░",
        "██░░",
        "███░",
        "████",
        "████",
    ]


def test_columns_line_up_whatever_they_hold() -> None:
    rows = [("日本", "1"), ("e\u0301", "22"), (Cell("plain", "1"), "333")]
    lines = list(table([Column("name"), Column("n", right=True)], rows, Sheet(width=80)))
    assert {columns_of(line) for line in lines} == {2 + 5 + 2 + 3}
    assert cut("日本語", 5, Sheet()) == "日本…"
    assert cut("日本語", 4, Sheet()) == "日…"
    assert cut("abcdef", 5, Sheet(unicode=False)) == "ab..."


def test_a_plot_has_no_gaps_where_it_would_be_too_wide() -> None:
    assert max(map(len, plot([0.5] * 30, "a", "b", Sheet(width=40)))) <= 42
    assert max(map(len, plot([0.5] * 30, "a", "b", Sheet(width=80)))) == 10 + 59 + 1
