"""Capsula: put any command into a capsule — recorded, cached, isolated, reproducible."""

__version__ = "0.1.0"

# What programs use, and where it is: imported when it is used, so that `import capsula` costs next to nothing.
_PUBLIC = {
    "monitor": "monitor",
    "run": "run",
    "Run": "run",
    "Live": "live",
    "current": "current",
    "record": "current",
    "output": "current",
    "load_ipython_extension": "magic",
    "unload_ipython_extension": "magic",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.api.current import current as current
    from capsula.api.current import output as output
    from capsula.api.current import record as record
    from capsula.api.live import Live as Live
    from capsula.api.magic import load_ipython_extension as load_ipython_extension
    from capsula.api.magic import unload_ipython_extension as unload_ipython_extension
    from capsula.api.monitor import monitor as monitor
    from capsula.api.run import Run as Run
    from capsula.api.run import run as run


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'capsula' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"capsula.api.{_PUBLIC[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
