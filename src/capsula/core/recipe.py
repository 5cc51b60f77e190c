"""The recipe: what was asked, with every pattern placed either below the workspace root or outside it."""

from capsula.core.glob import PatternSet, is_literal, literal_prefix, matches
from capsula.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Recipe:
    """What a capsule is asked to do. Paths are absolute and normal; patterns are kept as written.

    `named`: the user gave the id; otherwise it is derived from the command.
    """

    __slots__ = (
        "argv",
        "capsule_id",
        "captures",
        "cwd",
        "environment",
        "hash_variable",
        "inputs",
        "outputs",
        "named",
        "root",
        "tags",
        "tool_commands",
    )

    def __init__(
        self,
        *,
        capsule_id: str,
        named: bool = True,
        argv: tuple[str, ...],
        root: str,
        cwd: str,
        inputs: tuple[str, ...] = (),
        outputs: tuple[str, ...] = (),
        environment: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
        tool_commands: tuple[str, ...] = (),
        captures: tuple[bool, bool] = (True, True),
        hash_variable: str = "CAPSULE_INPUTS_HASH",
    ) -> None:
        self.capsule_id = capsule_id
        self.named = named
        self.argv = argv
        # A root that the current directory isn't below can't be the root of the input tree; it then only anchors `//`.
        self.root = root
        self.cwd = cwd
        self.inputs = inputs
        self.outputs = outputs
        self.environment = tuple(sorted(set(environment)))
        self.tags = tuple(sorted(set(tags)))
        self.tool_commands = tuple(sorted(set(tool_commands)))
        self.captures = captures
        self.hash_variable = hash_variable

    @property
    def says_what_it_depends_on(self) -> bool:
        """False for a bare `capsule -- make`: its second run would be a hit whatever has been edited since."""
        included = any([not pattern.startswith("!") for pattern in self.inputs])
        return bool(self.named or included or self.tags or self.tool_commands or self.environment)

    @property
    def base(self) -> str:
        """Where the input tree starts: the workspace root, or the current directory when that lies elsewhere."""
        return self.root if is_below(self.cwd, self.root) else self.cwd

    @property
    def working_directory(self) -> str:
        """The current directory relative to `base`; "" when they are the same."""
        return relative(self.cwd, self.base)


class Area:
    """A part of the file system and the patterns that look at it.

    `base` is an absolute directory, `patterns` are relative to it, `written` holds the include patterns as the user
    wrote them, in the order of their bits. `spelled` (outside the base only) maps the absolute literal prefix of a
    pattern to the same prefix as written, so that what it finds can be named as given, wherever the checkout lies.
    """

    __slots__ = ("base", "patterns", "spelled", "written")

    def __init__(
        self, base: str, patterns: PatternSet, written: tuple[str, ...], spelled: "dict[str, str] | None"
    ) -> None:
        self.base = base
        self.patterns = patterns
        self.written = written
        self.spelled = spelled

    def name_of(self, path: str) -> str:
        """How the file at `path`, relative to `base`, is called in the key."""
        if self.spelled is None:
            return path
        longest = ""
        for prefix in self.spelled:
            if len(prefix) > len(longest) and is_below("/" + path, prefix):
                longest = prefix
        return self.spelled[longest] + path[len(longest) - 1 :] if longest else "/" + path


def place(recipe: Recipe, patterns: "Iterable[str]") -> tuple[Area, Area]:
    """The patterns below the recipe's base, and those outside of it. An exclude below it holds on both sides."""
    base = recipe.base
    inside: list[str] = []
    outside: list[str] = []
    written: tuple[list[str], list[str]] = ([], [])
    spelled: dict[str, str] = {}
    for pattern in patterns:
        negated = pattern.startswith("!")
        text = pattern[1:] if negated else pattern
        if not text:
            raise UsageError(
                "a pattern is empty", hint="'.' stands for everything below the current directory"
            )
        absolute = _absolute(recipe, text)
        sign = "!" if negated else ""
        below = is_below(absolute.rstrip("/") or "/", base)
        if below:
            seen = relative(absolute, base)
            inside.append(sign + _spelled_out(seen if seen.rstrip("/") else "."))
        if not below or negated:
            # An include outside may reach down into the base (`../**`), so an exclude holds there too.
            outside.append(sign + _spelled_out(absolute[1:] or "." if negated else absolute[1:]))
        if not negated:
            written[0 if below else 1].append(pattern)
            if not below:
                spelled["/" + literal_prefix(absolute[1:]).rstrip("/")] = _spelled_prefix(text)
    return (
        Area(base, PatternSet(tuple(inside)), tuple(written[0]), None),
        Area("/", PatternSet(tuple(outside)), tuple(written[1]), spelled),
    )


