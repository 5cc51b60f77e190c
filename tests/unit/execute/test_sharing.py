"""Return values of which a copy wouldn't do."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from capsula.execute.sharing import why_no_copy


@dataclasses.dataclass
class Point:
    at: Any


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


ROW = [0]
ARRAY = np.arange(6)
FRAME = pd.DataFrame({"a": [1]})
POINT = Point(1)


@pytest.mark.parametrize(
    "result",
    [
        [ROW] * 2,
        {"x": ROW, "y": (ROW,)},
        (POINT, POINT),
        [Point(ROW), ROW],
        (ARRAY[:4], ARRAY[2:]),
        [FRAME, FRAME],
    ],
)
def test_a_result_that_holds_one_thing_twice(result: Any) -> None:
    assert "in two places" in why_no_copy(result, [])


@pytest.mark.parametrize(
    ("result", "other"),
    [
        (ROW, ROW),
        ((1, ROW), {"k": [ROW]}),
        (ROW, Holder(ROW)),
        (ARRAY[:2], [ARRAY]),
        (ARRAY, ARRAY.reshape(2, 3)),
        (FRAME, FRAME),
        (POINT, Holder((POINT,))),
    ],
)
def test_a_result_that_somebody_else_holds(result: Any, other: Any) -> None:
    assert "has already" in why_no_copy(result, [1, other])


@pytest.mark.parametrize(
    ("result", "other"),
    [
        ([[0], [0]], [[0], [0]]),
        ((1, "a", None), (1, "a", None)),
        ((ARRAY[:3], ARRAY[3:]), [1]),
        (ARRAY[:3], ARRAY[3:]),
        ((np.float64(1), (), ("a",), ("a",)), [ROW]),
        ([ROW[:], FRAME.copy()], [ROW, FRAME]),
    ],
)
def test_a_result_of_its_own(result: Any, other: Any) -> None:
    assert why_no_copy(result, [other]) == ""


def test_what_holds_itself_has_an_end() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert why_no_copy([1, [2]], [ring]) == ""
