"""Patterns against a slow matcher: the same meaning, written as recursion over segments and one regular expression per
segment."""

import re
from functools import cache
from itertools import product

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capsula.core.glob import PatternSet, State, is_literal, is_reserved, matches


def reserved(name: str) -> bool:
    return re.match(r"\.git\Z|\.capsula-stage-", name) is not None


@cache
def regex(segment: str) -> re.Pattern[str] | None:
    """The names that a segment with wildcards fits; None when it has none."""
    out, wild, rest = "", False, segment
    while rest:
        class_ = re.match(r"\[(!?)(\]?[^]]*)\]", rest, re.DOTALL)
        if class_ and class_[2]:
            wild = True
            members = set()
            for low, high, single in re.findall(r"(.)-(.)|(.)", class_[2], re.DOTALL):
                members |= {single} if single else set(map(chr, range(ord(low), ord(high) + 1)))
            either = "|".join(map(re.escape, sorted(members))) or "(?!)"
            out += f"(?:(?!{either}).)" if class_[1] else f"(?:{either})"
            rest = rest[class_.end() :]
        else:
            wild = wild or rest[0] in "*?"
            out += {"*": ".*", "?": "."}.get(rest[0], re.escape(rest[0]))
            rest = rest[1:]
    return re.compile(out, re.DOTALL) if wild else None


def spells(segment: str, name: str) -> bool:
    return segment == name and (regex(segment) is None or "[" in segment)


def fits(segment: str, name: str, include: bool) -> bool:
    if spells(segment, name):
        return True
    if include and reserved(name):
        return segment == name
    wild = regex(segment)
    return wild is not None and wild.fullmatch(name) is not None


def reads(segments: tuple[str, ...], names: tuple[str, ...], include: bool) -> bool:
    if not segments:
        return not names
    if segments[0] == "**":
        if reads(segments[1:], names, include):
            return True
        return bool(names) and not (include and reserved(names[0])) and reads(segments, names[1:], include)
    return bool(names) and fits(segments[0], names[0], include) and reads(segments[1:], names[1:], include)


def is_named(pattern: str, names: tuple[str, ...], include: bool) -> bool:
    """The path itself is matched, whatever is there but a directory."""
    segments = tuple(pattern.split("/"))
    return segments != (".",) and segments[-1] not in ("", "**") and reads(segments, names, include)


def is_whole(pattern: str, names: tuple[str, ...], include: bool) -> bool:
    """A directory at this path stands for everything below it."""
    segments = tuple(segment for segment in pattern.split("/") if segment not in ("", "."))
    if not segments:
        return not names
    if segments[-1] == "**":
        while segments and segments[-1] == "**":
            segments = segments[:-1]
        return reads(segments, names, include)
    if pattern.endswith("/"):
        return reads(segments, names, include)
    return bool(names) and spells(segments[-1], names[-1]) and reads(segments[:-1], names[:-1], include)


def above(names: tuple[str, ...]) -> list[int]:
    return list(range(len(names)))


def is_included(pattern: str, names: tuple[str, ...], is_dir: bool) -> bool:
    here = is_whole(pattern, names, True) if is_dir else is_named(pattern, names, True)
    return here or any(
        is_whole(pattern, names[:cut], True) and not any(map(reserved, names[cut:])) for cut in above(names)
    )


def is_excluded(pattern: str, names: tuple[str, ...], is_dir: bool) -> bool:
    here = is_named(pattern, names, False) or (is_dir and is_whole(pattern, names, False))
    return here or any(
        is_named(pattern, names[:cut], False) or is_whole(pattern, names[:cut], False) for cut in above(names)
    )


def slow(patterns: tuple[str, ...], names: tuple[str, ...], *, is_dir: bool) -> int:
    if any(is_excluded(pattern[1:], names, is_dir) for pattern in patterns if pattern.startswith("!")):
        return 0
    includes = [pattern for pattern in patterns if not pattern.startswith("!")]
    return sum(is_included(pattern, names, is_dir) << bit for bit, pattern in enumerate(includes))


NAMES = ["a", "b", "ab", "a.c", "b.c", ".git", ".capsula-stage-1", "[ab]", "*", "-", "\n", "\udcff", ".x"]
SEGMENTS = [
    *["a", "b", "ab", "a.c", "**", "**", "*", "*.c", "a*", "?", "[ab]", "[!a]", "a*b", "*a*b*", ".*"],
    *[
        ".git",
        ".capsula-stage-1",
        ".capsula-stage-*",
        ".gi[t]",
        "*git",
        "[",
        "\udcff",
        "[\udc80-\udcff]",
        "?*",
    ],
]

# A few come often, so that several patterns meet on one path.
some_name = st.sampled_from(["a", "b", "a", "b", ".git"]) | st.sampled_from(NAMES)
some_segment = st.sampled_from(["a", "b", "*", "**"]) | st.sampled_from(SEGMENTS)
some_names = st.lists(some_name, min_size=1, max_size=5).map(tuple)
some_pattern = st.one_of(
    st.just("."),
    st.builds(
        lambda segments, slash: "/".join(segments) + slash,
        st.lists(some_segment, min_size=1, max_size=4),
        st.sampled_from(["", "", "", "/"]),
    ),
)
some_patterns = st.lists(
    st.builds(lambda mark, pattern: mark + pattern, st.sampled_from(["", "", "", "!"]), some_pattern),
    max_size=6,
).map(tuple)
some_tree = st.recursive(
    st.none(), lambda below: st.dictionaries(some_name, below, max_size=5), max_leaves=25
).map(lambda tree: tree or {})

