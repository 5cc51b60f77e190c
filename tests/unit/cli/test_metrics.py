"""What `capsula show` tells of metrics: of a sealed run from its columns, of one that lives from its lines."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.cli import metrics
from capsula.cli.render import Sheet
from capsula.engine import columns, live
from capsula.engine.live import Pen, metric_line
from capsula.vault.layout import VaultError
from capsula.vault.record import Capsule

PLAIN = Sheet()


def capsule(path: Path, found: dict[str, Any] | None = None) -> Capsule:
    if found is not None:
        (path / "metrics.json").write_text(json.dumps(found))
    return Capsule(str(path), {}, "finished")


def metric(*values: Any) -> dict[str, Any]:
    return {"step": list(range(len(values))), "value": list(values), "time": [0.0] * len(values)}


def lines(found: Capsule, sheet: Sheet = PLAIN) -> list[str]:
    return list(metrics.section(found, sheet))


def test_a_metric_has_its_last_value_its_range_and_its_course(tmp_path: Path) -> None:
    told = lines(capsule(tmp_path, {"loss": metric(4.0, 3, 2, 0.5), "accuracy": metric(0.25)}))
    assert told[0] == "\nMetrics"
    assert told[2].split() == ["loss", "0.5", "0.5", "4", "4", "values,", "step", "0", "to", "3", "█▆▄▁"]
    assert told[3].split() == ["accuracy", "0.25", "step", "0"]


def test_a_capsule_without_metrics_has_no_section(tmp_path: Path) -> None:
    assert lines(capsule(tmp_path)) == []


def test_of_a_run_that_lives_or_was_killed_it_is_told_what_it_has_said(tmp_path: Path) -> None:
    live.open_live(str(tmp_path))
    pen = Pen(str(tmp_path))
    for step in range(5):
        pen.write(metric_line("loss", 5 - step, step, float(step)))
    assert "1" in lines(capsule(tmp_path))[2].split()
    live.close_live(str(tmp_path))
    assert "1" in lines(capsule(tmp_path))[2].split()


def test_odd_values_are_told(tmp_path: Path) -> None:
    said = columns.Said()
    rows = [
        ("x", value, None, 0.0) for value in (math.nan, "text", {"type": "set"}, [1], None, True, 10**400)
    ]
    said.metrics["x"] = columns.Metric()
    said.metrics["x"].extend(rows)
    columns.write_metrics(str(tmp_path), said.metrics)
    assert "7 values" in "\n".join(lines(capsule(tmp_path)))


@pytest.mark.parametrize("damaged", [{"x": 1}, {"x": {"step": [], "value": [1], "time": []}}, {"x": {}}])
def test_a_damaged_file_is_said(tmp_path: Path, damaged: dict[str, Any]) -> None:
    with pytest.raises(VaultError, match="holds no columns"):
        lines(capsule(tmp_path, damaged))


def test_many_metrics_are_cut_short(tmp_path: Path) -> None:
    told = lines(capsule(tmp_path, {f"m{at}": metric(1, 2) for at in range(100)}))
    assert told[-1].endswith("and 60 more: --file metrics.json")


@given(st.lists(st.floats()), st.booleans())
def test_a_course_is_as_long_as_it_may_be(values: list[float], unicode: bool) -> None:
    drawn = metrics.course(values, Sheet(unicode=unicode))
    finite = [value for value in values if math.isfinite(value)]
    assert len(drawn) == (min(24, len(finite)) if len(finite) > 1 else 0)


def test_a_course_shows_where_the_values_are() -> None:
    assert metrics.course(range(8), PLAIN) == "▁▂▃▄▅▆▇█"
    assert metrics.course([1, 1, 1], PLAIN) == "▁▁▁"
    assert metrics.course(range(1000), PLAIN)[0] == "▁"
    assert metrics.course([1, math.nan, 2], PLAIN) == "▁█"
