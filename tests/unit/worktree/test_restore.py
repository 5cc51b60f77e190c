"""Restoring: exactly what was wanted, all or nothing, and nothing of the user's is lost."""

import errno
import os
import posix
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capsula.core.digest import digest_of
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.recipe import Recipe
from capsula.errors import BlobMissing, CapsulaError, EntryCorrupt, OutputError
from capsula.store import trash
from capsula.store.burial import burier
from capsula.store.memory import MemoryStore
from capsula.worktree import restore as restoring
from capsula.worktree.kept import Memory
from capsula.worktree.restore import plan
from capsula.worktree.workspace import Workspace

# A tree: a name leads to (mode, content), to a link's target, or to (mode, tree).
Tree = dict[str, Any]
# What there is at a path: ("file", mode, content), ("link", target), ("directory", mode).
Shot = dict[str, tuple[Any, ...]]


def make(path: str, tree: Tree) -> None:
    for name, what in tree.items():
        full = f"{path}/{name}"
        if isinstance(what, str):
            os.symlink(what, full)
        elif isinstance(what[1], dict):
            os.mkdir(full)
            make(full, what[1])
            os.chmod(full, what[0])
        else:
            with open(full, "wb") as file:
                file.write(what[1])
            os.chmod(full, what[0])


def shot(path: str, lead: str = "") -> Shot:
    found: Shot = {}
    for name in os.listdir(path):
        full, shown = f"{path}/{name}", lead + name
        mode = os.lstat(full).st_mode & 0o7777
        if os.path.islink(full):
            found[shown] = ("link", os.readlink(full))
        elif os.path.isdir(full):
            found[shown] = ("directory", mode)
            found.update(shot(full, shown + "/"))
        else:
            with open(full, "rb") as file:
                found[shown] = ("file", mode, file.read())
    return found


def nodes_of(tree: Tree, store: MemoryStore, lead: str = "out/", mode: int = 0o755) -> dict[str, Node]:
    """The nodes of a directory with this tree, as a result has them."""
    nodes: dict[str, Node] = {lead[:-1]: Node(DIRECTORY, mode=mode)}
    for name, what in tree.items():
        if isinstance(what, str):
            nodes[lead + name] = Node(LINK, target=what)
        elif isinstance(what[1], dict):
            nodes.update(nodes_of(what[1], store, f"{lead}{name}/", what[0]))
        else:
            nodes[lead + name] = Node(FILE, mode=what[0], digest=store.put(what[1]))
    return nodes


