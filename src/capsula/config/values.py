"""What an option's text may be: each function answers the value that it stands for, or refuses it with a reason."""

from capsula.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
# As in coreutils: K is 1024, KB is 1000.
BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    BYTES[_letter] = BYTES[_letter + "ib"] = 1024**_power
    BYTES[_letter + "b"] = 1000**_power

BACKEND_NAMES = ("disk", "dummy", "s3")
BACKEND_SCHEMES = ("http", "https", "grpc", "grpcs", "s3", "gs", "az")


def anything(text: str) -> str:
    # No path, argument or variable of the system can hold NUL; only a TOML string can bring one in.
    if "\0" in text:
        raise UsageError("the value holds a NUL character")
    return text


def filled(text: str) -> str:
    if not text:
        raise UsageError("the value is empty", hint="leave the option out, or give it a value")
    return anything(text)


def exit_code(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= 255 and len(text) < 4:
        return int(text)
    raise UsageError(f"expected a whole number from 1 to 255, not {quoted(text)}")


def share(text: str) -> float:
    number = _number(text)
    if number is None or not 0 <= number <= 1:
        raise UsageError(f"expected a number from 0 to 1, not {quoted(text)}")
    return float(number)


def duration(text: str) -> float:
    """Seconds."""
    seconds = _measure(text, SECONDS)
    if seconds is None:
        raise UsageError(f"expected a duration like 90s, 15m, 2h, 7d or just seconds, not {quoted(text)}")
    return float(seconds)


def size(text: str) -> int:
    """Bytes."""
    count = _measure(text, BYTES)
    if count is None:
        raise UsageError(f"expected a size like 10GiB, 500MB or a number of bytes, not {quoted(text)}")
    return int(count)


def environment_name(text: str) -> str:
    if "=" in filled(text):
        raise UsageError(
            f"{quoted(text.partition('=')[0])} is followed by a value, and only the name is wanted",
            hint="the value is taken from the environment",
        )
    return text


def key_value(text: str) -> str:
    key, equals, _ = anything(text).partition("=")
    if not key or not equals:
        raise UsageError(f"expected key=value, not {quoted(text)}")
    return text


def report_target(text: str) -> str:
    """A path, or `fd:N`; kept as it is."""
    if filled(text).startswith("fd:"):
        number = text[3:]
        if not (number.isascii() and number.isdigit() and len(number) < 8):
            raise UsageError(
                f"expected fd: and the number of a descriptor, not {quoted(text)}",
                hint=f"for a file of that name: ./{printable(text)}",
            )
        if int(number) < 3:
            raise UsageError(
                f"descriptor {int(number)} is the command's own",
                hint="open another for the report, as in --json fd:3 3>report.json",
            )
    return text


def endpoint(text: str) -> str:
    scheme, _, rest = anything(text).partition("://")
    if scheme.lower() not in ("http", "https") or not _has_host(rest):
        raise UsageError(f"expected an http:// or https:// URL, not {quoted(text)}")
    return text


def backend(text: str) -> str:
    """Whether it is built is asked elsewhere: here a name or an address only has to be one that exists."""
    if text in BACKEND_NAMES:
        return text
    scheme, separator, rest = anything(text).partition("://")
    if separator and scheme in BACKEND_SCHEMES and _has_host(rest):
        return text
    if separator and scheme in BACKEND_SCHEMES:
        raise UsageError(
            f"{quoted(text)} is no good address", hint=f"as in {scheme}://host:port/path, without spaces"
        )
    near = nearest(scheme, BACKEND_SCHEMES) if separator else nearest(text, BACKEND_NAMES)
    if near and near != scheme:
        hint = f"did you mean {near}{separator}?"
    else:
        addresses = ", ".join(name + "://" for name in BACKEND_SCHEMES)
        hint = f"known: {', '.join(BACKEND_NAMES)}, or an address that starts with {addresses}"
    raise UsageError(f"no backend is called {quoted(text)}", hint=hint)


def remote(text: str) -> str:
    if text in BACKEND_NAMES or "://" not in text:
        raise UsageError(
            f"expected the address of a store, not {quoted(text)}",
            hint=f"it starts with {', '.join(name + '://' for name in BACKEND_SCHEMES)}",
        )
    return backend(text)


def remote_mode(text: str) -> str:
    return _one_of(text, ("rw", "r", "w", "off"))


def upload(text: str) -> str:
    return _one_of(text, ("now", "background"))


def header(text: str) -> str:
    name, colon, value = text.partition(":")
    word = name.strip(" ")
    is_token = word.isascii() and word.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not colon or not is_token or not (value.isascii() and value.strip("\t").isprintable()):
        raise UsageError("expected NAME: VALUE", hint="for example 'Authorization: Bearer …'")
    return text


def _one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise UsageError(f"expected {', '.join(known[:-1])} or {known[-1]}, not {quoted(text)}")
    return text


def nearest(word: str, known: "Iterable[str]") -> str:
    """The known name that was probably meant, "" if there is none."""
    names = {name.lower(): name for name in known}
    meant = word.lower()
    longer = [name for name in names if meant and name.startswith(meant)]
    if len(longer) == 1:
        return names[longer[0]]
    import difflib  # only for a message

    close = difflib.get_close_matches(meant, names, 1)
    return names[close[0]] if close else ""


def printable(text: str) -> str:
    """The text as it is where a terminal can show it, else escaped."""
    return text if text.isprintable() else repr(text)


def quoted(text: str) -> str:
    """A value as a message may show it: escaped, not too long, an address without its password or token."""
    scheme, separator, rest = text.partition("://")
    if separator:
        host, slash, path = rest.partition("/")
        _, at, host = host.rpartition("@")
        text = scheme + separator + ("***@" if at else "") + host + slash + path
        address, question, _ = text.partition("?")
        text = address + ("?***" if question else "")
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _has_host(rest: str) -> bool:
    place = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    host, colon, port = ("", "", "") if place.endswith("]") else place.rpartition(":")
    if colon and (len(port) > 5 or not (port.isascii() and port.isdigit()) or int(port) > 65535):
        return False
    name = host if colon else place
    is_closed = name.startswith("[") == name.endswith("]") and ("[" in name or ":" not in name)
    return bool(name) and is_closed and not any(character.isspace() for character in rest)


def _number(text: str) -> "int | float | None":
    # float() alone would also take "inf", "nan", "1_000" and digits of other scripts.
    if text.isascii() and text.isdigit() and len(text) < 30:
        return int(text)
    if not text or text.strip("0123456789.eE+-"):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e30 else None


def _measure(text: str, units: dict[str, int]) -> "int | float | None":
    """A number that isn't negative, and one of the units."""
    text = text.strip()
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = units.get(text[len(digits) :].lower())
    number = _number(digits.rstrip())
    if unit is None or number is None or number < 0:
        return None
    return number * unit
