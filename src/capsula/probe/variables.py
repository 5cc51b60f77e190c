"""The environment variables: those that the user named, and, as notes, all others without what looks secret."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from capsula.core.found import Found
from capsula.core.secrets import is_secret, mask_log, telling_values

if TYPE_CHECKING:
    from capsula.core.found import Value

MASKED = "***"


class EnvironmentProbe:
    """`keep` are names whose values are stored though they look like credentials. `salt` is of this run alone: equal
    hidden values are seen to be equal within a capsule, and can't be looked up by anybody."""

    name = "environment"

    def __init__(
        self,
        names: tuple[str, ...],
        environ: Mapping[str, str],
        *,
        keep: frozenset[str],
        others: bool,
        salt: bytes,
    ) -> None:
        self._names = names
        self._environ = environ
        self._keep = keep
        self._others = others
        self._salt = salt
        self._secret = telling_values({name: value for name, value in environ.items() if name not in keep})

    def read(self) -> Found:
        masked: list[str] = []
        named: dict[str, Value] = {
            name: self._shown(name, masked) for name in self._names if name in self._environ
        }
        ours: dict[str, Value] = {"unset": [name for name in self._names if name not in self._environ]}
        if self._others:
            rest = sorted(set(self._environ) - set(self._names))
            ours["others"] = {name: self._hashed(name, masked) for name in rest}
        sections: dict[str, Value] = {"environment_variables": named, "environment": ours}
        return Found(sections, keys=("/environment_variables", "/environment/unset"), masked=tuple(masked))

    def _shown(self, name: str, masked: list[str]) -> str:
        value = self._environ[name]
        if name in self._keep:
            return value
        shown = MASKED if is_secret(name) else mask_log(value, self._secret)[0]
        if shown != value:
            masked.append(name)
        return shown

    def _hashed(self, name: str, masked: list[str]) -> Value:
        shown = self._shown(name, masked)
        if shown == self._environ[name]:
            return shown
        content = self._salt + self._environ[name].encode("utf-8", "surrogateescape")
        return {"masked": hashlib.sha256(content).hexdigest()[:16]}
