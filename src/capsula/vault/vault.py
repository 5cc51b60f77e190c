"""The vault: makes the directory of a new capsule, takes in what belongs to it, and seals it.

A capsule is a directory of plain files. Its capsule.json is there from the first moment and says `running`, with the
process that writes it; so a crash leaves a capsule that says what it is. Sealing replaces it by one that names every
file with its digest, and takes away the right to write. Two at once never meet: `mkdir` decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import time
from datetime import datetime
from pathlib import Path

from capsula.core.names import printable
from capsula.errors import CapsulaError

FORMAT = 1
MARK, RECORD = ".capsula-vault", "capsule.json"
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # Linux, <linux/fs.h>
_LONGEST = 150


class VaultError(CapsulaError):
    """The vault, or a capsule in it, can't be what it is asked to be."""


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
        if any(name not in (".gitignore", MARK) for name in os.listdir(place)):
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
            identity = f"{time.time_ns() // 1_000_000:012x}{os.urandom(3).hex()}"
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
        self._taken = {
            RECORD,
            "context.json",
            "pre-run-info.json",
            "post-run-info.json",
            "stdout.txt",
            "stderr.txt",
        }
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
        text = json.dumps(value, indent=4, ensure_ascii=True, default=repr) + "\n"
        aside = self._place(f".{name}.new")
        with open(aside, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(aside, self._place(name))

    def take(self, source: str, name: str, *, move: bool) -> None:
        """Copy a file, link or directory; to move is to copy and then to remove, unless a rename does it."""
        target = self._place(name)
        if os.path.lexists(target):
            raise VaultError(f"there is a {printable(name)} in the capsule already")
        if move:
            try:
                os.rename(source, target)
                return
            except OSError:
                pass  # another file system, or a directory that may not be changed: then the copy says why
        try:
            _copy(source, target)
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
        self._record.update(summary)
        self._record["status"] = status
        self._record["ended"] = datetime.now().astimezone().isoformat(timespec="microseconds")
        self._record["files"] = [
            _described(path, self.path) for path in _below(self.path) if path.name != RECORD
        ]
        self.write_json(RECORD, self._record)
        for path in _below(self.path):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555 | 0o400)

    def _place(self, name: str) -> str:
        parts = name.split("/")
        if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise VaultError(f"{printable(name) or 'nothing'} is no name for a file in a capsule")
        if len(parts) > 1:
            os.makedirs(os.path.join(self.path, *parts[:-1]), mode=0o700, exist_ok=True)
        return os.path.join(self.path, *parts)


def _below(root: str) -> list[Path]:
    """All files and links, sorted; no link is followed."""
    found = []
    for folder, folders, names in os.walk(root):
        found += [Path(folder, name) for name in names]
        found += [Path(folder, name) for name in folders if os.path.islink(os.path.join(folder, name))]
    return sorted(found)


def _described(path: Path, root: str) -> dict[str, object]:
    name = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
    look = path.lstat()
    if stat.S_ISLNK(look.st_mode):
        return {"name": name, "link": os.fsencode(path.readlink()).decode("utf-8", "backslashreplace")}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": name, "size": look.st_size, "sha256": digest, "mode": f"{look.st_mode & 0o777:o}"}


def _copy(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.mkdir(target, 0o700)
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name))
    elif os.path.isfile(source):
        _copy_file(source, target)
    else:
        raise VaultError(f"{printable(source)} is no file, link or directory")


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb") as reading, open(target, "xb") as writing:
        if not _clone(reading.fileno(), writing.fileno()):
            shutil.copyfileobj(reading, writing, _CHUNK)
    shutil.copystat(source, target)


def _clone(source: int, target: int) -> bool:
    """Share the blocks, where the file system can."""
    try:
        from fcntl import ioctl

        ioctl(target, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True


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
