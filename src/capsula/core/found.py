"""What a probe found: a part of the context of a recorded run, ready to be written down."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    # What JSON can hold.
    Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]


class Found:
    """`sections` are JSON values by the name that they have at the top of context.json, `keys` the names of those among
    them that may change a result; all others are notes. `files` are contents by their name in the capsule. `left_out`
    says in sentences what isn't there and why, `masked` names what had a credential in it. A value: don't change it.
    """

    __slots__ = ("files", "keys", "left_out", "masked", "sections")

    def __init__(
        self,
        sections: "Mapping[str, Value]",
        *,
        keys: "tuple[str, ...]" = (),
        files: "Mapping[str, bytes] | None" = None,
        left_out: tuple[str, ...] = (),
        masked: tuple[str, ...] = (),
    ) -> None:
        self.sections = sections
        self.keys = keys
        self.files = files or {}
        self.left_out = left_out
        self.masked = masked
