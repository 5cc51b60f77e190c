"""The code of a function as the interpreter runs it: its bytes without where it stands, and what it names."""

from __future__ import annotations

import dis
import functools
import types
from typing import Any

from capsula.execute.canonical import canonical, item, refuse

# No name begins with one of these.
CHANGES, IMPORTS = "=", "+"
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_CHANGES = ("STORE_GLOBAL", "DELETE_GLOBAL")


@functools.lru_cache(maxsize=4096)
def bare(code: types.CodeType) -> bytes:
    """The code without where it stands."""
    constants = [
        bare(constant) if isinstance(constant, types.CodeType) else canonical(constant, refuse)
        for constant in code.co_consts
    ]
    facts = (
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_code),
        *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_exceptiontable),
    )
    return canonical(facts, refuse) + b"".join([item(b"-", constant) for constant in constants])


@functools.lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> frozenset[tuple[str, tuple[str, ...]]]:
    """The global names that the code reads, each with the attributes that it takes of it at once; those that it
    changes, and modules that it imports, with a sign before them."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    instructions = list(dis.get_instructions(code))
    for at, instruction in enumerate(instructions):
        if instruction.opname in _CHANGES:
            found.add((f"{CHANGES}{instruction.argval}", ()))
        elif instruction.opname == "IMPORT_NAME":
            found.add((f"{IMPORTS}{instruction.argval}", ()))
        elif instruction.opname in _GLOBAL and instruction.argval != "__name__":
            attributes = []
            for following in instructions[at + 1 :]:
                if following.opname not in _ATTRIBUTE:
                    break
                attributes.append(str(following.argval))
            found.add((str(instruction.argval), tuple(attributes)))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= global_names(constant)
    return frozenset(found)


def defaults_of(function: types.FunctionType) -> list[tuple[str, Any]]:
    code, given = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
    return [*zip(names, given, strict=True), *sorted((function.__kwdefaults__ or {}).items())]
