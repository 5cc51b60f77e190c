"""rotel: a collector of OpenTelemetry in Rust, which prints what it has understood of what it got."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from servers.installed import installed
from servers.ports import free_port
from servers.process import Server

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FACT = re.compile(r" +-> (?P<name>[^:]+): (?P<kind>\w+)\((?P<value>.*)\)$")
_FIELD = re.compile(
    r" *(?P<name>Trace ID|Parent ID|ID|Name|Status code|Status message|Start time|End time) *: (?P<value>.*)$"
)


@dataclass
class Seen:
    """A span as it was understood: `fields` and `attributes` as printed, the latter with their types."""

    resource: dict[str, tuple[str, str]]
    fields: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def start_ns(self) -> int:
        return int(self.fields["Start time"])

    @property
    def end_ns(self) -> int:
        return int(self.fields["End time"])


class Rotel(Server):
    """It takes OTLP by HTTP at `url`, as JSON or as protobuf, and by gRPC at `grpc_url`."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True)
        port, other = free_port(), free_port()
        self.url, self.grpc_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}"
        words = [
            installed("rotel/rotel/rotel-agent"), "start", "--exporter", "blackhole",
            "--debug-log", "traces", "--debug-log-verbosity", "detailed",
            "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{other}",
        ]  # fmt: skip
        super().__init__(words, port, base / "log")

    def spans(self) -> list[Seen]:
        """All that it got in its life, which ends with it: what it has taken it handles before."""
        self.stop()
        return self._read()

    def said(self) -> str:
        return _COLOURS.sub("", self.log.read_text(errors="replace"))

    def _read(self) -> list[Seen]:
        found: list[Seen] = []
        resource: dict[str, tuple[str, str]] = {}
        facts = resource
        for line in self.said().splitlines():
            if line.startswith("ResourceSpans #"):
                facts = resource = {}
            elif line.startswith("Span #"):
                found.append(Seen(resource))
                facts = found[-1].attributes
            elif (fact := _FACT.match(line)) is not None:
                facts[fact["name"]] = (fact["kind"], fact["value"])
            elif (each := _FIELD.match(line)) is not None and found:
                found[-1].fields[each["name"]] = each["value"].strip()
        return found
