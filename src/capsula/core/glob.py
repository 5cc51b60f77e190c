"""Path patterns: a set of them is one automaton, which a walker steps through name by name.

What a pattern means: segments are separated by `/`; in one, `*` is any run of characters (a leading dot too), `?` one
character, `[abc]` `[a-z]` `[!a]` one of a class; a `]` right after `[` or `[!` is a member, and a `[` that is never
closed is an ordinary character. `**` as a whole segment is zero or more names; as the last one, everything below. There
is no escape: `[*]` is a star, and a wildcard segment with a `[` in it also matches the name that is spelled exactly
like it, as a literal would (`app/[slug]/*.tsx`). `.` is the base, so everything below it; a leading `./` means nothing,
which makes `./!x` the file `!x`.

A directory stands for everything below it when the last segment spells its name, or when a `/` or a `**` follows.
`!pattern` excludes, and wins whatever the order: what it matches, and all that is below. Reserved names are matched
only by an include segment that spells them. Excludes know no reserved names: an exclude that spares something because
of its name would surprise more than it protects.

How it works: the segments of all includes form a trie, those of all excludes a second one; a `**` is a node that may
stay where it is. A state is the set of trie nodes that a path can be at, made when a walk first gets there, and kept:
paths with the same future share one. Of a name only two things count: whether an edge spells it (a dictionary, however
many patterns there are), and which wildcard edges it fits; under these a state remembers its children, so that a
hundred thousand names cost a hundred thousand look-ups.
"""

from capsula.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    CharTest = tuple[bool, str, tuple[tuple[str, str], ...]]  # negated; single characters; ranges
    Piece = str | tuple[str | CharTest, ...]  # between two stars; a str when without `?` and class
    Nodes = tuple["_Node", ...]
    Found = dict["_Node", None]  # an ordered set
    Pool = dict[tuple[int, int, int, frozenset["_Node"], frozenset["_Node"]], "State"]

_ANY: "CharTest" = (True, "", ())
# A directory that holds this file is a vault: nothing in it is ever an input or output by wildcard.
VAULT_MARK = ".capsula-vault"


def is_reserved(name: str) -> bool:
    """Whether wildcards and "everything below" pass over this name: git's directory, and our half-made ones."""
    return name == ".git" or name.startswith(".capsula-stage-")


def is_literal(pattern: str) -> bool:
    """Whether the pattern (without a `!`) has no wildcard, so that no directory has to be listed for it."""
    return all(_pieces(segment) is None for segment in pattern.split("/"))


def literal_prefix(pattern: str) -> str:
    """The leading segments without a wildcard: "a/b" of "a/b/*.o", "dist" of "dist" and "dist/**", "" of "*.o"."""
    prefix = []
    for segment in pattern.split("/"):
        if _pieces(segment) is not None:
            break
        if segment not in ("", "."):
            prefix.append(segment)
    return "/".join(prefix)


def matches(pattern_set: "PatternSet", path: str, is_dir: bool) -> bool:
    """Whether a file or link (or, `is_dir`, a directory as an entry of its own) at `path` is asked for by the set.

    A directory that is only the way to something that matches is no entry. `path` may come from a stranger: one
    that isn't plain and relative ("", "/x", "a//b", "a/..") matches nothing. The base itself is ".".
    """
    state: State | None = pattern_set.start
    if path != ".":
        for name in path.split("/"):
            if state is None or name in ("", ".", "..") or "\0" in name:
                return False
            state = state.step(name)
    return state is not None and (state.directory if is_dir else state.matched) != 0


