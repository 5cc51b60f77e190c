"""The verbs that find, mark and remove recorded runs, as the command line takes them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from capsula.cli.parser import add, add_directory, count, reader
from capsula.cli.render import Sheet
from capsula.config.values import duration

if TYPE_CHECKING:
    from capsula.cli.parser import Parser, Verbs


def register(nouns: Verbs) -> None:
    _add_list(nouns)
    _add_search(nouns)
    _add_remarks(nouns)
    _add_removal(nouns)


def _add_list(nouns: Verbs) -> None:
    listing = add(
        nouns,
        "list",
        "the capsules in the vault, newest first",
        "A CONDITION compares facts by name with = != < <= > >= ~ (contains) or in (a, b), with and, or,\n"
        "not and brackets: 'metrics.loss < 0.1 and not tags = wrong'. The beginning of a name can be\n"
        "left out, and what is between its parts: git.sha is context.git.work.sha.",
        has_store=False,
    )
    _add_most(listing)
    _add_filters(listing)
    listing.add_argument(
        "--columns",
        type=reader(_names),
        default=(),
        metavar="NAME,NAME",
        help="these facts, as in conditions",
    )
    listing.add_argument("--sort", default="", metavar="NAME", help="by this fact, the smallest first")
    listing.add_argument("-r", "--reverse", action="store_true", help="the other way round")
    listing.add_argument("--json", action="store_true", help="as JSON, one object a line")
    listing.set_defaults(verb=_list)


def _add_search(nouns: Verbs) -> None:
    searching = add(
        nouns,
        "search",
        "capsules in which a text stands",
        "Looks into commands, functions and their arguments, items, tags, notes, errors, names of files and\n"
        "what was printed; upper and lower case are the same. The exit code is 1 when it is nowhere.",
        has_store=False,
    )
    searching.add_argument("text", metavar="TEXT", help="as it stands there, within one line")
    _add_most(searching)
    _add_filters(searching)
    searching.add_argument("--json", action="store_true", help="as JSON, one object a line for each capsule")
    searching.set_defaults(verb=_search)


def _add_remarks(nouns: Verbs) -> None:
    tagging = add(
        nouns,
        "tag",
        "give a capsule tags, or take them away",
        "Sealed capsules aren't changed: tags and notes lie beside them in the vault.\n"
        "Without a TAG, those that it has are printed.",
        has_store=False,
    )
    add_directory(tagging)
    tagging.add_argument("id", metavar="ID", help="which one, as for capsula show")
    tagging.add_argument("tags", metavar="TAG", nargs="*", help="a word without blanks and commas")
    tagging.add_argument(
        "--remove", action="extend", nargs="+", default=[], metavar="TAG", help="take these away"
    )
    tagging.set_defaults(verb=_tag)
    noting = add(
        nouns, "note", "write a note for a capsule", "Without a TEXT, the note is printed.", has_store=False
    )
    add_directory(noting)
    noting.add_argument("id", metavar="ID", help="which one, as for capsula show")
    noting.add_argument("text", metavar="TEXT", nargs="?", help="in place of the note before; '': no note")
    noting.set_defaults(verb=_note)


def _add_removal(nouns: Verbs) -> None:
    removing = add(nouns, "rm", "remove capsules for good", has_store=False)
    add_directory(removing)
    removing.add_argument("ids", metavar="ID", nargs="+", help="which ones, as for capsula show")
    removing.add_argument("-y", "--yes", action="store_true", help="don't ask")
    removing.add_argument("-f", "--force", action="store_true", help="one that is running, too")
    removing.set_defaults(verb=_remove)
    collecting = add(
        nouns,
        "gc",
        "remove what crashed runs left behind, and old capsules if told to",
        "Without options, crashed runs of more than a week ago go, and what an interrupted removal left.\n"
        "With both --keep-last and --older-than, only what is neither among the last nor younger goes.\n"
        "Capsules with a tag or a note always stay, and so do those that are running or damaged.",
        has_store=False,
    )
    add_directory(collecting)
    collecting.add_argument(
        "--crashed",
        type=reader(duration),
        default=7 * 86400.0,
        metavar="TIME",
        help="crashed runs that began longer ago than 90s, 2h, 7d (7d)",
    )
    collecting.add_argument("--keep-last", type=reader(count), metavar="N", help="all but the last N")
    collecting.add_argument(
        "--older-than", type=reader(duration), metavar="TIME", help="all that began longer ago"
    )
    collecting.add_argument("-n", "--dry-run", action="store_true", help="only say what would go")
    collecting.set_defaults(verb=_collect)


def _add_most(parser: Parser) -> None:
    add_directory(parser)
    parser.add_argument(
        "-n", dest="most", type=reader(count), default=20, metavar="N", help="the last N (20); 0: all"
    )


def _add_filters(parser: Parser) -> None:
    from capsula.cli.finding import STATUSES, moment

    parser.add_argument(
        "-w",
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="for which this holds; repeatable",
    )
    parser.add_argument("-i", "--item", action="append", default=[], metavar="ITEM", help="of this item")
    parser.add_argument("-t", "--tag", action="append", default=[], metavar="TAG", help="with this tag")
    parser.add_argument(
        "--status",
        action="append",
        default=[],
        choices=STATUSES,
        metavar="STATUS",
        help=", ".join(STATUSES[:-1]) + f" or {STATUSES[-1]}",
    )
    parser.add_argument(
        "--since", type=reader(moment), metavar="TIME", help="of the last 90s, 2h, 7d, or since 2026-01-31"
    )
    parser.add_argument("--until", type=reader(moment), metavar="TIME", help="before then")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _list(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import finding, listing

    wanted = listing.Wanted(
        options.most, finding.filters_of(options), options.columns, options.sort, options.reverse
    )
    return listing.list_capsules(options.directory, sheet, wanted, as_json=options.json)


def _search(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import finding, search

    wanted = search.Wanted(options.text, options.most, finding.filters_of(options))
    return search.search(options.directory, sheet, wanted, as_json=options.json)


def _tag(options: argparse.Namespace, *_: object) -> int:
    from capsula.cli import remarks

    return remarks.tag(options.directory, options.id, options.tags, options.remove)


def _note(options: argparse.Namespace, *_: object) -> int:
    from capsula.cli import remarks

    return remarks.note(options.directory, options.id, options.text)


def _remove(options: argparse.Namespace, *_: object) -> int:
    from capsula.cli import removal

    return removal.remove(options.directory, options.ids, sure=options.yes, force=options.force)


def _collect(options: argparse.Namespace, _: object, sheet: Sheet) -> int:
    from capsula.cli import removal
    from capsula.vault.removal import Rules

    rules = Rules(options.crashed, options.older_than, options.keep_last)
    return removal.collect(options.directory, rules, sheet, dry_run=options.dry_run)
