"""`@capsula.monitor`: a function that is recorded stays what it is, whatever kind of function it is."""

import asyncio
import contextlib
import functools
import inspect
import json
import os
import pickle
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import capsula
from capsula.errors import UsageError

# ------------------------------------------------------------------------------------------- upstream's faults


def test_a_second_call_does_not_overwrite_the_first_capsule(project: Any) -> None:
    square = project.monitor(lambda x: x * x)
    assert [square(x) for x in range(5)] == [0, 1, 4, 9, 16]
    found = [project.read("post-run-info.json", at)["return_value"] for at in range(5)]
    assert sorted(found) == [0, 1, 4, 9, 16]


def test_a_return_value_that_is_not_wanted_is_not_stored(project: Any) -> None:
    project.monitor(lambda: "the value", include_return_value=False)()
    for path in project.capsules()[0].iterdir():
        assert path.name == "pre-run-info.json" or "the value" not in path.read_text()
    assert "return_value" not in project.read("post-run-info.json")


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize("value", [{1, 2}, object(), Odd(), b"\xff", 1j, float("nan"), {(1, 2): 3}])
def test_an_argument_or_result_that_is_not_json_stops_nothing_and_is_told(project: Any, value: Any) -> None:
    @project.monitor
    def same(value: Any) -> Any:
        return value

    assert same(value) is value
    before, after = project.read("pre-run-info.json"), project.read("post-run-info.json")
    assert before["arguments"]["value"]["type"] == after["return_value"]["type"] != ""


def test_what_tells_of_a_value_may_call_a_monitored_function(project: Any) -> None:
    class Model:
        @project.monitor
        def summary(self) -> str:
            return "a model"

        def __repr__(self) -> str:
            return self.summary()

    model = Model()
    assert model.summary() == "a model"
    before = project.read("pre-run-info.json")
    assert len(project.capsules()) == 1
    assert before["arguments"]["self"]["repr"] == "a model"
    with project.run() as run:
        run.record("model", model)
    assert len(project.capsules()) == 2


def test_a_value_that_does_not_tell_its_class_is_given_all_the_same(project: Any) -> None:
    class Shy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("no class")

    value = Shy()
    assert project.monitor(lambda: value)() is value
    assert project.read()["status"] == "finished"


def test_a_generator_that_is_an_argument_is_not_consumed(project: Any) -> None:
    assert project.monitor(sorted)(number for number in range(3)) == [0, 1, 2]
    assert project.read("pre-run-info.json")["args"][0]["type"] == "generator"


def test_a_coroutine_function_is_awaited_and_its_result_recorded(project: Any) -> None:
    @project.monitor
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert inspect.iscoroutinefunction(later)
    assert asyncio.run(later(1)) == 2
    assert project.read("post-run-info.json")["return_value"] == 2


def test_methods_of_all_kinds_are_recorded(project: Any) -> None:
    class Model:
        @project.monitor
        def plain(self, x: int) -> int:
            return x

        @project.monitor
        @classmethod
        def outside_of_class(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @classmethod
        @project.monitor
        def inside_of_class(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @project.monitor
        @staticmethod
        def outside_of_static(x: int) -> int:
            return x

        @staticmethod
        @project.monitor
        def inside_of_static(x: int) -> int:
            return x

        @property
        @project.monitor
        def value(self) -> int:
            return 7

    class Child(Model): ...

    assert Child().plain(1) == Child.plain(Child(), 1) == 1
    assert Child.outside_of_class(2) == Child.inside_of_class(2) == ("Child", 2)
    assert Child.outside_of_static(3) == Child().inside_of_static(3) == 3
    assert Child().value == 7
    assert {name: len(rows) for name, rows in project.by_command().items()} == {
        "plain": 2, "outside_of_class": 1, "inside_of_class": 1, "outside_of_static": 1, "inside_of_static": 1,
        "value": 1,
    }  # fmt: skip


@capsula.monitor
def documented(n: int, *, seed: int = 0) -> float:
    """What it does."""
    return n / 2


def test_a_decorated_function_keeps_its_name_signature_and_doc_and_can_be_pickled() -> None:
    assert (documented.__name__, documented.__qualname__, documented.__doc__) == (
        "documented", "documented", "What it does.",
    )  # fmt: skip
    assert documented.__module__ == __name__
    assert str(inspect.signature(documented)) == "(n: int, *, seed: int = 0) -> float"
    assert documented.__annotations__ == {"n": int, "seed": int, "return": float}
    assert pickle.loads(pickle.dumps(documented)) is documented


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SystemExit(3), "failed"),
        (SystemExit(), "finished"),
        (SystemExit("a text"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "failed"),
        (ExceptionGroup("several", [ValueError("one"), TypeError("two")]), "failed"),
    ],
    ids=repr,
)
def test_what_ends_a_function_is_recorded_and_is_the_same_object(
    project: Any, error: BaseException, status: str
) -> None:
    @project.monitor
    def end() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        end()
    assert caught.value is error
    assert project.read()["status"] == status
    told = project.read("post-run-info.json")
    assert told["exception_info"]["exc_type"] == type(error).__name__
    assert "raise error" in told["exception_info"]["traceback"]
    assert "capsula/api" not in told["exception_info"]["traceback"]
    assert told["return_value"] is None


