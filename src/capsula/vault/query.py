"""Conditions on capsules: `git.sha = 3f2a and not metrics.loss >= 0.1`, read once and asked of flat mappings.

    either    = both { "or" both }             both = denied { "and" denied }
    denied    = "not" denied | "(" either ")" | test
    test      = name OPERATOR value | name ["not"] "in" "(" value { "," value } ")"
    OPERATOR  = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" (contains, in whatever case)

A name needn't be whole: `sha` and `git.sha` both mean context.git.repo.sha. Its parts stand in that order in the full
name and its last part is the last there. Of the names that fit, those count that leave out the fewest parts between
(and one that is exactly it counts alone), so that `git.sha` isn't also some sha further down. Where several count,
one whose value fits is enough, and so it is of the values of a list (`tags = baseline`); `!=` and `not in` ask that the
name is there and that no value equals. `not x = y` also holds where there is no x.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from capsula.core.names import printable
from capsula.errors import UsageError
from capsula.vault.facts import Fact
from capsula.vault.flat import Scalar

_EXAMPLE = "for example: git.sha = 3f2a and metrics.loss < 0.1"
_DEEPEST = 50
_LONGEST_NUMBER = 400
_TOKEN = re.compile(
    r"""\s*(?:(?P<operator>[!<>=]=|[<>=~(),])|(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<word>[^\s!<>=~(),'"]+))""",
    re.DOTALL,
)
_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9})+)(?=$|[ +a-z-]|\.[a-z])", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII | re.IGNORECASE)
_DIGESTS, _SHORTEST_DIGEST = (40, 64), 4
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison. For `=`, `!=`, `in` and `not in` there may be several `values`."""

    name: str
    operator: str
    values: tuple[str, ...]

    def matches(self, flat: Mapping[str, Fact]) -> bool:
        names = named(flat, self.name)[1]
        found = [value for name in names for value in values_of(flat[name])]
        if self.operator == "!=":
            return bool(names) and not any(_equals(each, value) for each in found for value in self.values)
        compare = _OPERATORS[self.operator]
        return any(compare(each, value) for each in found for value in self.values)


@dataclass(frozen=True, slots=True)
class Not:
    term: Term

    def matches(self, flat: Mapping[str, Fact]) -> bool:
        return not self.term.matches(flat)


@dataclass(frozen=True, slots=True)
class Both:
    terms: tuple[Term, ...]

    def matches(self, flat: Mapping[str, Fact]) -> bool:
        return all(term.matches(flat) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Either:
    terms: tuple[Term, ...]

    def matches(self, flat: Mapping[str, Fact]) -> bool:
        return any(term.matches(flat) for term in self.terms)


Term = Test | Not | Both | Either


@dataclass(frozen=True, slots=True)
class Condition:
    """`names` are those that it asks for, as they were written."""

    term: Term
    names: frozenset[str]

    def matches(self, flat: Mapping[str, Fact]) -> bool:
        return self.term.matches(flat)


def parse(text: str) -> Condition:
    """UsageError, with the position of the character where it stops making sense, for a text that is no condition."""
    return _Reader(text).read()


def values_of(fact: Fact) -> tuple[Scalar, ...]:
    return fact if isinstance(fact, tuple) else (fact,)


def named(names: Collection[str], asked: str) -> tuple[int, list[str]]:
    """Those of the names that `asked` means, and how many parts it leaves out between: -1 for exactly it."""
    if asked in names:
        return -1, [asked]
    wanted = asked.split(".")
    last = wanted[-1]
    best, found = 1 << 30, list[str]()
    for name in names:
        if not name.endswith(last):
            continue
        gap = _gap(name.split("."), wanted)
        if gap is None or gap > best:
            continue
        if gap < best:
            best, found = gap, []
        found.append(name)
    return best, found


def _gap(parts: list[str], wanted: list[str]) -> int | None:
    """How many parts are left out between the wanted ones; None where these aren't all there, in order, to the end.

    From the end, the nearest match of each is also the best for those before it.
    """
    if parts[-1] != wanted[-1]:
        return None
    at = len(parts) - 1
    for each in reversed(wanted[:-1]):
        at -= 1
        while at >= 0 and parts[at] != each:
            at -= 1
        if at < 0:
            return None
    return len(parts) - at - len(wanted)


def _equals(value: Scalar, asked: str) -> bool:
    if value is None or isinstance(value, bool):
        return _text(value) == asked.lower()
    if isinstance(value, str):
        return value == asked or _is_beginning(value, asked)
    number = _number(asked)
    return number is not None and value == number


def _is_beginning(value: str, asked: str) -> bool:
    """Of a commit or a digest, people write the first digits."""
    if len(asked) < _SHORTEST_DIGEST or len(value) not in _DIGESTS or not _HEX.fullmatch(asked):
        return False
    return value.startswith(asked.lower()) and _HEX.fullmatch(value) is not None


def _contains(value: Scalar, asked: str) -> bool:
    return asked.casefold() in _text(value).casefold()


def _order(value: Scalar, asked: str) -> int | None:
    """-1, 0, 1: how the value stands to what is asked; None where there is no order between them."""
    if value is None or isinstance(value, bool):
        return None
    if not isinstance(value, str):
        return _compared(value, _number(asked))
    for read in (_version, _number, _moment):
        mine, theirs = read(value), read(f"{asked}.0" if read is _version and asked.isdigit() else asked)
        if mine is not None and theirs is not None:
            return _compared(mine, theirs)
    return _compared(value, asked)


def _compared(mine: Any, theirs: Any) -> int | None:
    if theirs is None:
        return None
    # Not a number is in no order with anything.
    return -1 if mine < theirs else 1 if mine > theirs else 0 if mine == theirs else None


def _number(text: str) -> int | float | None:
    if not text.isascii() or "_" in text or len(text) > _LONGEST_NUMBER:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def _version(text: str) -> tuple[int, ...] | None:
    """3.9 comes before 3.11 where both are text; a measured number is stored as a number. What follows the numbers of a
    version (`rc1`, `+cpu`) doesn't count, nor do zeros at their end."""
    match = _VERSION.match(text)
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _moment(text: str) -> datetime | None:
    """A time without an offset is one of this place."""
    if not _DAY.match(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def _is_below(value: Scalar, asked: str) -> bool:
    return _order(value, asked) == -1


def _is_at_most(value: Scalar, asked: str) -> bool:
    return _order(value, asked) in (-1, 0)


def _is_above(value: Scalar, asked: str) -> bool:
    return _order(value, asked) == 1


def _is_at_least(value: Scalar, asked: str) -> bool:
    return _order(value, asked) in (0, 1)


def _text(value: Scalar) -> str:
    if isinstance(value, str):
        return value
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


_OPERATORS: dict[str, Callable[[Scalar, str], bool]] = {
    "=": _equals,
    "<": _is_below,
    "<=": _is_at_most,
    ">": _is_above,
    ">=": _is_at_least,
    "~": _contains,
}
_COMPARISONS = {*_OPERATORS, "==", "!="}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.lower() == word


class _Reader:
    """Reads one condition; `at` is the next token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: set[str] = set()
        self.tokens = self._split()
        self.at = 0
        self.depth = 0

    def read(self) -> Condition:
        term = self._either()
        if self._next().kind != "end":
            raise self._wrong("expected `and` or `or`")
        return Condition(term, frozenset(self.names))

    def _split(self) -> list[_Token]:
        found, at = [], 0
        end = len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                is_quote = self.text[at] in "'\""
                text = "the quote isn't closed" if is_quote else "`!` stands alone"
                hint = "close it with the same quote" if is_quote else "unequal is !=, denial is `not`"
                raise self._error(text, at, hint)
            kind = str(match.lastgroup)
            text = match[kind]
            if kind == "quoted":
                text = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
            found.append(_Token(kind, text, match.start(kind)))
            at = match.end()
        return [*found, _Token("end", "", len(self.text))]

    def _either(self) -> Term:
        terms = [self._both()]
        while self._take_word("or"):
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else Either(tuple(terms))

    def _both(self) -> Term:
        terms = [self._denied()]
        while self._take_word("and"):
            terms.append(self._denied())
        return terms[0] if len(terms) == 1 else Both(tuple(terms))

    def _denied(self) -> Term:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._wrong(f"more than {_DEEPEST} conditions in each other")
        if self._take_word("not"):
            term: Term = Not(self._denied())
        elif self._take_operator("("):
            term = self._either()
            if not self._take_operator(")"):
                raise self._wrong("expected `)`")
        else:
            term = self._test()
        self.depth -= 1
        return term

    def _test(self) -> Test:
        token = self._next()
        is_keyword = token.kind == "word" and token.text.lower() in ("and", "or", "in")
        if token.kind not in ("word", "quoted") or is_keyword:
            raise self._wrong("expected a name")
        if "" in token.text.split("."):
            raise self._wrong("a name is parts with a dot between them")
        self.at += 1
        operator = self._next()
        if operator.is_word("in") or operator.is_word("not"):
            is_denied = self._take_word("not")
            if not self._take_word("in"):
                raise self._wrong("expected `in`")
            test = Test(token.text, "!=" if is_denied else "=", self._values())
        elif operator.kind == "operator" and operator.text in _COMPARISONS:
            self.at += 1
            test = Test(token.text, "=" if operator.text == "==" else operator.text, (self._value(),))
        else:
            raise self._wrong(f"expected an operator after {printable(token.text)}", "= != < <= > >= ~ in")
        self.names.add(test.name)
        return test

    def _values(self) -> tuple[str, ...]:
        if not self._take_operator("("):
            raise self._wrong("expected `(`", "for example: status in (failed, crashed)")
        values = [self._value()]
        while self._take_operator(","):
            values.append(self._value())
        if not self._take_operator(")"):
            raise self._wrong("expected `,` or `)`", "for example: status in (failed, crashed)")
        return tuple(values)

    def _value(self) -> str:
        token = self._next()
        if token.kind not in ("word", "quoted"):
            raise self._wrong("expected a value", "a value with spaces or signs in it is put in quotes")
        self.at += 1
        return token.text

    def _next(self) -> _Token:
        return self.tokens[self.at]

    def _take_word(self, word: str) -> bool:
        is_it = self._next().is_word(word)
        self.at += is_it
        return is_it

    def _take_operator(self, text: str) -> bool:
        token = self._next()
        is_it = token.kind == "operator" and token.text == text
        self.at += is_it
        return is_it

    def _wrong(self, expected: str, hint: str = _EXAMPLE) -> UsageError:
        token = self._next()
        there = "the end" if token.kind == "end" else f"'{printable(token.text)}'"
        return self._error(f"{expected}, found {there}", token.at, hint)

    def _error(self, text: str, at: int, hint: str) -> UsageError:
        return UsageError(f"the condition '{printable(self.text)}', at character {at + 1}: {text}", hint=hint)
