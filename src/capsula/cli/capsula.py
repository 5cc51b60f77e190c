"""`capsula`, the noun-verb tool: reads the command line, calls the verb, and turns errors into text and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from capsula import __version__
from capsula.core.names import printable
from capsula.errors import CapsulaError, UsageError, in_one_line

if TYPE_CHECKING:
    import argparse

    from capsula.cli.parser import Parser, Verb

FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141

ABOUT = """\
Records runs in a vault, finds and compares them; looks after the store of
`capsule`, which fetches what a command made the last time:
    capsule [options] -- command          (capsule --help)"""


def main() -> int:
    """The entry point of the installed command; answers the exit code."""
    _prepare_streams()
    try:
        try:
            code = run(sys.argv[1:])
        except SystemExit as ended:  # argparse, after --help and --version
            code = int(ended.code or 0)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _leave_stdout(PIPE_CLOSED)
    except UsageError as error:
        return _complain(error, MISUSED)
    except CapsulaError as error:
        return _complain(error, FAILED)
    except OSError as error:
        name = (
            f"{printable(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        )
        return _leave_stdout(_complain(CapsulaError(f"{name}{error.strerror or error}"), FAILED))
    except Exception as error:
        if os.environ.get("CAPSULA_DEBUG"):
            raise
        bug = CapsulaError(in_one_line(error), hint="please report it; CAPSULA_DEBUG=1 shows where")
        return _complain(bug, FAILED)


def run(argv: Sequence[str]) -> int:
    if argv[:1] == ["monitor"] and not {"-h", "--help"} & set(argv[1:2]):
        # Its words are the command's own from the first that is no option of ours.
        from capsula.cli import recording

        return recording.monitor(argv[1:])
    return _run_verb(argv)


def _run_verb(argv: Sequence[str]) -> int:
    # Here and not at the top: `capsula monitor`, which people wait for, needs none of them.
    from capsula.cli.parser import not_known, one_spelling
    from capsula.cli.render import sheet_for
    from capsula.cli.target import Target, find_target

    end = argv.index("--") if "--" in argv else len(argv)
    # What is behind it is meant as it stands.
    words = [one_spelling(word) for word in argv[:end]]
    parser, verbs = _parser()
    if end < len(argv) and not verbs & set(words):
        raise UsageError(
            "capsula runs no command", hint="that is what capsule does: capsule [options] -- command …"
        )
    options, unknown = parser.parse_known_args([*words, *argv[end:]])
    chosen: argparse.ArgumentParser = getattr(options, "parser", parser)
    if unknown:
        raise not_known(unknown[0], chosen)
    verb: Verb | None = getattr(options, "verb", None)
    if verb is None:
        chosen.print_help(sys.stderr)
        return MISUSED
    try:
        here = os.getcwd()
    except OSError as error:
        raise CapsulaError(f"there is no current directory: {error.strerror}") from error
    # A verb that has nothing to do with a store works where there is no place for one.
    has_store = getattr(options, "has_store", True)
    target = find_target(options.store, here, os.environb) if has_store else Target("", 0)
    return verb(options, target, sheet_for(sys.stdout, os.environ))


def _parser() -> tuple[Parser, Set[str]]:
    """And the verbs that it knows."""
    from capsula.cli import verbs_cache, verbs_find, verbs_vault
    from capsula.cli.parser import Parser, add_store

    parser = Parser(prog="capsula", description=ABOUT)
    parser.add_argument("--version", action="version", version=f"capsula {__version__}")
    parser.set_defaults(store=None)
    add_store(parser)
    nouns = parser.add_subparsers(title="commands", metavar="COMMAND")
    verbs_vault.register(nouns)
    verbs_find.register(nouns)
    verbs_cache.register(nouns)
    return parser, nouns.choices.keys()


def _complain(error: CapsulaError, code: int) -> int:
    try:
        sys.stdout.flush()  # what was said before the error comes before it
    except OSError:
        _leave_stdout(code)
    text = f"capsula: {error.what}\n" + (f"\nhint: {error.hint}\n" if error.hint else "")
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass
    return code


def _leave_stdout(code: int) -> int:
    """Nobody reads it any more; without this, the interpreter would complain when it flushes the rest."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return code


def _prepare_streams() -> None:
    """Names of any bytes can be printed, and streams that the caller has closed are no trouble."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        else:
            stream.reconfigure(errors="backslashreplace")