some_text = st.text("ab*?", min_size=1, max_size=8) | st.text("ab*?[]!-.\n\udcff", min_size=1, max_size=8)


@settings(max_examples=1500, deadline=None)
@given(some_text, st.text("ab", min_size=1, max_size=8) | some_text)
@example("*ab*ba*", "aba-")
@example("ab*b*b", "ab-b")
@example("[--a]", ".")
@example("[!--]", "a")
@example("[a-b-]", "-")
@example("[]-b]", "_")
def test_a_segment_is_its_regular_expression(segment: str, name: str) -> None:
    if segment in (".", "..", "**") or segment.startswith("!"):
        return
    state = PatternSet((segment,)).start.step(name)
    assert (state is not None and state.matched == 1) == (segment == name or fits(segment, name, True))
    assert is_literal(segment) == (regex(segment) is None)


@settings(max_examples=1500, deadline=None)
@given(some_patterns, some_names)
@example(("**/.git", "**"), ("a", ".git", "a"))
@example(("**/a/**/b", "!**/b/a"), ("a", "b", "a", "b"))
@example(("[ab]", "[ab]/a"), ("[ab]", "a"))
@example(("**/a/b", "**/c"), ("c", "a", "b"))
@example(("*",), ("*", "a"))
def test_every_step_tells_what_the_slow_matcher_tells(
    patterns: tuple[str, ...], names: tuple[str, ...]
) -> None:
    pattern_set = PatternSet(patterns)
    state: State | None = pattern_set.start
    assert state.directory == slow(patterns, (), is_dir=True)
    for length in range(1, len(names) + 1):
        state = state and state.step(names[length - 1])
        path = names[:length]
        file, directory = slow(patterns, path, is_dir=False), slow(patterns, path, is_dir=True)
        if state is None:
            assert (file, directory) == (0, 0)
        else:
            assert (state.matched, state.directory) == (file, directory)
        assert matches(pattern_set, "/".join(path), False) == (file != 0)
        assert matches(pattern_set, "/".join(path), True) == (directory != 0)


@settings(max_examples=300, deadline=None)
@given(some_patterns, some_names)
@example(("a", "**/.git/b"), ("a",))
@example(("a/b", "a/*"), ("a",))
def test_what_the_walker_is_told_holds_for_all_that_is_below(
    patterns: tuple[str, ...], names: tuple[str, ...]
) -> None:
    state: State | None = PatternSet(patterns).start
    for name in names[:2]:
        state = state and state.step(name)
    path = names[:2]
    excludes = tuple(pattern for pattern in patterns if pattern.startswith("!"))
    includes = tuple(pattern for pattern in patterns if not pattern.startswith("!"))
    for below in [*product(NAMES, repeat=1), *product(NAMES, NAMES[:8])]:
        child = path + below
        file, directory = slow(patterns, child, is_dir=False), slow(patterns, child, is_dir=True)
        untouched = not any(map(reserved, below))
        if state is None:
            assert file == directory == 0
            continue
        if state.bulk:
            assert file == directory == (state.everything if untouched else 0)
        if state.literals is not None and below[0] not in state.literals:
            assert file == directory == 0
            assert state.step(below[0]) is None
        if untouched:
            assert slow(includes, child, is_dir=False) & state.everything == state.everything
            assert slow(includes, child, is_dir=True) & state.everything == state.everything
    if state is not None:
        assert state.everything == slow(patterns, path, is_dir=True)
        if all(regex(segment) is None for include in includes for segment in include.split("/")):
            assert (state.literals is None) == (state.everything != 0)
        if not excludes and not state.everything and state.literals is None:
            # Nothing is listed for the sake of a pattern that could have been looked up.
            assert any(regex(segment) for include in includes for segment in include.split("/"))


Tree = dict[str, "Tree | None"]


def walk(state: State, tree: Tree, path: tuple[str, ...], found: dict[tuple[str, ...], int]) -> None:
    """What a walker does with the answers; a directory's entry ends in ""."""
    for name in tree if state.literals is None else [name for name in state.literals if name in tree]:
        if state.bulk and is_reserved(name):
            continue
        child = state if state.bulk else state.step(name)
        if child is None:
            continue
        below, here = tree[name], (*path, name)
        if below is None:
            found[here] = state.everything if state.bulk else child.matched
        else:
            found[(*here, "")] = child.directory
            walk(child, below, here, found)


def all_paths(tree: Tree, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], bool]]:
    paths = []
    for name, below in tree.items():
        paths.append(((*path, name), below is not None))
        paths += all_paths(below or {}, (*path, name))
    return paths


@settings(max_examples=600, deadline=None)
@given(some_patterns, some_tree)
def test_a_walk_finds_what_the_slow_matcher_finds_in_the_whole_tree(
    patterns: tuple[str, ...], tree: Tree
) -> None:
    found: dict[tuple[str, ...], int] = {}
    walk(PatternSet(patterns).start, tree, (), found)
    wanted = {
        (*path, "") if is_dir else path: slow(patterns, path, is_dir=is_dir)
        for path, is_dir in all_paths(tree)
    }
    assert {path: bits for path, bits in found.items() if bits} == {
        path: bits for path, bits in wanted.items() if bits
    }
