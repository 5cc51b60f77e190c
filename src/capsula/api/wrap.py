"""The function that stands in for a monitored one, of the same kind: plain, coroutine, generator or both."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from capsula.api.call import Call, Plan, current_path


def wrap(function: Any, plan: Plan) -> Any:
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inner):
        return _wrap_coroutine(function, plan)
    if inspect.isasyncgenfunction(inner):
        return _wrap_async_generator(function, plan)
    if inspect.isgeneratorfunction(inner):
        return _wrap_generator(function, plan)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        token = current_path.set(call.path)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        finally:
            current_path.reset(token)
        call.end(result)
        return result

    return wrapper


def _wrap_coroutine(function: Any, plan: Plan) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        token = current_path.set(call.path)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        finally:
            current_path.reset(token)
        call.end(result)
        return result

    return wrapper


def _wrap_generator(function: Any, plan: Plan) -> Any:
    """From the first value asked for until there is none any more, or nobody asks."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        try:
            result = yield from function(*args, **kwargs)
        except BaseException as error:
            call.end(error=error)
            raise
        call.end(result)
        return result

    return wrapper


def _wrap_async_generator(function: Any, plan: Plan) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, args, kwargs)
        values = function(*args, **kwargs)
        try:
            try:
                value = await anext(values)
                while True:
                    try:
                        sent = yield value
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        value = await values.athrow(thrown)
                    else:
                        value = await values.asend(sent)
            except StopAsyncIteration:
                pass
            finally:
                await values.aclose()
        except BaseException as error:
            call.end(error=error)
            raise
        call.end()

    return wrapper
