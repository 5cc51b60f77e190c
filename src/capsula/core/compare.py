"""Comparing: how one action differs from another, fact by fact, and how one result differs from another."""

from capsula.core.digest import Digest
from capsula.core.facts import unpack
from capsula.core.names import from_text, printable
from capsula.core.node import DIRECTORY, FILE, LINK
from capsula.core.reapi import Action, Command, Directory
from capsula.core.secrets import is_secret, mask
from capsula.core.wire import decode
from capsula.errors import BlobMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.node import Node
    from capsula.core.reapi import DirectoryNode, FileNode, SymlinkNode

    Read = Callable[[Digest], bytes]

# Past this many, the reader is told that there are more.
ENOUGH = 50


class Difference:
    """One fact that differs. `kind`: file, outside, link, argv, variable, tag, tool, option, output, system, id, stdin,
    directory, cwd, version, argument, code, context, package, python, value; `name` says which one; `change` how, as
    the end of a sentence.
    """

    __slots__ = ("change", "kind", "name")

    def __init__(self, kind: str, name: str, change: str) -> None:
        self.kind = kind
        self.name = name
        self.change = change

    def __str__(self) -> str:
        lead = "" if self.kind in ("file", "directory", "outside", "link") else self.kind
        return " ".join([part for part in (lead, printable(self.name), self.change) if part])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Difference) and str(self) == str(other) and self.kind == other.kind

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"Difference({self})"


def actions(old: Digest, new: Digest, read: "Read") -> list[Difference]:
    """What changed from one action to the other; `read` gives blobs of both. At most a little over ENOUGH rows.

    Raises what `read` raises, and WireError when a blob isn't what it should be.
    """
    before, after = decode(Action, read(old)), decode(Action, read(new))
    found: list[Difference] = []
    if before.input_root_digest != after.input_root_digest:
        _trees("", before.input_root_digest, after.input_root_digest, read, found)
    if before.command_digest != after.command_digest and before.command_digest and after.command_digest:
        try:
            _commands(
                decode(Command, read(before.command_digest)),
                decode(Command, read(after.command_digest)),
                found,
            )
        except BlobMissing:
            found.append(Difference("argv", "", "or a variable changed (not kept, as it may hold a secret)"))
    if before.salt != after.salt:
        _salts(unpack(before.salt), unpack(after.salt), found)
    return found


def _trees(
    path: str, old: "Digest | None", new: "Digest | None", read: "Read", found: list[Difference]
) -> None:
    """Walk only where the digests differ."""
    before = decode(Directory, read(old)) if old is not None else Directory()
    after = decode(Directory, read(new)) if new is not None else Directory()
    lead = path + "/" if path else ""
    _files({f.name: f for f in before.files}, {f.name: f for f in after.files}, lead, found)
    _links({f.name: f for f in before.symlinks}, {f.name: f for f in after.symlinks}, lead, found)
    folders: dict[str, DirectoryNode] = {d.name: d for d in before.directories}
    others: dict[str, DirectoryNode] = {d.name: d for d in after.directories}
    for name in sorted({*folders, *others}):
        if len(found) >= ENOUGH:
            return
        left = folders[name].digest if name in folders else None
        right = others[name].digest if name in others else None
        if left == right:
            continue
        count = len(found)
        _trees(lead + from_text(name), left, right, read, found)
        if len(found) == count:
            word = "was added" if left is None else "was removed" if right is None else "differs"
            found.append(Difference("directory", lead + from_text(name) + "/", word))


def _files(
    before: "dict[str, FileNode]", after: "dict[str, FileNode]", lead: str, found: list[Difference]
) -> None:
    for name in sorted({*before, *after}):
        path = lead + from_text(name)
        if name not in before:
            found.append(Difference("file", path, "was added"))
        elif name not in after:
            found.append(Difference("file", path, "was removed"))
        elif before[name].digest != after[name].digest:
            found.append(Difference("file", path, "was edited"))
        elif before[name].is_executable != after[name].is_executable:
            word = "became executable" if after[name].is_executable else "is no longer executable"
            found.append(Difference("file", path, word))


def _links(
    before: "dict[str, SymlinkNode]", after: "dict[str, SymlinkNode]", lead: str, found: list[Difference]
) -> None:
    for name in sorted({*before, *after}):
        path = lead + from_text(name)
        if name not in before:
            found.append(Difference("link", path, "was added (a link)"))
        elif name not in after:
            found.append(Difference("link", path, "was removed (a link)"))
        elif before[name].target != after[name].target:
            target = printable(from_text(after[name].target))
            found.append(Difference("link", path, f"points to {target} now"))


def _commands(before: Command, after: Command, found: list[Difference]) -> None:
    old, new = before.arguments, after.arguments
    if len(old) != len(new):
        was, now = mask(" ".join(old)), mask(" ".join(new))
        found.append(Difference("argv", "", _was_and_is(was, now)))
    else:
        for at, (left, right) in enumerate(zip(old, new, strict=True)):
            if left != right:
                found.append(Difference("argv", f"[{at}]", _was_and_is(mask(left), mask(right))))
    if before.working_directory != after.working_directory:
        was, now = before.working_directory or ".", after.working_directory or "."
        found.append(Difference("option", "working directory", _was_and_is(was, now)))
    values = {v.name: v.value for v in before.environment_variables}
    others = {v.name: v.value for v in after.environment_variables}
    for name in sorted({*values, *others}):
        if name in values and name in others and values[name] != others[name]:
            shown = "changed" if is_secret(name) else _was_and_is(mask(values[name]), mask(others[name]))
            found.append(Difference("variable", from_text(name), shown))
        elif name not in values:
            found.append(Difference("variable", from_text(name), "is set now"))
        elif name not in others:
            found.append(Difference("variable", from_text(name), "is no longer set"))


