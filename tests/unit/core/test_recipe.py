"""The recipe: patterns placed inside and outside the root, and paths as a key and a result name them."""

import posixpath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.core.glob import matches
from capsula.core.recipe import (
    Area,
    Recipe,
    is_below,
    normal,
    output_prefixes,
    place,
    place_inputs,
    place_outputs,
    relative,
)
from capsula.errors import UsageError


def recipe(**changes: Any) -> Recipe:
    asked = {"capsule_id": "x", "argv": ("true",), "root": "/home/me/w", "cwd": "/home/me/w/app"}
    return Recipe(**{**asked, **changes})


def found(areas: tuple[Area, Area], path: str, *, is_dir: bool = False) -> list[str]:
    """How the areas that match an absolute path call it."""
    names = []
    for area in areas:
        inside = relative(path, area.base) or "."
        if is_below(path, area.base) and matches(area.patterns, inside, is_dir):
            names.append(area.name_of(inside))
    return names


# ---------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/a//b/./c", "/a/b/c"),
        ("/a/b/../c", "/a/c"),
        ("/a/../../..", "/"),
        ("/a/b/", "/a/b/"),
        ("/a/b/..", "/a"),
        ("/a/b/../", "/a/"),
        ("/./", "/"),
        ("/a/...", "/a/..."),
        ("/a/**/*.o", "/a/**/*.o"),
    ],
)
def test_normal(path: str, expected: str) -> None:
    assert normal(path) == expected


PARTS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "c d"]), max_size=6)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c d"]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@settings(max_examples=80, deadline=None)
@given(PARTS)
def test_normal_is_what_posix_says(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    expected = posixpath.normpath(path).replace("//", "/")
    slash = "/" if path.endswith("/") and expected != "/" else ""
    assert normal(path) == expected + slash
    assert normal(normal(path)) == normal(path)


@settings(max_examples=80, deadline=None)
@given(PATHS, PATHS)
def test_relative_is_what_posix_says_and_leads_back(path: str, directory: str) -> None:
    found = relative(path, directory)
    assert found == ("" if path == directory else posixpath.relpath(path, directory))
    assert normal(f"{directory}/{found}").rstrip("/") == path.rstrip("/")
    assert is_below(path, directory) == (not found.startswith(".."))


def test_below_is_a_matter_of_whole_names() -> None:
    assert is_below("/a/b", "/a")
    assert is_below("/a", "/a")
    assert is_below("/a", "/")
    assert not is_below("/ab", "/a")
    assert not is_below("/", "/a")


# ---------------------------------------------------------------------------------------------------- the base


def test_the_base_is_the_root_when_the_directory_is_below_it() -> None:
    assert (recipe().base, recipe().working_directory) == ("/home/me/w", "app")
    assert recipe(cwd="/home/me/w").working_directory == ""


def test_a_root_elsewhere_only_anchors_patterns() -> None:
    asked = recipe(root="/other", inputs=("f", "//lib/g"))
    assert (asked.base, asked.working_directory) == ("/home/me/w/app", "")
    inside, outside = place(asked, asked.inputs)
    assert inside.patterns.includes == ("f",)
    assert outside.patterns.includes == ("other/lib/g",)
    assert found((inside, outside), "/other/lib/g") == ["//lib/g"]


def test_declarations_are_sorted_and_counted_once() -> None:
    asked = recipe(environment=("B", "A", "B"), tags=("2", "1", "1"), tool_commands=("y", "x", "y"))
    assert (asked.environment, asked.tags, asked.tool_commands) == (("A", "B"), ("1", "2"), ("x", "y"))


# ---------------------------------------------------------------------------------------------------- placing


@pytest.mark.parametrize(
    ("pattern", "placed"),
    [
        ("src/**", "app/src/**"),
        ("./src//a.c", "app/src/a.c"),
        ("../lib/*.h", "lib/*.h"),
        ("//lib/a.h", "lib/a.h"),
        ("/home/me/w/lib/", "lib/"),
        ("../../w/app/f", "app/f"),
        (".", "app"),
        ("./", "app/"),
        ("//", "."),
        ("..", "."),
        ("../", "."),
        ("**", "app/**"),
        ("//**", "**"),
        ("-x", "app/-x"),
        ("[!", "app/[!"),
        ("a\nb", "app/a\nb"),
    ],
)
def test_a_pattern_below_the_root_is_relative_to_it(pattern: str, placed: str) -> None:
    inside, outside = place(recipe(), (pattern,))
    assert inside.patterns.includes == (placed,)
    assert inside.written == (pattern,)
    assert (outside.patterns.includes, outside.written) == ((), ())


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("/lib/a.h", "/lib/a.h", "/lib/a.h"),
        ("/lib/*.h", "/lib/a.h", "/lib/a.h"),
        ("/lib", "/lib/sub/a.h", "/lib/sub/a.h"),
        ("/lib/", "/lib/sub/a.h", "/lib/sub/a.h"),
        ("../../t/*.o", "/home/me/t/a.o", "../../t/a.o"),
        ("../../t/a.o", "/home/me/t/a.o", "../../t/a.o"),
        ("../../t/**", "/home/me/t/u/a.o", "../../t/u/a.o"),
        ("../../*.o", "/home/me/a.o", "../../a.o"),
        ("../../../you/f", "/home/you/f", "../../../you/f"),
        ("//../t/f", "/home/me/t/f", "//../t/f"),
        ("/home/me/w2/f", "/home/me/w2/f", "/home/me/w2/f"),
        ("/**/x", "/etc/x", "/etc/x"),
        ("/*", "/x", "/x"),
    ],
)
def test_what_a_pattern_finds_outside_is_named_as_it_was_written(pattern: str, path: str, name: str) -> None:
    """So that another checkout beside another `../t` gives the same key."""
    areas = place(recipe(), (pattern,))
    assert areas[0].written == ()
    assert areas[1].written == (pattern,)
    assert found(areas, path) == [name]