class Bench:
    """A work tree, a store, a trash, and the workspace of a capsule between them."""

    def __init__(
        self, base: str, outputs: tuple[str, ...] = ("out/**",), inputs: tuple[str, ...] = ()
    ) -> None:
        self.base, self.work, self.root = base, f"{base}/work", f"{base}/store"
        self.trash = self.root
        for path in (self.work, self.root, f"{self.root}/tmp"):
            os.makedirs(path, exist_ok=True)
        self.store = MemoryStore()
        recipe = Recipe(
            capsule_id="x", argv=("x",), root=self.work, cwd=self.work, inputs=inputs, outputs=outputs
        )
        self.workspace = Workspace(recipe, Memory(""), ())
        self.workspace.stage_places = (f"{self.root}/tmp", self.work)
        self.bury = burier(self.root, "x")

    def owns(self, chosen: Callable[[str], bool]) -> None:
        """A run of this capsule made these of the outputs that there are."""
        looks = self.workspace.outputs().looks
        self.workspace.memory.made = {path: look for path, look in looks.items() if chosen(path)}

    def settle(self, wanted: dict[str, Node]) -> Any:
        return self.workspace.settle(wanted, self.store, self.bury)

    def shot(self) -> Shot:
        return shot(self.work)

    def buried(self) -> Shot:
        """What is in the trash, by the path that it had in the work tree."""
        found: Shot = {}
        for item in trash.items(self.root):
            relative = os.path.relpath(item.path, self.work)
            below = shot(f"{self.root}/trash/{item.id}")
            found[relative] = below.pop("item")
            del below["item.json"]
            found.update({relative + path[len("item") :]: what for path, what in below.items()})
        return found

    def leftovers(self) -> list[str]:
        names = [*os.listdir(f"{self.root}/tmp"), *os.listdir(self.work)]
        return [name for name in names if name.startswith(restoring.STAGE)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(str(tmp_path))


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


# ---------------------------------------------------------------------------------------------------- properties


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


def bench_shot(tree: Tree, lead: str = "out/") -> Shot:
    found: Shot = {}
    for name, what in tree.items():
        if isinstance(what, str):
            found[lead + name] = ("link", what)
        elif isinstance(what[1], dict):
            found[lead + name] = ("directory", what[0])
            found.update(bench_shot(what[1], f"{lead}{name}/"))
        else:
            found[lead + name] = ("file", what[0], what[1])
    return found


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


# ---------------------------------------------------------------------------------------------------- faults

BEFORE: Tree = {
    "same": (0o644, b"same"),
    "edited": (0o644, b"the user's"),
    "own": (0o600, b"made before"),
    "stale": (0o644, b"the user's too"),
    "stale-own": (0o644, b"made before"),
    "mode": (0o644, b"mode"),
    "link": "somewhere",
    "to-file": (0o555, {"x": (0o644, b"x"), "own-x": (0o644, b"y")}),
    "to-dir": (0o644, b"was a file"),
    "to-link": (0o755, {"x": (0o644, b"x")}),
    "gone": (0o755, {"deep": (0o555, {"f": (0o400, b"f"), "l": "f"})}),
    "empty": (0o700, {}),
    "full": (0o755, {"keep": (0o644, b"not an output"), "f": (0o644, b"f")}),
    "dmode": (0o755, {"f": (0o644, b"f")}),
}
WANTED: Tree = {
    "same": (0o644, b"same"),
    "edited": (0o644, b"right"),
    "own": (0o644, b"right"),
    "mode": (0o755, b"mode"),
    "link": "elsewhere",
    "to-file": (0o644, b"now a file"),
    "to-dir": (0o555, {"y": (0o644, b"y"), "sub": (0o700, {"l": "../y"})}),
    "to-link": "dmode",
    "new": (0o755, {"a": (0o755, {"b": (0o444, b"b")}), "e": (0o555, {})}),
    "dmode": (0o500, {"f": (0o644, b"f"), "g": (0o644, b"g")}),
}
MOVING = ("mkdir", "chmod", "rename", "symlink", "unlink", "rmdir", "stat", "lstat", "listdir", "readlink")


class Broken:
    """The system, with an error at the nth call that restoring makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, at: int, code: int) -> None:
        self.count, self.at, self.code, self.name = 0, at, code, ""
        calls = {name: self._failing(name, getattr(posix, name)) for name in MOVING}
        stub = SimpleNamespace(**{**vars(posix), **calls})
        monkeypatch.setattr(restoring, "posix", stub)
        bench.bury = self._failing("bury", bench.bury)  # type: ignore[assignment]
        fetch = self._failing("fetch", bench.store.fetch)
        monkeypatch.setattr(MemoryStore, "fetch", lambda store, *args: fetch(*args))

    def _failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.name = name
                if name == "fetch":
                    raise BlobMissing("gone")
                if name == "bury":
                    raise OutputError("can't be moved")
                raise OSError(self.code, os.strerror(self.code), str(args[0]))
            return call(*args, **options)

        return wrapped


def prepared(base: str) -> Bench:
    bench = Bench(base, ("out/**", "!out/**/keep"))
    make(bench.work, {"out": (0o755, BEFORE), "other": (0o644, b"other")})
    bench.owns(lambda path: "own" in path)
    return bench


@pytest.mark.parametrize("code", [errno.EIO])
def test_an_error_at_any_moment_leaves_everything_as_it_was(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, failed = 0, set()
    while True:
        at += 1
        bench = prepared(str(tmp_path / str(at)))
        nodes = nodes_of(WANTED, bench.store)
        before = bench.shot()
        with monkeypatch.context() as patch:
            broken = Broken(patch, bench, at, code)
            try:
                bench.settle(nodes)
            except CapsulaError:
                failed.add(broken.name)
                raised = True
            else:
                raised = False
        if not broken.name:
            break
        after = {path: what for path, what in bench.shot().items() if restoring.STAGE not in path}
        if raised:
            assert after == before, f"{broken.name}, call {at}"
            assert not bench.buried(), f"{broken.name}, call {at}"
        else:
            # The error was one that didn't matter: then the outputs are right, to the last bit.
            expected = {"out": ("directory", 0o755), **bench_shot(WANTED), "other": before["other"]}
            kept = {"out/full": before["out/full"], "out/full/keep": before["out/full/keep"]}
            assert after == {**expected, **kept}, f"{broken.name}, call {at}"
    assert at > 60
    assert {"mkdir", "chmod", "rename", "symlink", "rmdir", "fetch", "bury", "stat"} <= failed


def test_an_interrupt_at_any_moment_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle, as an exception that is no Exception."""
    bench = prepared(str(tmp_path))
    nodes = nodes_of(WANTED, bench.store)
    before = bench.shot()
    calls = 0

    def rename(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "posix", SimpleNamespace(**{**vars(posix), "rename": rename}))
        with pytest.raises(KeyboardInterrupt):
            bench.settle(nodes)
    assert bench.shot() == before
    assert not bench.leftovers()


def test_without_an_error_it_is_done(tmp_path: Path) -> None:
    bench = prepared(str(tmp_path))
    restored = bench.settle(nodes_of(WANTED, bench.store))
    after = bench.shot()
    assert {path: what for path, what in after.items() if "full" not in path} == {
        "out": ("directory", 0o755),
        **bench_shot(WANTED),
        "other": ("file", 0o644, b"other"),
    }
    assert after["out/full/keep"] == ("file", 0o644, b"not an output")
    assert "out/full/f" not in after
    names = {os.path.relpath(path, f"{bench.work}/out") for path in restored.buried}
    assert names == {
        *(
            "edited",
            "stale",
            "link",
            "to-file/x",
            "to-dir",
            "to-link/x",
            "gone/deep/f",
            "gone/deep/l",
            "full/f",
        )
    }
    assert bench.buried()["out/edited"] == ("file", 0o644, b"the user's")


# ---------------------------------------------------------------------------------------------------- cases


def test_intact_outputs_are_not_touched(bench: Bench) -> None:
    make(bench.work, {"out": (0o755, {"a": (0o644, b"a"), "b": (0o644, b"old")})})
    os.utime(f"{bench.work}/out/a", ns=(1, 1))
    before = os.stat(f"{bench.work}/out/a")
    bench.settle(nodes_of({"a": (0o644, b"a"), "b": (0o644, b"b")}, bench.store))
    after = os.stat(f"{bench.work}/out/a")
    assert (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)


def test_a_mode_alone_needs_no_content(bench: Bench) -> None:
    make(bench.work, {"out": (0o755, {"a": (0o644, b"a")})})
    nodes = {"out/a": Node(FILE, mode=0o755, digest=digest_of(b"a"))}  # of which the store has nothing
    restored = bench.settle(nodes)
    assert os.stat(f"{bench.work}/out/a").st_mode & 0o777 == 0o755
    assert (restored.written, restored.buried) == (0, [])


def test_a_restored_file_is_the_capsules_own_and_not_buried_the_next_time(bench: Bench) -> None:
    bench.settle(nodes_of({"a": (0o644, b"1")}, bench.store))
    restored = bench.settle(nodes_of({"a": (0o644, b"2")}, bench.store))
    assert restored.buried == []
    assert bench.shot()["out/a"] == ("file", 0o644, b"2")
    Path(bench.work, "out/a").write_bytes(b"the user's")
    assert bench.settle(nodes_of({"a": (0o644, b"3")}, bench.store)).buried == [f"{bench.work}/out/a"]


def test_an_edit_that_keeps_size_and_time_is_seen(bench: Bench) -> None:
    bench.settle(nodes_of({"a": (0o644, b"right")}, bench.store))
    path = Path(bench.work, "out/a")
    seen = path.stat()
    path.write_bytes(b"wrong")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert bench.settle(nodes_of({"a": (0o644, b"right")}, bench.store)).buried == [str(path)]
    assert path.read_bytes() == b"right"


def test_a_declared_input_is_never_removed(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), outputs=("*.c",), inputs=("gen.c",))
    make(bench.work, {"gen.c": (0o644, b"input"), "old.c": (0o644, b"stale")})
    bench.workspace.inputs()
    bench.settle({"new.c": Node(FILE, mode=0o644, digest=bench.store.put(b"new"))})
    assert set(bench.shot()) == {"gen.c", "new.c"}