class PatternSet:
    """Includes and `!`excludes, relative to one base.

    `includes` are the texts of the includes in their order, without a leading `./`: bit i of every mask in a `State` is
    `includes[i]`. `start` is the state at the base directory. Raises UsageError for a pattern that is empty, absolute,
    or has `..` or a NUL.
    """

    __slots__ = ("includes", "start")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        wanted, barred = _Node(), _Node()
        includes: list[str] = []
        for pattern in patterns:
            if pattern.startswith("!"):
                _insert(barred, pattern[1:], 1)
            else:
                _insert(wanted, pattern, 1 << len(includes))
                includes.append(pattern.removeprefix("./"))
        pool: Pool = {}
        self.includes = tuple(includes)
        self.start = _arrive(pool, _closure((wanted,)), _closure((barred,)), 0) or State(pool, 0, 0, (), ())


class State:
    """Where a path is in all patterns at once; one object for all paths with the same answers from there on.

    - `matched`: the includes that match this very path, as a file or link.
    - `everything`: the includes for which all below this directory matches, excludes and reserved names apart.
    - `directory`: the includes that make the directory at this path an entry, even an empty one. A directory that
      stands for everything below it is one, and no other: the bits are those of `everything`.
    - `literals`: the only names that can go on from here, so that the directory needn't be listed, () if none can;
      None: it has to be listed. `step` may still refuse one of them, because an exclude does.
    - `bulk`: all below at any depth, reserved names apart, matches exactly the includes in `everything`; no
      exclude and no further include can play a part, and `step` needn't be asked.
    """

    __slots__ = (
        "matched",
        "everything",
        "directory",
        "literals",
        "bulk",
        "_pool",
        "_wanted",
        "_barred",
        "_spelled",
        "_wild",
        "_by_name",
        "_by_fits",
    )

    def __init__(self, pool: "Pool", matched: int, everything: int, wanted: "Nodes", barred: "Nodes") -> None:
        self.matched = matched
        self.everything = self.directory = everything
        self.bulk = everything != 0 and not wanted and not barred
        self.literals: tuple[str, ...] | None = None
        if not everything and not any(node.loops or node.wild for node in wanted):
            self.literals = tuple({name: None for node in wanted for name in node.names})
        self._pool = pool
        self._wanted = wanted
        self._barred = barred
        nodes = wanted + barred
        self._spelled = tuple([node.names for node in nodes if node.names])
        # `*` fits every name, so it tells no two names apart.
        self._wild = tuple([wild for node in nodes for wild in node.wild.values() if wild.text != "*"])
        self._by_name: dict[str, State | None] = {}
        self._by_fits: dict[int, State | None] = {}

    def step(self, name: str, /) -> "State | None":
        """The state of the child `name`; None when nothing can match there or below: dead, excluded, reserved.

        A state is no promise of a match: that excludes leave nothing may show only further down.
        """
        for names in self._spelled:
            if name in names:
                if name not in self._by_name:
                    self._by_name[name] = self._follow(name)
                return self._by_name[name]
        if name.startswith(".") and is_reserved(name):
            return self._follow(name)
        fits = 0
        for wild in self._wild:
            fits = fits << 1 | wild.fits(name)
        if fits not in self._by_fits:
            self._by_fits[fits] = self._follow(name)
        return self._by_fits[fits]

    def spelled(self, name: str, /) -> "State | None":
        """The state of a child that is reserved because of what it is (a store, a vault): only a segment that spells
        its name leads there."""
        return self._follow(name, reserved=True)

    def _follow(self, name: str, *, reserved: bool = False) -> "State | None":
        reserved = reserved or is_reserved(name)
        wanted = [after for node in self._wanted for after in node.after(name, spelled_only=reserved)]
        barred = [after for node in self._barred for after in node.after(name, spelled_only=False)]
        return _arrive(self._pool, _closure(wanted), _closure(barred), 0 if reserved else self.everything)


