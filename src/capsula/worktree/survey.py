"""A survey: what the patterns of one area match right now, folder by folder, without reading any content."""

import posix
from stat import S_ISLNK, S_ISREG

from capsula.core.glob import VAULT_MARK, is_reserved
from capsula.core.names import printable
from capsula.errors import InputError
from capsula.worktree.listing import list_folder, list_names, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from capsula.core.glob import State
    from capsula.core.recipe import Area
    from capsula.worktree.listing import Listing, Look


class Folder:
    """One directory of a survey; `path` is relative to the area's base ("" is the base itself).

    `names`: only these were looked for, the rest of the directory doesn't matter; None: it was listed, but for
    `skipped`.
    `taken`: the names in `listing` that are declared; None: all of them. `declared`: the directory itself is
    (so that it is recorded even when nothing is in it).
    """

    __slots__ = ("declared", "listing", "names", "own", "path", "skipped", "taken")

    def __init__(self, path: str, declared: bool) -> None:
        self.path = path
        self.declared = declared
        self.names: tuple[str, ...] | None = None
        self.skipped: frozenset[str] = frozenset()
        self.listing: Listing = {}
        self.taken: set[str] | None = None
        # The directory's own inode and times where all of it is declared: whatever comes and goes in it shows there.
        self.own: tuple[int, ...] = ()

    def entries(self) -> "list[tuple[str, Look]]":
        """The declared files and links of this folder (not its directories) with their looks."""
        taken = self.taken
        if taken is None:
            return [item for item in self.listing.items() if item[1]]
        return [item for item in self.listing.items() if item[1] and item[0] in taken]

    def same_as(self, other: "Folder") -> bool:
        if self.own != other.own:
            return False
        if self.listing == other.listing:
            return True
        return self.taken == other.taken and dict(self.entries()) == dict(other.entries())


class Survey:
    """`folders` by path, parents first. `followed` is what each declared link, or link on the way, leads to
    (None: nowhere). `vault_marks` are full paths: what lies beside them was passed over."""

    __slots__ = ("area", "followed", "folders", "matched", "notes", "vault_marks")

    def __init__(self, area: "Area") -> None:
        self.area = area
        self.folders: dict[str, Folder] = {}
        self.followed: dict[str, Look | None] = {}
        self.matched = 0
        self.notes: list[str] = []
        self.vault_marks: tuple[str, ...] = ()

    def unmatched(self) -> tuple[str, ...]:
        """The include patterns, as written, that matched nothing."""
        return tuple([text for bit, text in enumerate(self.area.written) if not self.matched >> bit & 1])

    def full(self, path: str) -> str:
        return join(self.area.base, path)

    def paths(self) -> list[str]:
        """Every declared file and link, relative to the base, sorted."""
        return sorted([join(f.path, name) for f in self.folders.values() for name, _ in f.entries()])

    def same_as(self, other: "Survey") -> bool:
        """Whether both looks saw exactly the same of what is declared."""
        if self.folders.keys() != other.folders.keys() or self.followed != other.followed:
            return False
        return all([folder.same_as(other.folders[path]) for path, folder in self.folders.items()])


def join(folder: str, name: str) -> str:
    if not folder or not name:
        return folder or name
    return folder + name if folder.endswith("/") else folder + "/" + name


def survey(area: "Area", hidden: tuple[str, ...] = (), known: "Container[str] | None" = None) -> Survey:
    """Look at the area once. `hidden` are absolute directories (stores, vaults) that only a literal pattern can reach.

    With `known`, the files of all other folders may be left UNSEEN: they will have to be read anyway, and opened they
    are looked at for less. Raises InputError when something that may match can't be looked at.
    """
    marks: tuple[str, ...] = ()
    while True:
        found, vaults = _walk(area, hidden, known)
        if not vaults:
            found.vault_marks = marks
            return found
        # That a directory is a vault shows only once it is listed, and then its parent has let it in: begin again.
        hidden += vaults
        marks += tuple([join(vault, VAULT_MARK) for vault in vaults])


def _walk(
    area: "Area", hidden: tuple[str, ...], known: "Container[str] | None"
) -> tuple[Survey, tuple[str, ...]]:
    """What was found, and the vaults among it that `hidden` doesn't name yet."""
    found = Survey(area)
    vaults: list[str] = []
    if not area.patterns.includes:
        return found, ()
    secret = _hidden_names(area.base, hidden)
    pending: list[tuple[str, State, bool]] = [("", area.patterns.start, False)]
    while pending:
        path, state, declared = pending.pop()
        folder = Folder(path, declared)
        full = join(area.base, path)
        try:
            if state.literals is not None:
                children = _look_for(found, folder, full, state)
            elif state.bulk:
                unseen = known is not None and path not in known
                children = _take_all(found, folder, full, state, secret.get(path, ()), unseen=unseen)
            else:
                children = _filter(found, folder, full, state, secret.get(path, ()))
        except NotADirectoryError:
            continue
        except FileNotFoundError:
            raise InputError(f"{printable(full)} vanished while it was being listed") from None
        except OSError as error:
            raise InputError(
                f"can't look into {printable(full)}: {error.strerror}",
                hint="make it readable, or exclude it with '!…'",
            ) from error
        found.folders[path] = folder
        pending += children
        if (VAULT_MARK in folder.listing or VAULT_MARK in folder.skipped) and path and full not in hidden:
            vaults.append(full)
    return found, tuple(vaults)