def test_a_step_that_fails_afterwards_masks_neither_result_nor_exception(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("capsula.engine.recording.take", broken)
    assert project.monitor(lambda: 5)() == 5
    error = ValueError("theirs")

    @project.monitor
    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="theirs") as caught:
        fail()
    assert caught.value is error
    assert capsys.readouterr().err.count("not all is recorded: RuntimeError: a bug of ours") == 2
    assert sorted(project.read(at=at)["status"] for at in range(2)) == ["failed", "finished"]


@pytest.mark.parametrize("place", ["capsula.api.steps.begin", "capsula.api.call.Plan.facts"])
def test_a_bug_in_the_recording_is_a_warning(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, place: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(place, broken)
    assert project.monitor(lambda x: x + 1)(1) == 2
    assert "a bug of ours" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- kinds of functions


def test_arguments_are_recorded_by_name_with_the_defaults(project: Any) -> None:
    @project.monitor
    def run(n: int, seed: int | None = None, *rest: int, flag: bool = True, **more: int) -> None: ...

    run(1, 2, 3, x=4)
    before = project.read("pre-run-info.json")
    assert before["args"] == [1, 2, 3]
    assert before["kwargs"] == {"x": 4}
    assert before["arguments"] == {"n": 1, "seed": 2, "rest": [3], "flag": True, "more": {"x": 4}}
    assert before["qualified_name"].endswith("run")
    assert len(before["source_sha256"]) == 64
    assert before["source_file"] == __file__


def test_wrong_arguments_are_refused_by_the_function_itself(project: Any) -> None:
    def one(x: int) -> None: ...

    with pytest.raises(TypeError) as plain:
        one(1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError) as monitored:
        project.monitor(one)(1, 2)
    assert str(monitored.value) == str(plain.value)


def test_what_a_function_changes_in_its_arguments_is_recorded_as_it_was(project: Any) -> None:
    project.monitor(list.append)([1], 2)
    assert project.read("pre-run-info.json")["args"] == [[1], 2]


def test_arrays_and_frames_are_summed_up(project: Any) -> None:
    @project.monitor
    def double(array: Any, frame: Any) -> Any:
        return array * 2

    double(np.arange(100.0), pd.DataFrame({"a": [1, 2]}))
    told = project.read("pre-run-info.json")["arguments"]
    assert (told["array"]["shape"], told["array"]["dtype"]) == ([100], "float64")
    assert (told["frame"]["shape"], told["frame"]["columns"]) == ([2, 1], {"a": "int64"})
    result = project.read("post-run-info.json")["return_value"]
    assert result["sha256"] != told["array"]["sha256"]


def test_a_generator_gives_what_it_gave_and_takes_what_it_took(project: Any) -> None:
    closed = []

    @project.monitor
    def talk(first: int) -> Iterator[Any]:
        try:
            got = yield first
            try:
                got = yield got
            except ValueError as error:
                got = yield f"caught {error}"
            return got
        finally:
            closed.append(True)

    assert inspect.isgeneratorfunction(talk)
    values: Any = talk(1)
    assert inspect.isgenerator(values)
    assert next(values) == 1
    assert values.send("sent") == "sent"
    assert values.throw(ValueError("odd")) == "caught odd"
    with pytest.raises(StopIteration) as end:
        values.send("last")
    assert end.value.value == "last"
    assert closed == [True]
    after = project.read("post-run-info.json")
    assert (after["return_value"], after["yielded"]) == ("last", 3)


def test_a_generator_that_nobody_asks_any_more_is_closed_and_sealed(project: Any) -> None:
    closed = []

    @project.monitor
    def count() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    for number in count():
        if number == 3:
            break
    assert closed == [True]
    assert project.read()["status"] == "interrupted"
    assert project.read("post-run-info.json")["yielded"] == 4


def test_the_body_of_a_generator_is_in_its_run_and_what_is_between_is_not(project: Any) -> None:
    inner = project.monitor(lambda: None)

    @project.monitor
    def numbers() -> Iterator[int]:
        for number in range(2):
            capsula.record("inside", number)
            inner()
            yield number

    with project.run("outer") as outer:
        for number in numbers():
            assert capsula.current() is outer
            capsula.record("between", number)
    found = project.by_command()
    (generator,) = found["numbers"]
    assert generator["metrics"] == {"inside": 1}
    assert found["outer"][0]["metrics"] == {"between": 1}
    assert {row["parent"] for row in found["<lambda>"]} == {generator["id"]}


def test_an_asynchronous_generator_works_as_before(project: Any) -> None:
    @project.monitor
    async def numbers(n: int) -> AsyncIterator[int]:
        for number in range(n):
            await asyncio.sleep(0)
            capsula.record("inside", number)
            yield number

    async def main() -> list[int]:
        found = [number async for number in numbers(3)]
        async with contextlib.aclosing(numbers(3)) as values:
            async for number in values:
                found.append(number)
                break
        return found

    assert inspect.isasyncgenfunction(numbers)
    assert asyncio.run(main()) == [0, 1, 2, 0]
    assert sorted(row["status"] for row in project.by_command()["numbers"]) == ["finished", "interrupted"]


def test_a_context_manager_stays_one(project: Any) -> None:
    @project.monitor
    @contextlib.contextmanager
    def opened() -> Iterator[int]:
        yield 5

    with opened() as value:
        assert value == 5


def test_a_decorator_around_a_coroutine_does_not_hide_its_end(project: Any) -> None:
    def retried(function: Any) -> Any:
        @functools.wraps(function)
        def again(*args: Any) -> Any:
            return function(*args)

        return again

    @project.monitor
    @retried
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        capsula.record("x", x)
        return x

    assert asyncio.run(later(3)) == 3
    assert project.read("post-run-info.json")["return_value"] == 3
    assert project.read()["metrics"] == {"x": 3}


def test_partial_functions_objects_and_caches_work(project: Any) -> None:
    def add(x: int, y: int = 1) -> int:
        return x + y

    class Adder:
        def __call__(self, x: int) -> int:
            return x + 1

    class Later:
        async def __call__(self, x: int) -> int:
            return x + 1

    assert project.monitor(functools.partial(add, y=2))(1) == 3
    assert project.read("pre-run-info.json")["arguments"] == {"x": 1, "y": 2}
    assert project.monitor(Adder())(1) == 2
    assert project.read("pre-run-info.json")["function_name"] == "Adder"
    assert asyncio.run(project.monitor(Later())(1)) == 2
    cached = project.monitor(functools.lru_cache(add))
    assert [cached(1), cached(1)] == [2, 2]
    assert cached.cache_info().hits == 1
    cached.cache_clear()
    outside = functools.lru_cache(project.monitor(add))
    assert [outside(1), outside(1)] == [2, 2]
    assert project.read("pre-run-info.json")["function_name"] == "add"
    assert project.monitor(len)([1]) == 1
    assert len(project.capsules()) == 7


@pytest.mark.parametrize("thing", [int, 5, property(lambda self: 1)])
def test_what_cannot_be_recorded_is_refused_while_decorating(project: Any, thing: Any) -> None:
    with pytest.raises(UsageError, match=r"can't record"):
        project.monitor(thing)


def test_the_context_is_captured_once_for_what_cannot_change(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from capsula.probe.host import HostProbe
    from capsula.probe.variables import EnvironmentProbe

    seen = []
    for probe in (HostProbe, EnvironmentProbe):
        real = probe.read

        def read(self: Any, real: Any = real) -> Any:
            seen.append(type(self).__name__)
            return real(self)

        monkeypatch.setattr(probe, "read", read)
    Path("capsula.toml").write_text("[capture]\ninclude-cpu = true\n")
    function = project.monitor(lambda: None)
    for number in range(3):
        monkeypatch.setenv("NUMBER", str(number))
        function()
    assert seen.count("HostProbe") <= 1
    assert seen.count("EnvironmentProbe") == 3
    contexts = [project.read("context.json", at) for at in range(3)]
    assert all(context["cpu"]["count"] == os.cpu_count() for context in contexts)
    assert {context["environment"]["others"]["NUMBER"] for context in contexts} == {"0", "1", "2"}


def test_each_call_has_the_whole_context_of_the_first(project: Any) -> None:
    for name in ("one", "two"):
        (project.root / name).mkdir()
        who = ["-c", "user.name=me", "-c", "user.email=me@host"]
        for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "x"]):
            subprocess.run(["git", *words], cwd=project.root / name, check=True)
    Path("capsula.toml").write_text("[capture.git.repositories]\none = 'one'\ntwo = 'two'\n")
    function = project.monitor(lambda: None)
    for _ in range(3):
        function()
    contexts = [project.read("context.json", at) for at in range(3)]
    for context in contexts:
        for gone in ("timestamp", "probes", "environment"):
            del context[gone]
    assert contexts[0] == contexts[1] == contexts[2]
    assert [*contexts[0]["git"]] == ["one", "two"]
    assert [project.read(at=at)["troubles"] for at in range(3)] == [[], [], []]
    names = [sorted(path.name for path in capsule.iterdir()) for capsule in project.capsules()]
    assert names[0] == names[1] == names[2]
    assert "packages.json" in names[0]


