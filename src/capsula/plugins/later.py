"""Modules that libraries import and that nothing in a run of ours uses: they are loaded when something does use them.

Half of what it costs to import grpc is its asynchronous half, with asyncio behind it. What is behind such an import is
put off until the first attribute is asked for; should a version of grpc need it at once, it is loaded at once. As the
standard library's LazyLoader does it, but for threads: before Python 3.11.9 and 3.12.3 that one shows a second thread a
module that the first is still loading. For a process that is ours alone: in a user's, nothing is to be imported
otherwise than usual.
"""

import sys
from _frozen_importlib_external import PathFinder
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:
    ModuleType = type(sys)

NAMES = frozenset(
    [
        "asyncio",
        "datetime",
        "grpc.aio",
        "grpc.experimental",
        "inspect",
        "linecache",
        "pkgutil",
        "socket",
        "ssl",
        "traceback",
    ]
)
# In a module that isn't loaded yet: who loads it holds this one.
_LOCK, _LOADING = "__capsula_lock__", "__capsula_loading__"


class _Unloaded(ModuleType):
    """It becomes an ordinary module when it is loaded; the thread that loads it sees as much of it as there is."""

    def __getattribute__(self, name: str) -> object:
        if name != "__spec__":  # which is what a second import looks at
            _load(self)
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        # What imports it sets some, to itself or to what is below it.
        if not name.startswith("__"):
            _load(self)
        ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _load(self)
        ModuleType.__delattr__(self, name)


class _Loader:
    """importlib's protocol of a loader, around the one that would have loaded it."""

    def __init__(self, loader: object) -> None:
        self.loader = loader

    def create_module(self, _: "ModuleSpec") -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = module.__loader__ = self.loader  # type: ignore[assignment]
        module.__dict__[_LOCK] = RLock()
        module.__class__ = _Unloaded


def _load(module: ModuleType) -> None:
    own = ModuleType.__getattribute__(module, "__dict__")
    lock = own.get(_LOCK)
    if lock is None:
        return
    with lock:
        if _LOCK not in own or _LOADING in own:
            return
        own[_LOADING] = True
        try:
            own["__spec__"].loader.exec_module(module)
        finally:
            del own[_LOADING]
        del own[_LOCK]
        module.__class__ = ModuleType


class _Later:
    """A finder (importlib's protocol) of these names."""

    def find_spec(self, name: str, path: "Sequence[str] | None", _: object = None) -> "ModuleSpec | None":
        if name not in NAMES:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


def put_off() -> None:
    """From now on, for all of this process."""
    if not any([type(finder) is _Later for finder in sys.meta_path]):
        sys.meta_path.insert(0, _Later())