def _hidden_names(base: str, hidden: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Per folder of the area, the names that lead to a hidden directory."""
    names: dict[str, tuple[str, ...]] = {}
    lead = base if base.endswith("/") else base + "/"
    for path in hidden:
        if path.startswith(lead):
            parent, _, name = path[len(lead) :].rpartition("/")
            names[parent] = (*names.get(parent, ()), name)
    return names


def _take_all(
    found: Survey, folder: Folder, full: str, state: "State", secret: tuple[str, ...], *, unseen: bool
) -> "list[tuple[str, State, bool]]":
    look = posix.stat(full)
    folder.own = (look.st_ino, look.st_mtime_ns, look.st_ctime_ns)
    listing = list_folder(full, (".git", *secret), unseen=unseen)
    reserved = [name for name in listing if name[0] == "." and is_reserved(name)]
    for name in reserved:
        del listing[name]
    folder.skipped = frozenset([".git", *secret, *reserved])
    folder.listing = listing
    if listing:
        found.matched |= state.everything
    path, children = folder.path, []
    for name, seen in listing.items():
        if not seen:
            children.append((join(path, name), state, True))
        elif S_ISLNK(seen[4]):
            _follow(found, join(path, name), full + "/" + name)
    return children


def _look_for(found: Survey, folder: Folder, full: str, state: "State") -> "list[tuple[str, State, bool]]":
    names = state.literals or ()
    above = found.folders.get(folder.path.rpartition("/")[0]) if folder.path else None
    if names and above is not None and above.names is None:
        # A wildcard may have led here (`*/x`), and what lies in a vault isn't for wildcards.
        names += (VAULT_MARK,)
    folder.names = names
    folder.listing = list_names(full, names)
    folder.taken = set()
    children = []
    for name, seen in folder.listing.items():
        child = state.step(name)
        if child is not None:
            children += _sort_in(found, folder, name, seen, child)
    return children


def _filter(
    found: Survey, folder: Folder, full: str, state: "State", secret: tuple[str, ...]
) -> "list[tuple[str, State, bool]]":
    folder.taken = set()
    skipped: list[str] = [*secret]
    children: list[tuple[str, State, bool]] = []
    with posix.scandir(full) as entries:
        for entry in entries:
            name = entry.name
            child = state.spelled(name) if name in secret else state.step(name)
            if child is None:
                skipped.append(name)
                continue
            # A file that can't match, but could if it were a directory, is listed too: it must be seen to
            # change into one.
            seen: Look = ()
            if not entry.is_dir(follow_symlinks=False):
                s = entry.stat(follow_symlinks=False)
                seen = (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode)
            folder.listing[name] = seen
            children += _sort_in(found, folder, name, seen, child)
    folder.skipped = frozenset(skipped)
    return children


def _sort_in(
    found: Survey, folder: Folder, name: str, seen: "Look", child: "State"
) -> "list[tuple[str, State, bool]]":
    """What one name is to the patterns: a declared entry, a directory to walk, a link on the way, or nothing."""
    path, taken = join(folder.path, name), folder.taken
    if not seen:
        found.matched |= child.directory
        if child.directory or child.literals != ():
            return [(path, child, child.directory != 0)]
        found.notes.append(
            f"{printable(path)} is a directory: `*` doesn't reach into it, `{printable(path)}/**` would"
        )
        return []
    is_link = S_ISLNK(seen[4])
    if child.matched and taken is not None:
        taken.add(name)
        if is_link or S_ISREG(seen[4]):
            # Pipes and devices are left out, so a pattern that finds nothing else finds nothing.
            found.matched |= child.matched
        if is_link:
            _follow(found, path, found.full(path))
    elif is_link and child.literals != () and _is_spelled(found.area, path):
        # `node_modules/pkg/lib/**` with pkg a link: the user wrote the way through the link, so it is gone.
        found.followed[path] = look(found.full(path))
        return [(path, child, child.directory != 0)] if found.followed[path] == () else []
    return []


def _is_spelled(area: "Area", path: str) -> bool:
    return any([pattern.startswith(path + "/") for pattern in area.patterns.includes])


def _follow(found: Survey, path: str, full: str) -> None:
    seen = look(full)
    found.followed[path] = seen
    if seen == ():
        found.notes.append(f"{printable(path)} is a link to a directory: recorded as a link, not walked")
