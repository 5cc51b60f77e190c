"""Any outputs become any others, and nothing is done that isn't needed for it."""

import os
import tempfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capsula.core.digest import digest_of
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.worktree.restore import plan
from unit.worktree.benches import Bench, Tree, bench_shot, make, nodes_of


@pytest.fixture(scope="module")
def scratch() -> Iterator[Callable[..., Bench]]:
    """A new bench for each example of a property."""
    with tempfile.TemporaryDirectory() as base:
        count = iter(range(10**6))
        yield lambda *args, **options: Bench(f"{base}/{next(count)}", *args, **options)


NAMES = st.sampled_from(["a", "b", "c", "d e", "\n", "\udcff", "keep"])
FILES = st.tuples(st.sampled_from([0o644, 0o755, 0o400, 0o000]), st.sampled_from([b"", b"1", b"2", b"3"]))
LINKS = st.sampled_from(["a", "../b", "/nowhere", ".", "\udcff"])
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        st.one_of(FILES, LINKS),
        lambda inner: st.tuples(
            st.sampled_from([0o755, 0o700, 0o555, 0o500]), st.dictionaries(NAMES, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def without_kept(tree: Tree) -> Tree:
    """The tree without the names that the patterns exclude."""
    return {
        name: (what[0], without_kept(what[1]))
        if not isinstance(what, str) and isinstance(what[1], dict)
        else what
        for name, what in tree.items()
        if name != "keep"
    }


@settings(max_examples=70, deadline=None)
@given(TREES, TREES, st.sets(st.sampled_from("abcde"), max_size=3))
@example({"a": (0o555, {"x": (0o644, b"1")})}, {}, set())
@example({"a": (0o555, {"b": (0o644, b"1")})}, {"a": (0o644, b"2")}, set())
@example({"a": (0o755, {"a": (0o555, {"keep": "a", "a": "a"})})}, {"a": (0o644, b"3")}, set())
@example({"a": (0o500, {"b": (0o500, {"c": (0o644, b"1")})})}, {"a": "b"}, {"c"})
def test_any_outputs_become_exactly_the_wanted_ones(
    scratch: Callable[..., Bench], found: Tree, wanted: Tree, own: set[str]
) -> None:
    bench = scratch(("out/**", "!out/**/keep"))
    os.mkdir(f"{bench.work}/out")
    make(f"{bench.work}/out", found)
    make(bench.work, {"other": (0o600, b"not declared"), "dir": (0o755, {"x": (0o644, b"x")})})
    bench.owns(lambda path: path[-1] in own)
    made = set(bench.workspace.memory.made)
    wanted = without_kept(wanted)
    nodes = nodes_of(wanted, bench.store)
    before = bench.shot()
    restored = bench.settle(nodes)
    after, buried = bench.shot(), bench.buried()

    expected = bench_shot(wanted)
    kept = {path: what for path, what in before.items() if "keep" in path.split("/")}
    outputs = {path: what for path, what in after.items() if path.startswith("out/")}
    for path, what in outputs.items():
        # Beside what is wanted there is only what is excluded, and the way to it.
        assert path in expected or "keep" in path.split("/") or any(k.startswith(path + "/") for k in kept), (
            path
        )
        if path in expected:
            assert what == expected[path], path
    assert expected.keys() <= outputs.keys()
    assert {p: w for p, w in after.items() if not p.startswith("out")} == {
        p: w for p, w in before.items() if not p.startswith("out")
    }
    for path, what in before.items():
        if not path.startswith("out/") or what[0] == "directory" or f"{bench.work}/{path}" in made:
            continue
        # All that was the user's is where it was, or in the trash.
        same_content = (
            after.get(path) is not None and after[path][0] == what[0] and after[path][2:] == what[2:]
        )
        assert same_content or buried.get(path) == what, path
    for path, what in kept.items():
        assert after.get(path) == what or buried.get(path) is not None, path
    assert restored.written >= 0
    assert not bench.leftovers()
    # And once it is so, nothing is left to be done.
    again = bench.settle(nodes)
    assert (again.written, again.removed, again.buried) == (0, 0, [])
    assert bench.shot() == after


NODES = st.one_of(
    st.builds(
        lambda mode, content: Node(FILE, mode=mode, digest=digest_of(content)),
        st.just(0o644),
        st.binary(max_size=1),
    ),
    st.builds(lambda target: Node(LINK, target=target), st.sampled_from("xy")),
    st.builds(lambda mode: Node(DIRECTORY, mode=mode), st.sampled_from([0o755, 0o700])),
)
MAPS = st.dictionaries(st.sampled_from(["/a", "/a/b", "/a/b/c", "/d", "/d/e"]), NODES, max_size=5)


@settings(max_examples=70, deadline=None)
@given(MAPS, MAPS, st.sets(st.sampled_from(["/a", "/a/b", "/d"])))
def test_a_plan_does_what_is_needed_and_no_more(
    wanted: dict[str, Node], found: dict[str, Node], inputs: set[str]
) -> None:
    steps = plan(wanted, found, set(), inputs)
    assert bool(steps) == any([found.get(path) != node for path, node in wanted.items()]) or set(found) - set(
        wanted
    )
    for path, node in wanted.items():
        touched = path in steps.make or path in steps.chmods
        assert touched == (found.get(path) != node)
    gone = {*steps.remove, *steps.rmdirs}
    assert not any([path in inputs for path in gone - set(wanted)])
    assert gone >= {path for path in found if path not in wanted and path not in inputs}
    assert steps.rmdirs == sorted(steps.rmdirs, key=len, reverse=True)
