"""Arrays and frames of the real libraries: shape, types, and a digest that is of the content alone."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from capsula.execute.values import represent


def told(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = represent(value)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


GRID = np.arange(600.0).reshape(20, 30)


def test_an_array_has_shape_type_and_digest() -> None:
    found = told(GRID)
    assert (found["type"], found["shape"], found["dtype"], found["size"]) == (
        "numpy.ndarray", [20, 30], "float64", 4800,
    )  # fmt: skip
    assert len(found["sha256"]) == 64


@pytest.mark.parametrize("same", [np.asfortranarray(GRID), GRID.copy(), np.repeat(GRID, 2, axis=0)[::2]])
def test_the_same_values_in_another_order_of_memory_have_the_same_digest(same: Any) -> None:
    assert told(same)["sha256"] == told(GRID)["sha256"]


@pytest.mark.parametrize("other", [GRID + 1, GRID[::-1], np.where(GRID == 599, np.nan, GRID)])
def test_other_values_have_another_digest(other: Any) -> None:
    assert told(other)["sha256"] != told(GRID)["sha256"]


@pytest.mark.parametrize(
    "odd",
    [
        np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([None, object()], dtype=object),
        np.ma.masked_array([1, 2], mask=[True, False]),
        np.array(3.5),
        np.zeros((0, 3)),
        np.array([1 + 2j]),
        np.array([b"a", b"bc"]),
        np.array([np.nan, np.inf]),
        np.broadcast_to(np.float32(1), (10**3, 10**3)),
        np.float64("nan"),
        np.datetime64("2026-01-01"),
        np.random.default_rng(0),
        np.dtype("f8"),
    ],
    ids=lambda odd: str(getattr(odd, "dtype", type(odd))),
)
def test_no_array_is_too_strange(odd: Any) -> None:
    assert "error" not in told(odd)


def test_a_scalar_has_its_value_and_a_small_array_its_values() -> None:
    assert told(np.float64(0.5))["value"] == 0.5
    assert told(np.int64(3))["value"] == 3
    assert told(np.array([1, 2, 3]))["values"] == [1, 2, 3]
    assert "values" not in told(GRID)


def frame(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "c": [0.1, 0.2, 0.3], **changes})


def test_a_frame_has_columns_with_types_and_a_digest() -> None:
    found = told(frame())
    assert (found["shape"], list(found["columns"]), found["columns"]["a"]) == (
        [3, 3],
        ["a", "b", "c"],
        "int64",
    )
    assert found["sha256"] == told(frame())["sha256"]


@pytest.mark.parametrize(
    "other",
    [
        frame(c=[0.1, 0.2, 0.4]),
        frame(a=[1.0, 2.0, 3.0]),
        frame().rename(columns={"a": "A"}),
        frame().set_index(pd.Index([1, 2, 3])),
        frame()[::-1],
    ],
)
def test_another_frame_has_another_digest(other: pd.DataFrame) -> None:
    assert told(other)["sha256"] != told(frame())["sha256"]


@pytest.mark.parametrize(
    "odd",
    [
        frame(b=[[1], [2], [3]]),
        pd.DataFrame(),
        frame().groupby("a"),
        pd.date_range("2026-01-01", periods=3),
        frame()["b"],
        pd.Series([1, 2], dtype="Int64"),
        pd.Timestamp("2026-01-01"),
        pd.NA,
        pd.concat([frame(), frame()], axis=1),
        frame().set_index(["a", "b"]),
        pd.Series(["x", "y"], dtype="category"),
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_nothing_of_pandas_is_too_strange(odd: Any) -> None:
    assert "error" not in told(odd)


def test_frames_of_polars_are_told_of_and_lazy_ones_are_not_computed() -> None:
    import polars as pl

    found = told(pl.DataFrame({"a": [1, 2], "b": ["x", None]}))
    assert (found["shape"], found["columns"]["a"]) == ([2, 2], "Int64")
    assert found["sha256"] == told(pl.DataFrame({"a": [1, 2], "b": ["x", None]}))["sha256"]
    assert found["sha256"] != told(pl.DataFrame({"a": [1, 3], "b": ["x", None]}))["sha256"]
    assert told(pl.Series("a", [1, 2]))["dtype"] == "Int64"
    assert "columns" not in told(pl.DataFrame({"a": [1]}).lazy().map_batches(lambda _: 1 / 0))


def test_what_would_take_too_long_is_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsula.execute.arrays.HASHED", 1000)
    monkeypatch.setattr("capsula.execute.arrays.CELLS", 2)
    for value in (GRID, frame(), frame()["b"]):
        found = told(value)
        assert found["sha256"] is None
        assert found["size"] > 0
    assert told(frame()[["a", "c"]])["sha256"] is not None
