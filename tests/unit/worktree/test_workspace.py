"""The workspace: what is found as inputs and outputs, how it is named, and what moved."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from capsula.core.digest import EMPTY, digest_of
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.reapi import Directory
from capsula.core.recipe import Recipe
from capsula.core.wire import decode
from capsula.errors import InputError
from capsula.worktree.kept import Memory
from capsula.worktree.workspace import Workspace

LATER = 10**9
A, B = digest_of(b"a"), digest_of(b"b")


class Place:
    """A root with a working directory in it, and a workspace for what is declared."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.cwd = self.root / "app"
        self.cwd.mkdir(parents=True)
        self.memory = Memory("")
        self.wait = LATER

    def of(
        self, *inputs: str, outputs: tuple[str, ...] = (), hidden: tuple[str, ...] = (), **more: Any
    ) -> Workspace:
        recipe = Recipe(
            **{
                "capsule_id": "x",
                "argv": ("x",),
                "root": str(self.root),
                "cwd": str(self.cwd),
                "inputs": inputs,
                "outputs": outputs,
                **more,
            }
        )
        return Workspace(recipe, self.memory, hidden, clock=lambda: time.time_ns() + self.wait)

    def write(self, name: str, content: str = "a") -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def tree(workspace: Workspace) -> dict[str, str]:
    """What the Merkle tree of the inputs holds, by path."""
    found = workspace.inputs()
    rows: dict[str, str] = {}

    def walk(path: str, digest: Any) -> None:
        message = decode(Directory, found.directories[digest.hash])
        rows.update(
            {path + f.name: f.digest.hash[:4] + "x" * f.is_executable for f in message.files if f.digest}
        )
        rows.update({path + link.name: "-> " + link.target for link in message.symlinks})
        if path and not (message.files or message.symlinks or message.directories):
            rows[path] = ""
        for directory in message.directories:
            walk(f"{path}{directory.name}/", directory.digest)

    walk("", found.root)
    return rows


# ---------------------------------------------------------------------------------------------------- inputs


def test_inputs_are_a_tree_from_the_root(place: Place) -> None:
    place.write("src/a")
    place.write("src/x").chmod(0o755)
    (place.cwd / "src/empty").mkdir()
    (place.cwd / "src/l").symlink_to("a")
    place.write("../top", "b")
    place.write("not-declared")
    assert tree(place.of("src", "//top")) == {
        "app/src/a": A.hash[:4],
        "app/src/x": A.hash[:4] + "x",
        "app/src/empty/": "",
        "app/src/l": "-> a",
        "top": B.hash[:4],
    }


def test_no_inputs_are_the_empty_tree(place: Place) -> None:
    found = place.of().inputs()
    assert (found.root, found.unmatched, found.outside, found.linked) == (EMPTY, (), (), ())


def test_where_the_checkout_is_does_not_matter(tmp_path: Path) -> None:
    roots = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        place = Place(tmp_path / name)
        place.write("src/a")
        place.write("../../beside/h")
        found = place.of("src", "../../beside/h").inputs()
        roots.append((found.root, found.outside))
    assert roots[0] == roots[1]
    assert roots[0][1] == (("../../beside/h", A.hash),)


def test_inputs_outside_the_root(place: Place, tmp_path: Path) -> None:
    away = tmp_path / "away"
    (away / "empty").mkdir(parents=True)
    (away / "f").write_text("a")
    (away / "x").write_text("b")
    (away / "x").chmod(0o755)
    (away / "l").symlink_to("f")
    found = place.of(f"{away}/**").inputs()
    assert found.root == EMPTY
    assert found.outside == (
        (f"{away}/empty", "/"),
        (f"{away}/f", A.hash),
        (f"{away}/l", "->f"),
        (f"{away}/x", B.hash + "*"),
    )


def test_the_content_behind_a_declared_link_is_a_fact(place: Place) -> None:
    place.write("hidden/a")
    (place.cwd / "src").mkdir()
    (place.cwd / "src/l").symlink_to("../hidden/a")
    (place.cwd / "src/broken").symlink_to("nowhere")
    (place.cwd / "src/dir").symlink_to("../hidden")
    workspace = place.of("src")
    assert workspace.inputs().linked == (("app/src/l", A.hash),)
    place.write("hidden/a", "b")
    assert workspace.inputs().linked == (("app/src/l", B.hash),)


def test_a_link_to_what_is_declared_itself_adds_nothing(place: Place) -> None:
    place.write("src/a")
    (place.cwd / "src/l").symlink_to("a")
    (place.cwd / "src/k").symlink_to("l")
    assert place.of("src").inputs().linked == ()


