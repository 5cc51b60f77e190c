"""The CPU as the kernel describes it: the facts and names of py-cpuinfo, in a millisecond instead of a second."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsula.core.found import Value

CPUINFO = Path("/proc/cpuinfo")
SYSFS = Path("/sys/devices/system/cpu")
# The layout that these fields have is that of py-cpuinfo 9.0.0.
LAYOUT = (9, 0, 0)
_ARCHITECTURES = {
    "x86_64": "X86_64",
    "amd64": "X86_64",
    "i686": "X86_32",
    "aarch64": "ARM_8",
    "arm64": "ARM_8",
}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cpu_block() -> dict[str, Value]:
    """What isn't known is left out. Raises nothing for files that aren't there."""
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        text = ""
    return describe(text, SYSFS)


def describe(text: str, sysfs: Path) -> dict[str, Value]:
    """From the text of /proc/cpuinfo (its first processor) and the directory of the kernel's cpu files."""
    facts = _first(text)
    version = sys.version_info
    bits = 64 if sys.maxsize > 2**32 else 32
    flags: list[Value] = [*sorted((facts.get("flags") or facts.get("Features") or "").split())]
    block: dict[str, Value] = {
        "python_version": f"{version[0]}.{version[1]}.{version[2]}.{version[3]}.{version[4]} ({bits} bit)",
        "cpuinfo_version": list(LAYOUT),
        "cpuinfo_version_string": ".".join(map(str, LAYOUT)),
        "arch": _ARCHITECTURES.get(platform.machine().lower(), platform.machine()),
        "bits": bits,
        "count": os.cpu_count(),
        "arch_string_raw": platform.machine(),
        "vendor_id_raw": facts.get("vendor_id"),
        "brand_raw": facts.get("model name") or facts.get("Hardware"),
        **_speeds(facts),
        "stepping": _number(facts.get("stepping")),
        "model": _number(facts.get("model")),
        "family": _number(facts.get("cpu family")),
        "flags": flags or None,
        **_caches(sysfs),
    }
    return {name: value for name, value in block.items() if value is not None}


def _first(text: str) -> Mapping[str, str]:
    facts: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if not line.strip() and facts:
            break
        if colon:
            facts[name.strip()] = value.strip()
    return facts


def _speeds(facts: Mapping[str, str]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    advertised = re.search(r"@ *([\d.]+) *([GM])Hz", facts.get("model name", ""))
    speeds = {
        "advertised": float(advertised[1]) * (1e9 if advertised[2] == "G" else 1e6) if advertised else 0.0,
        "actual": _decimal(facts.get("cpu MHz")) * 1e6,
    }
    for name, hertz in speeds.items():
        if hertz:
            found[f"hz_{name}_friendly"] = f"{hertz / 1e9:.4f} GHz"
            found[f"hz_{name}"] = [round(hertz), 0]
    return found


def _caches(sysfs: Path) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for place in sorted(sysfs.glob("cpu0/cache/index*")):
        level, kind, size = (_line(place / name) for name in ("level", "type", "size"))
        count = _bytes(size)
        if count is None:
            continue
        if level == "1" and kind in ("Data", "Instruction"):
            found[f"l1_{kind.lower()}_cache_size"] = count
        elif level == "2":
            found["l2_cache_size"] = count
            found["l2_cache_line_size"] = _number(_line(place / "coherency_line_size"))
            found["l2_cache_associativity"] = _number(_line(place / "ways_of_associativity"))
        elif level == "3":
            found["l3_cache_size"] = count
    return found


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _bytes(text: str) -> int | None:
    digits, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "")
    return int(digits) * _UNITS.get(unit, 1) if digits.isdigit() else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _decimal(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
