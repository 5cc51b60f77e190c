"""Which Python a command will use, and what it says of itself.

Another one than ours is asked by running it for a moment in the environment that the command will have, so that what
decides where it imports from decides the same here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from capsula.core.names import printable
from capsula.errors import CapsulaError

SECONDS = 3.0
FLAGS = (
    *("debug", "dev_mode", "dont_write_bytecode", "hash_randomization", "ignore_environment", "isolated"),
    *("no_site", "no_user_site", "optimize", "safe_path", "utf8_mode", "warn_default_encoding"),
)
_NAMES = re.compile(r"(python|pypy)[0-9.]*[dt]?|graalpy")
# Options that change what is imported or how it runs, and whether a word follows them.
_SWITCHES, _WITH_WORD = frozenset("bBdEIOPsSuv"), frozenset("XW")
_ASK = """
import sys
if sys.path[:1] == [""]: del sys.path[0]
import json, sysconfig
implementation = getattr(sys, "implementation", None)
print(json.dumps({
    "executable": sys.executable,
    "version": sys.version,
    "implementation": implementation and implementation.name,
    "cache_tag": implementation and implementation.cache_tag,
    "prefix": sys.prefix,
    "base_prefix": getattr(sys, "base_prefix", sys.prefix),
    "platform": sysconfig.get_platform(),
    "abiflags": getattr(sys, "abiflags", ""),
    "flags": {name: getattr(sys.flags, name, None) for name in %r},
    "short": "%%d.%%d" %% sys.version_info[:2],
    "path": sys.path,
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`facts` as they are recorded, `path` where it imports from, `short` its version's first two numbers. `whose` says
    why it is this one; `problem` why another, which should be, isn't."""

    facts: Mapping[str, Any]
    path: tuple[str, ...]
    short: str
    whose: str
    problem: str = ""
    is_this: bool = True


@dataclass(frozen=True, slots=True)
class _Called:
    """The program, and those of its options that come before what it runs."""

    program: str
    options: tuple[str, ...] = field(default=())


def find_interpreter(command: Sequence[str], environ: Mapping[str, str], cwd: str) -> Interpreter:
    """That of the command; if it is none of Python's, that of the virtual environment which is active; else our own."""
    whose = "command"
    called = called_by(command, environ, cwd)
    if called is None and command:
        called, whose = _active(environ), "virtual environment"
    if called is None or (_is_ours(called.program) and not called.options):
        return this(whose if called is not None else "capsula" if command else "program")
    try:
        told = _asked(called, environ, cwd)
    except CapsulaError as error:
        return this("capsula", f"{printable(called.program)}, the Python of the {whose}: {error.what}")
    path, short = tuple(told.pop("path")), told.pop("short")
    return Interpreter(told, path, short, whose, is_this=False)


def this(whose: str, problem: str = "") -> Interpreter:
    facts = {
        "executable": sys.executable,
        "version": sys.version,
        "implementation": sys.implementation.name,
        "cache_tag": sys.implementation.cache_tag,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "platform": sysconfig.get_platform(),
        "abiflags": sys.abiflags,
        "flags": {name: getattr(sys.flags, name, None) for name in FLAGS},
    }
    short = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Interpreter(facts, tuple(sys.path), short, whose, problem)


def called_by(command: Sequence[str], environ: Mapping[str, str], cwd: str) -> _Called | None:
    """The Python that these words start: directly, through `env`, or as what a script's first line names."""
    words = list(command)
    for _ in range(5):
        words = _without_env(words)
        if not words:
            return None
        program = _which(words[0], environ, cwd)
        if program is None:
            return None
        if _NAMES.fullmatch(os.path.basename(program)):
            return _Called(program, _options(words[1:]))
        named = _first_line(program)
        if not named:
            return None
        words = [*named, program, *words[1:]]
    return None


def _without_env(words: list[str]) -> list[str]:
    if not words or os.path.basename(words[0]) != "env":
        return words
    rest = words[1:]
    while rest and (rest[0].startswith("-") or "=" in rest[0]):
        word = rest.pop(0)
        if word in ("-S", "--split-string") and rest:
            rest = [*_split(rest[0]), *rest[1:]]
        elif word.startswith("-S"):
            rest = [*_split(word[2:]), *rest]
        elif word in ("-u", "-C", "--unset", "--chdir"):
            del rest[:1]
    return rest


def _which(word: str, environ: Mapping[str, str], cwd: str) -> str | None:
    if "/" in word:
        full = os.path.join(cwd, word)
        return full if os.path.isfile(full) else None
    return shutil.which(word, path=environ.get("PATH", os.defpath))


def _options(words: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and len(rest[0]) > 1:
        word = rest.pop(0)
        if word[1] in _WITH_WORD:
            found += [word] if len(word) > 2 or not rest else [word, rest.pop(0)]
        elif set(word[1:]) <= _SWITCHES:
            found.append(word)
        else:
            # From -c or -m on it is what is run; `-Im module` has switches before it.
            switches = "".join(
                letter for letter in word[1:].partition("c")[0].partition("m")[0] if letter in _SWITCHES
            )
            return (*found, *([f"-{switches}"] if switches and word[1] != "-" else ()))
    return tuple(found)


def _first_line(program: str) -> list[str]:
    """The words after `#!`; [] for what is no script. Also those of the longer form that pip writes where a path is too
    long, or has a space in it, for the kernel."""
    try:
        with open(program, "rb") as file:
            lines = os.fsdecode(file.read(4096)).split("\n")
    except OSError:
        return []
    if not lines[0].startswith("#!"):
        return []
    if len(lines) > 1 and lines[1].startswith("'''exec' "):
        return _split(lines[1].removeprefix("'''exec' "))[:1]
    # The kernel takes all after the first word as one; `env -S` splits it.
    program, _, word = lines[0][2:].strip().partition(" ")
    return [program, word.strip()] if word.strip() else [program]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _active(environ: Mapping[str, str]) -> _Called | None:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        program = os.path.join(environ.get(variable) or "/", "bin/python")
        if environ.get(variable) and os.path.isfile(program):
            return _Called(program)
    return None


def _is_ours(program: str) -> bool:
    """The same binary, in the same virtual environment: it finds that by the path by which it is called."""
    if not sys.executable or os.path.realpath(program) != os.path.realpath(sys.executable):
        return False
    return _environment_of(program) == _environment_of(sys.executable)


def _environment_of(program: str) -> str:
    folder = os.path.realpath(os.path.dirname(program))
    for place in (folder, os.path.dirname(folder)):
        if os.path.exists(os.path.join(place, "pyvenv.cfg")):
            return place
    return ""


def _asked(called: _Called, environ: Mapping[str, str], cwd: str) -> dict[str, Any]:
    """CapsulaError when it doesn't answer, or not in time."""
    words = [called.program, *called.options, "-c", _ASK % (FLAGS,)]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        told: dict[str, Any] = json.loads(done.stdout)
        if not isinstance(told["path"], list) or not isinstance(told["short"], str):
            raise CapsulaError("it doesn't answer as a Python does")
    except subprocess.TimeoutExpired:
        raise CapsulaError(f"it took more than {SECONDS:g} s to answer") from None
    except subprocess.CalledProcessError as error:
        raise CapsulaError(f"it ended with exit code {error.returncode}") from None
    except OSError as error:
        raise CapsulaError(error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError):
        raise CapsulaError("it doesn't answer as a Python does") from None
    return told
