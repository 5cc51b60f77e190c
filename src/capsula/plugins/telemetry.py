"""What a run, cached or recorded, tells Honeycomb and OpenTelemetry of itself, when somebody wants to hear it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from capsula import __version__, engine
from capsula.core.names import printable
from capsula.core.node import DIRECTORY, LINK
from capsula.core.secrets import mask
from capsula.errors import UsageError
from capsula.observe import honeycomb, otlp
from capsula.observe.post import Parcel, deliver
from capsula.observe.span import Attribute, Place, Span, new_id, place
from capsula.store.guard import Breaker
from capsula.store.proxies import proxy_for

if TYPE_CHECKING:
    from capsula.config.settings import Settings
    from capsula.plugins.cached_run import Session

# Honeycomb takes strings of 64 KiB; nobody reads so much in one field.
_LONGEST = 16_384


def place_of(environ: Mapping[str, str], settings: Settings | None = None) -> Place | None:
    """Where in a trace what begins now is, if somebody wants to hear of it."""
    has_collector = otlp.endpoint(environ) is not None
    if not has_collector and (settings is None or not settings.honeycomb_dataset):
        return None
    found = place(environ.get("TRACEPARENT", ""))
    return replace(found, is_sampled=otlp.is_sampled(environ, found)) if has_collector else found


def report(session: Session, found: engine.Report, place: Place, say: Callable[[str], None]) -> None:
    """Send it, if the trace is one that is recorded. Trouble is said with -v only: it is none of the run."""
    if not place.is_sampled:
        return
    settings = session.settings
    spans = spans_of(session, found, place, time.time_ns())
    parcels, seconds = _to_collector(spans, place)
    environ = os.environ
    token = (settings.honeycomb_token or environ.get("HONEYCOMB_API_KEY", "")).strip()
    if settings.honeycomb_dataset and token:
        own = dict(pair.partition("=")[::2] for pair in settings.honeycomb_kv)
        # Its ids may be any words. OpenTelemetry's have a form, and for another all spans are refused.
        parent = settings.honeycomb_parent_id or place.parent_id
        told = [replace(spans[0], parent_id=parent), *spans[1:]]
        content = honeycomb.body(settings.honeycomb_trace_id or place.trace_id, told, own)
        url = honeycomb.url(environ, settings.honeycomb_dataset)
        parcels.append(_parcel(url, honeycomb.headers(token), content))
    elif settings.honeycomb_dataset and settings.verbose:
        say("nothing is sent to Honeycomb: --honeycomb_token is missing")
    root = session.store_root
    for trouble in deliver(parcels, root, seconds, lambda url: Breaker(root, url)):
        if settings.verbose:
            say(f"telemetry not sent: {trouble}")


def report_recorded(
    place: Place, facts: Mapping[str, Attribute], parts: Sequence[tuple[str, int, int]]
) -> None:
    """Of a command that was recorded and no cached action: `parts` are (name, from, to) in ns since 1970, in order.

    OpenTelemetry alone hears of it: what Honeycomb is told is said by options of `capsule`. Nothing is kept for a
    collector that is away, as there needn't be a store.
    """
    if place.is_sampled:
        started, ended = parts[0][1], parts[-1][2]
        own = {**facts, "host": os.uname().nodename, "version": __version__}
        run = Span("monitor", started, ended, place.span_id, place.parent_id, own)
        below = [Span(name, begun, until, new_id(), place.span_id) for name, begun, until in parts]
        parcels, seconds = _to_collector([run, *below], place)
        deliver(parcels, "", seconds, lambda url: Breaker("", url))


def _to_collector(spans: Sequence[Span], place: Place) -> tuple[list[Parcel], float]:
    """What is to be sent, and how many seconds there are for it."""
    endpoint = otlp.endpoint(os.environ)
    if endpoint is None:
        return [], 10.0
    content = otlp.body(place, spans, endpoint.resource, __version__)
    return [_parcel(endpoint.url, endpoint.headers, content, endpoint.trust)], endpoint.seconds


def _parcel(
    url: str, headers: Mapping[str, str], content: bytes, trust: tuple[str, str, str] = ("", "", "")
) -> Parcel:
    """With the proxy that leads there, if the variables name one that can be used."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        via = proxy_for(parts.scheme, parts.hostname or "", port, os.environ)
    except (ValueError, UsageError):
        via = None
    return Parcel(url, headers, content, via, trust)


