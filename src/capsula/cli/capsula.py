"""`capsula`, the noun-verb tool: reads the command line, calls the verb, and turns errors into text and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from capsula import __version__
from capsula.cli import cache, history
from capsula.cli.history import OUTCOMES, Wanted
from capsula.cli.render import Sheet, sheet_for
from capsula.cli.target import Target, find_target
from capsula.config.values import duration, nearest, printable, size
from capsula.errors import CapsulaError, UsageError

FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141
STATUSES = ("finished", "failed", "interrupted", "running", "crashed")

Verb = Callable[[argparse.Namespace, Target, Sheet], int]

ABOUT = """\
Looks after what `capsule` keeps: the store of results and the journal of runs.
To run a command in a capsule: capsule [options] -- command (capsule --help)."""


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
        what = f"an error inside capsula: {type(error).__name__}: {error}"
        return _complain(CapsulaError(what, hint="please report it; CAPSULA_DEBUG=1 shows where"), FAILED)


def run(argv: Sequence[str]) -> int:
    if argv[:1] == ["monitor"] and not {"-h", "--help"} & set(argv[1:2]):
        # Its words are the command's own from the first that is no option of ours.
        from capsula.cli import recording

        return recording.monitor(argv[1:])
    words = [_one_spelling(word) for word in argv]
    if "--" in words and not {"cache", "history"} & set(words[: words.index("--")]):
        raise UsageError(
            "capsula runs no command", hint="that is what capsule does: capsule [options] -- command …"
        )
    parser = _parser()
    options, unknown = parser.parse_known_args(words)
    chosen: argparse.ArgumentParser = getattr(options, "parser", parser)
    if unknown:
        raise _not_known(unknown[0], chosen)
    verb: Verb | None = getattr(options, "verb", None)
    if verb is None:
        chosen.print_help(sys.stderr)
        return MISUSED
    try:
        here = os.getcwd()
    except OSError as error:
        raise CapsulaError(f"there is no current directory: {error.strerror}") from error
    return verb(options, find_target(options.store, here, os.environb), sheet_for(sys.stdout, os.environ))


class _Parser(argparse.ArgumentParser):
    """Refuses as the rest of this tool does, and names the nearest verb."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(
            **keywords,
            allow_abbrev=False,
            formatter_class=_Layout,
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


class _Layout(argparse.RawDescriptionHelpFormatter):
    """Without the line that names the group of verbs, whose title has done so."""

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if action.nargs == argparse.PARSER else text


def _parser() -> _Parser:
    parser = _Parser(prog="capsula", description=ABOUT)
    parser.add_argument("--version", action="version", version=f"capsula {__version__}")
    parser.set_defaults(store=None)
    _add_store(parser)
    nouns = parser.add_subparsers(title="commands", metavar="COMMAND")
    caches = _add(nouns, "cache", "the store: stats, gc, verify, clear, trash")
    _add_cache_verbs(caches.add_subparsers(title="verbs", metavar="VERB"))
    _add_history(_add(nouns, "history", "what ran, what it cost or saved, and why"))
    _add_recording(nouns)
    return parser


def _add_recording(nouns: argparse._SubParsersAction[_Parser]) -> None:
    captured = _add(nouns, "capture", "seal the context of now in the vault", has_store=False)
    _add_directory(captured)
    captured.add_argument("-q", "--quiet", action="store_true", help="don't print the capsule's directory")
    captured.set_defaults(verb=_capture)
    monitored = _add(
        nouns,
        "monitor",
        "run a command and seal its context and what came out in the vault",
        "usage: capsula monitor [-C DIR] [-i ITEM]... [-q] [--] COMMAND...\n\n"
        "The command has its own input, output, terminal and exit code.",
        has_store=False,
    )
    _add_directory(monitored)
    monitored.add_argument(
        "-i", "--item", action="append", metavar="ITEM", help="record the files of this item; repeatable"
    )
    monitored.add_argument("-q", "--quiet", action="store_true", help="don't say where it was recorded")

    listing = _add(nouns, "list", "the capsules in the vault, newest first", has_store=False)
    _add_directory(listing)
    listing.add_argument(
        "-n", dest="most", type=_reader(_count), default=20, metavar="N", help="the last N (20); 0: all"
    )
    listing.add_argument("-i", "--item", action="append", default=[], metavar="ITEM", help="of this item")
    listing.add_argument(
        "--status",
        action="append",
        default=[],
        choices=STATUSES,
        metavar="|".join(STATUSES),
        help="that ended so",
    )
    listing.add_argument("--json", action="store_true", help="as JSON, one object a line")
    listing.set_defaults(verb=_list)
    showing = _add(
        nouns,
        "show",
        "one capsule",
        "ID is an id, its last six digits, the beginning of one, a directory, an item (its latest),\n"
        "@latest or @-2 (the one before).",
        has_store=False,
    )
    _add_directory(showing)
    showing.add_argument("id", metavar="ID", nargs="?", default="@latest", help="which one (@latest)")
    showing.add_argument(
        "--json", action="store_true", help="everything that is recorded, as one JSON object"
    )
    showing.add_argument("--file", metavar="NAME", help="one file of it, as it is")
    showing.add_argument("--verify", action="store_true", help="whether every file is as it was sealed")
    showing.set_defaults(verb=_show)


def _add_directory(parser: _Parser) -> None:
    parser.add_argument(
        "-C",
        "--directory",
        metavar="DIR",
        help="the project's root; by default the nearest parent with a capsula.toml or .git",
    )


