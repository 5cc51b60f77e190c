"""The trash: files of the user's that had to make way, kept for some days so that they can be had back.

Each item has a directory, `trash/<id>/`, with `item` (the file, link or directory itself) and `item.json` (where it
was, when and why). The note is written first and the item is moved last: after a kill at any point the item is at its
old place or in the trash with its note.
"""

import errno
import os
from itertools import count
from stat import S_ISDIR, S_ISLNK, S_ISREG

from capsula.core.names import printable
from capsula.errors import CapsulaError, OutputError, StoreError, UsageError
from capsula.store import files
from capsula.store.layout import TRASH, discard, make_directories, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ITEM, _NOTE = "item", "item.json"
_counter = count()


class Item:
    """`when` is in seconds since 1970, `path` the absolute path at which it was, `capsule` the id of who moved it."""

    __slots__ = ("capsule", "id", "kind", "path", "size", "when", "why")

    def __init__(self, id: str, path: str, when: float, why: str, capsule: str) -> None:  # noqa: A002 - its name
        self.id = id
        self.path = path
        self.when = when
        self.why = why
        self.capsule = capsule
        self.kind = ""  # "file", "link", "directory" or "other"
        self.size = 0


def bury(root: str, path: str, *, now: float, why: str = "", capsule: str = "") -> Item:
    """Move the file, link or directory at `path` (of any name) into the trash.

    OutputError if it can't be moved away; then it is still there. StoreError if the trash can't be written. Within one
    file system it is renamed; to another its content, modes and times are copied (not owners, ACLs and the like).
    """
    path = os.path.abspath(path)
    if os.path.lexists(path) and os.path.commonpath([path, os.path.realpath(root)]) == path:
        raise OutputError(f"{printable(path)} holds the store itself, so it can't go to the trash in it")
    item, folder = _new_folder(root, path, now, why, capsule)
    try:
        _move(path, f"{folder}/{_ITEM}")
    except BaseException as error:
        if not os.path.lexists(f"{folder}/{_ITEM}"):
            remove_tree(folder)
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise refusal(error, root, "write") from error
            message = f"can't move {printable(path)} to the trash: {error.strerror or error}"
            raise OutputError(message, hint="move it away by hand") from error
        raise
    _measure(item, f"{folder}/{_ITEM}")
    return item


def items(root: str) -> list[Item]:
    """What is in the trash, oldest first."""
    found = []
    for name in _ids(root):
        item = _load(root, name)
        if item is not None and os.path.lexists(f"{root}/{TRASH}/{name}/{_ITEM}"):
            _measure(item, f"{root}/{TRASH}/{name}/{_ITEM}")
            found.append(item)
    return found


def restore(root: str, id: str, to: "str | None" = None) -> str:  # noqa: A002 - its name
    """Put an item back where it was, or at `to`, and answer where. Never overwrites: OutputError if something is there.

    UsageError if there is no such item.
    """
    item = _load(root, id) if id in _ids(root) else None
    if item is None or not os.path.lexists(f"{root}/{TRASH}/{id}/{_ITEM}"):
        raise UsageError(
            f"there is no {printable(id)} in the trash", hint="`capsula cache trash` lists what there is"
        )
    target = os.path.abspath(to) if to is not None else item.path
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _move_without_replacing(f"{root}/{TRASH}/{id}/{_ITEM}", target)
    except FileExistsError as error:
        raise OutputError(
            f"{printable(target)} is there already", hint="move it away, or name another place"
        ) from error
    except OSError as error:
        raise OutputError(f"can't put back {printable(target)}: {error.strerror or error}") from error
    remove_tree(f"{root}/{TRASH}/{id}")
    return target


def empty(root: str, *, now: float, older_than: "float | None" = None) -> "tuple[int, int]":
    """Delete everything, or what came more than `older_than` seconds ago; answers how many items and bytes."""
    return trim(
        root, now=now, older_than=-float("inf") if older_than is None else older_than, larger_than=None
    )


def trim(root: str, *, now: float, older_than: float, larger_than: "int | None") -> "tuple[int, int]":
    """Delete what is older, and then the oldest while all together are larger."""
    gone: list[Item] = []
    kept: list[Item] = []
    for name in _ids(root):
        folder = f"{root}/{TRASH}/{name}"
        item = _load(root, name)
        if item is None:
            # No note: killed while making it, or while deleting it.
            item = Item(name, "", _changed(folder), "", "")
        _measure(item, f"{folder}/{_ITEM}")
        (gone if now - item.when > older_than else kept).append(item)
    size = sum([item.size for item in kept])
    while kept and larger_than is not None and size > larger_than:
        gone.append(kept.pop(0))
        size -= gone[-1].size
    for item in gone:
        try:
            remove_tree(f"{root}/{TRASH}/{item.id}")
        except OSError as error:
            raise refusal(error, root, "write") from error
    return len(gone), sum([item.size for item in gone])


def remove_tree(path: str) -> None:
    """Delete a file or a whole directory, also one whose modes forbid it; no link is followed."""
    pending, directories = [path], []
    while pending:  # not by recursion: a tree may be deeper than the interpreter's stack
        path = pending.pop()
        try:
            os.unlink(path)
            continue
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
        os.chmod(path, 0o700)
        pending += [f"{path}/{name}" for name in os.listdir(path)]
        directories.append(path)
    for path in reversed(directories):
        os.rmdir(path)


# ---------------------------------------------------------------------------------------------------- notes