def test_what_a_link_leads_to_is_read_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("hidden/a")
    (place.cwd / "l").symlink_to("hidden/a")
    assert place.of("l").inputs().linked == (("app/l", A.hash),)
    monkeypatch.setattr("capsula.worktree.workspace.hash_file", lambda *args: pytest.fail("read again"))
    assert place.of("l").inputs().linked == (("app/l", A.hash),)


def test_a_link_to_a_fresh_file_is_read_again(place: Place) -> None:
    place.wait = 0
    target = place.write("hidden/a")
    (place.cwd / "l").symlink_to("hidden/a")
    workspace = place.of("l")
    assert (str(place.cwd / "l"), A.hash) in workspace.inputs().fresh
    seen = target.stat()
    target.write_text("b")
    os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert workspace.moved()
    assert workspace.inputs().linked == (("app/l", B.hash),)


def test_patterns_without_a_match_are_named(place: Place) -> None:
    place.write("a")
    assert place.of("a", "b*", "../../nowhere/*").inputs().unmatched == ("b*", "../../nowhere/*")


def test_hashes_are_for_people(place: Place, tmp_path: Path) -> None:
    place.write("b", "b")
    place.write("a")
    (place.cwd / "l").symlink_to("a")
    (tmp_path / "h").write_text("a")
    found = place.of("**", "../../h").inputs()
    assert found.hashes() == [("../../h", A.hash), ("app/a", A.hash), ("app/b", B.hash), ("app/l", "-> a")]


def test_a_second_look_reads_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("src/a")
    first = place.of("src").inputs()

    def read(jobs: list[object]) -> None:
        assert not jobs

    monkeypatch.setattr("capsula.worktree.digests._hash_all", read)
    again = place.of("src").inputs()
    assert again.root == first.root
    assert again.directories == first.directories


def test_an_input_that_cannot_be_read_is_an_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.cwd / "l").symlink_to("hidden")
    place.write("hidden")

    def refused(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("capsula.worktree.workspace.hash_file", refused)
    with pytest.raises(InputError, match="Permission denied"):
        place.of("l").inputs()


# ---------------------------------------------------------------------------------------------------- moved


def test_nothing_moved_before_anything_was_found(place: Place) -> None:
    assert place.of("a").moved() == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cwd: None, ""),
        (lambda cwd: (cwd / "src/a").write_text("bb"), "app/src/a changed"),
        (lambda cwd: (cwd / "src/a").chmod(0o755), "app/src/a changed"),
        (lambda cwd: os.utime(cwd / "src/a", ns=(1, 1)), "app/src/a changed"),
        (lambda cwd: (cwd / "src/a").unlink(), "app/src/a vanished"),
        (lambda cwd: (cwd / "src/new").touch(), "app/src/new appeared"),
        (lambda cwd: (cwd / "src/new").mkdir(), "app/src/new appeared"),
        (lambda cwd: (cwd / "hidden").write_text("bb"), "what app/src/l leads to changed"),
        (lambda cwd: (cwd / "elsewhere").touch(), ""),
        (lambda cwd: (cwd / "one.txt").write_text("bb"), "app/one.txt changed"),
        (lambda cwd: (cwd / "two.txt").touch(), "app/two.txt appeared"),
        (lambda cwd: (cwd / "out/o").write_text("made"), ""),
        (lambda cwd: os.utime(cwd.parent.parent / "h", ns=(1, 1)), "../../h changed"),
    ],
)
def test_what_moved_is_named(place: Place, change: Any, said: str) -> None:
    place.write("src/a")
    place.write("hidden")
    place.write("one.txt")
    place.write("out/.x")
    (place.root.parent / "h").write_text("a")
    (place.cwd / "src/l").symlink_to("../hidden")
    workspace = place.of("src", "*.txt", "../../h", outputs=("out",))
    workspace.inputs()
    change(place.cwd)
    assert workspace.moved() == said


def test_a_fresh_input_is_read_again_before_it_is_trusted(place: Place) -> None:
    """An edit in the same tick of the clock, with the size kept: only the content tells."""
    path = place.write("a")
    place.wait = 0
    workspace = place.of("a")
    workspace.inputs()
    workspace.found.contents[0].fresh = [(str(path), B.hash)]  # type: ignore[union-attr]
    assert workspace.moved() == f"{path} changed"
    workspace.found.contents[0].fresh = [(str(path), A.hash)]  # type: ignore[union-attr]
    assert workspace.moved() == ""


def test_an_input_directory_that_vanished_moved(place: Place) -> None:
    place.write("src/a")
    workspace = place.of("src")
    workspace.inputs()
    (place.cwd / "src/a").unlink()
    (place.cwd / "src").rmdir()
    assert "src" in workspace.moved()