def _arrive(pool: "Pool", wanted: "Found", barred: "Found", everything: int) -> State | None:
    """The state of a path that is at these nodes, below directories that stand for `everything`."""
    matched = everything
    for node in wanted:
        matched |= node.last
        everything |= node.whole
    shut = False
    for node in barred:
        if node.last:
            return None
        shut = shut or node.whole != 0
    if shut:
        # Only a directory is excluded here (`!x/`, `!x/**`): a file of the name may match, nothing below may.
        everything = 0
        wanted = {}
    # An include that has everything below gains nothing from its other ways through the trie: they could only add
    # reserved names, and don't. Each way here has used one spelling segment for each reserved name in the path, and the
    # way that got to the end has no such segment left; so no way has.
    going = tuple([node for node in wanted if node.ahead & ~everything])
    guards = tuple([node for node in barred if node.ahead])
    if not (matched or everything or going):
        return None
    # The length is there for its hash: a single bit has one of only 61, and thousands of literals would collide.
    key = ((matched | everything).bit_length(), matched, everything, frozenset(going), frozenset(guards))
    if key not in pool:
        pool[key] = State(pool, matched, everything, going, guards)
    return pool[key]


class _Node:
    """A node of a trie of segments; `last`, `whole` and `ahead` are masks of patterns.

    `last`: those that end here, for a file or link. `whole`: those for which a directory here stands for everything
    below. `ahead`: those that go on by an edge of this node. `deep` (a `**`) is reached without a name; it `loops`.
    """

    __slots__ = ("ahead", "deep", "last", "loops", "names", "whole", "wild")

    def __init__(self) -> None:
        self.names: dict[str, _Node] = {}
        self.wild: dict[str, _Wild] = {}
        self.deep: _Node | None = None
        self.loops = False
        self.last = self.whole = self.ahead = 0

    def after(self, name: str, *, spelled_only: bool) -> "list[_Node]":
        wilds = self.wild.values()
        nodes = [wild.node for wild in wilds if (name == wild.text if spelled_only else wild.fits(name))]
        if name in self.names:
            nodes.append(self.names[name])
        if self.loops and not spelled_only:
            nodes.append(self)
        return nodes


def _closure(nodes: "Iterable[_Node]") -> "Found":
    found: Found = {}
    for node in nodes:
        found[node] = None
        if node.deep is not None:
            found[node.deep] = None
    return found


def _insert(root: _Node, text: str, bit: int) -> None:
    segments, below = _segments(text)
    node = root
    spelled = False
    for index, segment in enumerate(segments):
        if segment == "**":
            if node.deep is None:
                node.deep = _Node()
                node.deep.loops = True
            node = node.deep
            continue
        node.ahead |= bit
        pieces = _pieces(segment)
        spelled = pieces is None
        if pieces is None:
            node = node.names.setdefault(segment, _Node())
            continue
        if "[" in segment and index == len(segments) - 1 and not below:
            # `fits` knows the spelling too; this is for the directory of that name.
            node.names.setdefault(segment, _Node()).whole |= bit
        if segment not in node.wild:
            node.wild[segment] = _Wild(segment, pieces)
        node = node.wild[segment].node
    if not below:
        node.last |= bit
    if below or spelled:
        node.whole |= bit


def _segments(text: str) -> tuple[list[str], bool]:
    """The segments, and whether they name a directory that is meant with everything below (`/`, `/**`, `.`)."""
    if not text:
        raise UsageError("a pattern is empty", hint="to mean everything in the base directory, write .")
    if text.startswith("/"):
        raise UsageError(f"pattern {text!r} is absolute", hint="write it relative to its base directory")
    if "\0" in text:
        raise UsageError(f"pattern {text!r} has a NUL, which no file name can have")
    segments: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            raise UsageError(f"pattern {text!r} leaves its base directory", hint="write it without ..")
        # Two `**` in a row say no more than one.
        if segment not in ("", ".") and not (segment == "**" and segments and segments[-1] == "**"):
            segments.append(segment)
    below = not segments or text.endswith(("/", "/."))
    if segments and segments[-1] == "**":
        segments.pop()
        below = True
    return segments, below


