"""The verbs of `capsula cache` and `capsula history`, as the command line takes them."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from capsula.cli import cache, history
from capsula.cli.history import OUTCOMES, Wanted
from capsula.cli.parser import Parser, add, count, reader
from capsula.cli.render import Sheet
from capsula.cli.target import Target
from capsula.config.values import duration, share, size
from capsula.errors import UsageError

if TYPE_CHECKING:
    from capsula.cli.parser import Verbs


def register(nouns: Verbs) -> None:
    caches = add(nouns, "cache", "the store: stats, gc, verify, clear, trash, doctor, push, show")
    _add_cache_verbs(caches.add_subparsers(title="verbs", metavar="VERB"))
    _add_history(add(nouns, "history", "what ran, what it cost or saved, and why"))
    _add_keygen(add(nouns, "keygen", "make a pair of keys for signing results", has_store=False))


def _add_cache_verbs(verbs: Verbs) -> None:
    _add_upkeep(verbs)
    clear = add(
        verbs, "clear", "remove all results", "The trash and the journal stay, unless --all is given."
    )
    clear.add_argument("--all", action="store_true", help="the trash and the journal too")
    clear.add_argument("-y", "--yes", action="store_true", help="don't ask")
    clear.set_defaults(verb=lambda o, target, _: cache.clear(target, everything=o.all, sure=o.yes))

    _add_remote_verbs(verbs)
    _add_trash(
        add(
            verbs,
            "trash",
            "files that had to make way for restored outputs",
            "What was found in the place of an output and was made by no run of the capsule\n"
            "is moved here before outputs are restored. It is kept for a week, up to 1 GiB\n"
            "in all. Without a verb, this lists what there is.",
        )
    )


def _add_upkeep(verbs: Verbs) -> None:
    """What is done here, or to the stores that machines share."""
    stats = add(verbs, "stats", "how much is stored, and what it was good for")
    stats.add_argument("--json", action="store_true", help="as one JSON object")
    stats.add_argument(
        "--prometheus",
        metavar="FILE",
        help="write counters for the node exporter's textfile collector; -: stdout",
    )
    _add_elsewhere(stats)
    stats.set_defaults(verb=_stats)

    collect = add(
        verbs,
        "gc",
        "make room now: what was used longest ago goes first",
        "Removes what no result needs and, if the store is above its limit, the results\n"
        "that were used longest ago, until it is down to 80 % of the limit. This also\n"
        "happens by itself, in the background. Blobs of the last hour stay until a later sweep.\n\n"
        "In a bucket that machines share, nobody sees what is used: there, what was stored\n"
        "longest ago goes, and only if --older-than or --max-size say so. Blobs of the last\n"
        "day stay. Other shared stores remove by themselves what they have no room for.",
    )
    collect.add_argument(
        "--max-size", type=reader(size), metavar="SIZE", help="this limit, instead of store_size"
    )
    collect.add_argument(
        "--older-than",
        type=reader(duration),
        metavar="TIME",
        help="in a bucket, results that were stored longer ago than that: 30d ...",
    )
    _add_elsewhere(collect)
    collect.set_defaults(verb=_collect)

    verify = add(
        verbs,
        "verify",
        "read everything and compare it with its digests",
        "What is bad is set aside, so that the next run makes it again. The exit code is then 1.\n\n"
        "Of a store elsewhere, each result is read, and whether all is there that it names is\n"
        "looked at; --read says how much of that is read as well.",
    )
    verify.add_argument(
        "--read", type=reader(share), default=0.0, metavar="SHARE", help="elsewhere: from 0 to 1, by chance"
    )
    verify.add_argument(
        "--repair", action="store_true", help="elsewhere: send what is here, remove what can't be used"
    )
    _add_elsewhere(verify)
    verify.set_defaults(verb=_verify)


def _add_elsewhere(parser: Parser) -> None:
    parser.add_argument("--remote", action="store_true", help="of the configured remote stores")
    parser.add_argument("url", metavar="URL", nargs="*", help="of this remote store")


def _stats(options: argparse.Namespace, target: Target, sheet: Sheet) -> int:
    if options.prometheus is not None:
        if _is_elsewhere(options) or options.json:
            raise UsageError("--prometheus is of the store on this machine, and alone")
        from capsula.cli import fleet

        return fleet.write_prometheus(target, options.prometheus)
    if not _is_elsewhere(options):
        return cache.show_stats(target, sheet, as_json=options.json)
    from capsula.cli import shared

    return shared.show_stats(options.url, sheet, as_json=options.json)


def _collect(options: argparse.Namespace, target: Target, _: Sheet) -> int:
    if not _is_elsewhere(options):
        if options.older_than is not None:
            raise UsageError(
                "--older-than is for stores elsewhere; here, what was used longest ago goes first",
                hint="--remote or an address says which store; --max-size is for this one, too",
            )
        return cache.collect(target, max_size=options.max_size)
    from capsula.cli import shared
    from capsula.store.room import Wanted as Going

    return shared.collect(options.url, Going(options.older_than, options.max_size))


def _verify(options: argparse.Namespace, target: Target, sheet: Sheet) -> int:
    if not _is_elsewhere(options):
        return cache.verify(target, sheet)
    from capsula.cli import shared

    return shared.verify(target, options.url, sheet, share=options.read, repair=options.repair)


def _is_elsewhere(options: argparse.Namespace) -> bool:
    return bool(options.remote or options.url)


def _add_remote_verbs(verbs: Verbs) -> None:
    checking = add(
        verbs,
        "doctor",
        "are the stores as they should be, here and elsewhere",
        "Writes a little to each configured store, and to those of the addresses, and reads it back.\n"
        "Says in a sentence what is wrong and what to change. The exit code is then 1.",
    )
    checking.add_argument("url", metavar="URL", nargs="*", help="look at this remote store, too")
    checking.add_argument("--json", action="store_true", help="as one JSON object")
    checking.set_defaults(verb=_doctor)
    pushing = add(verbs, "push", "send what waits to be sent to remote stores")
    pushing.add_argument("url", metavar="URL", nargs="*", help="to this remote store, too")
    pushing.set_defaults(verb=_push)
    showing = add(
        verbs,
        "show",
        "one result: who made it, of what, and who vouches for it",
        "Where this machine hasn't got it, the configured remote stores are asked, and those of the addresses.",
    )
    showing.add_argument("key", metavar="KEY", help="its key, or the beginning of it")
    showing.add_argument("url", metavar="URL", nargs="*", help="ask this remote store, too")
    showing.add_argument("--json", action="store_true", help="as one JSON object")
    showing.set_defaults(verb=_show)


def _doctor(options: argparse.Namespace, target: Target, sheet: Sheet) -> int:
    from capsula.cli import doctor

    return doctor.doctor(target, sheet, options.url, as_json=options.json)


def _push(options: argparse.Namespace, target: Target, _: Sheet) -> int:
    from capsula.cli import doctor

    return doctor.push(target, options.url)


def _show(options: argparse.Namespace, target: Target, sheet: Sheet) -> int:
    from capsula.cli import entry

    return entry.show(target, sheet, options.key, options.url, as_json=options.json)


def _add_trash(trash: Parser) -> None:
    trash.set_defaults(
        verb=lambda o, target, sheet: cache.list_trash(target, sheet, as_json=getattr(o, "json", False))
    )
    verbs = trash.add_subparsers(title="verbs", metavar="VERB")
    listing = add(verbs, "list", "what there is, oldest first")
    listing.add_argument("--json", action="store_true", help="as JSON, one object a line")
    restore = add(verbs, "restore", "put one back; nothing is overwritten")
    restore.add_argument("id", metavar="ID", help="as listed; its beginning is enough")
    restore.add_argument("--to", metavar="PATH", help="there, instead of where it was")
    restore.set_defaults(verb=lambda o, target, _: cache.restore_trash(target, asked=o.id, to=o.to))
    empty = add(verbs, "empty", "delete them for good")
    empty.add_argument("-y", "--yes", action="store_true", help="don't ask")
    empty.set_defaults(verb=lambda o, target, _: cache.empty_trash(target, sure=o.yes))


def _add_keygen(parser: Parser) -> None:
    parser.add_argument(
        "path", metavar="FILE", help="the new file of the private key; the public one is printed"
    )
    parser.set_defaults(verb=_keygen)


def _keygen(options: argparse.Namespace, *_: object) -> int:
    from capsula.cli import keys

    return keys.keygen(options.path)


def _add_history(parser: Parser) -> None:
    parser.add_argument(
        "-n", dest="most", type=reader(count), default=20, metavar="N", help="the last N (20); 0: all"
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
        "--since", type=reader(duration), metavar="TIME", help="of the last 90s, 15m, 2h, 7d ..."
    )
    parser.add_argument("--json", action="store_true", help="as JSON, one object a line")
    parser.set_defaults(verb=_history)


def _history(options: argparse.Namespace, target: Target, sheet: Sheet) -> int:
    since = None if options.since is None else time.time() - options.since
    wanted = Wanted(options.most, tuple(options.id), tuple(options.outcome), since)
    return history.show_history(target, sheet, wanted, as_json=options.json)
