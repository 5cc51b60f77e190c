"""The workspace of one capsule: its declared inputs and outputs in the user's directory, found, compared and
put back."""

import os
import posix
from stat import S_ISLNK, S_ISREG

from capsula.core.digest import Digest
from capsula.core.glob import matches
from capsula.core.names import printable
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.core.recipe import is_below, normal, place_inputs, place_outputs, relative
from capsula.core.tree import build
from capsula.errors import EntryCorrupt, InputError
from capsula.worktree.digests import Contents, hash_file, read_contents, still_same, wall_ns
from capsula.worktree.kept import alone
from capsula.worktree.listing import TICK_NS, is_fresh
from capsula.worktree.survey import Survey, join, survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsula.core.recipe import Area, Recipe
    from capsula.ports import BlobStore
    from capsula.worktree.kept import Memory
    from capsula.worktree.restore import Plan, Restored


class Inputs:
    """The declared inputs as found: the tree below the base, what lies outside, what links lead to."""

    __slots__ = ("contents", "directories", "linked", "outside", "root", "surveys", "taken_ns", "unmatched")

    def __init__(
        self, surveys: tuple[Survey, Survey], contents: tuple[Contents, Contents], taken_ns: int
    ) -> None:
        self.surveys = surveys
        self.contents = contents
        self.taken_ns = taken_ns
        self.root, self.directories = build(contents[0].leaves)
        self.outside: tuple[tuple[str, str], ...] = ()
        self.linked: tuple[tuple[str, str], ...] = ()
        self.unmatched = surveys[0].unmatched() + surveys[1].unmatched()

    @property
    def fresh(self) -> list[tuple[str, str]]:
        return self.contents[0].fresh + self.contents[1].fresh

    @property
    def notes(self) -> list[str]:
        return self.surveys[0].notes + self.surveys[1].notes

    def hashes(self) -> list[tuple[str, str]]:
        """(name in the key, hash) of every declared file, sorted; a link shows as `-> target`."""
        rows = []
        for found, contents in zip(self.surveys, self.contents, strict=True):
            for path, folder in found.folders.items():
                for name, seen in folder.entries():
                    full = join(path, name)
                    known = contents.hashes[path].get(name)
                    if known is None and S_ISLNK(seen[4]):
                        known = _target(found.full(full))
                    rows.append((found.area.name_of(full), known or "?"))
        return sorted(rows)


class Outputs:
    """The declared outputs as found, by full path; `looks` of the files and links, `unmade` the patterns that
    found none."""

    __slots__ = ("contents", "looks", "nodes", "surveys", "taken_ns", "unkept", "unmade")

    def __init__(
        self, surveys: tuple[Survey, Survey], contents: tuple[Contents, Contents], taken_ns: int
    ) -> None:
        self.surveys = surveys
        self.contents = contents
        self.taken_ns = taken_ns
        self.nodes: dict[str, Node] = {}
        self.looks: dict[str, tuple[int, ...]] = {}
        self.unmade = surveys[0].unmatched() + surveys[1].unmatched()
        # Why something that was declared can't be kept as it is, in sentences.
        self.unkept: list[str] = []
        for found, content in zip(surveys, contents, strict=True):
            self._flatten(found, content)
            for path in set(found.followed).intersection(found.area.patterns.includes):
                if found.followed[path] == () and found.full(path) in self.nodes:
                    shown = printable(path)
                    self.unkept.append(
                        f"the declared output {shown} is a link to a directory, and what is in that would be lost:"
                        f" declare '{shown}/**'"
                    )

    def _flatten(self, found: Survey, content: Contents) -> None:
        for path, folder in found.folders.items():
            full = found.full(path)
            if folder.declared:
                self.nodes[full] = Node(DIRECTORY, mode=posix.lstat(full).st_mode)
            lead = full if full.endswith("/") else full + "/"
            hashes = content.hashes[path]
            for name, seen in folder.entries():
                if name in hashes:
                    self.nodes[lead + name] = Node(FILE, mode=seen[4], digest=Digest(hashes[name], seen[0]))
                elif S_ISLNK(seen[4]):
                    self.nodes[lead + name] = Node(LINK, target=posix.readlink(lead + name))
                else:
                    self.unkept.append(f"{printable(lead + name)} is no file, link or directory")
                    continue
                self.looks[lead + name] = seen

    @property
    def fresh(self) -> bool:
        """Whether some output changed too recently for its look to be trusted next time."""
        return any([is_fresh(seen, self.taken_ns) for seen in self.looks.values()])


