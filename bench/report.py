"""Tables for people, JSON for programs, and the facts about the machine that a number means nothing without."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A number that the project holds itself to: `value` at most `limit`; None where it couldn't be measured."""

    what: str
    value: float | None
    limit: float

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "met" if self.value <= self.limit else "missed"

    def __str__(self) -> str:
        value = "-" if self.value is None else f"{self.value:.2f}"
        return f"{self.verdict}: {self.what}: {value} (at most {self.limit:g})"


@dataclass
class Part:
    """What one part of the benchmark found."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    numbers: dict[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {
            "title": self.title,
            "columns": self.columns,
            "rows": self.rows,
            "notes": self.notes,
            "targets": [
                {"what": t.what, "value": t.value, "limit": t.limit, "verdict": t.verdict}
                for t in self.targets
            ],
            "numbers": self.numbers,
        }


def milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def mebibytes(size: float) -> str:
    return f"{size / 2**20:.1f}"


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def as_text(part: Part) -> str:
    """The part for a terminal: first column to the left, numbers to the right."""
    table = [part.columns, *part.rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(part.columns))]
    lines = [part.title, ""]
    for row in table:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    lines += ["", *(f"  {note}" for note in part.notes), *(f"  {target}" for target in part.targets)]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_markdown(part: dict[str, object]) -> str:
    """The same for docs/benchmarks.md, from the JSON form so that earlier runs' parts are printed too."""
    columns, rows, notes, targets = part["columns"], part["rows"], part["notes"], part["targets"]
    assert isinstance(columns, list | tuple)
    assert isinstance(rows, list)
    assert isinstance(notes, list)
    assert isinstance(targets, list)
    lines = [f"### {part['title']}", "", _markdown_row(columns)]
    lines.append(_markdown_row(["---", *("---:" for _ in columns[1:])]))
    lines += [_markdown_row(row) for row in rows]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    if targets:
        lines += ["", "| target | at most | measured | |", "| --- | ---: | ---: | --- |"]
        lines += [
            _markdown_row((t["what"], f"{t['limit']:g}", ratio(t["value"]), t["verdict"])) for t in targets
        ]
    return "\n".join(lines) + "\n"


def machine(scratch: Path) -> dict[str, object]:
    """What a reader needs to know about where the numbers come from; nothing that names the machine."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file_system": _file_system(scratch),
        "python": platform.python_version(),
        "node": _version("node"),
        "git": _version("git"),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _file_system(path: Path) -> str:
    """The type of the mount that holds the path: the longest mount point that is a parent of it."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    parents = {str(parent) for parent in (path, *path.parents)}
    holding = [(len(mount[1]), mount[2]) for mount in mounts if mount[1] in parents]
    return max(holding, default=(0, "unknown"))[1]


def _version(program: str) -> str:
    try:
        answer = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=False)
    except OSError:
        return "not installed"
    return answer.stdout.strip().removeprefix("git version ")


def save(scratch: Path, part: Part, facts: dict[str, object]) -> None:
    """Adds the part to results.json, beside the parts of earlier runs, and writes results.md anew from it."""
    path = scratch / "results.json"
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError):
        results = {}
    results[part.name] = {"machine": facts, **part.as_json()}
    path.write_text(json.dumps(results, indent=2) + "\n")
    text = []
    for name, one in results.items():
        where = one["machine"]
        text.append(as_markdown(one))
        text.append(
            f"`{name}`, {where['when']}: {where['processor']}, {where['cores']} cores, {where['system']},"
            f" {where['file_system']}, Python {where['python']}; load {where['load_average'][0]} at the start.\n"
        )
    (scratch / "results.md").write_text("\n".join(text))


def say(text: str) -> None:
    """Progress, on stderr: stdout has the tables alone."""
    print(text, file=sys.stderr, flush=True)