def test_a_name_outside_comes_from_the_closest_pattern() -> None:
    areas = place(recipe(), ("/home/me/**", "../../t/u/*", "/home/me/t/u"))
    assert found(areas, "/home/me/t/f") == ["/home/me/t/f"]
    assert found(place(recipe(), ("../../**", "/home/me/t/*")), "/home/me/t/f") == ["/home/me/t/f"]
    assert found(place(recipe(), ("/home/me/**", "../../t/*")), "/home/me/t/f") == ["../../t/f"]


def test_excludes_work_on_both_sides() -> None:
    areas = place(recipe(), ("**", "!*.o", "/lib/**", "!/lib/tmp", "../../t/**", "!../../t/*.o"))
    assert found(areas, "/home/me/w/app/a.c") == ["app/a.c"]
    assert found(areas, "/home/me/w/app/a.o") == []
    assert found(areas, "/lib/a.o") == ["/lib/a.o"]
    assert found(areas, "/lib/tmp/a") == []
    assert found(areas, "/home/me/t/a.o") == []
    assert found(areas, "/home/me/t/a.c") == ["../../t/a.c"]


def test_an_exclude_below_the_root_also_holds_for_what_is_reached_from_above_it() -> None:
    areas = place(recipe(), ("../../**", "!tmp", "!//top.o"))
    assert found(areas, "/home/me/w/app/f") == ["../../w/app/f"]
    assert found(areas, "/home/me/w/app/tmp/f") == []
    assert found(areas, "/home/me/w/top.o") == []


def test_written_patterns_are_in_the_order_of_their_bits() -> None:
    areas = place(recipe(), ("b", "!x", "/z", "a", "/y"))
    assert areas[0].written == ("b", "a")
    assert areas[1].written == ("/z", "/y")
    assert areas[0].patterns.start.step("app").step("a").matched == 2  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------------- outputs


