"""What a function's result depends on in the program itself: its code, and all that the code names, as facts for a key.

The code is what the interpreter runs, taken from memory: its instructions, constants and names, without lines and file.
The text of the file isn't asked, for it may have been edited since it was imported; then the text would be keyed, the
old code would run, and its result would be a wrong hit for ever after. So a comment or a moved function is no miss, and
a lambda or a function without a file can be keyed as well.

From the function on, each global name, closure and default is followed: functions and classes of the program by
their code, in turn; values by their content; what is installed, by the name and version of its distribution; the
interpreter's own, by its version. An attribute of a module (`tools.clean`) counts as that attribute. What can't be
followed raises Unkeyable: a key that leaves something out would give somebody else's result.
"""

from __future__ import annotations

import abc
import builtins
import collections
import enum
import functools
import hashlib
import inspect
import logging
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from capsula.execute.bytecode import CHANGES, IMPORTS, bare, defaults_of, global_names
from capsula.execute.canonical import Unkeyable, canonical, item, refuse, scalar, what_it_is
from capsula.execute.classes import attributes_of, found, is_followed, is_pinned_class, members_of
from capsula.execute.origin import origin_of
from capsula.execute.sharing import pattern

if TYPE_CHECKING:
    from capsula.core.facts import Fact

# What can reach anything by a name that isn't in the code.
_DYNAMIC = frozenset(("eval", "exec", "globals", "compile", "__import__"))
_REACHING = (
    ("importlib", "import_module"),
    ("sys", "modules"),
    ("sys", "_getframe"),
    ("inspect", "currentframe"),
)
_VARIABLES = (os.environ, os.environb, os.getenv, os.getenvb)
_COLLECTIONS = (collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque)
_METACLASSES = (type, abc.ABCMeta, enum.EnumMeta)


def python_fact() -> Fact:
    version = ".".join([str(part) for part in sys.version_info[:3]])
    optimized = f" -{'O' * sys.flags.optimize}" if sys.flags.optimize else ""
    return ("python", f"{sys.implementation.name} {version}{optimized}")