def _salts(
    before: "tuple[tuple[str, ...], ...]", after: "tuple[tuple[str, ...], ...]", found: list[Difference]
) -> None:
    """Facts of kinds that name one thing (all but the last field) are paired, the others are added or removed."""
    old, new = _by_name(before), _by_name(after)
    for which in sorted({*old, *new}):
        left, right = old.get(which), new.get(which)
        kind, name = which[0], " ".join(which[1:])
        if kind == "unset":
            # One that was set, or is now, shows as that in the command.
            if left != right and not any(
                [known.kind == "variable" and known.name == name for known in found]
            ):
                word = "declared now" if left is None else "no longer declared"
                found.append(Difference("variable", name, f"is {word}"))
            continue
        if left == right:
            continue
        kind = {"capsula": "version", "outside": "outside", "link": "link"}.get(kind, kind)
        if kind == "output":
            word = "is declared now" if left is None else "is no longer declared"
            found.append(Difference(kind, f"pattern '{name}'", word))
        elif kind == "option" and name == "capture" and left is not None and right is not None:
            for stream, was, now in zip(("stdout", "stderr"), left, right, strict=False):
                if was != now:
                    found.append(
                        Difference(kind, stream, "is captured now" if now == "1" else "is no longer captured")
                    )
        elif left is None:
            found.append(Difference(kind, name, "is a file now" if kind == "stdin" else "was added"))
        elif right is None:
            found.append(Difference(kind, name, "is no file any more" if kind == "stdin" else "was removed"))
        elif kind in _CHANGED:
            found.append(Difference(kind, f"'{name}'" if kind == "tool" else name, _CHANGED[kind]))
        else:
            found.append(Difference(kind, name, _was_and_is(" ".join(left), " ".join(right))))


# How a fact that is named alike on both sides differs.
_CHANGED = {
    "outside": "was edited",
    "link": "leads to another content",
    "tool": "prints something else",
    "stdin": "is another file",
    "argument": "changed",
    "code": "was edited",
    "context": "changed",
    "shared": "are others",
    "value": "changed",
}
_NAMED = {
    "outside": 2,
    "link": 2,
    "tool": 2,
    "tag": 2,
    "output": 2,
    "unset": 2,
    "option": 2,
    "argument": 2,
    "code": 2,
    "context": 2,
    "package": 2,
    "shared": 2,
    "value": 2,
}


def _by_name(facts: "tuple[tuple[str, ...], ...]") -> "dict[tuple[str, ...], tuple[str, ...]]":
    rows = {}
    for fact in facts:
        named = _NAMED.get(fact[0], 1)
        rows[fact[:named]] = fact[named:]
    return rows


# A value longer than this is told by the part that differs.
_LONG = 60


def _was_and_is(old: str, new: str) -> str:
    """`was 'a', is 'b'`; of long values, what is between their common beginning and end."""
    left, right = printable(from_text(old)), printable(from_text(new))
    if left == right:
        return "changed (in a part that isn't shown)"
    if max(len(left), len(right)) > _LONG:
        left, right = _middles(left, right)
    return f"was '{_cut(left)}', is '{_cut(right)}'"


def _middles(left: str, right: str) -> tuple[str, str]:
    """Both without what they share at their ends, but for a few characters of it."""
    start, end, shorter = 0, 0, min(len(left), len(right))
    while start < shorter and left[start] == right[start]:
        start += 1
    while end < shorter - start and left[-1 - end] == right[-1 - end]:
        end += 1
    start, end = max(start - 10, 0), max(end - 10, 0)
    lead, rest = "…" if start else "", "…" if end else ""
    return f"{lead}{left[start : len(left) - end]}{rest}", f"{lead}{right[start : len(right) - end]}{rest}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def results(cached: "dict[str, Node]", made: "dict[str, Node]") -> list[Difference]:
    """How the outputs of a run differ from those of the cached result; contents by digest only."""
    found = []
    for path in sorted({*cached, *made}):
        old, new = cached.get(path), made.get(path)
        if old is None:
            found.append(Difference("file", path, "is new: the cached result doesn't have it"))
        elif new is None:
            found.append(Difference("file", path, "is missing: the cached result has it"))
        elif old.kind != new.kind:
            found.append(Difference("file", path, f"is a {new.kind}, a {old.kind} in the cached result"))
        elif old.kind == FILE and old.digest != new.digest:
            found.append(Difference("content", path, "differs"))
        elif old.kind == LINK and old.target != new.target:
            was, now = printable(old.target), printable(new.target)
            found.append(Difference("link", path, f"points to {now}, to {was} in the cached result"))
        elif old.kind in (FILE, DIRECTORY) and old.mode != new.mode:
            found.append(
                Difference("file", path, f"has mode {new.mode:o}, {old.mode:o} in the cached result")
            )
    return found


def first_difference(left: bytes, right: bytes) -> int:
    """The offset of the first byte that differs (the length of the shorter one when it is a prefix). They do differ."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low
