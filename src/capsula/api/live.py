"""A run that is live: what programs say to it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from capsula.engine.live import Pen, fact_line, file_sha256, is_live, metric_line


class Live:
    """A run that is being recorded. Its methods never raise: what can't be recorded is a warning, once.

    `path` is the capsule's directory and `id` its identity; both are "" where no capsule could be made.
    """

    __slots__ = ("_before", "_ended", "_parent", "_pen", "_pid", "_hide", "id", "path")

    def __init__(
        self,
        path: str,
        identity: str,
        hide: Callable[[str], str],
        *,
        parent: Live | None = None,
    ) -> None:
        self.path = path
        self.id = identity
        self._hide = hide
        self._parent = parent
        self._pen = Pen(path)
        self._pid = os.getpid()
        self._ended = False
        # What the context held before: what it holds again afterwards.
        self._before: Live | None = None

    def __repr__(self) -> str:
        return f"<capsula run {self.path or 'that is not recorded'}>"

    def record(self, name: str, value: object, step: int | float | None = None) -> None:
        """A metric at a step: a number (also of numpy, or a tensor with one element), or a summary of anything else."""
        if not self.path:  # it was said that there is no capsule
            return
        try:
            self._pen.write(
                metric_line(
                    name if type(name) is str else _text(name),
                    self._plain(value),
                    None if step is None else self._step(step),
                    time.time(),
                )
            )
        except Exception as error:
            self._failed(f"can't record {shown_name(name)}", error)

    def output(self, path: str | os.PathLike[str], *, copy: bool = False) -> None:
        """A file or directory that the run makes: hashed when it has ended, and with `copy` kept in the capsule."""
        self._say("output", lambda: {"output": _full(path), "copy": bool(copy)})

    def input(self, path: str | os.PathLike[str]) -> None:
        """A file that the run reads: hashed now."""
        self._say("input", lambda: _hashed(path))

    def note(self, text: str) -> None:
        """Some words about the run, for people."""
        self._say("note", lambda: {"note": self._hidden(text)})

    def tag(self, *tags: str) -> None:
        """Words to find the run by."""
        for tag in tags:
            self._tag(tag)

    def _tag(self, tag: str) -> None:
        # As `capsula tag` takes them: without blanks and commas.
        self._say("tag", lambda: {"tag": "_".join(self._hidden(tag).replace(",", " ").split())[:100]})

    def _say(self, kind: str, make: Callable[[], dict[str, object]]) -> None:
        if not self.path:
            return
        try:
            self._pen.write(fact_line(make()))
        except Exception as error:
            self._failed(f"can't record the {kind}", error)

    def _plain(self, value: Any) -> object:
        """A number as a number, whoever's type it is; anything else as what JSON can say of it."""
        kind = type(value)
        if kind is float or kind is int or kind is bool or value is None:
            return value
        try:
            number = _number(value)
        except Exception:
            number = None
        if number is not None:
            return number
        from capsula.api.at_work import at_work
        from capsula.execute.values import represent

        with at_work():
            return represent(value, self._hidden)

    def _step(self, step: Any) -> object:
        """A number, or nothing: what it belongs to is worth more."""
        try:
            found = step if type(step) in (int, float) else _number(step)
        except Exception:
            return None
        return None if type(found) is int and found.bit_length() > 63 else found

    def _hidden(self, text: object) -> str:
        return self._hide(str(text))

    def _failed(self, doing: str, error: Exception) -> None:
        if isinstance(error, FileNotFoundError) and not is_live(self.path):
            warn_once(f"{doing}: the run {os.path.basename(self.path)} has ended", self.path)
        else:
            reason = error.strerror if isinstance(error, OSError) else ""
            warn_once(f"{doing}: {reason or f'{type(error).__name__}: {error}'}", self.path)

    # What follows is for the recording itself.

    def is_over(self) -> bool:
        """Of a run of another process, only the capsule itself can tell."""
        return self._ended or (self._pid != os.getpid() and not is_live(self.path))

    def line(self) -> list[Live]:
        """This run, the one that it is part of, and so on, as far as they are live here."""
        found: list[Live] = []
        run: Live | None = self
        while run is not None:
            if not run.is_over():
                found.append(run)
            run = run._parent
        return found


_warned: set[tuple[str, str]] = set()


def warn(text: str) -> None:
    if sys.stderr is None:  # to print() that would be stdout
        return
    try:
        print(f"capsula: {text}", file=sys.stderr)
    except Exception:  # a closed stream, or one of the user's that fails
        return


def warn_once(text: str, about: str) -> None:
    """The first trouble of a kind is said, not the million that follow."""
    kind = (about, text.partition(":")[2] or "outside")
    if kind not in _warned:
        _warned.add(kind)
        warn(text)


def identity_of(path: str) -> str:
    """The id of the capsule in this directory; "" where that can't be read."""
    if not path:
        return ""
    try:
        with open(os.path.join(path, "capsule.json"), "rb") as file:
            return str(json.load(file)["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _number(value: Any) -> object:
    """The one number in it, or None: of numpy, torch and the like by `item()`, of Decimal and Fraction by float()."""
    kind = type(value)
    if kind in (str, bytes, dict, list, tuple):
        return None
    if issubclass(kind, int | float):  # an enum, numpy's float64; what only claims to be one (a mock) isn't
        return bool(value) if kind is bool else int(value) if issubclass(kind, int) else float(value)
    item = getattr(value, "item", None)
    if callable(item):
        found = item()
        return found if type(found) in (int, float, bool) else None
    if hasattr(kind, "__float__") and hasattr(kind, "as_integer_ratio"):
        return float(value)
    return None


def _full(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fsdecode(os.fspath(path)))


def _hashed(path: str | os.PathLike[str]) -> dict[str, object]:
    fact: dict[str, object] = {"input": _full(path), "hash_algorithm": "sha256", "file_hash": None}
    try:
        fact["file_hash"] = file_sha256(_full(path))
    except OSError as error:
        fact["error"] = error.strerror or str(error)
    return fact


def shown_name(name: object) -> str:
    return name[:100] if type(name) is str else f"a {type(name).__name__}"


def _text(name: object) -> str:
    try:
        return str(name)
    except Exception:
        return shown_name(name)
