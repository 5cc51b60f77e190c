"""The modules of a run, out of a few files."""

import marshal
import sys
from importlib.util import MAGIC_NUMBER, module_from_spec
from pathlib import Path

import pytest

from capsula.cli.together import Together

NAME = "capsula.made.up"


def packed(package: Path, content: object, *, magic: bytes = MAGIC_NUMBER) -> None:
    made = package / f"together-more.{sys.implementation.cache_tag}.bin"
    made.write_bytes(magic + marshal.dumps(content))


@pytest.fixture
def together(tmp_path: Path) -> Together:
    return Together(str(tmp_path / "capsula"), {}, {NAME: "-more"})


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "capsula").mkdir()
    return tmp_path / "capsula"


def test_a_module_comes_from_the_file_that_has_it(package: Path, together: Together) -> None:
    packed(package, {NAME: (compile("answer = 42", "x", "exec"), False, ())})
    spec = together.find_spec(NAME)
    assert spec is not None
    module = module_from_spec(spec)
    together.exec_module(module)
    assert module.answer == 42
    assert module.__file__ == str(package / "made/up.py")
    assert together.find_spec("capsula.made.otherwise") is None


@pytest.mark.parametrize("is_there", [False, True])
def test_without_that_file_the_module_is_found_as_usual(
    package: Path, together: Together, is_there: bool
) -> None:
    if is_there:
        packed(package, {NAME: (compile("", "x", "exec"), False, ())}, magic=b"no Python's")
    assert together.find_spec(NAME) is None
