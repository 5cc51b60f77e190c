"""The wire form: protobuf bytes of the few messages that we keep, written and read from tables of field numbers.

A message class lists its fields in `FIELDS`: rows of (number, attribute, kind) and, for a message in a message, its
class. There is no schema language and no generated code, because importing a protobuf runtime costs more than the rest
of a hit. What is written is canonical, as the Remote Execution API asks of everything that is digested: ascending
numbers, defaults left out, shortest integers, nothing unknown. What is read may be any protobuf writer's, also a newer
one's: unknown fields are skipped, fields come in any order, of a repeated scalar the last counts, two parts of one
message are merged. docs/format.md says it in full; the encoding is https://protobuf.dev/programming-guides/encoding/.
"""

from capsula.core.digest import Digest
from capsula.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    M = TypeVar("M", bound="Message | Digest")
    # A message in bytes that may hold more: where it begins, and where it ends.
    Part = tuple[bytes, int, int]
    Row = tuple[int, str, int] | tuple[int, str, int, type["Message"] | type[Digest]]

# The kinds of fields. Integers, because the inner loops compare them.
BOOL, INT32, INT64, UINT32 = 0, 1, 2, 3  # varints; an enum is an INT32
STRING, BYTES, MESSAGE = 4, 5, 6  # one value, with its length before it
UINT32_VALUE = 7  # the same, of google.protobuf.UInt32Value: a number that may be unset, which is None
STRINGS, MESSAGES = 8, 9  # repeated: tuples
ENUMS = 10  # repeated, of numbers below 128: bytes, one a number; written packed, read either way

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # the wire types that are left in protobuf 3
_LIMITS = {INT32: (-1 << 31, 1 << 31), INT64: (-1 << 63, 1 << 63), UINT32: (0, 1 << 32)}
_SHORT = tuple([bytes((number,)) for number in range(128)])


class Message:
    """A value with a table; what a message inherits is equality and repr by that table."""

    __slots__ = ()
    FIELDS: "tuple[Row, ...]" = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all([getattr(self, row[1]) == getattr(other, row[1]) for row in self.FIELDS])

    def __hash__(self) -> int:
        return hash(tuple([getattr(self, row[1]) for row in self.FIELDS]))

    def __repr__(self) -> str:
        """Like the call that makes it, without what is left at its default."""
        told = []
        for row in self.FIELDS:
            value = getattr(self, row[1])
            if value or (row[2] == UINT32_VALUE and value is not None):
                told.append(f"{row[1]}={value!r}")
        return f"{type(self).__name__}({', '.join(told)})"


def attributes(fields: "tuple[Row, ...]") -> tuple[str, ...]:
    """The names in a table: a message's `__slots__`."""
    return tuple([row[1] for row in fields])


def encode(message: "Message | Digest") -> bytes:
    """The canonical bytes. WireError if a string holds a lone surrogate or a number doesn't fit its field."""
    try:
        return _write(_plan(type(message)), message)
    except UnicodeEncodeError as error:
        raise _not_unicode(error) from error


def decode(cls: "type[M]", data: bytes) -> "M":
    """The message in these bytes; WireError if they are no such message. The bytes needn't be canonical."""
    try:
        message = _read(_plan(cls), ((data, 0, len(data)),))
    except IndexError as error:
        raise _cut_off(cls, data) from error
    except UnicodeDecodeError as error:
        raise _none(cls, data, "a text in them is not UTF-8") from error
    except WireError as error:
        raise _none(cls, data, error.what) from error
    assert isinstance(message, cls)  # always; said for the type checker
    return message


def contents(cls: "type[Message]", data: bytes) -> dict[int, list[bytes]]:
    """What a message's fields hold as it stands in these bytes, by their numbers: those of messages, texts and bytes.
    WireError as of `decode`, but what is in the fields isn't looked at."""
    plan = _plan(cls)
    found: dict[int, list[bytes]] = {}
    position, end = 0, len(data)
    try:
        while position < end:
            tag, position = _read_tag(data, position)
            if tag not in plan.readers or tag & 7 != _DELIMITED:
                position = _skip(plan, tag, data, position, {})
                continue
            size, position = read_varint(data, position)
            content = data[position : position + size]
            position += size
            if position > end:
                raise IndexError
            found.setdefault(tag >> 3, []).append(content)
    except IndexError as error:
        raise _cut_off(cls, data) from error
    except WireError as error:
        raise _none(cls, data, error.what) from error
    return found


def varint(number: int) -> bytes:
    """A number from 0 to 2**64 - 1 in groups of seven bits, lowest first, the top bit set on all but the last byte."""
    if number < 128:
        return _SHORT[number]
    if number < 16384:
        return bytes((number & 127 | 128, number >> 7))
    if number < 2097152:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    out = []
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """One length-delimited field: the way to put together a message from parts that are encoded already."""
    return varint(number << 3 | _DELIMITED) + varint(len(content)) + content


