"""Where the servers are that aren't packages of the system: beside what the tests themselves need."""

import sys
from pathlib import Path

ENVIRONMENT = Path(sys.prefix) / "servers"
MORE = Path(sys.prefix) / "more-servers"


def installed(name: str) -> Path:
    """The program at this path of what `make test` sets up. One that isn't there is a failure, not a reason to skip."""
    return _there(ENVIRONMENT / name, "make test")


def installed_for_all(name: str) -> Path:
    """The same for what only `make test-all` sets up."""
    return _there(MORE / name, "make test-all")


def _there(path: Path, target: str) -> Path:
    assert path.exists(), f"{path} is not there: `{target}` sees to that"
    return path