def test_no_run_without_its_blobs_leaves_a_trace(bench: Bench) -> None:
    make(bench.work, {"out": (0o755, {"a": (0o644, b"the user's"), "stale": (0o644, b"s")})})
    before = bench.shot()
    nodes = nodes_of({"b": (0o644, b"b")}, bench.store)
    nodes["out/a"] = Node(FILE, mode=0o644, digest=digest_of(b"never stored"))
    with pytest.raises(BlobMissing):
        bench.settle(nodes)
    assert bench.shot() == before
    assert not bench.leftovers()


def test_a_file_becomes_a_directory_whose_own_node_is_not_declared(tmp_path: Path) -> None:
    """With wildcards that match no directory, the way to an output is made as the command would have made it."""
    bench = Bench(str(tmp_path), outputs=("out/*", "out/*/b"))
    make(bench.work, {"out": (0o755, {"a": (0o644, b"the user's")})})
    bench.settle({"out/a/b": Node(FILE, mode=0o644, digest=bench.store.put(b"b"))})
    assert bench.shot()["out/a/b"] == ("file", 0o644, b"b")
    assert bench.buried() == {"out/a": ("file", 0o644, b"the user's")}


def test_a_directory_that_is_in_the_way_goes_to_the_trash_whole(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), outputs=("*.o",))
    make(bench.work, {"a.o": (0o755, {"mine": (0o644, b"not an output")})})
    bench.settle({"a.o": Node(FILE, mode=0o644, digest=bench.store.put(b"o"))})
    assert bench.shot() == {"a.o": ("file", 0o644, b"o")}
    assert bench.buried()["a.o/mine"] == ("file", 0o644, b"not an output")


