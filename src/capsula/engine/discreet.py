"""A draft that leaves credentials out of what we write, and names those in what must be kept exactly as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from capsula.core.hiding import hide, hide_all, is_secret_file
from capsula.core.tokens import is_text, places

if TYPE_CHECKING:
    from capsula.core.tokens import Place
    from capsula.ports import Draft

# More of a file isn't looked at: about a third of a second's worth; and less of what isn't text.
LIMIT, BINARY_LIMIT = 8 << 20, 1 << 20
# More rows say nothing new about a file.
MOST = 50
_PATCHES = (".diff", ".patch")


class Discreet:
    """Wraps a draft. `values` must not get into the record, `kept` may; `root` is what sources are named from.

    `secrets` has a row for each place in a kept file that looks like a credential: `file` and `line` within the capsule
    (None for a file that isn't text), `kind`, and `source`, where it came from.
    """

    def __init__(self, inner: Draft, root: str, values: frozenset[str], kept: frozenset[str]) -> None:
        self._inner = inner
        self._root = root
        self.values = values
        self._kept = kept
        self.path, self.id = inner.path, inner.id
        self.secrets: list[dict[str, object]] = []
        self.notes: list[str] = []

    def write(self, name: str, content: bytes) -> None:
        """A patch as it is, as it has to apply; what else is written is ours, and texts are hidden as all others."""
        if not name.endswith(_PATCHES):
            self._inner.write(name, self._hidden(content))
            return
        self._inner.write(name, content)
        if len(content) > LIMIT:
            self._cut(name)
        text = content[:LIMIT].decode("latin-1")
        rows = list(_in_patch(text, self._places(text)))
        files = {str(row.get("source", "")).rpartition(":")[0] for row in rows}
        self._add(name, iter([*rows, *(row for row in _named_in_patch(text) if row["source"] not in files)]))

    def write_json(self, name: str, value: object) -> None:
        self._inner.write_json(name, hide_all(value, self.values, self._kept))

    def take(self, source: str, name: str, *, move: bool) -> None:
        self._inner.take(source, name, move=move)
        shown = os.path.relpath(source, self._root)
        top = os.path.join(self.path, name)
        for path in _files(top):
            within = os.path.relpath(path, top)
            more = "" if within == "." else f"/{within}"
            self._look(path, name + more, shown + more)

    def free_name(self, wanted: str) -> str:
        return self._inner.free_name(wanted)

    def seal(self, status: str, summary: dict[str, object]) -> None:
        self._inner.seal(status, self._told(summary))

    def leave(self, status: str, summary: dict[str, object]) -> None:
        self._inner.leave(status, self._told(summary))

    def _told(self, summary: dict[str, object]) -> dict[str, object]:
        hidden = hide_all(summary, self.values, self._kept)
        assert isinstance(hidden, dict)
        notes = hidden.get("notes")
        return {
            **hidden,
            "notes": [*(notes if isinstance(notes, list) else []), *self.notes],
            "secrets": self.secrets,
        }

    def _hidden(self, content: bytes) -> bytes:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return content
        shown, found = hide(text, self.values, self._kept)
        return shown.encode() if found else content

    def _look(self, path: str, name: str, source: str) -> None:
        try:
            with open(path, "rb") as file:
                text = file.read(BINARY_LIMIT).decode("latin-1")
                if is_text(text):
                    text += file.read(LIMIT - BINARY_LIMIT).decode("latin-1")
                    if file.read(1):
                        self._cut(name)
        except OSError:
            return  # what can't be read can't be sealed either, and that is said there
        rows = list(self._rows(text, source))
        if not rows and is_secret_file(source):
            rows = [{"line": None, "kind": "file of credentials by its name", "source": source}]
        self._add(name, iter(rows))

    def _rows(self, text: str, source: str) -> Iterator[dict[str, object]]:
        has_lines = is_text(text)
        line, last = 1, 0
        for at, _, kind in self._places(text):
            line, last = line + text.count("\n", last, at), at
            row: dict[str, object] = {"line": line if has_lines else None, "kind": kind}
            if source:
                row["source"] = f"{source}:{line}" if has_lines else source
            yield row

    def _places(self, text: str) -> list[Place]:
        """In a text of one byte a character, whatever it is encoded in."""
        as_bytes = [value.encode("utf-8", "surrogateescape").decode("latin-1") for value in self.values]
        return places(text, as_bytes)

    def _add(self, name: str, rows: Iterator[dict[str, object]]) -> None:
        for count, row in enumerate(rows):
            if count == MOST:
                self.notes.append(f"{name}: more than {MOST} places that look like credentials")
                return
            self.secrets.append({"file": name, **row})

    def _cut(self, name: str) -> None:
        self.notes.append(f"{name}: only the first {LIMIT >> 20} MiB were looked through for credentials")


def told(secrets: list[dict[str, object]]) -> str:
    """One line about them."""
    first = secrets[0]
    where = first.get("source") or f"{first['file']}:{first['line']}"
    more = f" and {len(secrets) - 1} more" if len(secrets) > 1 else ""
    return f"kept as it is, and looks like a credential: {where} ({first['kind']}){more}"


def _files(top: str) -> Iterator[str]:
    if not os.path.isdir(top) or os.path.islink(top):
        if os.path.isfile(top) and not os.path.islink(top):
            yield top
        return
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def _in_patch(text: str, found: list[Place]) -> Iterator[dict[str, object]]:
    """Each with the file that the patch changes and the line there: the new one, or the old one of a line that goes."""
    rows = iter(found)
    place = next(rows, None)
    old = new = at = 0
    file = ""
    in_hunk = False
    for number, line in enumerate(text.split("\n"), 1):
        end = at + len(line) + 1
        if line.startswith("diff --git "):
            file, in_hunk = "", False
        elif line.startswith(("--- a/", "+++ b/")) and not in_hunk:
            file = line[6:].strip("\t")
        elif line.startswith("@@ -"):
            old, new, in_hunk = *_starts(line), True
        while place is not None and place[0] < end:
            row: dict[str, object] = {"line": number, "kind": place[2]}
            if in_hunk and file and line[:1] in "+- ":
                row["source"] = f"{file}:{old if line[:1] == '-' else new}"
            yield row
            place = next(rows, None)
        if place is None:
            return
        if in_hunk and not line.startswith("@@ -"):
            old += line[:1] in ("-", " ")
            new += line[:1] in ("+", " ")
        at = end


def _named_in_patch(text: str) -> Iterator[dict[str, object]]:
    """The changed files that hold credentials by their names, each with the line where its part begins."""
    head = "diff --git "
    at = 0 if text.startswith(head) else text.find(f"\n{head}") + 1
    while text.startswith(head, at):
        line = text[at : at + 10_000].partition("\n")[0]
        name = line.rpartition(" b/")[2].strip('"')
        if is_secret_file(name):
            number = text.count("\n", 0, at) + 1
            yield {"line": number, "kind": "file of credentials by its name", "source": name}
        following = text.find(f"\n{head}", at)
        if following < 0:
            return
        at = following + 1


def _starts(line: str) -> tuple[int, int]:
    """Of `@@ -1,2 +3,4 @@`."""
    words = line.split(" ")
    try:
        return int(words[1][1:].partition(",")[0]), int(words[2][1:].partition(",")[0])
    except (IndexError, ValueError):
        return 0, 0