class Follower:
    """Follows one function. `facts` are rows of (kind, name, hash or version): code, value, package."""

    def __init__(self, home: str | None, *, variables: bool = False) -> None:
        """`home` is the module of the function, whose names stand for themselves: it may be run under any name.
        `variables`: those of the environment that it reads are named elsewhere."""
        self._variables = variables
        self.facts: set[Fact] = {python_fact()}
        self._home = home
        # By identity, with the object, so that no other one gets its number meanwhile.
        self._labels: dict[int, tuple[Any, str]] = {}
        self._taken: set[str] = set()
        # What was keyed by its content, each with all that it holds.
        self.values: dict[str, Any] = {}

    def key_of(self, value: Any, where: str) -> bytes:
        """A value as bytes; what it is made of in the program is followed. Raises Unkeyable, saying where."""
        with _at(where):
            self.values[where] = value
            return canonical(value, self._other)

    def is_named(self, value: Any) -> bool:
        """Whether its name stands for it in the key, and not its content."""
        return isinstance(value, enum.Enum | logging.Logger) or self._found_in_package(value) is not None

    # ------------------------------------------------------------------------------------------------ functions

    def _function(self, function: types.FunctionType) -> str:
        """What stands for the function where it is named."""
        module = function.__globals__.get("__name__")
        if module == "capsula" or str(module).startswith("capsula."):
            # Recording changes no result.
            wrapped = getattr(function, "__wrapped__", None)
            return self._ref(wrapped) if wrapped is not None else f"capsula:{function.__qualname__}"
        if origin_of(module).is_pinned and not _is_made_at_run_time(function):
            return self._pinned(module, function.__qualname__)
        if id(function) in self._labels:
            return self._labels[id(function)][1]
        label = self._label(function, function.__globals__, function.__qualname__)
        parts = [bare(function.__code__), label.encode()]
        for name, default in defaults_of(function):
            parts.append(self.key_of(default, f"the default of {name} in {label}"))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            parts.append(name.encode() + self._cell(cell, f"what {label} has of its surroundings as {name}"))
        if origin_of(module).is_pinned:
            parts.append(self._pinned(module, "").encode())
        else:
            parts += self._own(function, label)
            parts += self._globals(function.__code__, function.__globals__, label)
        self._add("code", label, b"".join([item(b"-", part) for part in parts]))
        return label

    def _own(self, function: types.FunctionType, label: str) -> list[bytes]:
        """What the program has written on it, as on any object."""
        own = sorted([name for name in vars(function) if not name.startswith("__")])
        return [name.encode() + self.key_of(vars(function)[name], f"{label}.{name}") for name in own]

    def _cell(self, cell: types.CellType, where: str) -> bytes:
        try:
            content = cell.cell_contents
        except ValueError:  # not there yet
            return b""
        return self.key_of(content, where)

    def _globals(self, code: types.CodeType, names: dict[str, Any], label: str) -> list[bytes]:
        parts = []
        for name, attributes in sorted(global_names(code)):
            if name.startswith(CHANGES):
                raise Unkeyable(f"{label} changes the global {name[1:]}")
            if name.startswith(IMPORTS):
                parts.append(self._imported(name[1:], label))
                continue
            if name not in names:
                if name in _DYNAMIC:
                    raise Unkeyable(f"{label} uses {name}(), which can reach anything")
                if name == "input":
                    raise Unkeyable(f"{label} reads standard input")
                # The interpreter's own, or an error when it runs.
                self._look_through(builtins, (name,), label)
                continue
            parts.append(self._named(name, attributes, names, label))
        return parts

    def _imported(self, module: str, label: str) -> bytes:
        # What a module of the program would be then can't be seen before it is there.
        if not origin_of(module).is_pinned:
            raise Unkeyable(
                f"{label} imports {module or 'a module of its package'} while it runs",
                hint="import it at the top of the file",
            )
        return item(b"m", self._pinned(module, "").encode())

    def _named(self, name: str, attributes: tuple[str, ...], names: dict[str, Any], label: str) -> bytes:
        """One global name, through modules to what is meant in them."""
        value, shown = names[name], name
        space = names
        for at, attribute in enumerate(attributes):
            if value is os:
                self._refuse_variables(getattr(os, attribute, None), f"{shown}.{attribute}", label)
            if value is sys and attribute == "stdin":
                raise Unkeyable(f"{label} reads standard input")
            if value is sys and attribute == "argv":
                self._add("value", "sys.argv", canonical(sys.argv, self._other))
                break
            if isinstance(value, types.ModuleType) and (value.__name__, attribute) in _REACHING:
                raise Unkeyable(f"{label} uses {shown}.{attribute}, which can reach anything")
            if not isinstance(value, types.ModuleType):
                break
            if origin_of(value.__name__).is_pinned:
                self._look_through(value, attributes[at:], label)
                break
            space = vars(value)
            shown = f"{shown}.{attribute}"
            if attribute not in space:
                raise Unkeyable(f"{label} uses {shown}, which isn't there")
            value = space[attribute]
        if isinstance(value, types.ModuleType):
            return item(b"m", self._module(value, shown, label).encode())
        self._refuse_variables(value, shown, label)
        own = f"{self._prefix(space)}{shown.rpartition('.')[2]}"
        with _at(f"{shown}, which {label} uses,"):
            if is_followed(value):
                return item(b"-", f"{shown}={self._ref(value)}".encode())
            self.values[own] = value
            self._add("value", own, canonical(value, self._other))
        return item(b"v", f"{shown}={own}".encode())

    def _look_through(self, module: types.ModuleType, attributes: tuple[str, ...], label: str) -> None:
        """What is named of an installed module stands for what was installed, unless the program has put something
        else there: a number or a text counts as it is, a function or a class of the program by its code."""
        value: Any = module
        name = ""
        for attribute in attributes:
            if not isinstance(value, types.ModuleType):
                break
            space, name = vars(value), f"{value.__name__}.{attribute}"
            # Where this Python lies says nothing that its version doesn't.
            if attribute not in space or value is sys or attribute.startswith("__"):
                return
            value = space[attribute]
        with _at(f"{name}, which {label} uses,"):
            if _is_constant(value):
                self._add("value", name, canonical(value, refuse))
            elif _is_of_the_program(value):
                self._add("value", name, self._ref(value).encode())

    def _refuse_variables(self, value: Any, shown: str, label: str) -> None:
        if not self._variables and any([value is reader for reader in _VARIABLES]):
            raise Unkeyable(f"{label} reads {shown}", hint="name the variables that it reads: env=['NAME']")

    def _module(self, module: types.ModuleType, shown: str, label: str) -> str:
        if module.__name__.partition(".")[0] == "capsula":
            return "capsula"
        if not origin_of(module.__name__).is_pinned:
            raise Unkeyable(
                f"{label} uses the module {shown} as a whole", hint="name what is used of it: module.function"
            )
        return self._pinned(module.__name__, "")

    # ------------------------------------------------------------------------------------------------ classes

    def _class(self, kind: type) -> str:
        if is_pinned_class(kind):
            return self._pinned(kind.__module__, kind.__qualname__)
        if id(kind) in self._labels:
            return self._labels[id(kind)][1]
        space = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
        label = self._label(kind, space, kind.__qualname__)
        parts = [self._class(base) for base in kind.__bases__ if base is not object]
        if type(kind) not in _METACLASSES:
            parts.append(self._class(type(kind)))
        content = [item(b"-", part.encode()) for part in parts]
        with _at(f"the class {label}"):
            content += [
                item(b"-", name.encode()) + self._member(value, f"{label}.{name}")
                for name, value in members_of(kind)
            ]
        self._add("code", label, b"".join(content))
        return label

    def _member(self, value: Any, where: str) -> bytes:
        with _at(where):
            return canonical(value, self._other)

    # ------------------------------------------------------------------------------------------------ anything else

    def _ref(self, value: Any) -> str:
        """What stands for something that is followed: a function, a class, or what is made of them."""
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.BuiltinFunctionType):
            return self._builtin(value)
        if isinstance(value, functools.partial):
            return f"partial({self._parts(value.func, value.args, value.keywords, value.__dict__)})"
        if isinstance(value, staticmethod | classmethod | functools._lru_cache_wrapper):
            return f"{type(value).__name__}({self._ref(value.__wrapped__)})"
        if isinstance(value, property):
            return f"property({self._parts(value.fget, value.fset, value.fdel)})"
        if isinstance(value, functools.cached_property):
            return f"cached_property({self._ref(value.func)})"
        if isinstance(value, types.MethodType):
            return f"method({self._parts(value.__func__, value.__self__)})"
        raise Unkeyable(what_it_is(value))

    def _parts(self, *values: Any) -> str:
        return hashlib.sha256(b"".join([canonical(value, self._other) for value in values])).hexdigest()

    def _builtin(self, value: Any) -> str:
        owner = value.__self__
        if owner is not None and not isinstance(owner, types.ModuleType):
            if isinstance(owner, type):
                return f"{self._class(owner)}.{value.__name__}"
            return f"{value.__name__} of {self._parts(owner)}"
        module = value.__module__ or getattr(owner, "__name__", None)
        if not origin_of(module).is_pinned:
            raise Unkeyable(f"it is compiled code of {module or 'nobody knows which module'}")
        return self._pinned(module, value.__name__)

    def _other(self, value: Any) -> bytes:
        """The bytes of a value that isn't plain."""
        kind = type(value)
        if is_followed(value):
            return item(b"c", self._ref(value).encode())
        if isinstance(value, enum.Enum):
            # Of flags, several members together have no name of their own.
            member = canonical((value.name, value.value), self._other)
            return item(b"m", item(b"-", self._class(kind).encode()) + member)
        if kind is logging.Logger or kind is logging.RootLogger:
            return item(b"L", value.name.encode())
        if kind is re.Pattern:
            return item(b"R", canonical((value.pattern, value.flags), self._other))
        if kind.__module__ == "typing" or kind in (types.GenericAlias, types.UnionType):
            return item(b"T", repr(value).encode())
        if isinstance(value, types.ModuleType):
            return item(b"m", self._module(value, value.__name__, "it").encode())
        if (pinned := self._found_in_package(value)) is not None:
            return item(b"P", pinned.encode())
        return self._instance(value, kind)

    def _found_in_package(self, value: Any) -> str | None:
        """An object that an installed package has under its own name, like numpy's `sin`."""
        module, name = type(value).__module__, getattr(value, "__name__", None)
        for place in (getattr(value, "__module__", None), module, module.partition(".")[0]):
            if not (isinstance(name, str) and isinstance(place, str) and origin_of(place).is_pinned):
                continue
            if found(place, name) is value:
                return self._pinned(place, name)
        return None

    def _instance(self, value: Any, kind: type) -> bytes:
        """An instance of a class of the program: the class, and all its attributes; nothing may be hidden from us."""
        label = self._class(kind)
        if kind in _COLLECTIONS:
            facts = (getattr(value, "maxlen", None), getattr(value, "default_factory", None), [*value])
            content = [*value.values()] if isinstance(value, dict) else []
            return item(b"C", item(b"-", label.encode()) + canonical((*facts, content), self._other))
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return item(b"o", item(b"-", label.encode()) + canonical(tuple(value), self._other))
        fields = attributes_of(value, kind)
        if fields is None:
            raise Unkeyable(what_it_is(value))
        return item(b"o", item(b"-", label.encode()) + canonical(fields, self._other))

    # ------------------------------------------------------------------------------------------------ facts

    def _add(self, kind: str, name: str, content: bytes) -> None:
        self.facts.add((kind, name, hashlib.sha256(content).hexdigest()))

    def _pinned(self, module: str | None, name: str) -> str:
        origin = origin_of(module)
        if (module, name) in _REACHING:
            raise Unkeyable("it can reach anything")
        if origin.distribution:
            self.facts.add(("package", origin.distribution, origin.version))
        return f"{module}:{name}"

    def _prefix(self, space: dict[str, Any]) -> str:
        """Names of the function's own module stand alone: it may be run, or imported, under any name."""
        module = space.get("__name__")
        return "" if module == self._home else f"{module}."

    def _label(self, value: Any, space: dict[str, Any], qualname: str) -> str:
        label = wanted = self._prefix(space) + qualname
        number = 1
        while label in self._taken:
            number += 1
            label = f"{wanted}#{number}"
        self._taken.add(label)
        self._labels[id(value)] = (value, label)
        return label


