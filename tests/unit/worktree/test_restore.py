"""Restoring: exactly what was wanted, all or nothing, and nothing of the user's is lost."""

import errno
import os
import posix
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsula.core.digest import digest_of
from capsula.core.node import FILE, Node
from capsula.errors import BlobMissing, EntryCorrupt, OutputError
from capsula.store.memory import MemoryStore
from capsula.worktree import restore as restoring
from unit.worktree.benches import Bench, make, nodes_of

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
