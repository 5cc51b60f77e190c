"""Arrays, tensors and data frames, told of by shape, types and a digest of their content.

No library is imported for it: a value of numpy, pandas, polars or torch comes with its library. Digests are of the
content alone: of an array the bytes in C order, so that one in Fortran order or a view with the same values is equal.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

# So much is hashed: more would delay the program.
HASHED = 1 << 28
# Frames with more texts or objects in their cells aren't hashed: that takes far longer than bytes do.
CELLS = 500_000
# Arrays of no more elements are told of value by value.
FEW = 16
COLUMNS = 1000
# The kinds of numbers and times.
_QUICK = "biufcmM"


def describe(value: Any) -> dict[str, Any] | None:
    """None for what is none of these. Raises whatever the library does."""
    package = type(value).__module__.partition(".")[0]
    if package == "pandas" and "pandas" in sys.modules:
        return _pandas(value)
    if package == "polars" and "polars" in sys.modules:
        return _polars(value)
    if package == "torch" and hasattr(value, "detach"):
        return _tensor(value)
    if hasattr(type(value), "__array_interface__") or hasattr(type(value), "__array_struct__"):
        return _array(value)
    return _shaped(value)


def _array(value: Any) -> dict[str, Any]:
    """Of numpy, an array or one of its scalars."""
    import numpy

    facts: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, numpy.generic):
        return {"dtype": str(value.dtype), "value": value.item()}
    whole: Any = numpy.asarray(value)
    if whole.dtype.hasobject:
        return facts
    facts |= {"size": whole.nbytes, "sha256": None}
    if whole.nbytes <= HASHED:
        plain = numpy.ascontiguousarray(whole).reshape(-1).view(numpy.uint8)
        facts["sha256"] = hashlib.sha256(plain.data).hexdigest()
    if whole.size <= FEW and whole.dtype.kind in "biufU":
        facts["values"] = whole.tolist()
    return facts


def _tensor(value: Any) -> dict[str, Any]:
    """Of torch. What is on another device stays there: to fetch it would stop the program until it is computed."""
    facts: dict[str, Any] = {
        "shape": list(value.shape),
        "dtype": str(value.dtype),
        "device": str(value.device),
    }
    if value.device.type == "cpu":
        facts = _array(value.detach().numpy()) | facts
    return facts


def _pandas(value: Any) -> dict[str, Any] | None:
    """A frame, a series or an index. The digest is of pandas' own hashes of the rows, with names and types."""
    pandas = sys.modules["pandas"]
    if isinstance(value, pandas.DataFrame):
        kinds = {str(name): str(kind) for name, kind in value.dtypes.items()}
        slow = len(value) * sum(kind.kind not in _QUICK for kind in value.dtypes)
        facts: dict[str, Any] = {"shape": list(value.shape), "columns": dict(list(kinds.items())[:COLUMNS])}
        size = int(value.memory_usage(index=True).sum())
    elif isinstance(value, pandas.Series | pandas.Index):
        kinds = {str(value.name): str(value.dtype)}
        slow = len(value) if value.dtype.kind not in _QUICK else 0
        facts = {"shape": list(value.shape), "dtype": str(value.dtype), "name": _name(value.name)}
        size = int(value.nbytes)
    else:
        return None
    facts |= {"size": size, "sha256": None}
    if size <= HASHED and slow <= CELLS:
        try:
            rows = pandas.util.hash_pandas_object(value, index=True).to_numpy()
        except TypeError:  # lists in cells, for one
            return facts
        facts["sha256"] = hashlib.sha256(repr(list(kinds.items())).encode() + rows.tobytes()).hexdigest()
    return facts


def _polars(value: Any) -> dict[str, Any] | None:
    """A frame or a series; a lazy one isn't computed. The digest is of the Arrow file that it would be written to."""
    polars = sys.modules["polars"]
    if isinstance(value, polars.LazyFrame):
        return {}
    if isinstance(value, polars.DataFrame):
        kinds = {name: str(kind) for name, kind in value.schema.items()}
        facts: dict[str, Any] = {"shape": list(value.shape), "columns": dict(list(kinds.items())[:COLUMNS])}
        frame = value
    elif isinstance(value, polars.Series):
        facts = {"shape": list(value.shape), "dtype": str(value.dtype), "name": _name(value.name)}
        frame = value.to_frame()
    else:
        return None
    facts |= {"size": int(frame.estimated_size()), "sha256": None}
    if facts["size"] <= HASHED:
        content = frame.rechunk().write_ipc(None, compression="uncompressed").getvalue()
        facts["sha256"] = hashlib.sha256(content).hexdigest()
    return facts


def _shaped(value: Any) -> dict[str, Any] | None:
    """Of another library that has the same words for it: a digest where it gives its bytes."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if not isinstance(shape, tuple) or dtype is None or callable(dtype):
        return None
    facts: dict[str, Any] = {"shape": list(shape), "dtype": str(dtype)}
    contents = getattr(value, "tobytes", None)
    if callable(contents) and facts["dtype"] != "object":
        size = getattr(value, "nbytes", 0)
        if isinstance(size, int) and size <= HASHED:
            content = contents()
            facts |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return facts


def _name(name: object) -> str | None:
    return None if name is None else str(name)
