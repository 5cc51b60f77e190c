"""The placebo: what a run made against the cached result, and where it differs."""

from capsula.core import compare
from capsula.core.names import printable
from capsula.engine.job import BIG_LOG, PLACEBO, Entry, Report, World
from capsula.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from capsula.core.node import Node
    from capsula.ports import Outcome


def compare_with(world: World, report: Report, entry: Entry, outcome: "Outcome") -> None:
    """The placebo: outputs and exit code against the cached result; logs on their own, as they often hold times."""
    rows = []
    if entry.result.exit_code != outcome.exit_code:
        rows.append(f"exit code {outcome.exit_code}, {entry.result.exit_code} in the cached result")
    for difference in compare.results(entry.nodes, report.nodes):
        row = str(difference)
        if difference.kind == "content":
            row = _where(world, entry.nodes[difference.name], report.nodes[difference.name], difference.name)
        rows.append(row)
    report.outcome = PLACEBO
    report.mismatch = tuple(rows)
    report.log_mismatch = tuple(_logs_differ(world, entry, outcome))
    report.verdict = "differs" if rows else "same"


def _where(world: World, old: "Node", new: "Node", name: str) -> str:
    """Where the bytes of one output first differ from the cached ones."""
    shown = printable(name)
    if (
        old.digest is None
        or new.digest is None
        or max(old.digest.size_bytes, new.digest.size_bytes) > 64 << 20
    ):
        return f"{shown} differs"
    try:
        cached = world.blobs.read(old.digest)
        with open(world.tree.full(name), "rb") as file:
            made = file.read()
    except (StoreError, OSError):
        return f"{shown} differs"
    at = compare.first_difference(cached, made)
    line = made.count(b"\n", 0, at) + 1
    return f"{shown} differs from byte {at} on (line {line}; {len(made)} bytes, {len(cached)} in the cached result)"


def _logs_differ(world: World, entry: Entry, outcome: "Outcome") -> "Iterator[str]":
    result = entry.result
    rows = (
        ("stdout", result.stdout_raw, result.stdout_digest, outcome.stdout),
        ("stderr", result.stderr_raw, result.stderr_digest, outcome.stderr),
    )
    for name, raw, digest, captured in rows:
        if captured is None:
            continue
        size = digest.size_bytes if digest is not None else len(raw)
        if size != captured.size:
            yield f"{name} has {captured.size} bytes, {size} in the cached result"
        elif captured.content is not None and size <= BIG_LOG:
            try:
                cached = world.blobs.read(digest) if digest is not None and digest.size_bytes else raw
            except StoreError:
                continue
            if cached != captured.content:
                yield f"{name} differs from byte {compare.first_difference(cached, captured.content)} on"
