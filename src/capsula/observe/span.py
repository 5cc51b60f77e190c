"""A span: one thing that a run did, from when to when, and where it belongs in a trace (W3C Trace Context)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """`start_ns` and `end_ns` are since 1970. `trouble`: what went wrong, "" if nothing did."""

    name: str
    start_ns: int
    end_ns: int
    span_id: str
    parent_id: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is in a trace. `is_sampled`: whether who began the trace wants it to be recorded."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    is_sampled: bool = True

    @property
    def traceparent(self) -> str:
        """What the command is given, so that what it runs belongs to the same trace."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"


def place(traceparent: str) -> Place:
    """Below the span that this header names; of a trace of its own where it names none."""
    version, _, rest = traceparent.strip().partition("-")
    trace_id, _, rest = rest.partition("-")
    parent_id, _, flags = rest.partition("-")
    is_right = (
        _is_hex(version, 2)
        and version != "ff"
        and _is_hex(trace_id, 32)
        and _is_hex(parent_id, 16)
        and _is_hex(flags[:2], 2)
        and trace_id.strip("0")
        and parent_id.strip("0")
    )
    if not is_right:
        return Place(os.urandom(16).hex(), new_id())
    return Place(trace_id, new_id(), parent_id, is_sampled=bool(int(flags[:2], 16) & 1))


def new_id() -> str:
    return os.urandom(8).hex()


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and not text.strip("0123456789abcdef")
