"""`capsula cache stats` for those who run many machines: counters that only grow, as JSON and as Prometheus reads
them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from capsula import __version__
from capsula.cli.target import Target
from capsula.core.names import printable
from capsula.errors import CapsulaError
from capsula.observe import totals
from capsula.observe.exposition import Gauge, text
from capsula.observe.totals import COUNTERS, Totals
from capsula.store import upkeep

STDOUT = "-"


def as_json(target: Target) -> dict[str, object]:
    """For each counter its series; they may be missing lines where the store can't be written to."""
    try:
        found = totals.count(target.root) if target.exists() else Totals()
    except OSError:
        found = totals.count(target.root, save=False)
    told: dict[str, object] = {"since": found.since or None, "last": found.last or None}
    for counter in COUNTERS:
        name = f"{counter.name}_{counter.unit}" if counter.unit else counter.name
        rows = sorted(found.counts[counter.name].items())
        told[name] = [
            {**dict(zip(counter.labels, labels, strict=True)), "value": round(value, 6)}
            for labels, value in rows
        ]
    return told


def write_prometheus(target: Target, path: str) -> int:
    """A file for the textfile collector, replaced as a whole; `-` is stdout."""
    exists = target.exists()
    try:
        found = totals.count(target.root) if exists else Totals()
    except OSError as error:
        raise CapsulaError(
            f"what was counted can't be kept in {target.shown}: {error.strerror}",
            hint="as the user whose store it is, who may write there; counters must not fall",
        ) from error
    content = text(target.root, found, _gauges(target, found))
    if path == STDOUT:
        sys.stdout.write(content)
        return 0
    wanted = Path(path)
    # Beside it, and by a name that no collector reads, then renamed over it: who reads it sees all of it.
    aside = wanted.with_name(f".{wanted.name}.{os.getpid()}.new")
    try:
        try:
            aside.write_text(content, encoding="utf-8")
            aside.chmod(0o644)
            aside.replace(wanted)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise CapsulaError(f"can't write {printable(path)}: {error.strerror}") from error
    return 0


def _gauges(target: Target, found: Totals) -> list[Gauge]:
    stats = upkeep.stats(target.root)
    kinds = {
        "results": stats.entries,
        "blobs": stats.blobs,
        "temporary": stats.temporary,
        "quarantine": stats.quarantine,
        "trash": stats.trash,
        "records": stats.records,
    }
    gauges = [
        Gauge(
            "store_objects",
            "How many there are in the store on this machine.",
            {(kind,): usage.count for kind, usage in kinds.items()},
            ("kind",),
        ),
        Gauge(
            "store_bytes",
            "How much room they take.",
            {(kind,): usage.bytes for kind, usage in kinds.items()},
            ("kind",),
        ),
        Gauge("store_limit_bytes", "The limit of results and blobs together; 0: none.", {(): target.limit}),
        Gauge("info", "Which Capsula has written this.", {(__version__,): 1}, ("version",)),
    ]
    if found.last:
        gauges.append(Gauge("last_run_timestamp_seconds", "When the last run ended.", {(): found.last}))
    return gauges
