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
    """Where spans go; `resource` describes who sends, `trust` is as in a parcel (observe.post)."""

    url: str
    headers: Mapping[str, str]
    seconds: float
    resource: Mapping[str, str]
    trust: tuple[str, str, str] = ("", "", "")


def endpoint(environ: Mapping[str, str]) -> Endpoint | None:
    """None where nobody wants traces, or wants them by gRPC, which we don't speak here."""
    exporters = [each.strip() for each in environ.get("OTEL_TRACES_EXPORTER", "").split(",")]
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not {"", "otlp"} & set(exporters):
        return None
    url = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    if not url and (base := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
        url = base.rstrip("/") + "/v1/traces"
    if not url.startswith(("http://", "https://")) or _setting(environ, "PROTOCOL") == "grpc":
        return None
    try:
        seconds = float(_setting(environ, "TIMEOUT")) / 1000
    except ValueError:
        seconds = 0.0
    headers = _pairs(_setting(environ, "HEADERS"))
    if _setting(environ, "COMPRESSION") == "gzip":
        headers["Content-Encoding"] = "gzip"
    resource = {"service.name": "capsula", **_pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))}
    if environ.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = environ["OTEL_SERVICE_NAME"]
    files = [_setting(environ, name) for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")]
    trust = (files[0], files[1], files[2])
    return Endpoint(url, headers, seconds if seconds > 0 else _SECONDS, resource, trust)


def is_sampled(environ: Mapping[str, str], place: Place) -> bool:
    """Whether this trace is to be recorded, by OTEL_TRACES_SAMPLER. Without it, or with a name that isn't known, who
    began the trace has decided that."""
    name = environ.get("OTEL_TRACES_SAMPLER", "")
    if not name or (name.startswith("parentbased_") and place.parent_id):
        return place.is_sampled
    own = name.removeprefix("parentbased_")
    if own in ("always_on", "always_off"):
        return own == "always_on"
    if own != "traceidratio":
        return place.is_sampled
    try:
        share = float(environ.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    except ValueError:
        share = 1.0
    # By the digits that are chance in every way of making ids, as the libraries do: all parts of a trace agree.
    return int(place.trace_id[16:], 16) < share * (1 << 64)


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