def _list(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import vault

    wanted = vault.Wanted(options.most, tuple(options.item), tuple(options.status))
    return vault.list_capsules(options.directory, sheet, wanted, as_json=options.json)


def _show(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import vault

    if options.file is not None:
        return vault.show_file(options.directory, options.id, options.file)
    if options.verify:
        return vault.verify(options.directory, options.id)
    return vault.show(options.directory, options.id, sheet, as_json=options.json)


def _capture(options: argparse.Namespace, *_: object) -> int:
    from capsula.cli import recording

    return recording.capture(options.directory, quiet=options.quiet)


def _add_cache_verbs(verbs: argparse._SubParsersAction[_Parser]) -> None:
    stats = _add(verbs, "stats", "how much is stored, and what it was good for")
    stats.add_argument("--json", action="store_true", help="as one JSON object")
    stats.set_defaults(verb=lambda o, target, sheet: cache.show_stats(target, sheet, as_json=o.json))

    collect = _add(
        verbs,
        "gc",
        "make room now: what was used longest ago goes first",
        "Removes what no result needs and, if the store is above its limit, the results\n"
        "that were used longest ago, until it is down to 80 % of the limit. This also\n"
        "happens by itself, in the background. Blobs of the last hour stay until a later sweep.",
    )
    collect.add_argument(
        "--max-size", type=_reader(size), metavar="SIZE", help="this limit, instead of store_size"
    )
    collect.set_defaults(verb=lambda o, target, _: cache.collect(target, max_size=o.max_size))

    verify = _add(
        verbs,
        "verify",
        "read everything and compare it with its digests",
        "What is bad is set aside, so that the next run makes it again. The exit code is then 1.",
    )
    verify.set_defaults(verb=lambda _, target, sheet: cache.verify(target, sheet))

    clear = _add(
        verbs, "clear", "remove all results", "The trash and the journal stay, unless --all is given."
    )
    clear.add_argument("--all", action="store_true", help="the trash and the journal too")
    clear.add_argument("-y", "--yes", action="store_true", help="don't ask")
    clear.set_defaults(verb=lambda o, target, _: cache.clear(target, everything=o.all, sure=o.yes))

    _add_trash(
        _add(
            verbs,
            "trash",
            "files that had to make way for restored outputs",
            "What was found in the place of an output and was made by no run of the capsule\n"
            "is moved here before outputs are restored. It is kept for a week, up to 1 GiB\n"
            "in all. Without a verb, this lists what there is.",
        )
    )


def _add_trash(trash: _Parser) -> None:
    trash.set_defaults(
        verb=lambda o, target, sheet: cache.list_trash(target, sheet, as_json=getattr(o, "json", False))
    )
    verbs = trash.add_subparsers(title="verbs", metavar="VERB")
    listing = _add(verbs, "list", "what there is, oldest first")
    listing.add_argument("--json", action="store_true", help="as JSON, one object a line")
    restore = _add(verbs, "restore", "put one back; nothing is overwritten")
    restore.add_argument("id", metavar="ID", help="as listed; its beginning is enough")
    restore.add_argument("--to", metavar="PATH", help="there, instead of where it was")
    restore.set_defaults(verb=lambda o, target, _: cache.restore_trash(target, asked=o.id, to=o.to))
    empty = _add(verbs, "empty", "delete them for good")
    empty.add_argument("-y", "--yes", action="store_true", help="don't ask")
    empty.set_defaults(verb=lambda o, target, _: cache.empty_trash(target, sure=o.yes))


def _add_history(parser: _Parser) -> None:
    parser.add_argument(
        "-n", dest="most", type=_reader(_count), default=20, metavar="N", help="the last N (20); 0: all"
    )
    parser.add_argument("--id", action="append", default=[], metavar="ID", help="of this capsule; repeatable")
    parser.add_argument(
        "--outcome",
        action="append",
        default=[],
        choices=OUTCOMES,
        metavar="|".join(OUTCOMES),
        help="with this outcome; repeatable",
    )
    parser.add_argument(
        "--since", type=_reader(duration), metavar="TIME", help="of the last 90s, 15m, 2h, 7d ..."
    )
    parser.add_argument("--json", action="store_true", help="as JSON, one object a line")
    parser.set_defaults(verb=_history)


def _history(options: argparse.Namespace, target: Target, sheet: Sheet) -> int:
    since = None if options.since is None else time.time() - options.since
    wanted = Wanted(options.most, tuple(options.id), tuple(options.outcome), since)
    return history.show_history(target, sheet, wanted, as_json=options.json)


def _add(
    verbs: argparse._SubParsersAction[_Parser],
    name: str,
    about: str,
    more: str = "",
    *,
    has_store: bool = True,
) -> _Parser:
    first = about[0].upper() + about[1:] + "."
    parser = verbs.add_parser(name, help=about, description=f"{first}\n{more}".rstrip())
    parser.set_defaults(parser=parser)
    if has_store:
        _add_store(parser)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    # Suppressed where it isn't given: a verb's default must not undo what was said before the verb.
    parser.add_argument(
        "--store",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the store's directory; by default the one that capsule uses here",
    )


def _reader(read: Callable[[str], object]) -> Callable[[str], object]:
    """A reader of values as argparse calls it."""

    def converted(text: str) -> object:
        try:
            return read(text)
        except UsageError as refused:
            raise argparse.ArgumentTypeError(refused.what) from None

    return converted


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise UsageError(f"expected a whole number, not {text!r}")


def _one_spelling(word: str) -> str:
    """Underscores and hyphens are the same in the name of an option."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def _not_known(word: str, parser: argparse.ArgumentParser) -> UsageError:
    known = [name for action in parser._actions for name in action.option_strings]
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return UsageError(f"{parser.prog} takes no {printable(name)}", hint=f"{parser.prog} --help")
    meant = nearest(name, known)
    hint = f"did you mean {meant}?" if meant else f"{parser.prog} --help lists the options"
    return UsageError(f"{parser.prog} has no option {printable(name)}", hint=hint)


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
