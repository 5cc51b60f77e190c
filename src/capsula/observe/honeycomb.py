"""Honeycomb: an event for each span, by its events API. https://docs.honeycomb.io/api/events/"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from capsula.observe.span import Attribute, Span

HOST = "https://api.honeycomb.io"


def url(environ: Mapping[str, str], dataset: str) -> str:
    host = environ.get("HONEYCOMB_API_ENDPOINT") or HOST
    return f"{host.rstrip('/')}/1/batch/{quote(dataset, safe='')}"


def headers(token: str) -> dict[str, str]:
    return {"X-Honeycomb-Team": token}


def body(trace_id: str, spans: Sequence[Span], own: Mapping[str, str]) -> bytes:
    """`own` are the user's own fields; they are on every event."""
    return json.dumps([_event(trace_id, span, own) for span in spans]).encode()


def _event(trace_id: str, span: Span, own: Mapping[str, str]) -> dict[str, object]:
    data: dict[str, Attribute] = {
        **own,
        "name": span.name,
        "service.name": "capsula",
        "trace.trace_id": trace_id,
        "trace.span_id": span.span_id,
        "duration_ms": round((span.end_ns - span.start_ns) / 1e6, 3),
        **span.attributes,
    }
    if span.parent_id:
        data["trace.parent_id"] = span.parent_id
    if span.trouble:
        data["error"] = span.trouble
    moment = datetime.fromtimestamp(span.start_ns // 1_000_000_000, UTC)
    exact = moment.replace(microsecond=span.start_ns // 1000 % 1_000_000)
    return {"time": exact.isoformat(timespec="microseconds"), "samplerate": 1, "data": data}
