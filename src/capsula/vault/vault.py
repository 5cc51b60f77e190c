"""The vault: makes the directory of a new capsule, takes in what belongs to it, and seals it.

A capsule is a directory of plain files. Its capsule.json is there from the first moment and says `running`, with the
process that writes it; so a crash leaves a capsule that says what it is. Sealing replaces it by one that names every
file with its digest, and takes away the right to write. Two at once never meet: `mkdir` decides. Files that other
capsules have as well are shared with them (blobs).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from capsula.core.names import printable, to_text
from capsula.errors import CapsulaError
from capsula.vault.blobs import Blobs, clone_into, digest_of, sealed_mode
from capsula.vault.durability import flush
from capsula.vault.identity import new_identity
from capsula.vault.layout import FORMAT, MARK, PACKAGES, RECORD, TOLD, VaultError
from capsula.vault.remarks import Remarks, change

_NAMES = {RECORD, *TOLD, PACKAGES, "samples.json", "stdout.txt", "stderr.txt", "live", "said"}
_CHUNK = 1 << 20
_LARGE = 1 << 20  # to look for such a file in the vault costs less than to copy it once more
_LONGEST = 150


class Vault:
    def __init__(self, root: str) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the directory, if it isn't there, for nobody else to look into. OSError, or VaultError for a directory
        that holds other things."""
        place = Path(self.root)
        try:
            place.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            if not place.is_dir():
                raise VaultError(
                    f"{printable(self.root)} is no directory",
                    hint="vault-directory in capsula.toml names another",
                ) from None
        if (place / MARK).exists():
            return
        has_others = any(name not in (".gitignore", MARK) for name in os.listdir(place))
        # They may be those of another run, which has just made it a vault.
        if has_others and not (place / MARK).exists():
            raise VaultError(
                f"{printable(self.root)} has other things in it",
                hint="vault-directory in capsula.toml names another directory",
            )
        place.chmod(0o700)
        # First: nobody's commit shall hold what is in here.
        (place / ".gitignore").write_text("*\n")
        (place / MARK).touch()

    def begin(self, template: str, when: datetime, kind: str) -> Draft:
        """A new capsule, named by the template and an id that nobody else has. OSError when it can't be made."""
        prefix = when.strftime(template).replace("/", "-").replace("\0", "").lstrip(".")[:_LONGEST]
        while True:
            identity = new_identity()
            name = f"{prefix}-{identity[-6:]}" if prefix else identity
            path = os.path.join(self.root, name)
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                continue
            return Draft(path, identity, kind, when)


