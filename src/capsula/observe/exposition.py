"""The counters of a store as Prometheus reads them: its text format, for the textfile collector of the node exporter.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from capsula.observe.totals import COUNTERS, Counter, Totals

# Series that are there from the first look on, so that a first hit is seen as a rise.
_FROM_THE_START = {"hits": (("local",), ("remote",))}
_OUTCOMES = ("hit", "miss", "placebo", "uncached")


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is so now. `samples` are by the values of `labels`."""

    name: str
    about: str
    samples: Mapping[tuple[str, ...], float]
    labels: Sequence[str] = ()


def text(store: str, totals: Totals, gauges: Sequence[Gauge]) -> str:
    """`store` is a label of each series: the files of several stores may be read together."""
    lines: list[str] = []
    for counter in COUNTERS:
        samples = _started(counter, totals.counts[counter.name])
        lines += _family(name_of(counter), "counter", counter.about, counter.labels, samples, store)
    for gauge in gauges:
        lines += _family(f"capsula_{gauge.name}", "gauge", gauge.about, gauge.labels, gauge.samples, store)
    return "".join(f"{line}\n" for line in lines)


def name_of(counter: Counter) -> str:
    unit = f"_{counter.unit}" if counter.unit else ""
    return f"capsula_{counter.name}{unit}_total"


def _started(counter: Counter, counts: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    first: Sequence[tuple[str, ...]] = _FROM_THE_START.get(counter.name, ())
    if not counter.labels:
        first = ((),)
    if counter.name == "runs":
        first = [(capsule, outcome) for capsule in {labels[0] for labels in counts} for outcome in _OUTCOMES]
    return {**dict.fromkeys(first, 0), **counts}


def _family(
    name: str,
    kind: str,
    about: str,
    labels: Sequence[str],
    samples: Mapping[tuple[str, ...], float],
    store: str,
) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {_escaped(about)}"
    yield f"# TYPE {name} {kind}"
    for values, amount in sorted(samples.items()):
        told = zip(("store", *labels), (store, *values), strict=True)
        shown = ",".join(f'{label}="{_quoted(value)}"' for label, value in told)
        yield f"{name}{{{shown}}} {_number(amount)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _escaped(value: str) -> str:
    """UTF-8 in one line. What isn't Unicode (a name of any bytes) is written as its escape."""
    valid = value.encode("utf-8", "backslashreplace").decode()
    return valid.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', '\\"')