def test_directories_keep_the_group_that_their_place_gives_them(bench: Bench) -> None:
    """The set-group-ID bit is inherited; no result has it and none takes it away."""
    make(bench.work, {"out": (0o755, {"d": (0o2755, {"f": (0o644, b"f")})})})
    os.chmod(f"{bench.work}/out", 0o2755)
    wanted = {"d": (0o700, {"f": (0o644, b"f")}), "new": (0o755, {"e": (0o755, {})})}
    bench.settle(nodes_of(wanted, bench.store, mode=0o755))
    modes = {path: what[1] for path, what in bench.shot().items() if what[0] == "directory"}
    assert modes == {"out": 0o2755, "out/d": 0o2700, "out/new": 0o2755, "out/new/e": 0o2755}


def test_modes_of_directories_that_only_had_to_be_opened_come_back(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), outputs=("d/*.o",))
    make(bench.work, {"d": (0o555, {"a.o": (0o644, b"old"), "x": (0o644, b"x")})})
    bench.settle({"d/b.o": Node(FILE, mode=0o644, digest=bench.store.put(b"o"))})
    assert bench.shot() == {
        "d": ("directory", 0o555),
        "d/b.o": ("file", 0o644, b"o"),
        "d/x": ("file", 0o644, b"x"),
    }


# ---------------------------------------------------------------------------------------------------- hostile


def test_only_declared_outputs_are_written(bench: Bench) -> None:
    content = Node(FILE, mode=0o644, digest=bench.store.put(b"evil"))
    for path in ("other", "../other", "/etc/evil", "out2/x", "out/.git/hooks/x", ".git/config", ".", ""):
        with pytest.raises(EntryCorrupt, match="no output pattern"):
            bench.settle({path: content})
    assert bench.shot() == {}


@pytest.mark.parametrize("outputs", [("out/**",), ("out/*/f",), ("out",), ("**/f",), ("out/*", "out/*/f")])
def test_nothing_is_written_through_a_link_in_the_work_tree(outputs: tuple[str, ...], tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), outputs=outputs)
    outside = tmp_path / "outside"
    outside.mkdir()
    make(bench.work, {"out": (0o755, {"d": str(outside)})})
    before = bench.shot()
    evil = {"out/d/f": Node(FILE, mode=0o644, digest=bench.store.put(b"evil"))}
    try:
        bench.settle(evil)
    except OutputError:
        assert bench.shot() == before
    else:
        assert bench.shot()["out/d"][0] == "directory"
    assert list(outside.iterdir()) == []


def test_nothing_is_written_through_a_link_outside_the_root_either(tmp_path: Path) -> None:
    away, outside = tmp_path / "away", tmp_path / "outside"
    bench = Bench(str(tmp_path), outputs=(f"{away}/*/f",))
    for path in (away, outside):
        path.mkdir()
    (away / "d").symlink_to(outside)
    with pytest.raises(OutputError, match="link"):
        bench.settle({f"{away}/d/f": Node(FILE, mode=0o644, digest=bench.store.put(b"evil"))})
    assert list(outside.iterdir()) == []


def test_a_link_above_an_output_outside_the_root_is_the_users_way_there(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "work2").symlink_to(real)  # its name begins like that of the root
    bench = Bench(str(tmp_path), outputs=(f"{tmp_path}/work2/f",))
    bench.settle({f"{tmp_path}/work2/f": Node(FILE, mode=0o644, digest=bench.store.put(b"f"))})
    assert (real / "f").read_bytes() == b"f"


