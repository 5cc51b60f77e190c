"""Which capsule is meant by what somebody writes: an id, a part of one, a name, an item, `@latest`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from capsula.core.names import printable
from capsula.errors import UsageError
from capsula.vault import record as records
from capsula.vault.index import Found, Index
from capsula.vault.layout import VaultError
from capsula.vault.query import Condition, Test
from capsula.vault.record import Capsule


def resolve(root: str, asked: str, progress: Callable[[int, int], None] | None = None) -> Capsule:
    """By id, the last six digits of it, the beginning of it or of a directory's name, an item's name (its latest),
    `@latest`, `@-2`, or a path. Raises UsageError when there is none, or more than one. `progress` is as for
    Index.refresh."""
    return resolve_all(root, [asked], progress)[0]


def resolve_all(
    root: str, asked: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> list[Capsule]:
    """Several, as of one moment: `@-2` means the same before and behind another."""
    found: list[Capsule] = []
    with Index(root) as index:
        known: list[Found] | None = None
        for each in asked:
            capsule = records.seen(os.path.abspath(each)) if "/" in each else None
            if capsule is None:
                if known is None:
                    index.refresh(progress)
                    known = index.find()
                path = _chosen(index, known, each).path
                capsule = records.seen(path) or records.damaged(path, VaultError("it isn't there any more"))
            found.append(capsule)
    return found


def _chosen(index: Index, found: list[Found], asked: str) -> Found:
    if not found:
        raise UsageError(
            f"there is no capsule in {printable(index.root)}", hint="capsula monitor command … makes one"
        )
    if asked.startswith("@"):
        return _counted(found, asked)
    return _by_id(found, asked) or _by_item(index, asked) or _by_beginning(found, asked)


def _by_id(found: list[Found], asked: str) -> Found | None:
    matches = [each for each in found if asked in (each.id, each.name, each.id[-6:])]
    if len(matches) > 1:
        raise _ambiguous(matches, "are", asked)
    return matches[0] if matches else None


def _by_item(index: Index, asked: str) -> Found | None:
    latest = index.find(Condition(Test("items", "=", (asked,)), frozenset({"items"})), most=1)
    return latest[0] if latest else None


def _by_beginning(found: list[Found], asked: str) -> Found:
    matches = [each for each in found if asked and (each.id.startswith(asked) or each.name.startswith(asked))]
    if len(matches) > 1:
        raise _ambiguous(matches, "begin with", asked)
    if not matches:
        raise UsageError(f"there is no capsule {printable(asked)}", hint="capsula list shows them")
    return matches[0]


def _ambiguous(matches: list[Found], how: str, asked: str) -> UsageError:
    names = ", ".join(printable(each.name) for each in matches[:5])
    return UsageError(f"{len(matches)} capsules {how} {printable(asked)}", hint=f"for example {names}")


def _counted(found: list[Found], asked: str) -> Found:
    text = asked[1:]
    back = 1 if text in ("latest", "") else int(text[1:]) if text[:1] == "-" and text[1:].isdigit() else 0
    if not 1 <= back <= len(found):
        raise UsageError(
            f"there is no {printable(asked)}", hint=f"@latest, or @-1 to @-{len(found)} for those before"
        )
    return found[back - 1]