def _is_constant(value: Any) -> bool:
    return all([scalar(each) is not None for each in (value if type(value) is tuple else (value,))])


def _is_of_the_program(value: Any) -> bool:
    """Whether it is a function or a class that the program has made. What packages make of texts while they are
    imported is of no module at all, and is theirs."""
    if isinstance(value, types.FunctionType):
        module = value.__globals__.get("__name__")  # its __module__ may be copied from what it wraps
    else:
        module = value.__module__ if isinstance(value, type) else None
    return isinstance(module, str) and not origin_of(module).is_pinned


@contextmanager
def _at(where: str) -> Iterator[None]:
    """The innermost place is the one that is told."""
    try:
        yield
    except Unkeyable as error:
        if error.args[-1:] == ("placed",):
            raise
        placed = Unkeyable(f"{where} can't be part of a key: {error.what}", hint=error.hint)
        placed.args = (placed.what, "placed")
        raise placed from None


def _is_made_at_run_time(function: types.FunctionType) -> bool:
    """Whether a function of a package was made for this program, like what a decorator leaves: it isn't there under its
    own name, and holds something."""
    module = function.__module__
    if found(module, function.__qualname__) is function and origin_of(module).is_pinned:
        return False
    return bool(function.__closure__) or hasattr(function, "__wrapped__")


def call_facts(
    function: Callable[..., Any],
    arguments: dict[str, Any],
    values: list[Any] | None = None,
    *,
    variables: bool = False,
) -> tuple[Fact, ...]:
    """All facts of one call, `arguments` being its values by name. `values` gets those that it can see;
    `variables`: those of the environment are named. Raises Unkeyable, saying what can't be keyed."""
    inner = inspect.unwrap(function)
    follower = Follower(getattr(inner, "__globals__", {}).get("__name__"), variables=variables)
    follower.key_of(function, "the function")
    facts = {
        ("argument", name, hashlib.sha256(follower.key_of(value, f"the argument {name}")).hexdigest())
        for name, value in arguments.items()
    }
    if values is not None:
        values += follower.values.values()
    if shared := pattern(follower.values, follower.is_named):
        facts.add(("shared", "objects", hashlib.sha256(canonical(shared, refuse)).hexdigest()))
    return tuple(sorted(follower.facts | facts))
