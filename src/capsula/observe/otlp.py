"""OpenTelemetry: spans as OTLP over HTTP, in JSON, to where the standard variables say.

https://opentelemetry.io/docs/specs/otlp/#otlphttp and .../specs/otel/protocol/exporter/. By hand, because the library
takes longer to load than most hits take in all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from capsula.observe.span import Attribute, Place, Span

_ERROR, _INTERNAL = 2, 1
# The exporter's default; what a run waits for is less (observe.post).
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where spans go; `resource` describes who sends."""

    url: str
    headers: Mapping[str, str]
    seconds: float
    resource: Mapping[str, str]


def endpoint(environ: Mapping[str, str]) -> Endpoint | None:
    """None where nobody wants traces, or wants them by gRPC, which we don't speak here."""
    if (
        environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environ.get("OTEL_TRACES_EXPORTER") == "none"
    ):
        return None
    url = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    if not url and (base := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
        url = base.rstrip("/") + "/v1/traces"
    if not url.startswith(("http://", "https://")) or _setting(environ, "PROTOCOL") == "grpc":
        return None
    try:
        seconds = float(_setting(environ, "TIMEOUT") or "") / 1000
    except ValueError:
        seconds = _SECONDS
    resource = {"service.name": "capsula", **_pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))}
    if environ.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = environ["OTEL_SERVICE_NAME"]
    return Endpoint(url, _pairs(_setting(environ, "HEADERS")), seconds, resource)


def body(place: Place, spans: Sequence[Span], resource: Mapping[str, str], version: str) -> bytes:
    """An ExportTraceServiceRequest. Ids are hexadecimal in OTLP's JSON, unlike in that of protobuf."""
    return json.dumps(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": _attributes(resource)},
                    "scopeSpans": [
                        {
                            "scope": {"name": "capsula", "version": version},
                            "spans": [_span(place.trace_id, span) for span in spans],
                        }
                    ],
                }
            ]
        }
    ).encode()


def _span(trace_id: str, span: Span) -> dict[str, object]:
    made: dict[str, object] = {
        "traceId": trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(max(span.end_ns, span.start_ns)),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id:
        made["parentSpanId"] = span.parent_id
    if span.trouble:
        made["status"] = {"code": _ERROR, "message": span.trouble}
    return made


def _attributes(facts: Mapping[str, Attribute]) -> list[dict[str, object]]:
    return [{"key": name, "value": _value(value)} for name, value in facts.items()]


def _value(value: Attribute) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value.encode("utf-8", "replace").decode()}


def _setting(environ: Mapping[str, str], name: str) -> str:
    """The one for traces wins over the one for all signals."""
    return environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""


def _pairs(text: str) -> dict[str, str]:
    """`a=b,c=d`, values with %-escapes."""
    rows = (part.partition("=") for part in text.split(","))
    return {key.strip(): unquote(value.strip()) for key, equals, value in rows if equals and key.strip()}
