"""`capsula tag` and `capsula note`: what people say of a capsule after it is sealed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from capsula.cli.finding import find_capsule
from capsula.core.names import printable
from capsula.vault import remarks
from capsula.vault.remarks import Remarks


def tag(directory: str | None, asked: str, given: Sequence[str], taken: Sequence[str]) -> int:
    """Without tags: print those that it has. 1 when there is one to take away that it hasn't."""
    given, taken = [[remarks.tag(text) for text in tags] for tags in (given, taken)]
    capsule = find_capsule(directory, asked)
    root = os.path.dirname(capsule.path)
    before = remarks.of(root, capsule.id, capsule.record)
    if not given and not taken:
        for text in before.tags:
            print(printable(text))
        return 0
    after = remarks.change(
        root, capsule.id, lambda old: old.without_tags(taken).with_tags(given), remarks.own(capsule.record)
    )
    print(f"{printable(capsule.name)}: {printable(', '.join(after.tags)) or 'no tags'}")
    unknown = [text for text in taken if text not in before.tags]
    if unknown:
        print(f"capsula: it didn't have {printable(', '.join(unknown))}", file=sys.stderr)
    return 1 if unknown else 0


def note(directory: str | None, asked: str, text: str | None) -> int:
    """Without a text: print the note as it is; an empty one takes it away."""
    capsule = find_capsule(directory, asked)
    root = os.path.dirname(capsule.path)
    if text is None:
        found = remarks.of(root, capsule.id, capsule.record).note
        if found and sys.stdout.isatty():
            # It may come from elsewhere: what it says to the terminal is escaped.
            for line in found.split("\n"):
                print(printable(line))
        elif found:
            print(found)
        else:
            print(f"capsula: {printable(capsule.name)} has no note", file=sys.stderr)
        return 0
    first = remarks.own(capsule.record)
    remarks.change(root, capsule.id, lambda old: Remarks(old.tags, text.strip()), first)
    return 0
