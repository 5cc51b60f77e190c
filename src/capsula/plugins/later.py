"""Modules that libraries import and that nothing in a run of ours uses: they are loaded when something does use them.

Half of what it costs to import grpc is its asynchronous half, with asyncio behind it. The standard library's LazyLoader
puts off what is behind an import until the first attribute is asked for; should a version of grpc need it at once, it
is loaded at once. For a process that is ours alone: in a user's, nothing is to be imported otherwise than usual.
"""

import sys
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

NAMES = frozenset(
    ["asyncio", "grpc.aio", "grpc.experimental", "inspect", "pkgutil", "socket", "ssl", "traceback"]
)


class _Later:
    """A finder (importlib's protocol) of these names."""

    def find_spec(self, name: str, path: "Sequence[str] | None", _: object = None) -> "ModuleSpec | None":
        if name not in NAMES:
            return None
        from importlib.util import LazyLoader

        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def put_off() -> None:
    """From now on, for all of this process."""
    if not any([type(finder) is _Later for finder in sys.meta_path]):
        sys.meta_path.insert(0, _Later())
