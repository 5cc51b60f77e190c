"""What pandas makes, in a key and in a store: equal frames have equal keys, and what comes back is the same."""

import numpy as np
import pandas as pd
import pytest

from capsula.errors import EntryCorrupt
from capsula.execute.canonical import Unkeyable, canonical, item, refuse
from capsula.execute.stored_value import MAGIC, decode, encode

DAYS = pd.date_range("2026-01-01", periods=3, freq="D")
BERLIN = DAYS.tz_localize("Europe/Berlin")


def frames():
    yield "empty", pd.DataFrame()
    yield "no rows", pd.DataFrame({"a": np.array([], dtype="f4")})
    yield "no columns", pd.DataFrame(index=[1, 2])
    yield "numbers", pd.DataFrame({"a": [1, 2, 3], "b": [1.5, np.nan, -0.0], "c": np.array([1, 2, 3], "u1")})
    yield "texts", pd.DataFrame({"a": ["x", None, "é"], 1: ["", "b", "c"]}, index=["p", "q", "r"])
    yield "objects", pd.DataFrame({"a": pd.Series([1, "x", [2, {"y": None}]], dtype=object)})
    yield "texts as objects", pd.DataFrame({"a": pd.Series(["x", "y"], dtype=object)})
    yield "an index of objects", pd.Series([1, 2], index=pd.Index(["x", "y"], dtype=object))
    yield "two alike", pd.DataFrame([[1, 2.5]], columns=["a", "a"])
    yield "kinds", pd.DataFrame({"a": pd.Categorical(["x", "y", None], ["y", "x", "z"], ordered=True)})
    yield "times", pd.DataFrame({"a": DAYS, "b": BERLIN, "c": DAYS - DAYS[0]}, index=DAYS)
    yield (
        "masked",
        pd.DataFrame(
            {
                "a": pd.array([1, None, 3], dtype="Int64"),
                "b": pd.array([True, None, False], dtype="boolean"),
                "c": pd.array([1.5, None, 2], dtype="Float32"),
                "d": pd.array(["x", None, "y"], dtype="string"),
            }
        ),
    )
    yield (
        "levels",
        pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["n", None])),
    )
    yield "series", pd.Series([1, 2], name=("a", 1), index=pd.RangeIndex(3, 7, 2, name="r"))
    yield "series of times", pd.Series(BERLIN)
    yield "index", pd.Index(["a", "b"], name="n")
    yield "index of times", BERLIN
    yield "index of kinds", pd.CategoricalIndex(["a", "b", "a"])
    yield (
        "moments",
        [pd.Timestamp("2026-01-01 12:30", tz="Europe/Berlin"), pd.Timestamp(5), pd.Timedelta("1h")],
    )
    yield "missing", [pd.NA, pd.NaT]
    told = pd.DataFrame({"a": [1]})
    told.attrs["unit"] = "m"
    yield "attrs", told


FRAMES = dict(frames())


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, list):
        return all(map(same, one, other))
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(
            one, other, check_exact=True, check_flags=True, check_column_type="exact"
        )
        return one.attrs == other.attrs
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True, check_flags=True)
        return True
    if isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True)
        return getattr(one, "freq", None) == getattr(other, "freq", None)
    return one is other or (one == other and one.unit == other.unit and str(one) == str(other))


@pytest.mark.parametrize("value", FRAMES.values(), ids=FRAMES.keys())
def test_it_comes_back_as_it_was(value):
    made = decode(encode(value))
    assert same(value, made)
    assert canonical(made, refuse) == canonical(value, refuse)


def test_each_has_a_key_of_its_own():
    keys = [canonical(value, refuse) for value in FRAMES.values()]
    assert len({*keys}) == len(keys)


@pytest.mark.parametrize(
    "other",
    [
        pd.DataFrame({"a": [1.0, 2.0]}),
        pd.DataFrame({"b": [1, 2]}),
        pd.DataFrame({"a": [1, 3]}),
        pd.DataFrame({"a": [1, 2]}, index=[0, 2]),
        pd.DataFrame({"a": [1, 2]}, index=[0, 1]),
        pd.DataFrame({"a": pd.array([1, 2], dtype="Int64")}),
        pd.DataFrame({"a": [1, 2], "b": [1, 2]}),
        pd.Series([1, 2], name="a"),
    ],
)
def test_whatever_differs_is_another_key(other):
    assert canonical(pd.DataFrame({"a": [1, 2]}), refuse) != canonical(other, refuse)


@pytest.mark.parametrize(
    "odd",
    [
        pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}),
        pd.DataFrame({"a": pd.period_range("2026", periods=2, freq="M")}),
        pd.DataFrame({"a": pd.Series([object()], dtype=object)}),
        pd.Series([1], index=pd.interval_range(0, 1)),
        type("Frame", (pd.DataFrame,), {})({"a": [1]}),
        pd.DataFrame({"a": [1, 1]}).groupby("a"),
    ],
    ids=["sparse", "periods", "objects", "intervals", "a subclass", "groups"],
)
def test_what_has_no_plain_form_is_refused(odd):
    with pytest.raises(Unkeyable):
        canonical(odd, refuse)
    with pytest.raises(Unkeyable):
        encode(odd)


@pytest.mark.parametrize(
    "plain",
    [
        ("frame",), ("index", "read_pickle", None, ("objects", ["/etc/passwd"]), None), ("strange",), 3,
        ("series", None, ("range", 0, 1, 1, None), ("masked", "category", 1, 2), {}, True),
    ],
)  # fmt: skip
def test_what_no_frame_was_written_as_is_refused(plain):
    with pytest.raises(EntryCorrupt):
        decode(MAGIC + item(b"D", encode(plain)[len(MAGIC) :]))