class Workspace:
    """Everything that a run needs of the user's directory. `hidden` are absolute directories of ours inside of it."""

    def __init__(
        self,
        recipe: "Recipe",
        memory: "Memory",
        hidden: tuple[str, ...],
        clock: "Callable[[], int]" = wall_ns,
    ) -> None:
        self.recipe = recipe
        self.memory = memory
        self.hidden = hidden
        self.clock = clock
        self._outputs_areas: tuple[Area, Area] | None = None
        # The last inputs found, and the outputs as they are now: None when they haven't been looked at since
        # they changed.
        self.found: Inputs | None = None
        self.stdin: tuple[int, ...] = ()
        self.seen: Outputs | None = None
        # Directories to prepare outputs in; the store's own is first, so that a kill leaves nothing in the user's.
        self.stage_places: tuple[str, ...] = (recipe.cwd,)
        # What a restore must never remove, where it is known without having looked for the inputs.
        self.spared: Callable[[], set[str]] | None = None

    def inputs(self) -> Inputs:
        """Raises InputError when a declared input can't be looked at or read."""
        now = self.clock()
        areas = place_inputs(self.recipe)
        kept = self.memory.inputs
        surveys = (survey(areas[0], self.hidden, kept[0]), survey(areas[1], self.hidden, kept[1]))
        contents = (read_contents(surveys[0], kept[0], now), read_contents(surveys[1], kept[1], now))
        found = Inputs(surveys, contents, now)
        found.outside = self._outside(found)
        found.linked = self._linked(found, now)
        self.memory.inputs = (contents[0].kept, contents[1].kept)
        self.found = found
        self.stdin = _look_at_stdin()
        return found

    def moved(self) -> str:
        """Which input isn't what it was when it was found, for people; "" when all stood still. Fresh ones are
        read again."""
        before = self.found
        if before is None:
            return ""
        try:
            for old in before.surveys:
                new = survey(old.area, self.hidden)
                if not new.same_as(old):
                    return _first_change(old, new)
        except InputError as error:
            return error.what
        if _look_at_stdin() != self.stdin:
            return "the file on standard input changed"
        changed = still_same(before.fresh)
        return f"{printable(changed)} changed" if changed else ""

    def outputs(self) -> Outputs:
        """Raises InputError when something declared as output can't be read."""
        now = self.clock()
        areas = self._areas()
        kept = self.memory.outputs
        surveys = (survey(areas[0], self.hidden, kept[0]), survey(areas[1], self.hidden, kept[1]))
        contents = (read_contents(surveys[0], kept[0], now), read_contents(surveys[1], kept[1], now))
        self.memory.outputs = (contents[0].kept, contents[1].kept)
        self.seen = Outputs(surveys, contents, now)
        return self.seen

    def settle(
        self, wanted: dict[str, Node], store: "BlobStore", bury: "Callable[[str], Callable[[], None]]"
    ) -> "Restored":
        """Make the declared outputs exactly `wanted` (paths as in a result). Raises OutputError, StoreError,
        EntryCorrupt."""
        from capsula.worktree.restore import Restored, remove_abandoned, restore

        nodes = {self.full(path): node for path, node in wanted.items()}
        self._check_declared(nodes)
        try:
            steps = self._compare(nodes)[1]
        except InputError:
            # Another hit in this checkout is putting them back: look again when it is done.
            steps = None
        remove_abandoned(self.stage_places[0])
        if steps is not None and not steps:
            self.remember_made(0)
            return Restored()
        with alone(self.memory.path):
            # Another hit in this checkout may have done it while we waited, and what it made isn't the user's.
            self.memory.reload_made()
            found, steps = self._compare(nodes)
            if not steps:
                self.remember_made(0)
                return Restored()
            steps.bases = (self.recipe.base, *(found.surveys[1].area.spelled or ()))
            # The links on the way that a pattern spells out; a link that is an output itself is none of them.
            steps.through = {
                join(self.recipe.base, path) for path in found.surveys[0].followed
            } - found.nodes.keys()
            self.seen = None
            restored = restore(steps, store, self.stage_places, bury)
            self.remember_restored(nodes)
            self.memory.save()
        return restored

    def _compare(self, nodes: "dict[str, Node]") -> "tuple[Outputs, Plan]":
        from capsula.worktree.restore import plan

        found = self.outputs()
        own = {path for path in found.looks if self._is_own(path, found)}
        steps = plan(nodes, found.nodes, own, set())
        if steps.remove or steps.rmdirs:
            steps = plan(nodes, found.nodes, own, self.input_paths())
        return found, steps

    def remember_made(self, since_ns: int) -> None:
        """What changed since, or stands as we left it, is ours; the rest (the user's notes in `dist`) is not."""
        if self.seen is not None:
            since, found = since_ns - TICK_NS, self.seen
            self.memory.made = {
                path: _mark(seen, found.nodes[path], found.taken_ns)
                for path, seen in found.looks.items()
                if seen[2] >= since or self._is_own(path, found)
            }

    def _is_own(self, path: str, found: Outputs) -> bool:
        mark = self.memory.made.get(path)
        return mark is not None and mark in (found.looks[path], _mark(found.looks[path], found.nodes[path]))

    def remember_restored(self, nodes: "dict[str, Node]") -> None:
        made: dict[str, tuple[int | str, ...]] = {}
        for path, node in nodes.items():
            if node.kind != DIRECTORY:
                try:
                    s = posix.lstat(path)
                except OSError:  # somebody took it away already
                    continue
                made[path] = _mark((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode), node)
        self.memory.made = made

    def full(self, path: str) -> str:
        """The full path of a path of a result."""
        if not path:
            return self.recipe.cwd
        return normal(path if path.startswith("/") else self.recipe.cwd + "/" + path)

    def named(self, full: str) -> str:
        """How a result calls the full path: relative to the working directory when it is below the base."""
        return relative(full, self.recipe.cwd) if is_below(full, self.recipe.base) else full

    def input_paths(self) -> set[str]:
        """The full paths of all declared inputs: what a restore must never remove."""
        if self.spared is not None:
            return self.spared()
        return _full_paths(self.found) if self.found is not None else set()

    def _areas(self) -> "tuple[Area, Area]":
        if self._outputs_areas is None:
            self._outputs_areas = place_outputs(self.recipe)
        return self._outputs_areas

    def _check_declared(self, nodes: dict[str, Node]) -> None:
        """Names from a store are hostile: only what the user's own output patterns match may be written."""
        for path, node in nodes.items():
            area = self._areas()[0 if is_below(path, self.recipe.base) else 1]
            inside = relative(path, area.base) or "."
            if not matches(area.patterns, inside, is_dir=node.kind == DIRECTORY):
                raise EntryCorrupt(f"the entry holds {printable(path)}, which no output pattern matches")

    def _outside(self, found: Inputs) -> tuple[tuple[str, str], ...]:
        area, contents, rows = found.surveys[1].area, found.contents[1], []
        for path, folder in found.surveys[1].folders.items():
            for name, seen in folder.entries():
                inside = join(path, name)
                known = contents.hashes[path].get(name)
                if known is None:
                    known = "->" + posix.readlink("/" + inside) if S_ISLNK(seen[4]) else None
                elif seen[4] & 0o100:
                    known += "*"
                if known is not None:
                    rows.append((area.name_of(inside), known))
            if folder.declared and not folder.listing:
                rows.append((area.name_of(path), "/"))
        return tuple(sorted(rows))

    def _linked(self, found: Inputs, now: int) -> tuple[tuple[str, str], ...]:
        """(name of a declared link, hash of the file it leads to), for files that aren't declared themselves."""
        followed: dict[str, tuple[tuple[int, ...], str]] = {}
        rows = []
        declared: set[str] | None = None
        for looked in found.surveys:
            for path, seen in looked.followed.items():
                if not seen or not S_ISREG(seen[4]):
                    continue
                full = looked.full(path)
                if declared is None:
                    declared = _full_paths(found)
                if os.path.realpath(full) in declared:
                    continue
                known = self.memory.followed.get(full)
                if known is None or known[0] != seen:
                    try:
                        known = (seen, hash_file(full, seen[0])[0])
                    except OSError as error:
                        raise InputError(f"can't read {printable(full)}: {error.strerror}") from error
                rows.append((looked.area.name_of(path), known[1] + ("*" if seen[4] & 0o100 else "")))
                if is_fresh(seen, now):
                    found.contents[0].fresh.append((full, known[1]))
                else:
                    followed[full] = known
        self.memory.followed = followed
        return tuple(sorted(rows))


