"""`import capsula` costs next to nothing: what a program uses of it is imported when it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

import capsula

SRC = Path(capsula.__file__).parents[1]
PUBLIC = ("monitor", "run", "Run", "Live", "current", "record", "output")
MAGIC = ("load_ipython_extension", "unload_ipython_extension")


def python(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done
    return done.stdout


def test_nothing_else_is_imported() -> None:
    script = "import sys; before = set(sys.modules); import capsula; print(set(sys.modules) - before)"
    assert python(script) == "{'capsula'}\n"


def test_a_record_imports_little() -> None:
    """Programs that are only measured needn't load what a recorder needs."""
    script = "import sys, capsula; capsula.record('x', 1); print(*sys.modules)"
    loaded = set(python(script).split())
    assert not loaded & {
        "inspect",
        "dataclasses",
        "subprocess",
        "capsula.plugins",
        "asyncio",
        "hashlib",
    }


@pytest.mark.parametrize("name", PUBLIC + MAGIC)
def test_a_public_name_is_there(name: str) -> None:
    assert name in dir(capsula)
    assert python(f"from capsula import {name}; print(callable({name}))") == "True\n"


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(capsula, "nothing")  # noqa: B009
