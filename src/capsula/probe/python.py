"""Python: the interpreter, and every installed distribution with its version and where it came from.

Distributions are read from their .dist-info directories by hand: of the metadata only the head up to the version is
needed, and importlib.metadata takes some ten times as long for it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from capsula.core.found import Found
from capsula.core.names import printable
from capsula.core.secrets import mask

if TYPE_CHECKING:
    from capsula.core.found import Value

PYLOCK = "pylock.toml"
# Of a METADATA file, name and version stand in the first lines.
_HEAD = 4096
# How many threads and which kernels numeric libraries use: both change the last bits of results.
_NUMERIC = re.compile(
    r".*_NUM_THREADS|OPENBLAS_CORETYPE|MKL_CBWR|OMP_.*|CUBLAS_WORKSPACE_CONFIG|PYTHONHASHSEED"
)
_FLAGS = ("dev_mode", "hash_randomization", "isolated", "no_site", "optimize", "safe_path", "utf8_mode")


class PythonProbe:
    """This interpreter and the directories that it imports from (`path`, by default sys.path)."""

    name = "python"

    def __init__(self, environ: Mapping[str, str], path: Iterable[str] | None = None) -> None:
        self._environ = environ
        self._path = tuple(sys.path if path is None else path)
        self._left_out: list[str] = []

    def read(self) -> Found:
        distributions = sorted(self._distributions(), key=lambda row: str(row["name"]).lower())
        section: dict[str, Value] = {
            "executable": sys.executable,
            "version": sys.version,
            "implementation": sys.implementation.name,
            "cache_tag": sys.implementation.cache_tag,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "platform": sysconfig.get_platform(),
            "flags": {name: getattr(sys.flags, name) for name in _FLAGS},
            "numeric": self._numeric(),
            "distributions": list(distributions),
        }
        lock = pylock(distributions, f"{sys.version_info[0]}.{sys.version_info[1]}")
        return Found(
            {"python": section},
            keys=("python",),
            files={PYLOCK: lock.encode("utf-8", "backslashreplace")},
            left_out=tuple(self._left_out),
        )

    def _distributions(self) -> Iterable[dict[str, Value]]:
        seen: set[str] = set()
        for entry in self._path:
            try:
                names = sorted(os.listdir(entry or "."))
            except OSError:
                continue  # a zip file, or a directory that isn't there
            for name in names:
                if not name.endswith((".dist-info", ".egg-info")):
                    continue
                row = self._distribution(Path(entry, name))
                key = re.sub(r"[-_.]+", "-", str(row["name"])).lower() if row else ""
                # The first on the path is the one that is imported.
                if row and key not in seen:
                    seen.add(key)
                    yield row

    def _distribution(self, place: Path) -> dict[str, Value] | None:
        metadata = place / ("METADATA" if place.name.endswith(".dist-info") else "PKG-INFO")
        try:
            with open(place if place.is_file() else metadata, encoding="utf-8", errors="replace") as file:
                head = file.read(_HEAD).partition("\n\n")[0]  # a description may follow
        except OSError as error:
            self._left_out.append(f"{printable(place.name)}: {error.strerror}")
            return None
        found = dict(re.findall(r"^(Name|Version):[ \t]*(.*?)[ \t]*$", head, re.MULTILINE))
        if "Name" not in found:
            self._left_out.append(f"{printable(place.name)}: it has no name")
            return None
        return {
            "name": found["Name"],
            "version": found.get("Version"),
            "installer": _line(place / "INSTALLER") or None,
            "origin": _origin(place),
        }

    def _numeric(self) -> dict[str, Value]:
        named: dict[str, Value] = {
            name: value for name, value in sorted(self._environ.items()) if _NUMERIC.fullmatch(name)
        }
        controller = sys.modules.get("threadpoolctl")
        if (
            controller is not None
        ):  # only if the program has loaded it: importing it here would change the program
            try:
                named["threadpools"] = json.loads(json.dumps(controller.threadpool_info(), default=str))
            except Exception as error:
                self._left_out.append(f"threadpoolctl: {type(error).__name__}")
        return named


def _origin(place: Path) -> dict[str, Value]:
    """From direct_url.json (PEP 610); without one it came from an index, which nothing remembers."""
    try:
        told = json.loads((place / "direct_url.json").read_bytes())
        url = mask(str(told["url"]))
    except FileNotFoundError:
        return {"kind": "index"}
    except (OSError, ValueError, KeyError, TypeError):
        return {"kind": "unknown"}
    if isinstance(vcs := told.get("vcs_info"), dict):
        return {"kind": "vcs", "url": url, "vcs": vcs.get("vcs"), "commit": vcs.get("commit_id")}
    if isinstance(directory := told.get("dir_info"), dict):
        return {"kind": "editable" if directory.get("editable") else "local", "url": url}
    archive = told.get("archive_info")
    return {"kind": "url", "url": url, "hashes": archive.get("hashes") if isinstance(archive, dict) else None}


def pylock(distributions: Iterable[Mapping[str, Value]], python: str) -> str:
    """PEP 751, as far as an installed environment still knows: names, versions, and where it didn't come from an index,
    where from."""
    lines = [
        'lock-version = "1.0"',
        'created-by = "capsula"',
        f"requires-python = {_toml('~=' + python + '.0')}",
    ]
    for row in distributions:
        origin = row["origin"]
        assert isinstance(origin, dict)
        lines += ["", "[[packages]]", f"name = {_toml(row['name'])}"]
        kind = origin["kind"]
        if row["version"] and kind not in ("editable", "local"):
            lines.append(f"version = {_toml(row['version'])}")
        if kind == "vcs":
            lines.append("[packages.vcs]")
            lines += [f"type = {_toml(origin['vcs'])}", f"url = {_toml(origin['url'])}"]
            lines.append(f"commit-id = {_toml(origin['commit'])}")
        elif kind in ("editable", "local"):
            path = str(origin["url"]).removeprefix("file://")
            lines += ["[packages.directory]", f"path = {_toml(path)}"]
            lines.append(f"editable = {'true' if kind == 'editable' else 'false'}")
        elif kind == "url":
            lines += ["[packages.archive]", f"url = {_toml(origin['url'])}"]
            hashes = origin["hashes"] if isinstance(origin["hashes"], dict) else {}
            pairs = ", ".join(f"{name} = {_toml(value)}" for name, value in hashes.items())
            lines.append(f"hashes = {{ {pairs} }}" if pairs else "hashes = {}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    # A basic string of TOML escapes as JSON does, when nothing is left that isn't ASCII but for DEL.
    return json.dumps(str(value)).replace("\x7f", "\\u007f")


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
