"""Frames, series and indexes of pandas as plain values and arrays, and back; pandas is never loaded to make a key.

Each kind of column is written in its own way, the few private parts of pandas aside: a kind that isn't known here is
refused rather than guessed at.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from capsula.errors import CapsulaError

Plain = tuple[Any, ...]


class NotPlain(CapsulaError):
    """A frame, or a column of one, that has no plain form."""


def to_plain(value: Any) -> Plain | None:
    """None for what isn't of pandas. Raises NotPlain for what has no plain form, whatever pandas raises besides."""
    pandas = sys.modules.get("pandas")
    kind = type(value)
    if pandas is None or kind.__module__.partition(".")[0] != "pandas":
        return None
    if kind is pandas.DataFrame:
        columns = [_array(value.iloc[:, at].array) for at in range(value.shape[1])]
        flags = value.flags.allows_duplicate_labels
        return ("frame", _index(value.columns), _index(value.index), columns, dict(value.attrs), flags)
    if kind is pandas.Series:
        flags = value.flags.allows_duplicate_labels
        return ("series", value.name, _index(value.index), _array(value.array), dict(value.attrs), flags)
    if isinstance(value, pandas.Index):
        return _index(value)
    if value is pandas.NA or value is pandas.NaT:
        return ("missing", str(value))
    if kind in (pandas.Timestamp, pandas.Timedelta):
        zone = str(value.tz) if getattr(value, "tz", None) is not None else None
        return ("moment", kind.__name__, int(value.asm8.view("i8")), value.unit, zone)
    return None


def from_plain(plain: Plain) -> Any:
    """The inverse, by the program's own pandas. Raises anything for what no `to_plain` has written."""
    pandas = importlib.import_module("pandas")
    kind, *parts = plain
    if kind == "frame":
        columns, index, arrays, attrs, flags = parts
        frame = pandas.DataFrame({at: _column(pandas, array) for at, array in enumerate(arrays)})
        frame.index = _read_index(pandas, index)
        frame.columns = _read_index(pandas, columns)
        return _with(frame, attrs, flags)
    if kind == "series":
        name, index, array, attrs, flags = parts
        series = _column(pandas, array)
        series.index, series.name = _read_index(pandas, index), name
        return _with(series, attrs, flags)
    if kind == "missing":
        return {"<NA>": pandas.NA, "NaT": pandas.NaT}[parts[0]]
    if kind == "moment":
        name, number, unit, zone = parts
        if name == "Timedelta":
            return pandas.Timedelta(number, unit=unit).as_unit(unit)
        moment = pandas.Timestamp(number, unit=unit, tz="UTC").as_unit(unit)
        return moment.tz_convert(zone)
    return _read_index(pandas, plain)


def comes_back(value: Any, plain: Plain) -> bool:
    """Whether what is made of the plain form is the value again, in all that pandas can tell."""
    testing = sys.modules["pandas"].testing
    made = from_plain(plain)
    if type(made) is not type(value):
        return False
    exact = {"check_exact": True}
    try:
        if plain[0] == "frame":
            testing.assert_frame_equal(made, value, check_flags=True, check_column_type="exact", **exact)
            return bool(made.attrs == value.attrs and (made.dtypes == value.dtypes).all())
        if plain[0] == "series":
            testing.assert_series_equal(made, value, check_flags=True, **exact)
            return bool(made.attrs == value.attrs)
        if plain[0] in ("range", "many", "index"):
            testing.assert_index_equal(made, value, exact=True, check_names=True)
            return True
    except AssertionError:
        return False
    return made is value or (
        repr(made) == repr(value) and getattr(made, "unit", "") == getattr(value, "unit", "")
    )


def _with(made: Any, attrs: dict[Any, Any], flags: bool) -> Any:
    made.attrs.update(attrs)
    made.flags.allows_duplicate_labels = flags
    return made


# ---------------------------------------------------------------------------------------------------- indexes


def _index(index: Any) -> Plain:
    pandas = sys.modules["pandas"]
    kind = type(index)
    if kind is pandas.RangeIndex:
        return ("range", index.start, index.stop, index.step, index.name)
    if kind is pandas.MultiIndex:
        codes = [numbers.astype("int64") for numbers in map(_numbers, index.codes)]
        return ("many", list(index.names), [_index(level) for level in index.levels], codes)
    if kind in (pandas.Index, pandas.CategoricalIndex, pandas.DatetimeIndex, pandas.TimedeltaIndex):
        frequency = getattr(index, "freqstr", None) if hasattr(index, "freq") else None
        return ("index", kind.__name__, index.name, _array(index.array), frequency)
    raise NotPlain(f"it has a {kind.__name__}, which has no plain form")