def file_node(name: str, digest: Digest, is_executable: bool, unix_mode: "int | None" = None) -> bytes:
    """A FileNode as it stands in the `files` of a Directory, tag and length included.

    This and the next two write what encode() would, several times faster: a tree has one call for each input file.
    """
    node = _name_and_digest(name, digest)
    if is_executable:
        node += b"\x20\x01"
    if unix_mode is not None:
        node += field(6, field(3, _uint32_value(unix_mode, "unix_mode")))
    size = len(node)
    return b"\n" + (_SHORT[size] if size < 128 else varint(size)) + node


def file_nodes(rows: "list[tuple[str, str, int, bool]]") -> bytes:
    """The whole `files` of a Directory from (name, hash, size, executable), in the order given: `file_node` for each,
    without a call and an object for every file in the usual case.
    """
    nodes = []
    for name, digits, size, executable in rows:
        # All that doesn't fit in here (long or odd names, empty files, huge ones) goes the long way.
        if (
            executable
            or not name.isascii()
            or not 0 < len(name) < 48
            or not 0 < size < 1 << 42
            or len(digits) != 64
        ):
            nodes.append(file_node(name, Digest(digits, size), executable))
            continue
        text, number = name.encode(), varint(size)
        rest, inner = len(text) + len(number), 67 + len(number)
        nodes.append(
            b"\n%c\n%c%b\x12%c\n@%b\x10%b" % (rest + 71, len(text), text, inner, digits.encode(), number)
        )
    return b"".join(nodes)


def directory_node(name: str, digest: Digest) -> bytes:
    """A DirectoryNode as it stands in the `directories` of a Directory, tag and length included."""
    return field(2, _name_and_digest(name, digest))


def symlink_node(name: str, target: str) -> bytes:
    """A SymlinkNode as it stands in the `symlinks` of a Directory, tag and length included."""
    try:
        text, content = name.encode(), target.encode()
    except UnicodeEncodeError as error:
        raise _not_unicode(error) from error
    return field(3, (field(1, text) if text else b"") + (field(2, content) if content else b""))


class _Plan:
    """A table made ready for the two inner loops, at the first use of its class."""

    __slots__ = ("loose", "make", "numbers", "readers", "writers")

    def __init__(self, make: "Callable[..., object]", rows: "tuple[Row, ...]") -> None:
        self.make = make
        self.numbers = frozenset([row[0] for row in rows])
        self.writers: list[tuple[bytes, str, int, _Plan]] = []
        self.readers: dict[int, tuple[str, int, _Plan]] = {}
        self.loose = {row[0] << 3: row[1] for row in rows if row[2] == ENUMS}
        for row in rows:
            number, attribute, kind = row[:3]
            inner = _plan(row[3]) if len(row) == 4 else _WRAPPED if kind == UINT32_VALUE else self
            tag = number << 3 | (_VARINT if kind <= UINT32 else _DELIMITED)
            self.writers.append((varint(tag), attribute, kind, inner))
            self.readers[tag] = (attribute, kind, inner)


def _unwrap(value: int = 0) -> int:
    return value


_WRAPPED = _Plan(_unwrap, ((1, "value", UINT32),))
_PLANS: "dict[type, _Plan]" = {Digest: _Plan(Digest, ((1, "hash", STRING), (2, "size_bytes", INT64)))}


def _plan(cls: type) -> _Plan:
    plan = _PLANS.get(cls)
    if plan is None:
        assert issubclass(cls, Message)  # Digest has its plan from the start
        plan = _PLANS[cls] = _Plan(cls, cls.FIELDS)
    return plan


def _write(plan: _Plan, message: object) -> bytes:
    out: list[bytes] = []
    for tag, attribute, kind, inner in plan.writers:
        value = getattr(message, attribute)
        if not value and (kind != UINT32_VALUE or value is None):
            continue
        if kind == STRING:
            content = value.encode()
        elif kind == MESSAGE:
            content = _write(inner, value)
        elif kind <= UINT32:
            out += (tag, varint(_unsigned(value, kind, attribute)))
            continue
        elif STRINGS <= kind <= MESSAGES:
            for item in value:
                content = item.encode() if kind == STRINGS else _write(inner, item)
                out += (tag, varint(len(content)), content)
            continue
        elif kind in (BYTES, ENUMS):
            content = value
        else:
            content = _uint32_value(value, attribute)
        size = len(content)
        out += (tag, _SHORT[size] if size < 128 else varint(size), content)
    return b"".join(out)


def _cut_off(cls: type, data: bytes) -> WireError:
    return _none(cls, data, "they end within a field")


def _none(cls: type, data: bytes, why: str) -> WireError:
    return WireError(f"{len(data)} bytes are no {cls.__name__}: {why}")


def _not_unicode(error: UnicodeEncodeError) -> WireError:
    return WireError(f"{error.object!a} is not valid Unicode, so no message can hold it")


def _unsigned(value: int, kind: int, attribute: str) -> int:
    """The number that stands for `value` in a varint: negative ones in two's complement of 64 bits."""
    if kind == BOOL:
        return 1
    low, high = _LIMITS[kind]
    if not low <= value < high:
        raise WireError(f"{value} is out of range for {attribute}")
    return value if value >= 0 else value + (1 << 64)