# ---------------------------------------------------------------------------------------------------- outputs


def test_outputs_are_nodes_by_their_full_paths(place: Place, tmp_path: Path) -> None:
    place.write("dist/a").chmod(0o640)
    place.write("dist/sub/x", "b").chmod(0o4755)
    (place.cwd / "dist/sub/l").symlink_to("x")
    (place.cwd / "dist/empty").mkdir()
    (place.cwd / "dist/empty").chmod(0o700)
    (tmp_path / "o").write_text("a")
    place.write("top.o")
    workspace = place.of(outputs=("dist", "*.o", "../../o", "never"))
    found = workspace.outputs()
    root = f"{place.cwd}/"
    assert found.nodes == {
        root + "dist": Node(DIRECTORY, mode=0o755),
        root + "dist/a": Node(FILE, mode=0o640, digest=A),
        root + "dist/sub": Node(DIRECTORY, mode=0o755),
        root + "dist/sub/x": Node(FILE, mode=0o755, digest=B),
        root + "dist/sub/l": Node(LINK, target="x"),
        root + "dist/empty": Node(DIRECTORY, mode=0o700),
        root + "top.o": Node(FILE, mode=0o644, digest=A),
        str(tmp_path / "o"): Node(FILE, mode=0o644, digest=A),
    }
    assert found.unmade == ("never",)
    assert set(found.looks) == {path for path, node in found.nodes.items() if node.kind != DIRECTORY}


def test_fresh_outputs_are_known_as_such(place: Place) -> None:
    place.write("o")
    workspace = place.of(outputs=("o",))
    assert not workspace.outputs().fresh
    place.wait = 0
    assert workspace.outputs().fresh


@pytest.mark.parametrize(
    ("full", "name"),
    [
        ("{cwd}/dist/a", "dist/a"),
        ("{cwd}", ""),
        ("{root}/top", "../top"),
        ("{root}", ".."),
        ("{root}2/x", "{root}2/x"),
        ("/abs", "/abs"),
    ],
)
def test_names_in_a_result_lead_back(place: Place, full: str, name: str) -> None:
    full, name = (text.format(cwd=place.cwd, root=place.root) for text in (full, name))
    workspace = place.of()
    assert workspace.named(full) == name
    assert workspace.full(name) == full


def test_what_is_hidden_is_neither_input_nor_output(place: Place) -> None:
    place.write("store/cas/x")
    place.write("src/a")
    hidden = (str(place.cwd / "store"),)
    assert set(tree(place.of("**", hidden=hidden))) == {"app/src/a"}
    found = place.of(outputs=("**",), hidden=hidden).outputs()
    assert not [path for path in found.nodes if "store" in path]


def test_input_paths_are_those_that_were_found(place: Place) -> None:
    place.write("src/a")
    workspace = place.of("src")
    assert workspace.input_paths() == set()
    workspace.inputs()
    assert workspace.input_paths() == {str(place.cwd / "src/a")}


# ---------------------------------------------------------------------------------------------------- ours, and theirs


def test_what_a_run_made_is_ours_and_what_was_there_is_not(place: Place) -> None:
    mine = place.write("dist/notes", "the user's")
    os.utime(mine, ns=(1, 1))
    workspace = place.of(outputs=("dist",))
    began = mine.stat().st_ctime_ns + 10**9
    made = place.write("dist/o")
    workspace.outputs()
    assert workspace.seen is not None
    look = (1, 0, began + 1, 0, 0o100644)
    workspace.seen.looks[str(made)] = look
    workspace.remember_made(began)
    assert {path: mark[:5] for path, mark in place.memory.made.items()} == {str(made): look}


def test_what_was_ours_stays_ours_while_nobody_touches_it(place: Place) -> None:
    made, edited = place.write("dist/o"), place.write("dist/e")
    workspace = place.of(outputs=("dist",))
    workspace.outputs()
    workspace.remember_made(0)
    assert set(place.memory.made) == {str(made), str(edited)}
    edited.write_text("edited")
    os.utime(edited, ns=(1, 1))
    workspace.outputs()
    workspace.remember_made(time.time_ns() + 10**12)
    assert set(place.memory.made) == {str(made)}


def test_a_file_on_standard_input_that_changes_moved(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place.write("in")
    place.write("a")
    saved = os.dup(0)
    try:
        with source.open("rb") as file:
            os.dup2(file.fileno(), 0)
        workspace = place.of("a")
        workspace.inputs()
        assert workspace.moved() == ""
        source.write_text("longer")
        assert "standard input" in workspace.moved()
    finally:
        os.dup2(saved, 0)
        os.close(saved)