def test_what_the_users_pattern_spells_out_may_be_a_link(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), outputs=("pkg/lib/**",))
    make(bench.work, {"real": (0o755, {"lib": (0o755, {"old": (0o644, b"old")})}), "pkg": "real"})
    bench.settle(nodes_of({"new": (0o644, b"new")}, bench.store, "pkg/lib/"))
    assert bench.shot()["real/lib/new"] == ("file", 0o644, b"new")
    assert bench.shot()["pkg"] == ("link", "real")
    assert "real/lib/old" not in bench.shot()


def test_a_link_that_is_an_output_is_replaced_and_not_followed(bench: Bench, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    make(bench.work, {"out": (0o755, {"a": str(victim)})})
    bench.settle(nodes_of({"a": (0o644, b"a")}, bench.store))
    assert victim.read_bytes() == b"precious"
    assert bench.shot()["out/a"] == ("file", 0o644, b"a")
    assert bench.buried()["out/a"] == ("link", str(victim))


# ---------------------------------------------------------------------------------------------------- staging


def test_staging_directories_of_the_dead_are_removed(bench: Bench) -> None:
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    old = f"{bench.root}/tmp/{restoring.STAGE}{dead}-0"
    make(f"{bench.root}/tmp", {os.path.basename(old): (0o555, {"x": (0o644, b"x")})})
    alive = f"{bench.root}/tmp/{restoring.STAGE}{os.getppid()}-0"
    os.mkdir(alive)
    bench.settle(nodes_of({"a": (0o644, b"a")}, bench.store))
    assert not os.path.exists(old)
    assert os.path.exists(alive)


def test_a_stage_that_turns_out_to_be_on_another_file_system_is_made_beside_the_outputs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bind mount has one device and is two file systems to rename()."""

    def rename(source: str, target: str) -> None:
        if source.startswith(bench.root) != target.startswith(bench.root):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)
        os.rename(source, target)

    make(bench.work, {"out": (0o755, {"own": (0o644, b"old")})})
    bench.owns(lambda path: True)
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "posix", SimpleNamespace(**{**vars(posix), "rename": rename}))
        bench.settle(nodes_of({"a": (0o755, {"b": (0o644, b"b")})}, bench.store))
    assert bench.shot() == {
        "out": ("directory", 0o755),
        "out/a": ("directory", 0o755),
        "out/a/b": ("file", 0o644, b"b"),
    }
    assert not bench.leftovers()


class Unlike:
    """A store that does something else in the second process."""

    at_hand = False

    def __init__(self, store: MemoryStore, otherwise: Callable[[str], None]) -> None:
        self.store, self.otherwise, self.pid, self.fetched = store, otherwise, os.getpid(), 0

    def fetch(self, digest: Any, path: str, mode: int) -> None:
        if os.getpid() != self.pid:
            self.otherwise(path)
        self.fetched += 1
        self.store.fetch(digest, path, mode)


def half_written(path: str) -> None:
    Path(path).write_text("half")
    os.kill(os.getpid(), 9)


def failing(path: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("otherwise", [lambda path: None, half_written, failing])
def test_many_are_fetched_whatever_becomes_of_the_process_for_one_half(
    tmp_path: Path, otherwise: Callable[[str], None], forked: list[int]
) -> None:
    memory = MemoryStore()
    contents = {f"{tmp_path}/{number}": b"%d" % number for number in range(restoring.MANY)}
    store = Unlike(memory, otherwise)
    restoring.fetch_all(store, [(memory.put(each), path, 0o640) for path, each in contents.items()])  # type: ignore[arg-type]
    assert {str(path): path.read_bytes() for path in tmp_path.iterdir()} == contents
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    done_here = restoring.MANY // 2 if "lambda" in repr(otherwise) else restoring.MANY
    assert store.fetched == done_here
    assert len(forked) == 1


@pytest.mark.parametrize("which", [0, restoring.MANY - 1], ids=["in one half", "in the other"])
def test_of_many_one_that_is_missing_is_said(tmp_path: Path, which: int) -> None:
    memory = MemoryStore()
    fetches = [
        (
            memory.put(b"%d" % number) if number != which else digest_of(b"never put"),
            f"{tmp_path}/{number}",
            0o644,
        )
        for number in range(restoring.MANY)
    ]
    with pytest.raises(BlobMissing):
        restoring.fetch_all(memory, fetches)