def _new_folder(root: str, path: str, now: float, why: str, capsule: str) -> "tuple[Item, str]":
    import json
    import time

    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    micros = int(now % 1 * 1e6)
    try:
        while True:
            name = f"{stamp}-{micros:06d}"
            folder = f"{root}/{TRASH}/{name}"
            try:
                os.mkdir(folder, 0o700)
                break
            except FileExistsError:
                micros += 1  # still in order: ids are given out upwards
            except FileNotFoundError:
                make_directories(f"{root}/{TRASH}")
        # Lone surrogates (bytes that aren't UTF-8) pass through JSON as \udcXX and come back the same.
        note = {"path": path, "when": now, "why": why, "capsule": capsule}
        fd = os.open(f"{folder}/{_NOTE}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            files.write_all(fd, json.dumps(note).encode() + b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        raise refusal(error, root, "write") from error
    return Item(name, path, now, why, capsule), folder


def _load(root: str, name: str) -> "Item | None":
    import json

    try:
        with open(f"{root}/{TRASH}/{name}/{_NOTE}", "rb") as file:
            note = json.load(file)
        return Item(name, str(note["path"]), float(note["when"]), str(note["why"]), str(note["capsule"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ids(root: str) -> list[str]:
    try:
        return sorted(os.listdir(f"{root}/{TRASH}"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refusal(error, root, "read") from error


def _measure(item: Item, path: str) -> None:
    try:
        look = os.lstat(path)
    except OSError:
        return
    item.size = look.st_size
    item.kind = "file" if S_ISREG(look.st_mode) else "link" if S_ISLNK(look.st_mode) else "other"
    if S_ISDIR(look.st_mode):
        item.kind, item.size = "directory", 0
        for folder, _, names in os.walk(path):
            for name in names:
                try:
                    item.size += os.lstat(f"{folder}/{name}").st_size
                except OSError:
                    continue


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


# ---------------------------------------------------------------------------------------------------- moving


def _move(source: str, target: str) -> None:
    """Rename, or copy to another file system and delete the original when the copy has been compared with it."""
    try:
        _rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(source, target)


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except PermissionError:
        # A directory that may not be written can't change its parent; its owner may lift that for a moment.
        look = os.lstat(source)
        if not S_ISDIR(look.st_mode):
            raise
        os.chmod(source, 0o700)
        try:
            os.rename(source, target)
        except BaseException:
            os.chmod(source, look.st_mode & 0o7777)
            raise
        os.chmod(target, look.st_mode & 0o7777)


def _move_without_replacing(source: str, target: str) -> None:
    """FileExistsError if anything is at `target`; there is no moment in which it could be overwritten."""
    if S_ISDIR(os.lstat(source).st_mode):
        os.mkdir(target, 0o700)
        try:
            # Takes the place of an empty directory only: what somebody put in there meanwhile makes it fail.
            _move(source, target)
        except BaseException:
            _remove_if_empty(target)
            raise
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
    else:
        os.unlink(source)
        return
    # No link can be made from here: hold the name with a file of ours, then take its place.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        _move(source, target)
    except BaseException:
        if os.path.lexists(source):
            discard(target)
        raise


def _move_across(source: str, target: str) -> None:
    partial = f"{os.path.dirname(target)}/.capsula-stage-{os.getpid()}-{next(_counter)}"
    copied: list[tuple[str, os.stat_result]] = []
    try:
        _copy(source, partial, copied)
        for path, look in copied:
            now = os.lstat(path)
            if (now.st_ctime_ns, now.st_ino) != (look.st_ctime_ns, look.st_ino):
                raise OutputError(f"{printable(path)} changed while it was moved")
        os.rename(partial, target)
    except BaseException:
        remove_tree(partial)
        raise
    # Delete exactly what was copied, the deepest first. What somebody changes or adds now stays there, as an error.
    for path, look in reversed(copied):
        if S_ISDIR(look.st_mode):
            continue
        now = os.lstat(path)
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (look.st_size, look.st_mtime_ns, look.st_ino):
            raise OutputError(f"{printable(path)} changed while it was moved; what was copied is kept")
        _with_writable_parent(os.unlink, path)
    for path, look in reversed(copied):
        if S_ISDIR(look.st_mode):
            _with_writable_parent(os.rmdir, path)


def _copy(source: str, target: str, copied: "list[tuple[str, os.stat_result]]") -> None:
    look = os.lstat(source)
    copied.append((source, look))
    if S_ISDIR(look.st_mode):
        os.mkdir(target, 0o700)
        for name in sorted(os.listdir(source)):
            _copy(f"{source}/{name}", f"{target}/{name}", copied)
        os.chmod(target, look.st_mode & 0o7777)
    elif S_ISLNK(look.st_mode):
        os.symlink(os.readlink(source), target)
    elif S_ISREG(look.st_mode):
        _copy_file(source, target, look.st_mode & 0o7777)
    else:
        raise OutputError(
            f"{printable(source)} is a socket, a pipe or a device, which can't be moved to the trash"
        )
    os.utime(target, ns=(look.st_atime_ns, look.st_mtime_ns), follow_symlinks=False)


def _copy_file(source: str, target: str, mode: int) -> None:
    def refused(error: OSError) -> CapsulaError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreError("the disk is full: the trash can't keep more", hint="free some space")
        return files.unreadable(source, error)

    reading = files.open_regular(source)
    try:
        writing = files.create(target)
        try:
            digest = files.copy(reading, writing, refused, refused)
            if files.digest_file(reading, refused) != digest or files.digest_file(writing, refused) != digest:
                raise OutputError(f"{printable(source)} changed while it was copied to the trash")
            os.fchmod(writing, mode)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _with_writable_parent(delete: "Callable[[str], None]", path: str) -> None:
    try:
        delete(path)
    except PermissionError:
        parent = os.path.dirname(path)
        mode = os.lstat(parent).st_mode & 0o7777
        os.chmod(parent, mode | 0o700)
        try:
            delete(path)
        finally:
            os.chmod(parent, mode)


def _remove_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass
