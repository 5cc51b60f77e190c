"""A work tree, a store and a trash, and the workspace of a capsule between them."""

import os
from collections.abc import Callable
from typing import Any

from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.recipe import Recipe
from capsula.store import trash
from capsula.store.burial import burier
from capsula.store.memory import MemoryStore
from capsula.worktree import restore as restoring
from capsula.worktree.kept import Memory
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