def spans_of(session: Session, found: engine.Report, place: Place, end_ns: int) -> list[Span]:
    """The run, and below it what it did: inputs, lookup, restore, run, capture, upload."""
    start = min([begun for _, begun, _ in found.spans], default=end_ns)
    trouble = found.problem.what if found.problem is not None else ""
    name, facts = session.recipe.capsule_id, attributes(session, found)
    return [
        Span(name, start, end_ns, place.span_id, place.parent_id, facts, trouble),
        *(Span(name, begun, ended, new_id(), place.span_id) for name, begun, ended in found.spans),
    ]


def attributes(session: Session, found: engine.Report) -> dict[str, Attribute]:
    origin, recipe = found.origin, session.recipe
    is_hit = found.outcome == engine.HIT
    job = origin.job if is_hit and origin is not None else session.settings.capsule_job
    facts: dict[str, Attribute | None] = {
        "capsule_id": recipe.capsule_id,
        "command": mask(" ".join(recipe.argv))[:_LONGEST],
        "outcome": found.outcome,
        "why": found.why[:_LONGEST],
        "result_from_cache": is_hit,
        "non_determinism": bool(found.mismatch),
        "non_determinism_details": "\n".join(found.mismatch)[:_LONGEST] or None,
        "exit_code": found.exit_code if is_hit or found.started else None,
        "key": found.key.hash if found.key is not None else None,
        "inputs_hash": found.inputs_hash or None,
        "outputs_hash": _outputs_hash(found) or None,
        "inputs_hash_details": _inputs(found),
        "outputs_hash_details": _outputs(found),
        "capsule_job": job or None,
        "run": session.world.run_id,
        "recorded": session.world.record or None,
        "made_by": origin.run if is_hit and origin is not None else None,
        "remote": _remote(session, found) if is_hit else None,
        "remote_errors": _remote_errors(session),
        "seconds_saved" if is_hit else "seconds_run": round(found.seconds, 6),
        "bytes": found.bytes,
        "stored": found.stored,
        "not_stored": found.not_stored or None,
        "waited": found.waited,
        "host": session.world.host,
        "version": __version__,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _remote(session: Session, found: engine.Report) -> str | None:
    """The shared store that the result came from."""
    if session.remotes is None or found.key is None:
        return None
    return session.remotes.came_from(found.key) or None


def _remote_errors(session: Session) -> str | None:
    """A line for each time that a shared store failed us."""
    if session.remotes is None or not session.remotes.tiers.troubles:
        return None
    rows = [
        f"{doing} {name}: {what.removeprefix(f'{name}: ')}"
        for name, doing, what in session.remotes.tiers.troubles
    ]
    return "\n".join(rows)[:_LONGEST]


def _inputs(found: engine.Report) -> str | None:
    return _details(found.inputs.hashes()) if found.inputs is not None else None


def _outputs(found: engine.Report) -> str | None:
    return _details(_output_rows(found))


def _output_rows(found: engine.Report) -> list[tuple[str, str]]:
    return [
        (path, f"-> {node.target}" if node.kind == LINK else node.digest.hash if node.digest else "")
        for path, node in sorted(found.nodes.items())
        if node.kind != DIRECTORY
    ]


def _outputs_hash(found: engine.Report) -> str:
    rows = _output_rows(found)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest() if rows else ""


def _details(rows: list[tuple[str, str]]) -> str | None:
    """A line each, as many as fit, and how many are left out."""
    lines, room = [], _LONGEST
    for at, (path, content) in enumerate(rows):
        line = f"{content}  {printable(path)}"
        room -= len(line) + 1
        if room < 0:
            lines.append(f"and {len(rows) - at} more")
            break
        lines.append(line)
    return "\n".join(lines) or None
