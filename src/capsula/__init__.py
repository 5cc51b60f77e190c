"""Capsula: put any command into a capsule — recorded, cached, isolated, reproducible."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """What programs use is imported when it is used: `import capsula` costs next to nothing."""
    if name == "monitor":
        from capsula.api.monitor import monitor

        return monitor
    raise AttributeError(f"module 'capsula' has no attribute {name!r}")
