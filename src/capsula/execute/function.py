"""What a call of a Python function is made of, as JSON: its source, its arguments, its exception."""

from __future__ import annotations

import functools
import hashlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from capsula.core.secrets import is_secret
from capsula.execute.values import Hide, Teller, type_name


def innermost(function: Any) -> Any:
    """The function that was written down, below decorators, functools.partial and methods."""
    while True:
        inner = inspect.unwrap(function)
        if isinstance(inner, functools.partial | functools.partialmethod):
            function = inner.func
        elif inspect.ismethod(inner):
            function = inner.__func__
        elif inspect.isroutine(inner) or isinstance(inner, type):
            return inner
        else:  # an object that can be called
            return inspect.unwrap(called_of(inner))


def called_of(thing: Any) -> Any:
    """The function that is run when an object is called."""
    name = "__call__"
    return getattr(type(thing), name, thing)


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # compiled, without a word on its arguments


def describe(function: Callable[..., Any]) -> dict[str, Any]:
    """Where the function comes from: the seed's source_file, source_line and function_name, and ours."""
    inner = innermost(function)
    facts: dict[str, Any] = {
        "source_file": None,
        "source_line": None,
        "function_name": _name(function, inner),
    }
    try:
        lines, first = inspect.getsourcelines(inner)
        facts["source_file"] = inspect.getsourcefile(inner)
        facts["source_line"] = first
        facts["source_sha256"] = hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    except (OSError, TypeError):  # typed into a prompt, made by exec, compiled
        code = getattr(inner, "__code__", None)
        facts["source_file"] = getattr(code, "co_filename", None)
        facts["source_line"] = getattr(code, "co_firstlineno", None)
    facts["module"] = getattr(inner, "__module__", None)
    facts["qualified_name"] = getattr(inner, "__qualname__", None) or facts["function_name"]
    return facts


def describe_call(
    signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any], hide: Hide
) -> dict[str, Any]:
    """The arguments as they were given (`args`, `kwargs`, as in the seed) and by name, with the defaults."""
    bound = _bound(signature, args, kwargs)
    positional = [Teller(hide).argument(name, value) for name, value in _named(signature, args)]
    return {
        "args": positional,
        "kwargs": {str(name): Teller(hide).argument(name, value) for name, value in kwargs.items()},
        "arguments": bound and {name: Teller(hide).argument(name, value) for name, value in bound.items()},
    }


def secret_texts(
    signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[str]:
    """The texts among the arguments whose names say that they are secret: also an error may tell of them."""
    named = [*_named(signature, args), *kwargs.items()]
    return [value for name, value in named if isinstance(value, str) and is_secret(str(name))]


def _bound(
    signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    if signature is None:
        return None
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return None  # the call itself will say what is wrong with it
    bound.apply_defaults()
    return bound.arguments


def _named(signature: inspect.Signature | None, args: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """What was given by its place has a name, too, and that may say that it is secret."""
    parameters = signature.parameters.values() if signature is not None else ()
    names = [
        each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return [(names[at] if at < len(names) else "", value) for at, value in enumerate(args)]


def describe_exception(error: BaseException, hide: Callable[[str], str]) -> dict[str, Any]:
    """Type, text and traceback; `hide` leaves credentials out of texts."""
    try:
        text = str(error)
    except Exception:
        text = "?"
    try:
        lines = traceback.format_exception(type(error), error, _without_ours(error.__traceback__))
    except Exception as failed:  # an exception of the user's that can't be shown
        lines = [f"no traceback: {type(failed).__name__}"]
    return {"exc_type": type_name(error), "exc_value": hide(text), "traceback": hide("".join(lines))}


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """From the first frame of the user's on: those that called the function are ours, or those of a notebook."""
    ours = ("capsula.api", "IPython.core.interactiveshell")
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith(ours):
        trace = trace.tb_next
    return trace


def _name(function: Any, inner: Any) -> str:
    for each in (inner, function):
        if name := getattr(each, "__name__", None):
            return str(name) if name != "__call__" else type(function).__name__
    return type(function).__name__
