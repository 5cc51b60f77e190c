"""The function that stands in for a monitored one, of the same kind: plain, coroutine, generator or both.

The kind is that of the function as it is given, not of what it may wrap: `contextlib.contextmanager` makes a plain
function of a generator.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

from capsula.api import current as lives
from capsula.api.call import Call, Plan
from capsula.api.live import Live
from capsula.execute.function import called_of


def wrap(function: Any, plan: Plan) -> Any:
    called = function if inspect.isroutine(function) else called_of(function)
    for candidate in (function, called):
        if inspect.iscoroutinefunction(candidate):
            return _dressed(_coroutine(function, plan), function)
        if inspect.isasyncgenfunction(candidate):
            return _dressed(_async_generator(function, plan), function)
        if inspect.isgeneratorfunction(candidate):
            return _dressed(_generator(function, plan), function)
    return _dressed(_plain(function, plan), function)


def _dressed(wrapper: Any, function: Any) -> Any:
    """With the name, the documentation and the signature of the function, and what else it can be asked for: the
    `cache_clear` of functools.lru_cache."""
    functools.update_wrapper(wrapper, function)
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inner is not function:
        functools.update_wrapper(wrapper, inner)
        wrapper.__wrapped__ = function
    for name in dir(function):
        if not name.startswith("_") and not hasattr(wrapper, name):
            try:
                setattr(wrapper, name, getattr(function, name))
            except Exception:  # a property that fails, for one: nobody can ask for it either
                continue
    return wrapper


class _Inside:
    """The body of a generator runs in the context of whoever asks for a value: the run is current only meanwhile."""

    __slots__ = ("_before", "_live")

    def __init__(self, live: Live) -> None:
        self._live = live

    def __enter__(self) -> None:
        self._before = lives.step_in(self._live)

    def __exit__(self, *_: object) -> None:
        lives.step_back(self._before)


def _plain(function: Any, plan: Plan) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        if call.is_settled:
            return call.value
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        # Of a function around a coroutine: it has only begun. isinstance would ask the value for its __class__.
        if type(result) is types.CoroutineType:
            lives.step_out(call.live)
            return _awaited(call, result)
        call.end(result)
        return result

    return wrapper


async def _awaited(call: Call, coroutine: Any) -> Any:
    lives.step_in(call.live)
    try:
        result = await coroutine
    except BaseException as error:
        call.end(error=error)
        raise
    call.end(result)
    return result


def _coroutine(function: Any, plan: Plan) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        if call.is_settled:
            return call.value
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        call.end(result)
        return result

    return wrapper


def _generator(function: Any, plan: Plan) -> Any:
    """From the first value asked for until there is none any more, or nobody asks."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        lives.step_out(call.live)
        count = 0
        try:
            with _Inside(call.live):
                values = function(*args, **kwargs)
                value = next(values)
            while True:
                count += 1
                try:
                    sent = yield value
                except GeneratorExit:
                    with _Inside(call.live):
                        values.close()
                    raise
                except BaseException as thrown:
                    with _Inside(call.live):
                        value = values.throw(thrown)
                else:
                    with _Inside(call.live):
                        value = values.send(sent)
        except StopIteration as end:
            call.end(end.value, yielded=count)
            return end.value
        except BaseException as error:
            call.end(error=error, yielded=count)
            raise

    return wrapper


def _async_generator(function: Any, plan: Plan) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        lives.step_out(call.live)
        count = 0
        try:
            with _Inside(call.live):
                values = function(*args, **kwargs)
                value = await anext(values)
            while True:
                count += 1
                try:
                    sent = yield value
                except GeneratorExit:
                    with _Inside(call.live):
                        await values.aclose()
                    raise
                except BaseException as thrown:
                    with _Inside(call.live):
                        value = await values.athrow(thrown)
                else:
                    with _Inside(call.live):
                        value = await values.asend(sent)
        except StopAsyncIteration:
            call.end(yielded=count)
        except BaseException as error:
            call.end(error=error, yielded=count)
            raise

    return wrapper
