"""The command line of `capsula`: how its verbs are described, read and refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from capsula.cli.render import Sheet
from capsula.cli.target import Target
from capsula.config.values import nearest, printable
from capsula.errors import UsageError

Verb = Callable[[argparse.Namespace, Target, Sheet], int]

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction["Parser"]


class Parser(argparse.ArgumentParser):
    """Refuses as the rest of this tool does, and names the nearest verb."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(
            **keywords,
            allow_abbrev=False,
            formatter_class=Layout,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "), hint=f"{self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        meant = nearest(str(value), known)
        what = (
            f"{self.prog} has no verb"
            if action.option_strings == []
            else f"{action.option_strings[-1]} can't be"
        )
        hint = f"did you mean {meant}?" if meant else f"one of: {', '.join(known)}"
        raise UsageError(f"{what} {printable(str(value))}", hint=hint)


class Layout(argparse.RawDescriptionHelpFormatter):
    """Without the line that names the group of verbs, whose title has done so."""

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if action.nargs == argparse.PARSER else text


def add(
    verbs: Verbs,
    name: str,
    about: str,
    more: str = "",
    *,
    has_store: bool = True,
) -> Parser:
    first = about[0].upper() + about[1:] + "."
    parser = verbs.add_parser(name, help=about, description=f"{first}\n{more}".rstrip())
    parser.set_defaults(parser=parser, has_store=has_store)
    if has_store:
        add_store(parser)
    return parser


def add_store(parser: argparse.ArgumentParser) -> None:
    # Suppressed where it isn't given: a verb's default must not undo what was said before the verb.
    parser.add_argument(
        "--store",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the store's directory; by default the one that capsule uses here",
    )


def add_directory(parser: Parser) -> None:
    parser.add_argument(
        "-C",
        "--directory",
        metavar="DIR",
        help="the project's root; by default the nearest parent with a capsula.toml or .git",
    )


def reader(read: Callable[[str], object]) -> Callable[[str], object]:
    """A reader of values as argparse calls it."""

    def converted(text: str) -> object:
        try:
            return read(text)
        except UsageError as refused:
            raise argparse.ArgumentTypeError(refused.what) from None

    return converted


def count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise UsageError(f"expected a whole number, not {text!r}")


def one_spelling(word: str) -> str:
    """Underscores and hyphens are the same in the name of an option."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def not_known(word: str, parser: argparse.ArgumentParser) -> UsageError:
    known = [name for action in parser._actions for name in action.option_strings]
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return UsageError(f"{parser.prog} takes no {printable(name)}", hint=f"{parser.prog} --help")
    meant = nearest(name, known)
    hint = f"did you mean {meant}?" if meant else f"{parser.prog} --help lists the options"
    return UsageError(f"{parser.prog} has no option {printable(name)}", hint=hint)
