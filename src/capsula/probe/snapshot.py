"""All of a work tree that isn't committed: as a patch that `git apply` takes, and as files, each by its digest.

The patch is made by git, with a copy of the user's index and an object directory of our own. A copy, not a new one:
it knows what hasn't changed, so that git doesn't read everything again; it has what is sparse, intended to be added,
or in conflict; and with the time stamp of the original, git knows which files it can't trust. Everything that differs
is put into it, and it is compared with the tree of HEAD: so staged, unstaged, binary and
untracked content, modes, links and deletions are in one patch that fits a clean checkout.

Git renews the time of an object that it would write and finds there already. So the user's objects can be seen only by
those calls that write none. (Where line ends are converted, git looks at what the index has of a file: of changed
files, that is copied over first.)

The patch has contents as git would store them. What ran are the bytes in the work tree, which line ends or a filter
may have made different, and these are what is kept as files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from capsula.core.digest import digest_of
from capsula.core.hiding import is_secret_file
from capsula.core.names import printable, to_text
from capsula.errors import CapsulaError
from capsula.probe.repository import GitRefused, Repository
from capsula.probe.status import LINK, MODULE, NOTHING, Change, Files, Status, read_raw
from capsula.probe.trees import folders, read_listing, tree_of

if TYPE_CHECKING:
    from capsula.core.digest import Digest
    from capsula.core.found import Value
    from capsula.ports import Contents

EMPTY_TREES = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_DIFF = (
    *("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
    *("--no-relative", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=none"),
    *("--unified=3", "--diff-algorithm=myers", "--no-indent-heuristic", "--inter-hunk-context=0"),
    f"-O{os.devnull}",
)
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext.*\n)*oid sha256:([0-9a-f]{64})\n"
)
_AT_ONCE = 500
_POINTER_SIZES = range(100, 1025)


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes: of a single file, and of all together."""

    file: int = 10 << 20
    all: int = 32 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository keeps what is copied: the top of its work tree, its index and objects, and their format."""

    top: str
    index: str
    objects: str
    format: str


@dataclass(slots=True)
class Snapshot:
    """`tree` is the object that the work tree is. `files` is the list of what differs from HEAD as JSON, `left_out`
    what is missing, in sentences."""

    tree: str | None = None
    patch: bytes = b""
    files: bytes = b""
    untracked: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def take(
    repository: Repository,
    place: Place,
    seen: tuple[Status, Files, Mapping[str, str]],
    limits: Limits,
    contents: Contents | None,
) -> Snapshot:
    """Raises CapsulaError when git can't be made to."""
    return _Taking(repository, place, seen, limits, contents).take()


