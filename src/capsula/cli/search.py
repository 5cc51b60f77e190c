"""`capsula search`: the capsules in which a text stands, and the lines where."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from capsula.cli.finding import Filters, opened, reading, say_unknown
from capsula.cli.render import BOLD, DIM, Sheet, columns_of, cut
from capsula.core.names import printable
from capsula.errors import UsageError
from capsula.vault.index import Found, Index
from capsula.vault.search import Hit, Needle, hits_in

# Of each place, so many lines are shown, and so many are looked for.
_SHOWN, _MOST = 3, 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """`most` 0: all capsules in which it stands."""

    text: str
    most: int
    filters: Filters


def search(directory: str | None, sheet: Sheet, wanted: Wanted, *, as_json: bool) -> int:
    """1 when it is nowhere. Each capsule is shown as soon as it is found."""
    if not wanted.text.strip() or "\n" in wanted.text:
        raise UsageError(
            "there is nothing to search for" if not wanted.text.strip() else "a text of one line"
        )
    count = 0
    with opened(directory) as index:
        say_unknown(index, wanted.filters.asked())
        for found, hits in _search(index, wanted):
            if as_json:
                rows = [asdict(hit) for hit in hits]
                print(json.dumps({"id": found.id, "name": found.name, "path": found.path, "found": rows}))
            else:
                for line in _page(found, hits, wanted.text, sheet):
                    print(line)
            count += 1
            if count == wanted.most:
                break
        if not count and not as_json:
            print(f"It is in no capsule in {printable(index.root)}.", file=sys.stderr)
    return 0 if count else 1


def _search(index: Index, wanted: Wanted) -> Iterator[tuple[Found, list[Hit]]]:
    needle = Needle(wanted.text)
    capsules, texts = index.find(wanted.filters.condition()), index.texts()
    with reading("searching") as progress:
        for at, found in enumerate(capsules):
            hits = hits_in(found, texts.get(found.key, "[]"), needle, _MOST)
            progress(at + 1, len(capsules))
            if hits:
                yield found, hits


def _page(found: Found, hits: list[Hit], text: str, sheet: Sheet) -> Iterator[str]:
    yield f"{sheet.paint(printable(found.name), BOLD)}  {sheet.paint(found.status, DIM)}"
    for where in dict.fromkeys(hit.where for hit in hits):
        here = [hit for hit in hits if hit.where == where]
        for hit in here[:_SHOWN]:
            place = f"{where}:{hit.line}" if hit.line is not None else where
            yield f"  {sheet.paint(place, DIM)}  {_line(hit.text, text, columns_of(place), sheet)}"
        if len(here) > _SHOWN:
            more = len(here) - _SHOWN
            yield sheet.paint(f"  {where}: {'at least ' if len(here) == _MOST else ''}{more} more lines", DIM)


def _line(line: str, text: str, taken: int, sheet: Sheet) -> str:
    """As much of the line as fits, with the text in it."""
    shown = printable(line.strip())
    if sheet.width is not None:
        room = max(sheet.width - taken - 4, 20)
        at = shown.casefold().find(text.casefold())
        if at + len(text) > room:
            shown = shown[max(at - room // 4, 0) :]
        shown = cut(shown, room, sheet)
    at = shown.casefold().find(text.casefold())
    if at < 0 or len(shown) != len(shown.casefold()):
        return shown
    return shown[:at] + sheet.paint(shown[at : at + len(text)], BOLD) + shown[at + len(text) :]
