"""A probe from elsewhere: a package's, or a file's of the project.

It is loaded when it is asked, within its time limit, and what it answers is looked at before it gets into the record.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from capsula.core.found import Found
from capsula.core.names import printable
from capsula.errors import CapsulaError

if TYPE_CHECKING:
    from capsula.core.found import Surroundings
    from capsula.ports import Probe

GROUP = "capsula.probes"
# What a module is asked for when no factory is named.
FACTORY = "probe"


class PluginProbe:
    """`module` as in capsula.toml, None: the entry point `name`. `options` are the keywords of its factory."""

    def __init__(
        self, name: str, module: str | None, options: Mapping[str, object], around: Surroundings
    ) -> None:
        self.name = name
        self._module = module
        self._options = options
        self._around = around

    def read(self) -> Found:
        factory = self._factory()
        probe: Probe = factory(self._around, **self._options)
        found = probe.read()
        if not isinstance(found, Found):
            raise CapsulaError(f"it answers {type(found).__name__}, not capsula.core.found.Found")
        try:
            json.dumps(found.sections, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise CapsulaError(f"it answers what JSON can't hold: {error}") from error
        try:
            found.key_facts()
        except KeyError as error:
            raise CapsulaError(f"it names a key fact that isn't there: {error.args[0]}") from None
        return found

    def _factory(self) -> Callable[..., Any]:
        if self._module is None:
            return _installed(self.name)
        # A colon in a path is a colon; one that parts module and factory has no slash after it.
        source, colon, name = self._module.rpartition(":")
        if not colon or "/" in name:
            source, name = self._module, FACTORY
        module = _load(source, self._around.root)
        factory = getattr(module, name, None)
        if not callable(factory):
            raise CapsulaError(f"{printable(source)} has no factory {printable(name)}")
        return factory  # type: ignore[no-any-return]


def _installed(name: str) -> Callable[..., Any]:
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        return entry.load()  # type: ignore[no-any-return]
    raise CapsulaError(
        f"no installed package provides a probe {printable(name)}",
        hint=f"install one, or say module = '…' in [capture.probes.{printable(name)}]",
    )


def _load(source: str, root: str) -> object:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    path = os.path.join(root, source)
    if not os.path.isfile(path):
        raise CapsulaError(f"there is no file {printable(source)}")
    # Under a name that nobody imports: a file `json.py` stays that file.
    name = f"_capsula_probe_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