class _Taking:
    def __init__(
        self,
        repository: Repository,
        place: Place,
        seen: tuple[Status, Files, Mapping[str, str]],
        limits: Limits,
        contents: Contents | None,
    ) -> None:
        self.repository = repository
        self.place = place
        self.status, self.files, self.settings = seen
        self.limits = limits
        self.contents = contents
        self.room = limits.all
        self.made = Snapshot()
        self.looks: dict[str, tuple[int, ...]] = {}

    def take(self) -> Snapshot:
        made, sha = self.made, self.status.sha
        base = sha or EMPTY_TREES[self.place.format]
        changes = self._really_changed()
        taken = [change for change in changes if self._is_taken(change)]
        hidden = [path for path in self.files.hidden if self._fits(path, is_hidden=True)]
        made.untracked = [path for path in self.status.untracked if self._is_wanted(path)]
        if not (changes or hidden or made.untracked):
            made.tree = self.repository.text("rev-parse", f"{sha}^{{tree}}") if sha else base
            return made
        with tempfile.TemporaryDirectory(prefix="capsula-git-") as scratch:
            writing = self._prepare(scratch)
            reading = {**writing, "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(self.place.objects)}
            self._copy_what_git_compares_with(writing, taken)
            self._put(writing, changes, taken, hidden)
            # The tree of nothing isn't in every repository; git knows it all the same.
            compare = ("diff-index", "--cached")
            made.patch = self.repository.run(*compare, "-p", *_DIFF, base, environ=reading)
            raw = self.repository.run(
                *compare, "-z", "--raw", "--no-renames", "--no-abbrev", base, environ=reading
            )
        rows = read_raw(raw)
        made.tree = self._tree(rows)
        self._list(rows)
        return made

    def _tree(self, rows: list[tuple[str, str, str]]) -> str:
        places = folders(path for _, _, path in rows)
        told = b""
        if self.status.sha:
            # The top by itself; of the others what is in them. Many at once are too many words for one call.
            told = self.repository.run("ls-tree", "-z", "--full-tree", self.status.sha)
            for at in range(0, len(places), _AT_ONCE):
                words = [f"{place}/" for place in places[at : at + _AT_ONCE] if place]
                if words:
                    listing = ("--literal-pathspecs", "ls-tree", "-z", "--full-tree", self.status.sha, "--")
                    told += self.repository.run(*listing, *words)
        return tree_of(read_listing(told, places), rows, self.place.format)

    # ------------------------------------------------------------------------------------------- what belongs to it

    def _really_changed(self) -> list[Change]:
        """Without large files of git-lfs that are what their pointers say."""
        changes = [change for change in self.status.changes if not _is_only_inside(change)]
        if not self.settings.get("filter.lfs.smudge"):
            return changes
        asked = [each for each in changes if not each.is_gone and each.old[1].strip("0") and not each.module]
        pointers = self._pointers([change.old[1] for change in asked])
        same = {
            each.path
            for each in asked
            if each.staged == each.old[1]
            and pointers.get(each.old[1]) == _sha256(os.path.join(self.place.top, each.path))
        }
        return [change for change in changes if change.path not in same]

    def _pointers(self, objects: list[str]) -> dict[str, str]:
        """The SHA-256 in each of these objects that is a pointer of git-lfs."""
        if not objects:
            return {}
        found: dict[str, str] = {}
        given = "\n".join(objects).encode()
        sizes = self.repository.run("cat-file", "--batch-check=%(objectname) %(objectsize)", given=given)
        for line in sizes.decode().splitlines():
            name, _, size = line.partition(" ")
            if not size.isdigit() or int(size) not in _POINTER_SIZES:
                continue
            if match := _POINTER.match(self.repository.run("cat-file", "blob", name)):
                found[name] = match[1].decode()
        return found

    def _is_taken(self, change: Change) -> bool:
        return change.is_gone or bool(change.module) or self._fits(change.path)

    def _is_wanted(self, path: str) -> bool:
        if path.endswith("/"):
            return self._leave(path, "a repository of its own")
        if is_secret_file(path):
            return self._leave(path, "its name says that it holds credentials")
        return self._fits(path)

    def _fits(self, path: str, *, is_hidden: bool = False) -> bool:
        full = os.path.join(self.place.top, path)
        try:
            look = os.lstat(full)
        except OSError as error:
            # What isn't in a sparse checkout isn't missing.
            return False if is_hidden else self._leave(path, error.strerror or "can't be looked at")
        if stat.S_ISDIR(look.st_mode):
            return self._leave(path, "a directory has taken the place of a file")
        if not (stat.S_ISREG(look.st_mode) or stat.S_ISLNK(look.st_mode)):
            return self._leave(path, "no file")
        if look.st_size > self.limits.file:
            return self._leave(path, f"larger than {_size(self.limits.file)}")
        if look.st_size > self.room:
            return self._leave(path, f"all together are larger than {_size(self.limits.all)}")
        if stat.S_ISREG(look.st_mode) and not os.access(full, os.R_OK):
            return self._leave(path, "it can't be read")
        self.room -= look.st_size
        self.looks[path] = _look(look)
        return True

    def _leave(self, path: str, why: str) -> bool:
        self.made.left_out.append(f"{printable(path)}: {why}")
        return False

    # ------------------------------------------------------------------------------------------- the patch

    def _prepare(self, scratch: str) -> dict[str, str]:
        """The index and the objects to write to, as git is told of them."""
        index, objects = os.path.join(scratch, "index"), os.path.join(scratch, "objects")
        os.mkdir(objects)
        environ = {"GIT_INDEX_FILE": index, "GIT_OBJECT_DIRECTORY": objects}
        try:
            shutil.copyfile(self.place.index, index)
            # Before git believes in an entry, it compares its time with that of the index.
            shutil.copystat(self.place.index, index)
        except FileNotFoundError:
            if self.status.sha:
                reading = {**environ, "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(self.place.objects)}
                self.repository.run("read-tree", self.status.sha, environ=reading)
        except OSError as error:
            raise CapsulaError(f"can't copy git's index: {error.strerror}") from error
        return environ

    def _copy_what_git_compares_with(self, writing: Mapping[str, str], taken: Iterable[Change]) -> None:
        converts = self.settings.get("core.autocrlf", "false").lower() not in ("false", "")
        if not (converts or self.files.has_attributes or os.path.exists(self._own_attributes())):
            return
        objects = {
            name
            for change in taken
            for name in (change.staged, change.old[1])
            if name.strip("0") and not change.module
        }
        if objects:
            packed = self.repository.run("pack-objects", "-q", "--stdout", given="\n".join(objects).encode())
            self.repository.run("unpack-objects", "-q", environ=writing, given=packed)

    def _own_attributes(self) -> str:
        return os.path.join(os.path.dirname(self.place.objects), "info", "attributes")

    def _put(
        self, writing: Mapping[str, str], changes: list[Change], taken: list[Change], hidden: list[str]
    ) -> None:
        """Into the index: what the work tree has, and what HEAD has of that which was left out."""
        # What was taken out of the index and is still there, git calls gone and untracked.
        wanted = {change.path for change in taken if not change.is_gone} | {*self.made.untracked}
        gone = {change.path for change in taken if change.is_gone} - {*self.status.untracked}
        # Removed by name: a file whose directory is a link now can't be looked for.
        rows = []
        for change in changes:
            if change.path not in wanted:
                mode, name = (NOTHING, "0" * len(change.old[1])) if change.path in gone else change.old
                rows.append(b"%b %b\t%b\0" % (mode.encode(), name.encode(), os.fsencode(change.path)))
        if rows:
            self.repository.run("update-index", "-z", "--index-info", environ=writing, given=b"".join(rows))
        for flag in ("--no-skip-worktree", "--no-assume-unchanged") if hidden else ():
            self._update(writing, hidden, flag)
        paths = sorted({*wanted, *hidden})
        try:
            self._update(writing, paths, "--add", "--remove", "--replace")
        except GitRefused:
            # One that git can't take (a file vanished, a filter fails) is no reason to do without the others.
            for path in paths:
                try:
                    self._update(writing, [path], "--add", "--remove", "--replace")
                except GitRefused as error:
                    self._leave(path, error.what)

    def _update(self, writing: Mapping[str, str], paths: list[str], *options: str) -> None:
        given = b"".join([os.fsencode(path) + b"\0" for path in paths])
        if given:
            self.repository.run("update-index", *options, "-z", "--stdin", environ=writing, given=given)

    # ------------------------------------------------------------------------------------------- the files

    def _list(self, rows: list[tuple[str, str, str]]) -> None:
        files: list[Value] = []
        gone: list[Value] = []
        held: list[tuple[str, Digest, bool]] = []
        for mode, name, path in rows:
            if mode == NOTHING:
                gone.append(to_text(path))
                continue
            row: dict[str, Value] = {"path": to_text(path), "mode": mode}
            full = os.path.join(self.place.top, path)
            try:
                if mode == MODULE:
                    row["commit"] = name
                elif mode == LINK:
                    row["target"] = to_text(os.readlink(full))
                else:
                    digest = self._digest(full)
                    row |= {"sha256": digest.hash, "size": digest.size_bytes}
                    held.append((to_text(path), digest, mode == "100755"))
                if path in self.looks and _look(os.lstat(full)) != self.looks[path]:
                    self._leave(path, "it changed while it was looked at, so patch and file may differ")
            except (OSError, CapsulaError) as error:
                self._leave(path, error.what if isinstance(error, CapsulaError) else str(error.strerror))
                continue
            files.append(row)
        if not rows:
            return
        told = {
            "format": 1,
            "commit": self.status.sha,
            "tree": self.made.tree,
            "files": files,
            "deleted": gone,
        }
        self.made.files = (json.dumps(told, indent=1) + "\n").encode("utf-8", "backslashreplace")
        if self.contents is not None:
            try:
                self.contents.hold(self.made.files, held)
            except CapsulaError as error:
                self.made.left_out.append(f"the contents of the files may go from the store: {error.what}")

    def _digest(self, full: str) -> Digest:
        if self.contents is not None:
            try:
                return self.contents.put_file(full)
            except CapsulaError as error:
                self.made.left_out.append(f"the contents of files aren't in the store: {error.what}")
                self.contents = None
        with open(full, "rb") as file:
            return digest_of(file.read())


def _is_only_inside(change: Change) -> bool:
    """Whether a submodule is at the commit that HEAD says: what is changed in it is told with it."""
    return change.module[1:2] not in ("", "C") and change.mode == MODULE and change.staged == change.old[1]


def _look(look: os.stat_result) -> tuple[int, ...]:
    return (look.st_size, look.st_mtime_ns, look.st_ctime_ns, look.st_ino, look.st_mode)


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"


def _quoted(path: str) -> str:
    """As a list of paths takes one with a colon in it."""
    if ":" not in path and '"' not in path:
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
