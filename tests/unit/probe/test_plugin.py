"""Probes from elsewhere: how they are found, and what is refused of what they answer."""

import sys
from pathlib import Path
from typing import Any

import pytest

from capsula.core.found import Surroundings
from capsula.errors import CapsulaError
from capsula.probe.plugin import PluginProbe

TEXT = """
from capsula.core.found import Found
class Other:
    name = "x"
    def __init__(self, around, **options):
        self.around, self.options = around, options
    def read(self):
        return Found({"x": {"root": self.around.root, **self.options}}, keys=("/x",))
probe = Other
answer = lambda around, **options: type("A", (), {"name": "x", "read": lambda self: options["answer"]})()
"""


def read(root: Path, module: str | None, **options: object) -> Any:
    return PluginProbe("x", module, options, Surroundings(str(root), {})).read()


@pytest.mark.parametrize(
    "module", ["own.py", "own.py:probe", "own.py:Other", "./own.py", "sub:dir/own.py:Other"]
)
def test_a_file_of_the_project_is_a_probe(tmp_path: Path, module: str) -> None:
    for place in ("", "sub:dir"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "own.py").write_text(TEXT)
    before = set(sys.path)
    assert read(tmp_path, module, station="north").sections == {
        "x": {"root": str(tmp_path), "station": "north"}
    }
    assert set(sys.path) == before


def test_a_module_that_can_be_imported_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "capsula_test_plugin.py").write_text(TEXT)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read(tmp_path, "capsula_test_plugin:Other").keys == ("/x",)
    monkeypatch.delitem(sys.modules, "capsula_test_plugin")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("gone.py", "there is no file gone.py"),
        ("own.py:nothing", "own.py has no factory nothing"),
        ("own.py:__name__", "has no factory __name__"),
        (None, "no installed package provides a probe x"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, module: str | None, said: str) -> None:
    (tmp_path / "own.py").write_text(TEXT)
    with pytest.raises(CapsulaError, match=said):
        read(tmp_path, module)


def test_a_file_that_fails_is_loaded_again_the_next_time(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("raise SystemExit(3)\n")
    with pytest.raises(SystemExit):
        read(tmp_path, "own.py")
    file.write_text(TEXT)
    assert read(tmp_path, "own.py").keys == ("/x",)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"x": 1}, "it answers dict"),
        (None, "it answers NoneType"),
        ("Found({'x': {1, 2}})", "what JSON can't hold"),
        ("Found({'x': float('nan')})", "what JSON can't hold"),
        ("Found({'x': b''})", "what JSON can't hold"),
        ("Found({'x': {'y': 1}}, keys=('/x/z',))", "a key fact that isn't there: /x/z"),
        ("Found({'x': 1}, keys=('x',))", "a key fact that isn't there: x"),
    ],
)
def test_an_answer_that_cannot_be_recorded_is_refused(tmp_path: Path, answer: object, said: str) -> None:
    from capsula.core.found import Found

    (tmp_path / "own.py").write_text(TEXT)
    if isinstance(answer, str):
        answer = eval(answer, {"Found": Found})
    with pytest.raises(CapsulaError, match=said):
        read(tmp_path, "own.py:answer", answer=answer)
