"""What a probe found: a part of the context of a recorded run, ready to be written down."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    # What JSON can hold.
    Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]


class Surroundings:
    """What a probe from elsewhere is given to look at: the full path of the project's root, and the environment."""

    __slots__ = ("environ", "root")

    def __init__(self, root: str, environ: "Mapping[str, str]") -> None:
        self.root = root
        self.environ = environ


class Found:
    """`sections` are JSON values by the name that they have at the top of context.json. `keys` are JSON pointers (RFC
    6901) to the facts among them that may change a result: `/platform/machine`, or `/python/flags` for all that is
    below it. They are the same in two looks at an unchanged machine. Every other fact is a note.

    `files` are contents by their name in the capsule. `left_out` says in sentences what isn't there and why, `masked`
    names what had a credential in it, `failed` says in sentences what should be there and isn't. A value: don't change
    it.
    """

    __slots__ = ("failed", "files", "keys", "left_out", "masked", "sections")

    def __init__(
        self,
        sections: "Mapping[str, Value]",
        *,
        keys: "tuple[str, ...]" = (),
        files: "Mapping[str, bytes] | None" = None,
        left_out: tuple[str, ...] = (),
        masked: tuple[str, ...] = (),
        failed: tuple[str, ...] = (),
    ) -> None:
        self.sections = sections
        self.keys = keys
        self.files = files or {}
        self.left_out = left_out
        self.masked = masked
        self.failed = failed

    def key_facts(self) -> "dict[str, Value]":
        """The value of each key fact by its pointer. KeyError for a pointer to nothing."""
        return {key: at(dict(self.sections), key) for key in self.keys}


def pointer(*names: str) -> str:
    """The JSON pointer that leads through these names."""
    return "".join(["/" + name.replace("~", "~0").replace("/", "~1") for name in names])


def at(value: "Value", path: str) -> "Value":
    """What a pointer leads to. KeyError when that isn't there."""
    if not path.startswith("/"):
        raise KeyError(path)
    for step in path[1:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            raise KeyError(path)
    return value
