"""Patterns: what they match, by example and against a slow matcher that is written down here."""

import sys
import time
from collections.abc import Callable

import pytest

from capsula.core.glob import PatternSet, State, is_literal, is_reserved, literal_prefix, matches
from capsula.errors import UsageError


def state_at(patterns: tuple[str, ...], path: str) -> State | None:
    state: State | None = PatternSet(patterns).start
    for name in path.split("/") if path else ():
        state = state and state.step(name)
    return state


def files_matched(patterns: str, *paths: str) -> list[str]:
    return [path for path in paths if matches(PatternSet(tuple(patterns.split())), path, False)]


# ---------------------------------------------------------------- one segment


@pytest.mark.parametrize(
    ("segment", "yes", "no"),
    [
        ("*", ["a", ".bashrc", "a b", "-rf", "a\nb", "\udcff", "*"], []),
        ("*.c", ["a.c", ".c"], ["a.h", "a.c.o", "c", "a.C"]),
        ("lib*", ["lib", "libz"], ["Lib", "alib"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("ab*ba", ["abba", "ab-ba"], ["aba"]),
        ("*a*b*", ["ab", "xaxbx"], ["ba", "a"]),
        ("a**b", ["ab", "a-b"], ["b"]),
        ("?", ["a", "é", "\udcff"], ["", "ab"]),
        ("*?.c", ["a.c", "ab.c"], [".c"]),
        ("?a?b*", ["-a-b", "-a-bc"], ["ab", "-a-"]),
        ("[abc]", ["a", "c"], ["d", "ab"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
        ("[!a-c]", ["d", "!", "-"], ["a", "b", "dd"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]]", ["a"], ["]"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("[z-a]", [], ["a", "m", "z"]),
        ("[*]", ["*"], ["a"]),
        ("[[]x", ["[x"], ["x"]),
        ("*[0-9]", ["a1", "1"], ["1a"]),
        ("*[0-9]?[0-9]*", ["1a2", "x1a2y", "112"], ["12"]),
        ("[\udc80-\udcff]", ["\udc80", "\udcff"], ["a"]),
    ],
)
def test_a_wildcard_matches_within_one_name(segment: str, yes: list[str], no: list[str]) -> None:
    start = PatternSet((segment,)).start
    assert [name for name in yes + no if (state := start.step(name)) and state.matched] == yes


def test_a_bracket_that_is_never_closed_is_an_ordinary_character() -> None:
    assert files_matched("a[1", "a[1", "a1") == ["a[1"]
    assert files_matched("[!]", "[!]", "a") == ["[!]"]
    assert files_matched("[*", "[x", "[", "x") == ["[x", "["]
    assert is_literal("a[1")


def test_a_segment_with_a_class_also_finds_the_name_that_is_spelled_like_it() -> None:
    assert files_matched("a[1].txt", "a[1].txt", "a1.txt", "a[2].txt") == ["a[1].txt", "a1.txt"]
    assert files_matched("app/[slug]/*.tsx", "app/[slug]/page.tsx", "app/x/page.tsx", "app/s/page.tsx") == [
        "app/[slug]/page.tsx",
        "app/s/page.tsx",
    ]


def test_a_directory_spelled_like_a_class_is_meant_whole_but_one_that_only_fits_is_not() -> None:
    assert files_matched("out[1]", "out[1]/deep/x", "out1/x") == ["out[1]/deep/x"]


def test_a_class_pattern_and_a_longer_one_through_the_same_name_both_go_on() -> None:
    patterns = ("a[1]", "a[1]/x/y")
    state = state_at(patterns, "a[1]")
    assert (state.matched, state.everything, state.bulk) == (1, 1, False)
    assert state_at(patterns, "a[1]/x/y").matched == 3
    assert state_at(patterns, "a1/x/y").matched == 2


# ---------------------------------------------------------------- paths


def test_a_star_does_not_cross_a_slash_and_two_stars_do() -> None:
    paths = ("a.c", "src/a.c", "src/x/a.c", "src/x/y/a.c", "lib/a.c")
    assert files_matched("src/*.c", *paths) == ["src/a.c"]
    assert files_matched("src/**/*.c", *paths) == ["src/a.c", "src/x/a.c", "src/x/y/a.c"]
    assert files_matched("**/*.c", *paths) == list(paths)
    assert files_matched("src/**/y/*", *paths) == ["src/x/y/a.c"]
    assert files_matched("*/*/a.c", *paths) == ["src/x/a.c"]


def test_a_literal_means_the_file_or_the_whole_directory() -> None:
    assert files_matched("dist", "dist", "dist/a", "dist/x/.hidden", "distant", "x/dist") == [
        "dist",
        "dist/a",
        "dist/x/.hidden",
    ]


def test_a_trailing_slash_or_two_stars_mean_only_the_directory() -> None:
    for pattern in ("dist/", "dist/**", "dist/**/", "dist/**/**", "dist/."):
        assert files_matched(pattern, "dist", "dist/a", "dist/x/y") == ["dist/a", "dist/x/y"], pattern
        assert matches(PatternSet((pattern,)), "dist", True), pattern


def test_a_directory_that_only_fits_a_last_wildcard_is_not_walked() -> None:
    state = state_at(("src/*",), "src/sub")
    assert state is not None
    assert (state.matched, state.directory, state.everything, state.literals) == (1, 0, 0, ())
    assert state.step("a") is None
    assert files_matched("*.d/", "x.d", "x.d/a", "x.d/y/z") == ["x.d/a", "x.d/y/z"]


def test_a_directory_matched_by_one_pattern_only_as_a_name_is_still_walked_for_another() -> None:
    patterns = ("src/*", "src/sub/*.c")
    state = state_at(patterns, "src/sub")
    assert (state.matched, state.everything, state.literals) == (1, 0, None)
    assert state.step("a.c").matched == 2


@pytest.mark.parametrize("pattern", [".", "./", "**", "**/", "**/**"])
def test_the_base_itself_means_everything_below_it(pattern: str) -> None:
    start = PatternSet((pattern,)).start
    assert (start.matched, start.everything, start.directory, start.bulk) == (0, 1, 1, True)
    assert start.step(".hidden").matched == 1
    assert matches(PatternSet((pattern,)), ".", True)


def test_a_leading_dot_slash_makes_an_exclamation_mark_ordinary() -> None:
    patterns = PatternSet(("./!x",))
    assert patterns.includes == ("!x",)
    assert matches(patterns, "!x", False)


def test_odd_names_are_ordinary() -> None:
    for name in (
        "-rf",
        "a b",
        " ",
        "new\nline",
        "tab\t",
        "\udcff\udcfe",
        "ü",
        "*",
        "?",
        "\\",
        "[",
        "]",
        "a[",
        "~",
    ):
        assert matches(PatternSet((name,)), name, False), name
        assert matches(PatternSet(("x/" + name,)), "x/" + name, False), name
        assert matches(PatternSet(("x",)), "x/" + name, False), name


def test_each_include_has_its_bit() -> None:
    patterns = ("src/**", "!**/*.o", "**/*.c", "src/a.c", "lib", "src/a.c")
    assert PatternSet(patterns).includes == ("src/**", "**/*.c", "src/a.c", "lib", "src/a.c")
    assert state_at(patterns, "src/a.c").matched == 0b10111
    assert state_at(patterns, "src/b.c").matched == 0b00011
    assert state_at(patterns, "lib/b.c").matched == 0b01010


@pytest.mark.parametrize("pattern", ["", "!", "/etc/passwd", "!/x", "../x", "a/../b", "a/..", "a\0b"])
def test_a_pattern_that_can_not_be_meant_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        PatternSet((pattern,))


# ---------------------------------------------------------------- excludes


def test_an_exclude_wins_whatever_the_order() -> None:
    for patterns in ("src/** !src/*.o src/a.o", "!src/*.o src/a.o src/**"):
        assert files_matched(patterns, "src/a.o", "src/a.c", "src/x/a.o") == ["src/a.c", "src/x/a.o"]


def test_an_excluded_directory_excludes_everything_below_it() -> None:
    paths = ("a", "node_modules/x/y", "lib/node_modules/z", "lib/q")
    assert files_matched(". !**/node_modules", *paths) == ["a", "lib/q"]
    assert files_matched(". !node_modules", *paths) == ["a", "lib/node_modules/z", "lib/q"]
    assert files_matched(". !**/node_*", *paths) == ["a", "lib/q"]
    assert state_at((".", "!build"), "build") is None


def test_an_exclude_of_a_directory_spares_a_file_of_the_name() -> None:
    for exclude in ("!**/build/", "!**/build/**"):
        assert files_matched(f". {exclude}", "build", "x/build", "x/build/y") == ["build", "x/build"]
        state = state_at((".", exclude), "build")
        assert (state.matched, state.directory, state.everything, state.literals) == (1, 0, 0, ())


def test_when_everything_is_excluded_nothing_is_left() -> None:
    for exclude in ("!.", "!**"):
        start = PatternSet(("src", ".git", exclude)).start
        assert (start.matched, start.everything, start.directory, start.literals) == (0, 0, 0, ())
        assert start.step("src") is None
        assert start.step(".git") is None


def test_no_patterns_match_nothing() -> None:
    for patterns in ((), ("!x",)):
        start = PatternSet(patterns).start
        assert start.literals == ()
        assert start.step("x") is None


# ---------------------------------------------------------------- reserved names


def test_reserved_names_match_only_where_they_are_spelled() -> None:
    paths = (".git", ".git/HEAD", "x/.git/HEAD", ".capsula-stage-7/a", ".github/a", ".gitignore")
    assert files_matched(".", *paths) == [".github/a", ".gitignore"]
    assert files_matched("**/HEAD .* [.]git/* .git?", *paths) == [".gitignore"]
    assert files_matched("x", *paths) == []
    assert files_matched(".git/HEAD", *paths) == [".git/HEAD"]
    assert files_matched("**/.git", *paths) == [".git", ".git/HEAD", "x/.git/HEAD"]
    assert files_matched(".capsula-stage-7", *paths) == [".capsula-stage-7/a"]
    assert files_matched(".git", ".git/modules/x/.git/y", ".git/modules/x/y") == [".git/modules/x/y"]


def test_a_spelled_reserved_name_is_seen_inside_a_directory_that_is_meant_whole() -> None:
    patterns = ("src", "src/.git/config")
    state = state_at(patterns, "src")
    assert not state.bulk
    assert state.step("x").bulk
    assert state.step(".git").literals == ("config",)
    assert state.step(".git").step("config").matched == 2


def test_an_exclude_knows_no_reserved_names() -> None:
    assert files_matched(".git/HEAD !*", ".git/HEAD") == []
    assert files_matched(".git/HEAD !**/HEAD", ".git/HEAD") == []
    assert files_matched(".git !.git/h*", ".git/HEAD", ".git/hooks/x") == [".git/HEAD"]


def test_is_reserved() -> None:
    assert [
        name
        for name in (".git", ".capsula-stage-", ".capsula-stage-1", ".gitx", "git", "")
        if is_reserved(name)
    ] == [
        ".git",
        ".capsula-stage-",
        ".capsula-stage-1",
    ]


# ---------------------------------------------------------------- what the walker is told


def test_literals_save_the_walker_from_listing() -> None:
    patterns = ("a/b/x.c", "a/b/y.c", "a/z", "q/*.c")
    assert state_at(patterns, "").literals == ("a", "q")
    assert state_at(patterns, "a").literals == ("b", "z")
    assert state_at(patterns, "a/b").literals == ("x.c", "y.c")
    assert state_at(patterns, "a/b/x.c").literals is None  # a directory of that name would be meant whole
    assert state_at(patterns, "q").literals is None
    assert state_at(patterns, "other") is None
    assert state_at(("**/x",), "").literals is None


def test_bulk_needs_one_answer_for_all_that_is_below() -> None:
    assert state_at(("src/**",), "src").bulk
    assert state_at(("src", "src/sub/x"), "src").bulk is False
    assert state_at(("src", "src/sub/x"), "src/other").bulk
    assert state_at(("src/**", "**/*.py"), "src").bulk is False  # else `**/*.py` would seem to match nothing
    assert state_at(("src", "!src/*.o"), "src").bulk is False
    assert state_at(("src", "!src/*.o"), "src/sub").bulk
    assert state_at(("src", "!**/*.o"), "src/sub").bulk is False
    assert state_at(("**/src",), "x/src").bulk
    assert state_at(("src", "!lib/x"), "src").bulk
    assert state_at(("src", "!src/"), "src").bulk is False


def test_two_stars_and_a_star_take_files_but_record_no_empty_directory() -> None:
    state = state_at(("**/*",), "a/b")
    assert (state.matched, state.directory, state.everything, state.bulk) == (1, 0, 0, False)


def test_paths_with_the_same_future_share_one_state() -> None:
    start = PatternSet(("src/**", "lib/**", "**/*.py", "!**/*.o")).start
    src = start.step("src")
    assert src is start.step("src")
    assert src.step("a") is src.step("b") is src.step("b").step("c")
    assert src.step("a.py") is src.step("b.py")
    assert src.step("a") is not src.step("a.py")


# ---------------------------------------------------------------- pieces of patterns


@pytest.mark.parametrize(
    ("pattern", "prefix", "literal"),
    [
        ("a/b/*.o", "a/b", False),
        ("dist", "dist", True),
        ("dist/", "dist", True),
        ("dist/**", "dist", False),
        ("*.o", "", False),
        (".", "", True),
        ("**/x", "", False),
        ("a/b", "a/b", True),
        ("a/[b]/c", "a", False),
        ("a/[b/c", "a/[b/c", True),
        ("a/b?/c", "a", False),
        ("./a/*", "a", False),
    ],
)
def test_the_literal_part_of_a_pattern(pattern: str, prefix: str, literal: bool) -> None:
    assert (literal_prefix(pattern), is_literal(pattern)) == (prefix, literal)


def test_matches_takes_no_path_that_is_not_plain() -> None:
    everything = PatternSet((".", "**/*"))
    for path in ("", "/", "/etc", "a//b", "a/", "a/../b", "..", "./a", "a/.", "a\0"):
        assert not matches(everything, path, False), path
        assert not matches(everything, path, True), path
    assert matches(everything, "a/..b", False)


def test_matches_tells_directories_that_are_entries_from_those_on_the_way() -> None:
    patterns = PatternSet(("out/logs", "lib/*/*.so"))
    assert matches(patterns, "out/logs", True)
    assert matches(patterns, "out/logs/empty", True)
    assert not matches(patterns, "out", True)
    assert not matches(patterns, "lib/x", True)
    assert matches(patterns, "lib/x/y.so", False)


# ---------------------------------------------------------------- cost


def calls(work: Callable[[], object]) -> int:
    """How many Python functions the work enters: its cost, without a clock."""
    count = 0

    def tally(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(tally)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_a_hundred_thousand_steps_are_look_ups() -> None:
    names = [f"file{number}.{'pcoh'[number % 4]}y" for number in range(100_000)]
    step = PatternSet(("src/**", "**/*.py", "src/*.c", "!**/*.oy")).start.step("src").step
    assert len({id(step(name)) for name in names}) == 3  # *.py, excluded, the rest

    # The step itself and one look at the name for each of three wildcards; nothing is worked out anew.
    assert calls(lambda: [step(name) for name in names]) <= 4 * len(names) + 10
    start = time.perf_counter()
    for name in names:
        step(name)
    assert time.perf_counter() - start < 1  # 0.05 on a quiet machine


@pytest.mark.parametrize(
    "pattern", ["a/b/f{}.c", "**/f{}.c", "a/b/f{}/**", "f{}/a/b", "!a/b/f{}", "[a]/b/f{}"]
)
def test_the_cost_of_many_literal_patterns_is_linear(pattern: str) -> None:
    def work(count: int) -> None:
        start = PatternSet((*(pattern.format(number) for number in range(count)), "a/b/other")).start
        below = start.step("a").step("b")
        for number in range(count):
            below.step(f"f{number}.c")
            below.step(f"f{number}")
            start.step(f"f{number}")

    assert calls(lambda: work(2000)) < 11 * calls(lambda: work(200))


def test_many_stars_do_not_blow_up() -> None:
    start = time.perf_counter()
    assert PatternSet(("*a" * 30 + "*b",)).start.step("a" * 250) is None
    assert PatternSet(("*?a" * 30 + "*b",)).start.step("a" * 250) is None
    assert PatternSet(("*[a]?" * 30 + "*b",)).start.step("a" * 250 + "b") is not None
    path = "/".join("a" * 60)
    assert not matches(PatternSet(("**/a/" * 20 + "b",)), path, False)
    assert time.perf_counter() - start < 2
