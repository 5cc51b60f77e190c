"""The journal: one JSON line for every invocation, written at its end; what `capsula history` and `cache
stats` read."""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# One file is at most this long; the one before it is kept, older ones go.
LIMIT = 8 << 20
FILES = ("journal.1.jsonl", "journal.jsonl")


def append(root: str, fields: "dict[str, str | int | float | bool]") -> None:
    """Add a line to `journal/journal.jsonl` of the store. Failing to is no failure: the journal is for looking back."""
    append_line(root, (line_of(fields) + "\n").encode())


def line_of(fields: "dict[str, str | int | float | bool]") -> str:
    return "{" + ", ".join([f"{quoted(name)}: {_value(value)}" for name, value in fields.items()]) + "}"


def append_line(root: str, line: bytes) -> None:
    path = f"{root}/journal/journal.jsonl"
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC
    try:
        try:
            fd = posix.open(path, flags, 0o600)
        except FileNotFoundError:
            for directory in (root, f"{root}/journal"):
                try:
                    posix.mkdir(directory, 0o700)
                except FileExistsError:
                    continue
            fd = posix.open(path, flags, 0o600)
        try:
            # A single write at the end of the file: lines of several processes don't mix.
            if posix.write(fd, line) < len(line):
                # The disk is full. What there is of this line shall not spoil the next one as well.
                posix.write(fd, b"\n")
            mine = posix.fstat(fd)
            # Another process may have put this file away meanwhile: then the one at `path` is new, and stays.
            if mine.st_size > LIMIT and posix.stat(path).st_ino == mine.st_ino:
                posix.rename(path, f"{root}/journal/journal.1.jsonl")
        finally:
            posix.close(fd)
    except OSError:
        return


def _value(value: "str | int | float | bool") -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """The text as a JSON string, in ASCII. By hand: the json module would cost more than the rest of the line, and a
    quotation mark in a command is nothing special.

    A name that isn't UTF-8 is written with the escapes of its surrogates, which JSON can hold and UTF-8 can't.
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([c if " " <= c <= "~" and c not in '"\\' else _escaped(c) for c in text]) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def read(root: str) -> "Iterator[dict[str, object]]":
    """Every line, oldest first; lines that aren't whole (a full disk, a kill) are passed over."""
    import json

    for name in FILES:
        try:
            with open(f"{root}/journal/{name}", encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError):
                        continue
                    if isinstance(row, dict):
                        yield row
        except OSError:
            continue