def place_inputs(recipe: Recipe) -> tuple[Area, Area]:
    """The input patterns, placed; what the output patterns match is left out of the wildcards.

    `-i '**' -o dist` must not make each result part of the next key. An output that an input pattern names literally
    (a formatter's file) stays an input.
    """
    literal = {
        _absolute(recipe, text).rstrip("/") for text in recipe.inputs if text[0] != "!" and is_literal(text)
    }
    excludes = []
    for pattern in recipe.outputs:
        text = _absolute(recipe, pattern.removeprefix("!"))[1:]
        if pattern[0] != "!" and not _names_one_of(text, literal):
            excludes.append("!" + pattern)
    return place(recipe, (*recipe.inputs, *excludes))


def place_outputs(recipe: Recipe) -> tuple[Area, Area]:
    return place(recipe, recipe.outputs)


def _names_one_of(pattern: str, paths: set[str]) -> bool:
    if not paths:
        return False
    output = PatternSet((_spelled_out(pattern),))
    return any([matches(output, path[1:], is_dir=False) for path in paths])


def output_prefixes(recipe: Recipe) -> tuple[str, ...]:
    """The longest literal prefix of each output pattern, relative to the working directory; sorted, each once.

    One that lies outside the base stays absolute: no remote engine could make it.
    """
    prefixes = set()
    for pattern in recipe.outputs:
        if not pattern.startswith("!"):
            prefix = "/" + literal_prefix(_absolute(recipe, pattern).strip("/"))
            prefixes.add(relative(prefix, recipe.cwd) if is_below(prefix, recipe.base) else prefix)
    return tuple(sorted(prefixes))


def _absolute(recipe: Recipe, text: str) -> str:
    if text.startswith("//"):
        return normal(recipe.root + "/" + text[2:])
    return normal(text if text.startswith("/") else recipe.cwd + "/" + text)


def _spelled_out(pattern: str) -> str:
    """A relative pattern that means the file `!x` where its first name is that, and not an exclude of `x`."""
    return "./" + pattern if pattern.startswith("!") else pattern


def _spelled_prefix(text: str) -> str:
    """The literal part of a pattern as written: `../t/*.o` gives `../t`, `//lib/a.h` gives `//lib/a.h`."""
    lead = "//" if text.startswith("//") else "/" if text.startswith("/") else ""
    return (lead + literal_prefix(text[len(lead) :])).rstrip("/") or lead


def normal(path: str) -> str:
    """The absolute path without `.`, `..` and doubled slashes; a trailing slash stays (in a pattern it means
    something)."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts) + ("/" if path.endswith("/") and parts else "")


def is_below(path: str, directory: str) -> bool:
    return path.startswith(directory if directory.endswith("/") else directory + "/") or path == directory


def relative(path: str, directory: str) -> str:
    """`path` as seen from `directory` (both absolute and normal), with `..` where needed; "" when they are the same."""
    if path == directory:
        return ""
    lead = directory if directory.endswith("/") else directory + "/"
    if path.startswith(lead):
        return path[len(lead) :]
    here, there = directory.strip("/").split("/"), path.strip("/").split("/")
    shared = 0
    while shared < min(len(here), len(there)) and here[shared] == there[shared]:
        shared += 1
    up = [".."] * (len(here) - shared if here != [""] else 0)
    rest = there[shared:] if there != [""] else []
    return "/".join(up + rest) + ("/" if path.endswith("/") and path != "/" else "")
