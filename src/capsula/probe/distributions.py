"""The distributions that are installed for a Python: name, version, and where each came from.

They are read from their .dist-info directories by hand: of the metadata only the head up to the version is needed, and
importlib.metadata takes some ten times as long for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capsula.core.names import printable
from capsula.core.secrets import mask

if TYPE_CHECKING:
    from capsula.core.found import Value

# Of a METADATA file, name and version stand in the first lines.
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Origin:
    """`kind` is index, vcs, editable, local, url or unknown; `url` has no credentials in it."""

    kind: str
    url: str = ""
    vcs: str = ""
    commit: str = ""
    subdirectory: str = ""
    hashes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Distribution:
    """`place` is its .dist-info directory, or what stands for it."""

    name: str
    version: str
    installer: str
    origin: Origin
    place: Path

    @property
    def normal_name(self) -> str:
        return normal(self.name)


def normal(name: str) -> str:
    """As PEP 503 has it: what is equal so is the same distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(path: Iterable[str], left_out: list[str]) -> list[Distribution]:
    """All that can be imported from there, sorted by name."""
    return sorted(_found(path, left_out), key=lambda each: each.normal_name)


def _found(path: Iterable[str], left_out: list[str]) -> Iterator[Distribution]:
    seen: set[str] = set()
    for entry in path:
        try:
            names = sorted(os.listdir(entry or "."))
        except OSError:
            continue  # a zip file, or a directory that isn't there
        for name in names:
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            found = _read(Path(entry, name), left_out)
            # The first on the path is the one that is imported.
            if found is not None and found.normal_name not in seen:
                seen.add(found.normal_name)
                yield found


def _read(place: Path, left_out: list[str]) -> Distribution | None:
    metadata = place / ("METADATA" if place.name.endswith(".dist-info") else "PKG-INFO")
    try:
        with open(place if place.is_file() else metadata, encoding="utf-8", errors="replace") as file:
            head = file.read(_HEAD).partition("\n\n")[0]  # a description may follow
    except OSError as error:
        left_out.append(f"{printable(place.name)}: {error.strerror}")
        return None
    found = dict(re.findall(r"^(Name|Version):[ \t]*(.*?)[ \t]*$", head, re.MULTILINE))
    if not normal(found.get("Name", "")).strip("-"):
        left_out.append(f"{printable(place.name)}: it has no name")
        return None
    return Distribution(
        found["Name"], found.get("Version", ""), _line(place / "INSTALLER"), _origin(place), place
    )


def _origin(place: Path) -> Origin:
    """From direct_url.json (PEP 610); without one it came from an index, of which nothing remembers which."""
    try:
        told = json.loads((place / "direct_url.json").read_bytes())
        url = mask(str(told["url"]))
    except (FileNotFoundError, NotADirectoryError):
        return Origin("index")
    except (OSError, ValueError, KeyError, TypeError):
        return Origin("unknown")
    below = str(told.get("subdirectory") or "")
    if isinstance(vcs := told.get("vcs_info"), dict):
        return Origin("vcs", url, str(vcs.get("vcs") or ""), str(vcs.get("commit_id") or ""), below)
    if isinstance(directory := told.get("dir_info"), dict):
        return Origin("editable" if directory.get("editable") else "local", url, subdirectory=below)
    archive = told.get("archive_info")
    hashes = archive.get("hashes") if isinstance(archive, dict) else None
    pairs = hashes.items() if isinstance(hashes, dict) else ()
    return Origin("url", url, subdirectory=below, hashes=tuple((str(a), str(b)) for a, b in pairs))


def row(each: Distribution) -> dict[str, Value]:
    """As it is recorded."""
    origin = each.origin
    told: dict[str, Value] = {"kind": origin.kind}
    for name in ("url", "vcs", "commit", "subdirectory"):
        if value := getattr(origin, name):
            told[name] = value
    if origin.hashes:
        told["hashes"] = dict(origin.hashes)
    return {
        "name": each.name,
        "version": each.version or None,
        "installer": each.installer or None,
        "origin": told,
    }


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