def _numbers(codes: Any) -> Any:
    return sys.modules["numpy"].asarray(codes)


def _read_index(pandas: Any, plain: Plain) -> Any:
    kind, *parts = plain
    if kind == "range":
        start, stop, step, name = parts
        return pandas.RangeIndex(start, stop, step, name=name)
    if kind == "many":
        names, levels, codes = parts
        return pandas.MultiIndex(
            levels=[_read_index(pandas, level) for level in levels],
            codes=codes,
            names=names,
            verify_integrity=True,
        )
    if kind != "index" or parts[0] not in ("Index", "CategoricalIndex", "DatetimeIndex", "TimedeltaIndex"):
        raise NotPlain("it is no index")
    name, label, array, frequency = parts
    more = {"dtype": object} if array[0] == "objects" and name == "Index" else {}
    made = getattr(pandas, name)(_read_array(pandas, array), name=label, **more)
    if frequency is not None:
        made.freq = frequency
    return made


# ---------------------------------------------------------------------------------------------------- columns


def _array(array: Any) -> Plain:
    pandas = sys.modules["pandas"]
    dtype = array.dtype
    if type(array) is pandas.arrays.NumpyExtensionArray:  # arrays of texts inherit from it
        plain = array.to_numpy()
        return ("objects", list(plain)) if plain.dtype.hasobject else ("numbers", plain)
    if isinstance(dtype, pandas.CategoricalDtype):
        return ("kinds", _index(dtype.categories), array.codes.astype("int64"), bool(dtype.ordered))
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return ("times", array.asi8, dtype.unit, str(dtype.tz))
    if type(array).__name__ in ("DatetimeArray", "TimedeltaArray"):
        return ("numbers", array.to_numpy())
    missing = array.isna()
    if isinstance(dtype, pandas.StringDtype):
        is_nan = dtype.na_value is not pandas.NA
        texts = [None if gone else text for text, gone in zip(array, missing, strict=True)]
        return ("texts", dtype.storage, is_nan, texts)
    if str(dtype) in _MASKED:
        return ("masked", str(dtype), array.to_numpy(dtype=_MASKED[str(dtype)], na_value=0), missing)
    raise NotPlain(f"it has a column of the type {dtype}, which has no plain form")


_MASKED = {
    **{f"{sign}Int{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "Float32": "float32",
    "Float64": "float64",
    "boolean": "bool",
}


def _column(pandas: Any, plain: Plain) -> Any:
    # Of objects, pandas would guess a type.
    return pandas.Series(_read_array(pandas, plain), dtype=object if plain[0] == "objects" else None)


def _read_array(pandas: Any, plain: Plain) -> Any:
    kind, *parts = plain
    return _READ[kind](pandas, *parts)


def _objects(_: Any, values: list[Any]) -> Any:
    numpy = importlib.import_module("numpy")
    made = numpy.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        made[at] = value
    return made


def _kinds(pandas: Any, categories: Plain, codes: Any, ordered: bool) -> Any:
    return pandas.Categorical.from_codes(codes, categories=_read_index(pandas, categories), ordered=ordered)


def _times(pandas: Any, numbers: Any, unit: str, zone: str) -> Any:
    return pandas.DatetimeIndex(numbers.view(f"M8[{unit}]")).tz_localize("UTC").tz_convert(zone).array


def _texts(pandas: Any, storage: str, is_nan: bool, texts: list[str | None]) -> Any:
    missing = importlib.import_module("numpy").nan if is_nan else pandas.NA
    return pandas.array(
        [missing if text is None else text for text in texts],
        dtype=pandas.StringDtype(storage, na_value=missing),
    )


def _masked(pandas: Any, dtype: str, numbers: Any, missing: Any) -> Any:
    if dtype not in _MASKED:
        raise NotPlain("it is no type with missing values")
    made = pandas.array(numbers, dtype=dtype)
    made[missing] = pandas.NA
    return made


_READ: dict[str, Callable[..., Any]] = {
    "numbers": lambda _, numbers: numbers,
    "objects": _objects,
    "kinds": _kinds,
    "times": _times,
    "texts": _texts,
    "masked": _masked,
}
