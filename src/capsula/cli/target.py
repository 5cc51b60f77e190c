"""Which store the tool works on: the one that `capsule` would use in this directory, or the one of --store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capsula.config import toml, words
from capsula.config.options import BY_NAME, VARIABLE, Option, read_words
from capsula.config.places import find_root, find_store
from capsula.config.settings import HOME_FILE, LOCAL_FILES, Settings, choose_section, split_section
from capsula.core.names import printable
from capsula.errors import CapsulaError, UsageError
from capsula.store.layout import is_ours, refusal

Given = tuple[Option, object]


@dataclass(frozen=True, slots=True)
class Target:
    """`root` is the store's directory, `limit` its size in bytes (0: none)."""

    root: str
    limit: int

    @property
    def shown(self) -> str:
        return printable(self.root)

    def exists(self) -> bool:
        """Raises when something is there and it isn't a store: we neither count nor delete what is another's."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            raise CapsulaError(f"{self.shown} is no directory, so it can't be a store") from None
        except OSError as error:
            raise refusal(error, self.root, "read") from error
        if names and not is_ours(names):
            raise CapsulaError(
                f"{self.shown} is no store: it has other things in it",
                hint="--store names the directory of a store; without it, it is the one that capsule uses here",
            )
        return True


def find_target(given: str | None, cwd: str, environ: Mapping[bytes, bytes]) -> Target:
    """Raises UsageError or ConfigError for settings that are wrong, NotAvailable where there is no home."""
    store, limit = given, BY_NAME["store_size"].default
    settings = _settings(cwd, environ)
    for option, value in settings:
        if option.name == "store" and given is None:
            store = str(value)
        elif option.name == "store_size":
            limit = value
    assert isinstance(limit, int)
    return Target(
        find_store(store, cwd, find_root(_last(settings, "workspace_root"), cwd), dict(environ)), limit
    )


def target_settings(asked: Sequence[str]) -> Settings:
    """What the places other than the command line set, and the remote stores of these addresses beside theirs."""
    given: list[tuple[Option, object, str]] = []
    for option, value in _settings(os.getcwd(), os.environb):
        given.append((option, value, ""))
    remote = BY_NAME["remote"]
    given += [(remote, (remote.read(url),), "") for url in asked]
    return Settings(given, (), ())


def _settings(cwd: str, environ: Mapping[bytes, bytes]) -> list[Given]:
    """What the places other than the command line set, later wins."""
    home = os.fsdecode(environ.get(b"HOME", b""))
    own = os.path.join(cwd, home, HOME_FILE)
    defaults: list[Given] = []
    if home and os.path.isfile(own):
        defaults += _without_source(toml.read_keys(toml.read_file(own, own)))
    asked: list[Given] = []
    if b"CAPSULE_ARGS" in environ:
        try:
            split = words.split(os.fsdecode(environ[b"CAPSULE_ARGS"]))
        except UsageError as refused:
            raise UsageError(f"{VARIABLE}: {refused.what}", hint=refused.hint) from None
        asked += read_words(split, VARIABLE)
    return [*defaults, *_of_file(defaults, asked, cwd), *asked]


def _of_file(defaults: list[Given], asked: list[Given], cwd: str) -> list[Given]:
    """What the capsules' file sets: for all of them, and for one if it is clear which."""

    def resolve(path: str) -> str:
        if path.startswith("//"):
            return os.path.join(
                find_root(_last([*defaults, *asked], "workspace_root"), cwd), path.lstrip("/")
            )
        return os.path.join(cwd, path)

    named, capsule_id = _last(asked, "file"), _last([*defaults, *asked], "capsule_id")
    section: str | None = None
    if named is not None:
        path, section = split_section(named, lambda name: os.path.isfile(resolve(name)))
    else:
        local = [name for name in LOCAL_FILES if os.path.isfile(resolve(name))]
        if capsule_id is not None or not local:
            return []
        path = local[0]
    document = toml.read_file(resolve(path), path)
    given = toml.read_keys(document)
    try:
        chosen = choose_section(toml.sections(document), section, capsule_id, document.shown)
    except UsageError:
        chosen = None  # here, unlike for a run, none has to be chosen
    if chosen is not None:
        given += toml.read_keys(document, chosen)
    return _without_source(given)


def _without_source(given: list[tuple[Option, object, str]]) -> list[Given]:
    return [(option, value) for option, value, _ in given]


def _last(given: list[Given], name: str) -> str | None:
    texts = [value for option, value in given if option.name == name and isinstance(value, str)]
    return texts[-1] if texts else None
