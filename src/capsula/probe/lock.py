"""What is installed, in the forms in which it can be installed again: pylock.toml (PEP 751) and requirements.txt.

A lock needs the hash of what was downloaded, and nothing installed remembers that of a wheel from an index. So the lock
has the distributions that came from version control, a directory or an address, and the others stand in its
`tool.capsula.unlocked`, by name and version; requirements-installed.txt has all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from capsula.probe.distributions import Distribution

# A requirements.txt is the first thing that users have copied: theirs keeps its name.
PYLOCK, REQUIREMENTS = "pylock.toml", "requirements-installed.txt"
# PEP 440, as far as a lock may have it.
_VERSION = re.compile(
    r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+([._-][a-z0-9]+)*)?", re.IGNORECASE
)


def pylock(distributions: Iterable[Distribution], python: str) -> str:
    """`python` is the version's first two numbers. It holds to PEP 751 whatever is installed."""
    unlocked: list[Distribution] = []
    lines = [
        'lock-version = "1.0"',
        'created-by = "capsula"',
        f"requires-python = {_text('~=' + python + '.0')}",
    ]
    packages: list[str] = []
    for each in distributions:
        entry = _package(each)
        packages += entry
        if not entry:
            unlocked.append(each)
    # An array that is empty has to be said: the key is required.
    lines += packages or ["packages = []"]
    if unlocked:
        lines += ["", "[tool.capsula]", "unlocked = ["]
        lines += [
            f"    {{ name = {_text(each.normal_name)}, version = {_text(each.version)} }},"
            for each in unlocked
        ]
        lines.append("]")
    return "\n".join(lines) + "\n"


def _package(each: Distribution) -> list[str]:
    """[] when too little is known of it for a lock."""
    origin = each.origin
    lines = ["", "[[packages]]", f"name = {_text(each.normal_name)}"]
    if _VERSION.fullmatch(each.version) and origin.kind not in ("editable", "local"):
        lines.append(f"version = {_text(each.version)}")
    if origin.kind == "vcs" and origin.vcs and origin.commit:
        lines += ["[packages.vcs]", f"type = {_text(origin.vcs)}", f"url = {_text(origin.url)}"]
        lines.append(f"commit-id = {_text(origin.commit)}")
    elif origin.kind in ("editable", "local") and _path(origin.url):
        lines += ["[packages.directory]", f"path = {_text(_path(origin.url))}"]
        lines.append(f"editable = {'true' if origin.kind == 'editable' else 'false'}")
    elif origin.kind == "url" and origin.hashes and origin.url:
        lines += ["[packages.archive]", f"url = {_text(origin.url)}"]
        pairs = ", ".join(f"{_text(name)} = {_text(value)}" for name, value in origin.hashes)
        lines.append(f"hashes = {{ {pairs} }}")
    else:
        return []
    if origin.subdirectory:
        lines.append(f"subdirectory = {_text(origin.subdirectory)}")
    return lines


def requirements(distributions: Iterable[Distribution]) -> str:
    """One line each, as pip and uv read them."""
    return "".join(_requirement(each) + "\n" for each in distributions)


def _requirement(each: Distribution) -> str:
    origin, name = each.origin, _one_line(each.name)
    url = _one_line(origin.url)
    below = f"#subdirectory={_one_line(origin.subdirectory)}" if origin.subdirectory else ""
    if origin.kind == "vcs" and origin.vcs and origin.commit:
        return f"{name} @ {_one_line(origin.vcs)}+{url}@{_one_line(origin.commit)}{below}"
    if origin.kind == "editable" and url:
        return f"-e {url}"
    if origin.kind in ("local", "url") and url:
        return f"{name} @ {url}{below}"
    version = _one_line(each.version)
    return f"{name}=={version}" if version else f"# {name}: no version is known"


def _path(url: str) -> str:
    path = url.removeprefix("file://") if url.startswith("file://") else ""
    if "%" in path:
        from urllib.parse import unquote

        return unquote(path)
    return path


def _one_line(text: str) -> str:
    return "".join(text.split())


def _text(value: str) -> str:
    # A basic string of TOML escapes as JSON does, when nothing is left that isn't ASCII but for DEL. What is no Unicode
    # (a name with surrogates) TOML can't hold.
    clean = value.encode("utf-8", "backslashreplace").decode()
    text = json.dumps(clean, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