def test_what_changes_in_a_repository_between_calls_is_seen(project: Any) -> None:
    for words in (["init", "-q", "-b", "main"], ["add", "."]):
        subprocess.run(["git", *words], check=True)
    Path("capsula.toml").write_text("")
    function = project.monitor(lambda: None)
    seen = []
    for number in range(4):
        Path("data").write_text(f"{number}")
        function()
        seen.append(project.read("context.json"))
    assert len({json.dumps(context["git"]) for context in seen}) == 4


def test_a_repository_that_stays_as_it_is_is_looked_at_once(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from capsula.probe.git import GitProbe

    for name in ("_FRESH_NS", "_FRESH_COARSE_NS"):
        monkeypatch.setattr(f"capsula.probe.unmoved.{name}", -1)
    looks = []
    real = GitProbe.read
    monkeypatch.setattr(GitProbe, "read", lambda probe: looks.append(probe) or real(probe))
    for words in (["init", "-q", "-b", "main"], ["add", "."]):
        subprocess.run(["git", *words], check=True)
    Path("capsula.toml").write_text("")
    Path("untracked").write_text("x")
    function = project.monitor(lambda: None)
    for _ in range(4):
        function()
    assert len(looks) == 1
    Path("untracked").write_text("other")
    function()
    assert len(looks) == 2
    diffs = {path.read_bytes() for path in project.root.glob("vault/*/*.diff")}
    assert len(diffs) == 2


def test_an_interrupt_while_a_capsule_is_sealed_goes_on_and_leaves_it_sealed(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("capsula.engine.recording.take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        project.monitor(lambda: 5)()
    assert project.read()["status"] == "finished"
    assert "not all is recorded: interrupted" in project.read()["notes"]
