"""The file of --trust: which keys are believed, and what each may vouch for.

accept = ["trusted"]

[[key]]
name = "ci, protected branch"
public = "ed25519:…"
tiers = ["trusted"]
refs = ["refs/heads/main", "refs/tags/*"]
ids = ["*"]
until = 2027-01-01T00:00:00Z
revoked = false
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from capsula.config.values import nearest
from capsula.core.names import printable
from capsula.errors import ConfigError, UsageError
from capsula.store.signed import Trust, TrustedKey, read_public

_TOP, _KEY = ("accept", "key"), ("name", "public", "tiers", "refs", "ids", "until", "revoked")


def read_trust(path: str) -> Trust:
    """ConfigError for what is wrong in it, with the key."""
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"can't read {printable(path)}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{printable(path)}: {error}") from error
    _known(path, "", table, _TOP)
    rows = table.get("key", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{printable(path)}: key: expected [[key]] tables")
    keys = [_key(path, number, row) for number, row in enumerate(rows, 1)]
    return Trust.of(keys, _texts(path, "accept", table.get("accept", ["trusted"])))


def _key(path: str, number: int, row: Mapping[str, Any]) -> TrustedKey:
    where = f"key {number}"
    _known(path, f"{where}: ", row, _KEY)
    try:
        public = read_public(str(row.get("public", "")))
    except UsageError as error:
        raise ConfigError(f"{printable(path)}: {where}: public: {error.what}", hint=error.hint) from error
    until, revoked = row.get("until"), row.get("revoked", False)
    if isinstance(until, date) and not isinstance(until, datetime):
        until = datetime(until.year, until.month, until.day, tzinfo=UTC)
    if until is not None and not isinstance(until, datetime):
        raise ConfigError(f"{printable(path)}: {where}: until: expected a date, like 2027-01-01")
    if not isinstance(revoked, bool):
        raise ConfigError(f"{printable(path)}: {where}: revoked: expected true or false")
    lists = {
        name: _texts(path, f"{where}: {name}", row.get(name, default))
        for name, default in (("tiers", ["trusted"]), ("refs", ["*"]), ("ids", ["*"]))
    }
    return TrustedKey(str(row.get("name", f"{number}")), public, **lists, until=until, revoked=revoked)


def _texts(path: str, name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{printable(path)}: {name}: expected an array of strings")
    return tuple(value)


def _known(path: str, where: str, table: Mapping[str, object], names: tuple[str, ...]) -> None:
    for name in table:
        if name not in names:
            meant = nearest(name, names)
            hint = f"did you mean {meant}?" if meant else f"known here: {', '.join(names)}"
            raise ConfigError(f"{printable(path)}: {where}there is no key {printable(name)}", hint=hint)