class Draft:
    """A capsule that is being written; the port's contract is in ports.Draft."""

    def __init__(self, path: str, identity: str, kind: str, when: datetime) -> None:
        self.path = path
        self.id = identity
        self._blobs = Blobs(os.path.dirname(path))
        self._shared: set[str] = set()
        self._taken = set(_NAMES)
        self._record: dict[str, object] = {
            "format": FORMAT,
            "id": identity,
            "name": os.path.basename(path),
            "kind": kind,
            "status": "running",
            "started": when.isoformat(timespec="microseconds"),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot_id": boot_id(),
        }
        self.write_json(RECORD, self._record)

    def write(self, name: str, content: bytes) -> None:
        path = self._place(name)
        with open(path, "xb") as file:
            file.write(content)

    def write_json(self, name: str, value: object) -> None:
        os.replace(self._written_aside(name, value), self._place(name))

    def take(self, source: str, name: str, *, move: bool) -> None:
        """Copy a file or directory; to move is to copy and then to remove, unless a rename does it. A link that is
        named itself stands for what it leads to; in a directory, links stay links."""
        target = self._place(name)
        if os.path.lexists(target):
            raise VaultError(f"there is a {printable(name)} in the capsule already")
        # A link with a slash behind it is what it leads to; and that isn't for us to remove.
        source = source.rstrip("/") or "/"
        _refuse_special(source)
        if move and not os.path.islink(source):
            try:
                os.rename(source, target)
            except OSError:
                pass  # another file system, or a directory that may not be changed: then the copy says why
            else:
                _open_directories(target)
                return
        try:
            self._copy(os.path.realpath(source), target)
        except BaseException:
            _remove(target)
            raise
        if move:
            _remove(source)

    def free_name(self, wanted: str) -> str:
        stem, dot, suffix = wanted.partition(".") if not wanted.startswith(".") else (wanted, "", "")
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}{dot}{suffix}"
        self._taken.add(name)
        return name

    def seal(self, status: str, summary: dict[str, object]) -> None:
        """The last step is a rename; before it everything that it speaks of is on the disk. OSError when that can't
        be: then the capsule goes on saying that it isn't finished."""
        self._remark(summary.get("tags"), summary.get("note"))
        paths = [path for path in _below(self.path) if path != os.path.join(self.path, RECORD)]
        rows = [self._close(path) for path in paths]
        self._record.update(summary)
        self._record["status"] = status
        self._record["ended"] = datetime.now().astimezone().isoformat(timespec="microseconds")
        self._record["files"] = [row for row in rows if row]
        aside = self._written_aside(RECORD, self._record)
        os.chmod(aside, sealed_mode(0))
        flush([aside, *(path for path, row in zip(paths, rows, strict=True) if "sha256" in row)])
        os.replace(aside, os.path.join(self.path, RECORD))

    def leave(self, status: str, summary: dict[str, object]) -> None:
        self._record.update(summary)
        self._record["status"] = status
        self._record["ended"] = datetime.now().astimezone().isoformat(timespec="microseconds")
        self.write_json(RECORD, self._record)

    def _remark(self, tags: object, note: object) -> None:
        """What the run says of itself is where people look for it, and can change it."""
        said = Remarks(note=note if isinstance(note, str) else "")
        said = said.with_tags([str(tag) for tag in tags] if isinstance(tags, list) else ())
        if said != Remarks():
            try:
                change(os.path.dirname(self.path), self.id, lambda there: there.merged(said))
            except (CapsulaError, OSError):
                return  # it is in capsule.json as well

    def _close(self, path: str) -> dict[str, object]:
        """Take away the right to write to it, share it, and describe it; nothing for what is neither file nor link."""
        name = os.path.relpath(path, self.path)
        look = os.lstat(path)
        told: dict[str, object] = {"name": to_text(name)}
        if stat.S_ISLNK(look.st_mode):
            return told | {"link": to_text(os.readlink(path))}
        if stat.S_ISDIR(look.st_mode):
            return told | {"directory": True}
        if not stat.S_ISREG(look.st_mode):
            return {}
        if look.st_nlink > 1 and path not in self._shared:
            _copy_in_place(path)  # it was moved here and has a name elsewhere, by which it could be changed
        os.chmod(path, sealed_mode(look.st_mode))
        digest = digest_of(path)
        if name not in TOLD and path not in self._shared:
            self._blobs.share(path, digest)
        return told | {"size": os.stat(path).st_size, "sha256": digest, "mode": f"{look.st_mode & 0o777:o}"}

    def _copy(self, source: str, target: str) -> None:
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            os.mkdir(target, 0o700)
            for name in os.listdir(source):
                self._copy(os.path.join(source, name), os.path.join(target, name))
        elif os.path.getsize(source) >= _LARGE and self._blobs.fetch(source, digest_of(source), target):
            self._shared.add(target)
        else:
            _copy_file(source, target)

    def _written_aside(self, name: str, value: object) -> str:
        text = json.dumps(value, indent=4, ensure_ascii=True, default=repr) + "\n"
        aside = self._place(f".{name}.new")
        with open(aside, "w", encoding="ascii") as file:
            file.write(text)
        return aside

    def _place(self, name: str) -> str:
        parts = name.split("/")
        if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise VaultError(f"{printable(name) or 'nothing'} is no name for a file in a capsule")
        if len(parts) > 1:
            os.makedirs(os.path.join(self.path, *parts[:-1]), mode=0o700, exist_ok=True)
        return os.path.join(self.path, *parts)


def _below(root: str) -> list[str]:
    """All files, links and empty directories, sorted; no link is followed."""
    found = []
    for folder, folders, names in os.walk(root):
        found += [os.path.join(folder, name) for name in names]
        found += [path for name in folders if os.path.islink(path := os.path.join(folder, name))]
        if not folders and not names and folder != root:
            found.append(folder)
    return sorted(found)


def _refuse_special(source: str) -> None:
    """VaultError for a pipe, a socket or a device: there, or below the directory."""
    for folder, _, names in os.walk(source) if os.path.isdir(source) else [(source, [], [""])]:
        for name in names:
            path = os.path.join(folder, name) if name else folder
            mode = os.lstat(path).st_mode if name else os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise VaultError(f"{printable(path)} is no file, link or directory")


def _open_directories(path: str) -> None:
    """What is moved in keeps its directories; ours are open to us, else what is in them can't be shared or removed."""
    found = [path] if os.path.isdir(path) else []
    for folder in found:
        with suppress(OSError):  # it is another user's
            os.chmod(folder, 0o700)
        with suppress(OSError), os.scandir(folder) as entries:
            found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb") as reading, open(target, "xb") as writing:
        if not clone_into(reading.fileno(), writing.fileno()):
            shutil.copyfileobj(reading, writing, _CHUNK)
    shutil.copystat(source, target)


def _copy_in_place(path: str) -> None:
    aside = f"{path}.new"
    _copy_file(path, aside)
    os.replace(aside, path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