class _Wild:
    """A segment with wildcards, and the node that it leads to."""

    __slots__ = ("least", "node", "pieces", "prefix", "suffix", "text")

    def __init__(self, text: str, pieces: "tuple[Piece, ...]") -> None:
        first, last = pieces[0], pieces[-1]
        self.text = text
        self.node = _Node()
        self.least = sum([len(piece) for piece in pieces])
        self.prefix = first if isinstance(first, str) else ""
        self.suffix = last if isinstance(last, str) else ""
        # `*`, `*suffix`, `prefix*` and `prefix*suffix` need no closer look.
        simple = len(pieces) == 2 and isinstance(first, str) and isinstance(last, str)
        self.pieces = None if simple else pieces

    def fits(self, name: str) -> bool:
        return (
            name.endswith(self.suffix)
            and name.startswith(self.prefix)
            and len(name) >= self.least
            and (self.pieces is None or name == self.text or _in_order(self.pieces, name))
        )


def _in_order(pieces: "tuple[Piece, ...]", name: str) -> bool:
    """Whether the name is the pieces with anything between them, the first at its start, the last at its end.

    Each middle piece is taken where it first occurs, which leaves the most to those after it: nothing is tried
    twice, so the cost is at most the product of the two lengths, also for `*a*a*a*b`. The name is as long as all pieces
    together, or longer.
    """
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return len(name) == len(first) and _is_at(first, name, 0)
    at, end = len(first), len(name) - len(last)
    if not _is_at(first, name, 0) or not _is_at(last, name, end):
        return False
    for piece in pieces[1:-1]:
        at = _find(piece, name, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _find(piece: "Piece", name: str, start: int, end: int) -> int:
    if isinstance(piece, str):
        return name.find(piece, start, end)
    for at in range(start, end - len(piece) + 1):
        if _is_at(piece, name, at):
            return at
    return -1


def _is_at(piece: "Piece", name: str, at: int) -> bool:
    """Whether the piece is in the name at this place; the name is long enough for it."""
    if isinstance(piece, str):
        return name.startswith(piece, at)
    for offset, test in enumerate(piece, at):
        char = name[offset]
        if isinstance(test, str):
            if char != test:
                return False
        elif (char in test[1] or any(low <= char <= high for low, high in test[2])) == test[0]:
            return False
    return True


def _pieces(segment: str) -> "tuple[Piece, ...] | None":
    """The segment cut at its stars; None when it has no wildcard."""
    if "*" not in segment and "?" not in segment and "[" not in segment:
        return None
    pieces: list[list[str | CharTest]] = [[]]
    at = 0
    while at < len(segment):
        char = segment[at]
        at += 1
        if char == "*":
            pieces.append([])
        elif char == "?":
            pieces[-1].append(_ANY)
        elif char == "[" and (end := _class_end(segment, at)) > 0:
            pieces[-1].append(_char_class(segment[at:end]))
            at = end + 1
        else:
            pieces[-1].append(char)
    if len(pieces) == 1 and all(isinstance(test, str) for test in pieces[0]):
        return None
    ends = (0, len(pieces) - 1)
    return tuple([_joined(piece) for index, piece in enumerate(pieces) if piece or index in ends])


def _joined(piece: "list[str | CharTest]") -> "Piece":
    plain = [test for test in piece if isinstance(test, str)]
    return "".join(plain) if len(plain) == len(piece) else tuple(piece)


def _class_end(segment: str, at: int) -> int:
    """Where the class that begins at `at`, after its `[`, is closed; -1 when it isn't."""
    if segment.startswith("!", at):
        at += 1
    return segment.find("]", at + 1)


def _char_class(text: str) -> "CharTest":
    negated = text.startswith("!")
    at = 1 if negated else 0
    singles, ranges = "", []
    while at < len(text):
        if text.startswith("-", at + 1) and at + 2 < len(text):
            ranges.append((text[at], text[at + 2]))
            at += 3
        else:
            singles += text[at]
            at += 1
    return negated, singles, tuple(ranges)
