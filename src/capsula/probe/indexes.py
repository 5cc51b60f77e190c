"""From which package indexes pip and uv would take what is installed here, as variables and pip's files say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from capsula.core.secrets import mask

if TYPE_CHECKING:
    from capsula.core.found import Value

_VARIABLES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
)
_KEYS = ("index-url", "extra-index-url", "find-links", "no-index")


def indexes(environ: Mapping[str, str], prefix: str) -> tuple[list[Value], list[str]]:
    """Rows of `from`, `name` and `value` (without credentials), and which of them had some. Where an installed
    distribution came from is known by none of them: it may have been installed before they were set."""
    rows: list[Value] = []
    masked: list[str] = []

    def add(source: str, name: str, value: str) -> None:
        shown = " ".join(mask(value).split())
        if shown != " ".join(value.split()):
            masked.append(f"{name} of {source}")
        rows.append({"from": source, "name": name, "value": shown})

    for path in _files(environ, prefix):
        if not os.path.isfile(path):
            continue
        import configparser

        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            rows.append({"from": path, "name": "", "value": "can't be read"})
            continue
        for section in ("global", "install"):
            for key in _KEYS:
                if parser.has_option(section, key):
                    add(path, key, parser.get(section, key))
    for name in _VARIABLES:
        if environ.get(name):
            add("environment", name, environ[name])
    return rows, masked


def _files(environ: Mapping[str, str], prefix: str) -> list[str]:
    """pip's own order: later ones win."""
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    places = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"]
    places += [f"{home}/.pip/pip.conf"] if home else []
    places += [f"{config}/pip/pip.conf"] if config else []
    places += [f"{prefix}/pip.conf"]
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    return [*places, chosen] if chosen else places
