"""A TOML file with options: its keys with their lines, or where and why it is refused."""

from capsula.config.options import (
    BY_NAME,
    BY_WORD,
    DURATION,
    FILES,
    LIST,
    NUMBER,
    PATH,
    SIZE,
    SWITCH,
    TEXT,
    Option,
    canonical,
    may_change_hash,
)
from capsula.config.values import nearest, printable
from capsula.errors import ConfigError, UsageError

EXPECTED = {
    SWITCH: "true or false",
    TEXT: "a string",
    PATH: "a string",
    LIST: "an array of strings",
    NUMBER: "a number",
    DURATION: 'a string like "15m", or a number of seconds',
    SIZE: 'a string like "10GiB", or a number of bytes',
}
FOUND = {
    bool: "a boolean",
    str: "a string",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
}


class Document:
    """A file that parsed: `shown` is its path as messages name it, `lines` the line of each key by its place in it."""

    __slots__ = ("lines", "shown", "table")

    def __init__(self, shown: str, table: dict[str, object], lines: dict[tuple[str, ...], int]) -> None:
        self.shown = shown
        self.table = table
        self.lines = lines

    def at(self, *path: str) -> str:
        """`file:line` of a key or a section."""
        # What stands in an inline table has no line of its own: the table's is next to it.
        line = self.lines.get(path) or self.lines.get(path[:1]) or 1
        return f"{self.shown}:{line}"


def read_file(path: str, shown: str) -> Document:
    """Raises ConfigError when it can't be read or isn't TOML."""
    shown = printable(shown)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"can't read {shown}: {reason}") from error
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode()  # some editors' byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown}:{line}: not UTF-8, which TOML has to be") from error
    import tomllib

    try:
        table: dict[str, object] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{shown}{_line_of(str(error))}: not valid TOML: {error}") from error
    return Document(shown, table, _lines(text))


def sections(document: Document) -> list[str]:
    return [name for name, value in document.table.items() if isinstance(value, dict)]


def read_keys(
    document: Document, section: "str | None" = None, *, lenient: bool = False
) -> list[tuple[Option, object, str]]:
    """The options that a section sets, or the top of the file: (option, value, `file:line`).

    Raises ConfigError for a key that is none, one that doesn't belong into a file, and a value of the wrong type.
    `lenient`: what is wrong and can't change the inputs hash is left out.
    """
    table = document.table if section is None else document.table[section]
    assert isinstance(table, dict)
    given: list[tuple[Option, object, str]] = []
    spelled: dict[str, str] = {}
    for key, value in table.items():
        if section is None and isinstance(value, dict):
            continue
        where = document.at(key) if section is None else document.at(section, key)
        prefix = f"{where}: {printable(key)}: "
        option = BY_NAME.get(canonical(key))
        try:
            if option is None:
                raise _no_key(prefix, key, value, section)
            if FILES not in option.places:
                raise ConfigError(
                    prefix + "can't be set in a file", hint=f"say --{option.name} where it is meant"
                )
            if spelled.setdefault(option.name, key) != key:
                raise ConfigError(f"{prefix}the same option is set above, as {spelled[option.name]}")
            given.append((option, _value(option, value, prefix), where))
        except ConfigError:
            if not lenient or may_change_hash(option, "--" + key):
                raise
    return given


def _no_key(prefix: str, key: str, value: object, section: "str | None") -> ConfigError:
    name = canonical(key)
    hint = "capsule --help lists the options"
    if name in BY_WORD:  # only a no_ form is there and isn't a name
        hint = f"{BY_WORD[name][0].name} = false"
    elif section is not None and isinstance(value, dict):
        hint = f'for a capsule of that name: ["{section}.{key}"], in quotes'
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        hint = f"a section has single brackets: [{key}]"
    elif meant := nearest(name, BY_NAME):
        hint = f"did you mean {meant}?"
    return ConfigError(prefix + "there is no such option", hint=hint)


def _value(option: Option, value: object, prefix: str) -> object:
    """The option's value; of a list, a tuple. What a secret holds isn't shown."""
    kind = option.kind
    if kind == SWITCH and isinstance(value, bool):
        return value
    if kind == LIST:
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return tuple(_read(option, item, prefix) for item in items)
    elif isinstance(value, str):
        if kind in (TEXT, PATH, DURATION, SIZE):
            return _read(option, value, prefix)
    elif isinstance(value, int | float) and not isinstance(value, bool) and kind in (NUMBER, DURATION, SIZE):
        return _read(option, str(value), prefix)
    found = FOUND.get(type(value), "a date or a time")
    if kind == LIST and isinstance(value, list):
        found = "other things in it"
    raise ConfigError(f"{prefix}expected {EXPECTED[kind]}, found {found}")


def _read(option: Option, text: str, prefix: str) -> object:
    try:
        return option.read(text)
    except UsageError as refused:
        raise ConfigError(prefix + refused.what, hint=refused.hint) from None


def _line_of(message: str) -> str:
    """`:3` when the parser says where, as in `... (at line 3, column 5)`."""
    _, found, position = message.rpartition("(at line ")
    number = position.partition(",")[0]
    return f":{number}" if found and number.isdigit() else ""


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of each section and key. The text is known to be valid, so a token is enough to know what it is.

    The parser doesn't tell where a key stood. Looking for `key =` at the start of a line would find it in a comment, in
    a text of several lines or in another section; hence a walk over the tokens.
    """
    import re  # the parser has imported it already

    token = re.compile(
        r'"""(?:\\.|[^\\])*?"{3,5}'
        r"|'''.*?'{3,5}"  # texts of several lines, which may end in quotes of their own
        r'|"(?:\\.|[^"\\])*"'
        r"|'[^']*'"  # texts of one line
        r"|#[^\n]*|[A-Za-z0-9_-]+|[][{}=\n]",
        re.DOTALL,
    )
    lines: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    parts: list[str] = []
    line, depth, in_value = 1, 0, False
    for match in token.finditer(text):
        piece = match.group()
        if piece == "\n":
            if depth == 0 or not in_value:
                parts, depth, in_value = [], 0, False
        elif in_value:
            depth += (piece in ("[", "{")) - (piece in ("]", "}"))
        elif piece == "[":  # a header: [name], or [[name]]
            depth += 1
        elif piece in ("]", "="):
            path = (*section, *parts) if piece == "=" else tuple(parts)
            for length in range(1, len(path) + 1):
                lines.setdefault(path[:length], line)
            if piece == "]":
                section, depth = path, depth - 1
            in_value = True
        elif not piece.startswith("#"):
            parts.append(_key(piece))
        line += piece.count("\n")
    return lines


def _key(piece: str) -> str:
    """A key as it is meant: bare, or in quotes."""
    if piece[0] not in "\"'":
        return piece
    if "\\" not in piece or piece[0] == "'":
        return piece[1:-1]
    import tomllib

    return str(tomllib.loads(f"key = {piece}")["key"])
