"""The verbs that record runs and look at one or two of them, as the command line takes them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from capsula.cli.parser import add, add_directory
from capsula.cli.render import Sheet

if TYPE_CHECKING:
    from capsula.cli.parser import Parser, Verbs

SECTIONS = (
    "outcome", "command", "code", "inputs", "packages", "python", "variables", "tools", "context", "machine", "result",
    "metrics", "outputs", "logs", "cost",
)  # fmt: skip


def register(nouns: Verbs) -> None:
    _add_capture(nouns)
    _add_monitor(nouns)
    _add_show(nouns)
    _add_diff(nouns)
    _add_bundles(nouns)


def _add_capture(nouns: Verbs) -> None:
    captured = add(nouns, "capture", "seal the context of now in the vault", has_store=False)
    add_directory(captured)
    captured.add_argument("-q", "--quiet", action="store_true", help="don't print the capsule's directory")
    _add_keep(captured)
    captured.set_defaults(verb=_capture)


def _add_monitor(nouns: Verbs) -> None:
    monitored = add(
        nouns,
        "monitor",
        "run a command and seal its context and what came out in the vault",
        "usage: capsula monitor [-C DIR] [-i ITEM]... [--keep NAME]... [-q] [--cache ...] [--] COMMAND...\n\n"
        "The command has its own input, output, terminal and exit code. With --cache, its result is fetched instead\n"
        "of made when nothing has changed that it depends on; the capsule says which run made it.",
        has_store=False,
    )
    add_directory(monitored)
    monitored.add_argument(
        "-i", "--item", action="append", metavar="ITEM", help="record the files of this item; repeatable"
    )
    monitored.add_argument("-q", "--quiet", action="store_true", help="don't say where it was recorded")
    _add_keep(monitored)
    monitored.add_argument(
        "--cache", action=argparse.BooleanOptionalAction, help="whether it is a cached action as well"
    )
    monitored.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        help="what its result depends on; by default the inputs of its items",
    )
    monitored.add_argument(
        "--output",
        action="append",
        metavar="PATTERN",
        help="what it makes and a hit brings back; by default the files of its items",
    )
    monitored.add_argument(
        "--env", action="append", metavar="NAME", help="a variable that its result depends on"
    )
    monitored.add_argument(
        "--cache-context",
        action="append",
        metavar="SECTION",
        help="a section of the context that its result depends on, like python",
    )


def _add_show(nouns: Verbs) -> None:
    showing = add(
        nouns,
        "show",
        "one capsule",
        "ID is an id, its last six digits, the beginning of one, a directory, an item (its latest),\n"
        "@latest or @-2 (the one before).",
        has_store=False,
    )
    add_directory(showing)
    showing.add_argument("id", metavar="ID", nargs="?", default="@latest", help="which one (@latest)")
    showing.add_argument(
        "--json", action="store_true", help="everything that is recorded, as one JSON object"
    )
    showing.add_argument("--file", metavar="NAME", help="one file of it, as it is")
    showing.add_argument("--verify", action="store_true", help="whether every file is as it was sealed")
    showing.set_defaults(verb=_show)


def _add_diff(nouns: Verbs) -> None:
    differing = add(
        nouns,
        "diff",
        "what differs between two capsules",
        "Only what differs is shown: how they ended, what may be the cause of it, what came of it.\n"
        "Without OLD and NEW, the last two are compared; OLD alone is compared with the last.",
        has_store=False,
    )
    add_directory(differing)
    differing.add_argument("old", metavar="OLD", nargs="?", help="an id as for `capsula show`")
    differing.add_argument("new", metavar="NEW", nargs="?", default="@latest", help="(@latest)")
    differing.add_argument(
        "--only",
        action="append",
        default=[],
        choices=SECTIONS,
        metavar="SECTION",
        help=f"only this part; repeatable: {', '.join(SECTIONS)}",
    )
    differing.add_argument("-u", "--logs", action="store_true", help="the lines of the logs that differ, too")
    differing.add_argument("--exit-code", action="store_true", help="end with 1 when something differs")
    differing.add_argument("--json", action="store_true", help="as one JSON object")
    differing.set_defaults(verb=_diff)


def _add_bundles(nouns: Verbs) -> None:
    exporting = add(
        nouns,
        "export",
        "put capsules into one file",
        "A compressed tar file in which equal files are there once; tags and notes are in it, too.",
        has_store=False,
    )
    add_directory(exporting)
    exporting.add_argument("ids", metavar="ID", nargs="*", help="which ones, as for capsula show")
    exporting.add_argument("--all", action="store_true", help="all that are sealed")
    exporting.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="its name ends in .tar.gz, .tar.xz, .tar.zst or .tar; -: stdout; by default the capsule's name",
    )
    exporting.add_argument("--json", action="store_true", help="say as JSON what is in it")
    exporting.set_defaults(verb=_export)
    importing = add(
        nouns,
        "import",
        "take in the capsules of such a file",
        "Every byte is compared with what was sealed before anything is in the vault.\n"
        "A capsule that is there already is passed over.",
        has_store=False,
    )
    add_directory(importing)
    importing.add_argument("files", metavar="FILE", nargs="+", help="made by capsula export; -: stdin")
    importing.add_argument(
        "-n", "--dry-run", action="store_true", help="read all of it, say what is in it, and import nothing"
    )
    importing.add_argument(
        "--any-links", action="store_true", help="also links that lead out of their capsule"
    )
    importing.add_argument("--json", action="store_true", help="say as JSON what came, one object a FILE")
    importing.set_defaults(verb=_import)


def _export(options: argparse.Namespace, *_: object) -> int:
    from capsula.cli import bundle

    return bundle.export(
        options.directory, options.ids, options.output, everything=options.all, as_json=options.json
    )


def _import(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import bundle

    return bundle.take_in(
        options.directory,
        options.files,
        sheet,
        dry=options.dry_run,
        any_links=options.any_links,
        as_json=options.json,
    )


def _show(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import vault

    if options.file is not None:
        return vault.show_file(options.directory, options.id, options.file)
    if options.verify:
        return vault.verify(options.directory, options.id)
    return vault.show(options.directory, options.id, sheet, as_json=options.json)


def _diff(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import difference

    return difference.diff(
        options.directory,
        (options.old or "@-2", options.new),
        sheet,
        only=options.only,
        as_json=options.json,
        logs=options.logs,
        exit_code=options.exit_code,
    )


def _capture(options: argparse.Namespace, *_: object) -> int:
    from capsula.cli import recording

    return recording.capture(options.directory, options.keep, quiet=options.quiet)


def _add_keep(parser: Parser) -> None:
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="NAME",
        help="store this variable though it looks like a credential; repeatable",
    )
