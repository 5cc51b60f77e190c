"""The file that the index is kept in: SQLite, opened, shared and replaced.

Many use it at once through SQLite's write-ahead log, and wait when another writes. Who has it open also holds a shared
lock, because a damaged file can only be replaced when nobody has it open: SQLite would apply the log of the old file to
the new one. Where none of this can be done, a copy in memory takes its place.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from capsula.errors import NotAvailable
from capsula.vault.layout import VaultError
from capsula.vault.ours import make_place, place

try:
    import sqlite3
except ImportError as error:
    raise NotAvailable(
        "this Python was built without sqlite3, which finding capsules needs",
        hint="capsules are plain files: ls, cat",
    ) from error

Connection = sqlite3.Connection
Error = sqlite3.Error
FILE, LOCK = "index.sqlite", "index.lock"
_VERSION = 4
_WAIT_MS = 5000
_SCHEMA = """
    CREATE TABLE capsule (key INTEGER PRIMARY KEY AUTOINCREMENT, directory BLOB NOT NULL UNIQUE, stamp TEXT NOT NULL,
        id TEXT NOT NULL, place TEXT NOT NULL, status TEXT NOT NULL, record TEXT NOT NULL, said TEXT NOT NULL,
        own TEXT NOT NULL);
    CREATE INDEX newest ON capsule (place, directory, status);
    CREATE TABLE shape (key INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
    CREATE TABLE part (key INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, shape INTEGER NOT NULL,
        facts TEXT NOT NULL);
    CREATE INDEX shaped ON part (shape);
    CREATE TABLE holds (capsule INTEGER NOT NULL, part INTEGER NOT NULL, PRIMARY KEY (capsule, part)) WITHOUT ROWID;
    CREATE INDEX holder ON holds (part, capsule);
    CREATE TABLE remark (id TEXT PRIMARY KEY, stamp TEXT NOT NULL, remarks TEXT NOT NULL) WITHOUT ROWID;
"""


class Database:
    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = -1
        try:
            self._connection = self._open()
        except (OSError, VaultError, sqlite3.Error):
            self._release()
            self._connection = self._copy()

    @property
    def is_kept(self) -> bool:
        """Whether it is on the disk, and not in memory for this once."""
        return self._lock >= 0

    def close(self) -> None:
        self._connection.close()
        self._release()

    def rows(self, question: str, *values: object) -> list[Any]:
        return self._connection.execute(question, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._connection as connection:
            connection.execute("BEGIN")
            yield

    def replace(self) -> None:
        """A new one in place of a damaged one. BlockingIOError while another has that open."""
        self._connection.close()
        self._connection = self._replaced() if self._lock >= 0 else _in_memory()

    def leave(self, *, empty: bool = False) -> None:
        """Go on in memory, with a copy of what is there or with nothing."""
        self._connection.close()
        self._release()
        self._connection = _in_memory() if empty else self._copy()

    def _open(self) -> sqlite3.Connection:
        folder = make_place(self._root)
        self._lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        try:
            return _connect(os.path.join(folder, FILE))
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
        return self._replaced()

    def _replaced(self) -> sqlite3.Connection:
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = place(self._root, FILE)
        for name in (f"{path}-wal", f"{path}-shm", path):
            try:
                os.unlink(name)
            except FileNotFoundError:
                pass
        connection = _connect(path)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return connection

    def _copy(self) -> sqlite3.Connection:
        """What is on the disk, as far as it is good for anything: what has changed since is read again anyway."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            address = f"file:{quote(place(self._root, FILE))}?mode=ro&immutable=1"
            there = sqlite3.connect(address, uri=True)
            try:
                there.backup(connection)
            finally:
                there.close()
            _make_tables(connection)
            connection.execute("SELECT count(*) FROM capsule").fetchone()
        except sqlite3.Error:
            connection.close()
            return _in_memory()
        return connection

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def is_damage(error: sqlite3.Error) -> bool:
    """Whether a new file would help. One that is locked, full or read-only is left alone."""
    if isinstance(error, sqlite3.OperationalError):
        # Tables that aren't as they should be.
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return isinstance(error, sqlite3.DatabaseError)


def _connect(path: str) -> sqlite3.Connection:
    # SQLite gives its log the mode of the file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_WAIT_MS / 1000, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # It can be made again: a power cut may cost it, never a capsule.
        connection.execute("PRAGMA synchronous = NORMAL")
        # What is removed from the vault shall not stay readable in here.
        connection.execute("PRAGMA secure_delete = ON")
        _make_tables(connection)
        # The first damage shows here, not in the middle of an answer.
        connection.execute("SELECT count(*) FROM capsule").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _make_tables(connection)
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    if _version(connection) == _VERSION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)  # another may have made them while we waited
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"an index of version {version}")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
