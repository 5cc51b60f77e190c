"""The context: what was found. Key facts may change the result and enter the action; notes may not and don't."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.digest import Digest
    from capsula.core.facts import Fact


class Context:
    """All key facts of one run.

    `input_root` is the digest of the declared inputs below the base, `directories` its Directory blobs by hash.
    `outside` holds (name as given, content as in docs/format.md) of inputs outside the base, `linked` (path of the
    link, hash) of the content that declared links lead to; `environment` (name, value), value None when unset; `tools`
    (command, exit code, hash of output); `system` (operating system, architecture); `stdin` the hash of a regular file
    on standard input, or ""; `recorded` what a recorded run adds: rows of (kind, name, hash or version).
    """

    __slots__ = (
        "directories",
        "environment",
        "input_root",
        "linked",
        "outside",
        "recorded",
        "stdin",
        "system",
        "tools",
    )

    def __init__(
        self,
        *,
        input_root: "Digest",
        directories: dict[str, bytes],
        system: tuple[str, str],
        outside: tuple[tuple[str, str], ...] = (),
        linked: tuple[tuple[str, str], ...] = (),
        environment: "tuple[tuple[str, str | None], ...]" = (),
        tools: tuple[tuple[str, int, str], ...] = (),
        stdin: str = "",
        recorded: "tuple[Fact, ...]" = (),
    ) -> None:
        self.input_root = input_root
        self.directories = directories
        self.system = system
        self.outside = outside
        self.linked = linked
        self.environment = environment
        self.tools = tools
        self.stdin = stdin
        self.recorded = recorded

    def input_facts(self) -> "list[Fact]":
        """What no tree of the base can hold, and the outputs of tools: part of the inputs hash and of the salt."""
        facts: list[Fact] = [("outside", name, content) for name, content in sorted(self.outside)]
        facts += [("link", name, content) for name, content in sorted(self.linked)]
        if self.stdin:
            facts.append(("stdin", self.stdin))
        facts += [("tool", command, str(code), output) for command, code, output in sorted(self.tools)]
        return facts