def _name_and_digest(name: str, digest: Digest) -> bytes:
    """Fields 1 and 2 of a FileNode and of a DirectoryNode."""
    try:
        text, digits = name.encode(), digest.hash.encode()
    except UnicodeEncodeError as error:
        raise _not_unicode(error) from error
    number = _unsigned(digest.size_bytes, INT64, "size_bytes") if digest.size_bytes else 0
    if number and len(digits) == 64 and 0 < len(text) < 128:  # all but always
        size = varint(number)
        inner = _SHORT[67 + len(size)]
        return b"".join((b"\n", _SHORT[len(text)], text, b"\x12", inner, b"\n@", digits, b"\x10", size))
    content = (field(1, digits) if digits else b"") + (b"\x10" + varint(number) if number else b"")
    return (field(1, text) if text else b"") + field(2, content)


def _uint32_value(number: int, attribute: str) -> bytes:
    return b"\x08" + varint(_unsigned(number, UINT32, attribute)) if number else b""


def _read(plan: _Plan, parts: "Sequence[Part]") -> object:
    """The message that comes in these parts: all but always one. What is in it isn't taken out of the whole until it is
    a value: a batch of blobs is a message with many large ones.

    A message field may occur several times, and what it holds is then one message. So its parts are kept until the end
    and read in one go; merging them one by one would let a hostile message of many small parts take quadratic time.
    """
    values: dict[str, object] = {}
    lists: dict[str, list[object]] = {}
    inners: dict[int, list[Part]] = {}
    readers = plan.readers
    for data, position, end in parts:
        while position < end:
            # Beyond the end it is an IndexError, here and below; decode() puts it into words.
            tag = data[position]
            position += 1
            if tag > 127:
                tag, position = _read_tag(data, position - 1)
            if tag not in readers:
                position = _skip(plan, tag, data, position, lists)
                continue
            attribute, kind, inner = readers[tag]
            number = data[position]
            position += 1
            if number > 127:
                number, position = read_varint(data, position - 1)
            if kind <= UINT32:
                values[attribute] = number if kind and number < 128 else _signed(number, kind, attribute)
                continue
            start = position
            position += number
            if position > end:
                raise IndexError
            if kind <= BYTES:
                content = data[start:position]
                values[attribute] = content.decode() if kind == STRING else content
            elif kind >= STRINGS:
                item = (
                    data[start:position].decode() if kind == STRINGS
                    else data[start:position] if kind == ENUMS
                    else _read(inner, ((data, start, position),))
                )  # fmt: skip
                if attribute in lists:
                    lists[attribute].append(item)
                else:
                    lists[attribute] = [item]
            else:
                inners.setdefault(tag, []).append((data, start, position))
        if position > end:
            raise IndexError
    for attribute, items in lists.items():
        # Of ENUMS, each part is bytes.
        values[attribute] = b"".join(items) if type(items[0]) is bytes else tuple(items)  # type: ignore[arg-type]
    for tag, found in inners.items():
        attribute, kind, inner = readers[tag]
        values[attribute] = _read(inner, found)
    return plan.make(**values)


def _signed(number: int, kind: int, attribute: str) -> int:
    if kind == BOOL:
        return number != 0
    if number >> 63:
        number -= 1 << 64
    low, high = _LIMITS[kind]
    if not low <= number < high:
        raise WireError(f"{number} is out of range for {attribute}")
    return number


def _read_tag(data: bytes, position: int) -> tuple[int, int]:
    """The tag of more than one byte that starts at `position`, and the position after it."""
    tag, after = read_varint(data, position)
    if tag >> 32 or after - position > 5:
        raise WireError("a tag in them has more than 32 bits")
    return tag, after


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number that starts at `position`, and the position after it."""
    number = shift = 0
    while shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if number >> 64:
                break
            return number, position
        shift += 7
    raise WireError("a number in them has more than 64 bits")


def _skip(plan: _Plan, tag: int, data: bytes, position: int, lists: "dict[str, list[object]]") -> int:
    """The position after the field of that tag, which isn't in the table; but for a number of ENUMS on its own."""
    number, wire_type = tag >> 3, tag & 7
    if tag in plan.loose:
        value, position = read_varint(data, position)
        lists.setdefault(plan.loose[tag], []).append(bytes((value & 127,)))
        return position
    if number == 0:
        raise WireError("no field has the number 0")
    if number in plan.numbers:
        raise WireError(f"field {number} has the wire type {wire_type}")
    if wire_type == _VARINT:
        return read_varint(data, position)[1]
    if wire_type == _DELIMITED:
        size, position = read_varint(data, position)
        position += size
    elif wire_type == _FIXED64:
        position += 8
    elif wire_type == _FIXED32:
        position += 4
    else:  # groups are of protobuf 2 and no message of ours ever had one; 6 and 7 never were
        raise WireError(f"field {number} has the wire type {wire_type}")
    if position > len(data):
        raise IndexError
    return position
