"""Places: where the workspace root, the local store and what is remembered of a capsule are."""

import _imp
import os
import posix

from capsula.core.glob import VAULT_MARK
from capsula.core.names import printable
from capsula.errors import NotAvailable, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.recipe import Recipe


def find_root(given: "str | None", cwd: str) -> str:
    """The workspace root: as given, else the nearest directory upwards that holds capsula.toml or .git, else `cwd`."""
    if given is not None:
        # Links resolved, as they are in the current directory: the two are compared as text.
        return os.path.realpath(os.path.join(cwd, given))
    for directory in upwards(cwd):
        for mark in ("capsula.toml", ".git"):
            try:
                # A link that leads nowhere marks nothing: whoever watches the mark sees what it leads to.
                posix.stat(f"{directory.rstrip('/')}/{mark}")
            except OSError:
                continue
            return directory
    return cwd


def upwards(directory: str) -> list[str]:
    """The directory, its parent, and so on up to "/"."""
    found = [directory]
    while directory != "/":
        directory = directory.rpartition("/")[0] or "/"
        found.append(directory)
    return found


def find_store(given: "str | None", cwd: str, root: str, environ: "dict[bytes, bytes]") -> str:
    """The directory of the local store; "" when there is no home to put one in."""
    if given is not None:
        if given.startswith("//"):
            return os.path.normpath(os.path.join(root, given.lstrip("/")))
        return os.path.normpath(os.path.join(cwd, os.path.expanduser(given)))
    return default_store(environ)


def default_store(environ: "dict[bytes, bytes]") -> str:
    cache = environ.get(b"XDG_CACHE_HOME", b"")
    if cache.startswith(b"/"):
        return os.path.normpath(os.fsdecode(cache).rstrip("/") + "/capsula")
    home = environ.get(b"HOME", b"")
    if home.startswith(b"/"):
        return os.path.normpath(os.fsdecode(home).rstrip("/") + "/.cache/capsula")
    raise NotAvailable(
        "there is no place for the store: HOME and XDG_CACHE_HOME are not set", hint="set one, or use --store"
    )


def hidden_directories(store_root: str, recipe: "Recipe", environ: "dict[bytes, bytes]") -> tuple[str, ...]:
    """What is ours: the store, the default one (recall always writes there), the vault in its usual place (others are
    known by their mark when a survey comes to them). Also outside the base, where `-i '../**'` would find what each run
    changes.
    """
    stores = [store_root] if store_root else []
    try:
        stores.append(default_store(environ))
    except NotAvailable:
        pass
    # The current directory is known by its real path, the store perhaps by one that goes through links.
    hidden = sorted({*stores, *map(os.path.realpath, stores)})
    for place in {recipe.root, recipe.cwd}:
        if os.path.exists(f"{place}/vault/{VAULT_MARK}"):
            hidden.append(f"{place}/vault")
    return tuple(hidden)


def memory_path(store_root: str, recipe: "Recipe") -> str:
    """Where the looks of this capsule in this place are kept: its outputs tell it apart, its inputs and argv
    may change."""
    parts = (recipe.base, recipe.cwd, recipe.capsule_id, *recipe.outputs)
    whole = "\0".join(parts).encode("utf-8", "surrogateescape")
    return f"{store_root}/state/{(_imp.source_hash(1, whole) + _imp.source_hash(2, whole)).hex()}"


def refuse_way_up_from_link(pattern: str, root: str, cwd: str) -> None:
    """UsageError for `link/../x`: the command, through the kernel, would find another x than the text says."""
    if "/../" not in pattern and not pattern.endswith("/.."):
        return
    base, rest = (root, pattern[2:]) if pattern.startswith("//") else (cwd, pattern)
    parts = rest.split("/")
    for at, part in enumerate(parts[:-1]):
        way = "/".join(parts[: at + 1])
        if parts[at + 1] == ".." and part not in ("", ".", "..") and os.path.islink(os.path.join(base, way)):
            raise UsageError(
                f"the pattern '{printable(pattern)}' goes up again from the link {printable(way)}",
                hint="write where that leads",
            )
