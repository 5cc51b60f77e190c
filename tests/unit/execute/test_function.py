"""What is told of a function, its arguments and what it gives back: always JSON, never a failure, nothing consumed."""

import collections
import dataclasses
import enum
import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.core.secrets import mask
from capsula.execute.function import describe, describe_call, describe_exception, signature_of
from capsula.execute.values import VALUES, represent

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below) | st.tuples(below, below),
    max_leaves=20,
)


@given(TREES)
def test_whatever_it_is_it_becomes_json(value: Any) -> None:
    assert json.loads(json.dumps(represent(value), allow_nan=False)) is not ...


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "text", [1, [2, "x"]], {"a": {"b": None}}])
def test_what_is_json_stays_as_it_is(value: Any) -> None:
    assert represent(value) == value


def test_a_generator_is_told_of_and_not_consumed() -> None:
    numbers = (number for number in range(3))
    assert represent(numbers)["type"] == "generator"
    assert list(numbers) == [0, 1, 2]


class Array:
    """Looks like numpy's."""

    shape = (2, 3)
    dtype = "float64"

    def tobytes(self) -> bytes:
        return bytes(48)


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Deep:
    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)


def test_an_array_is_summed_up_by_shape_type_and_digest() -> None:
    told = represent(Array())
    assert (told["shape"], told["dtype"], told["size"]) == ([2, 3], "float64", 48)
    assert told["sha256"] == hashlib.sha256(bytes(48)).hexdigest()


@pytest.mark.parametrize(
    "make",
    [
        Rude,
        Deep,
        lambda: {"x": Rude()},
        lambda: object,
        lambda: len,
        lambda: OrderedDict(a=1),
        lambda: {1: 2},
    ],
)
def test_the_strangest_object_is_no_failure(make: Callable[[], Any]) -> None:
    json.dumps(represent(make()))


def test_what_is_too_long_or_too_deep_is_summed_up() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    json.dumps(represent(nested))
    assert represent("x" * 100_000)["size"] == 100_000
    assert represent(list(range(100_000)))["length"] == 100_000
    loop: list[Any] = []
    loop.append(loop)
    json.dumps(represent(loop))


def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return describe_call(signature_of(function), args, kwargs, mask)


def test_credentials_in_arguments_are_left_out() -> None:
    def login(user: str, password: str, url: str) -> None: ...

    told = called(login, "me", "hunter22", url="https://me:hunter22@host/")
    assert told["arguments"] == {"user": "me", "password": "***", "url": "https://***@host/"}
    assert "hunter22" not in json.dumps(told)


def test_arguments_are_bound_to_their_names_with_the_defaults() -> None:
    def run(n: int, seed: int | None = None, *rest: int, **more: int) -> None: ...

    told = called(run, 1, 2, 3, x=4)
    assert told["args"] == [1, 2, 3]
    assert told["kwargs"] == {"x": 4}
    assert told["arguments"] == {"n": 1, "seed": 2, "rest": [3], "more": {"x": 4}}
    assert called(run)["arguments"] is None


def test_a_function_is_described_by_its_source() -> None:
    told = describe(functools.partial(test_a_function_is_described_by_its_source))
    assert Path(told["source_file"]).name == "test_function.py"
    assert told["source_line"] > 10
    assert told["function_name"] == "test_a_function_is_described_by_its_source"
    assert len(told["source_sha256"]) == 64
    assert describe(len)["function_name"] == "len"


def test_an_exception_whose_text_fails_is_described_all_the_same() -> None:
    class Bad(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    try:
        raise Bad
    except Bad as error:
        told = describe_exception(error, lambda text: text)
    assert told["exc_value"] == "?"
    assert "Bad" in told["exc_type"]


def test_all_that_is_told_of_one_value_has_a_limit() -> None:
    wide: list[Any] = [0] * 999
    for _ in range(5):
        wide = [wide] * 999
    assert len(json.dumps(represent(wide))) < VALUES * 100


def test_a_number_that_is_too_long_for_decimals_is_no_failure() -> None:
    told = represent({"n": 10**6000})
    assert told["n"]["type"] == "int"
    json.dumps(told)


def test_what_has_named_fields_is_told_field_by_field() -> None:
    @dataclasses.dataclass
    class Options:
        rate: float
        password: str

    Point = collections.namedtuple("Point", "x y")
    assert represent(Options(0.1, "hunter22"))["fields"] == {"rate": 0.1, "password": "***"}
    assert represent(Point(1, 2))["fields"] == {"x": 1, "y": 2}
    assert represent(Colour.RED)["value"] == 1


class Colour(enum.Enum):
    RED = 1


def test_an_address_in_memory_is_not_told() -> None:
    class Plain: ...

    assert represent(Plain()) == {"type": represent(Plain())["type"]}


def test_a_set_is_told_in_the_same_order_each_time() -> None:
    assert represent({3, 1, 2})["items"] == [1, 2, 3]


def test_what_is_to_be_hidden_is_hidden_wherever_it_stands() -> None:
    told = represent([{"a": Path("/x/hunter22")}, ("hunter22",)], lambda text: text.replace("hunter22", "*"))
    assert "hunter22" not in json.dumps(told)


class Model:
    def __call__(self, x: int) -> int:
        return x

    def method(self) -> None: ...


def test_objects_and_methods_are_described_by_their_source() -> None:
    assert describe(Model())["function_name"] == "Model"
    assert describe(Model())["source_line"] == describe(Model.__call__)["source_line"]
    assert describe(Model().method)["qualified_name"] == "Model.method"
    assert describe(functools.lru_cache(called))["function_name"] == "called"


def test_of_a_long_text_no_more_is_looked_through_than_is_told() -> None:
    seen = []

    def hide(text: str) -> str:
        seen.append(len(text))
        return text.replace("hunter22", "*")

    told = represent("hunter22 " + "x " * 500_000, hide)
    assert told["start"].startswith("* x x")
    assert told["size"] == 1_000_009
    assert max(seen) < 100_000


def test_of_very_many_texts_no_more_is_told_than_there_is_room_for() -> None:
    told = represent(["token " * 1000] * 1000)
    assert told[0] == "token " * 1000
    assert told[-1] == {"type": "str", "size": 6000, "sha256": told[-1]["sha256"]}
    assert len(json.dumps(told)) < 2_000_000