def test_outputs_are_left_out_of_input_wildcards() -> None:
    areas = place_inputs(recipe(inputs=("**", "//*.md"), outputs=("dist", "*.log", "//top.md")))
    assert found(areas, "/home/me/w/app/src/a.c") == ["app/src/a.c"]
    assert found(areas, "/home/me/w/app/dist/a") == []
    assert found(areas, "/home/me/w/app/a.log") == []
    assert found(areas, "/home/me/w/app/sub/a.log") == ["app/sub/a.log"]
    assert found(areas, "/home/me/w/top.md") == []
    assert found(areas, "/home/me/w/other.md") == ["other.md"]


def test_outputs_are_left_out_also_when_the_wildcard_starts_above_the_root() -> None:
    """`-i '../../**' -o dist`: else each result would be part of the next key."""
    areas = place_inputs(recipe(inputs=("../../**",), outputs=("dist",)))
    assert found(areas, "/home/me/w/app/dist/a") == []
    assert found(areas, "/home/me/w/app/src/a") == ["../../w/app/src/a"]


def test_an_output_outside_is_left_out_of_inputs_outside() -> None:
    areas = place_inputs(recipe(inputs=("/data/**",), outputs=("/data/out",)))
    assert found(areas, "/data/out/a") == []
    assert found(areas, "/data/in/a") == ["/data/in/a"]


@pytest.mark.parametrize("output", ["fmt.c", "*.c", "**", "."])
def test_an_output_that_is_named_as_an_input_stays_one(output: str) -> None:
    areas = place_inputs(recipe(inputs=("fmt.c",), outputs=(output,)))
    assert found(areas, "/home/me/w/app/fmt.c") == ["app/fmt.c"]


@pytest.mark.parametrize("pattern", ["./!x", "//!x", "/home/me/w/app/!x", "../app/!x"])
def test_a_name_with_an_exclamation_mark_is_no_exclude(pattern: str) -> None:
    here = "/home/me/w/app"
    asked = recipe(root=here, inputs=(pattern, "y"), outputs=("./!z",))
    assert found(place_inputs(asked), here + "/!x") == ["!x"]
    assert found(place_inputs(recipe(root=here, inputs=(".", pattern))), here + "/x") == ["x"]
    assert not found(place_inputs(recipe(root=here, inputs=(".", "!" + pattern))), here + "/!x")
    assert found(place_outputs(asked), here + "/!z") == ["!z"]


def test_an_exclude_among_the_outputs_excludes_no_input() -> None:
    areas = place_inputs(recipe(inputs=("**",), outputs=("dist", "!keep")))
    assert found(areas, "/home/me/w/app/keep") == ["app/keep"]
    outputs = place_outputs(recipe(inputs=("**",), outputs=("dist", "!dist/keep")))
    assert found(outputs, "/home/me/w/app/dist/keep") == []
    assert found(outputs, "/home/me/w/app/dist", is_dir=True) == ["app/dist"]


@pytest.mark.parametrize(
    ("outputs", "prefixes"),
    [
        (("dist",), ("dist",)),
        (("dist/", "dist/**", "dist"), ("dist",)),
        (("log/*.txt", "a/b/c.o", "a/*/c"), ("a", "a/b/c.o", "log")),
        (("*.o",), ("",)),
        (("//top/*.a",), ("../top",)),
        (("//*",), ("..",)),
        (("/abs/file", "/abs/dir/*"), ("/abs/dir", "/abs/file")),
        (("../../t/x",), ("/home/me/t/x",)),
        (("dist", "!dist/tmp"), ("dist",)),
        ((), ()),
    ],
)
def test_output_prefixes_are_the_literal_beginnings(
    outputs: tuple[str, ...], prefixes: tuple[str, ...]
) -> None:
    assert output_prefixes(recipe(outputs=outputs)) == prefixes


def test_the_root_of_the_file_system_can_be_the_base() -> None:
    areas = place(recipe(root="/", cwd="/"), ("etc/**", "/x", "!tmp", "!//var"))
    assert [found(areas, path) for path in ("/etc/a", "/x", "/tmp/a", "/y")] == [["etc/a"], ["x"], [], []]
    assert found(place(recipe(root="/", cwd="/"), ("**", "!/")), "/a") == []


@pytest.mark.parametrize("pattern", ["/", "../../../.."])
def test_the_whole_file_system_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        place(recipe(), (pattern,))