def _target(path: str) -> str:
    try:
        return "-> " + posix.readlink(path)
    except OSError:  # the command has removed it
        return "-> ?"


def _look_at_stdin() -> tuple[int, ...]:
    """The look of a regular file on standard input, () when there is none."""
    try:
        s = posix.fstat(0)
    except OSError:
        return ()
    return (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) if S_ISREG(s.st_mode) else ()


def _mark(seen: "tuple[int, ...]", node: Node, now_ns: int = 0) -> "tuple[int | str, ...]":
    """What tells an output that we made from one that the user has edited since: its look, and, while the look is too
    fresh to prove anything, its content as well."""
    if not is_fresh(seen, now_ns):
        return seen
    return (*seen, node.digest.hash if node.digest is not None else node.target)


def _full_paths(inputs: Inputs) -> set[str]:
    return {found.full(path) for found in inputs.surveys for path in found.paths()}


def _first_change(old: Survey, new: Survey) -> str:
    """What one look saw and the other didn't, for people."""
    before, after = _looks(old), _looks(new)
    for path, seen in after.items():
        if path not in before:
            return f"{printable(path)} appeared"
        if before[path] != seen:
            return f"{printable(path)} changed"
    for path in before:
        if path not in after:
            return f"{printable(path)} vanished"
    for path, target in new.followed.items():
        if old.followed.get(path) != target:
            return f"what {printable(path)} leads to changed"
    for path, folder in old.folders.items():
        if path in new.folders and folder.own != new.folders[path].own:
            return f"something came or went in {printable(old.area.name_of(path) or '.')}"
    return "a directory changed"


def _looks(found: Survey) -> dict[str, tuple[int, ...]]:
    return {
        found.area.name_of(join(folder.path, name)): seen
        for folder in found.folders.values()
        for name, seen in folder.listing.items()
        if folder.taken is None or name in folder.taken or not seen
    }
