"""Servers that are programs of Python, in an environment beside the one of the tests."""

import sys
from pathlib import Path

ENVIRONMENT = Path(sys.prefix) / "servers"


def installed(name: str) -> Path:
    """The program at this path below it. One that isn't there is a failure, not a reason to skip."""
    path = ENVIRONMENT / name
    assert path.exists(), f"{path} is not there: `make test` sees to that (dev/servers)"
    return path
