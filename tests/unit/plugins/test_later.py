"""Modules that are loaded when they are used: once, whole, whoever asks first."""

import importlib
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from capsula.plugins import later

SOURCE = Path(later.__file__).parents[2]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that isn't loaded yet; `pause` in its body is the test's."""
    name = f"asked_{tmp_path.name}"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(later, "NAMES", frozenset([name]))
    monkeypatch.setattr(sys, "meta_path", [later._Later(), *sys.meta_path])
    body = f"import {name}\nfrom of_the_test import pause\npause()\nvalue = {name}.__doc__\n"
    (tmp_path / f"{name}.py").write_text(f"'whole'\n{body}")
    of_the_test = ModuleType("of_the_test")
    of_the_test.pause = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "of_the_test", of_the_test)
    return importlib.import_module(name)


def test_it_is_loaded_when_it_is_used(asked: ModuleType) -> None:
    assert type(asked) is later._Unloaded
    assert asked.value == "whole"
    assert type(asked) is ModuleType
    assert not [name for name in vars(asked) if "capsula" in name]


def test_a_second_thread_never_sees_half_of_it(asked: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    is_loading, go_on, seen = threading.Event(), threading.Event(), []

    def pause() -> None:
        is_loading.set()
        assert go_on.wait(60)

    monkeypatch.setattr(sys.modules["of_the_test"], "pause", pause, raising=False)
    threads = [threading.Thread(target=lambda: seen.append(asked.value)) for _ in range(3)]
    threads[0].start()
    assert is_loading.wait(60)
    for thread in threads[1:]:
        thread.start()
    assert seen == []
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert seen == ["whole"] * 3


def test_what_fails_to_load_is_tried_again(asked: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("no memory")

    monkeypatch.setattr(sys.modules["of_the_test"], "pause", refuse, raising=False)
    with pytest.raises(OSError, match="no memory"):
        _ = asked.value
    monkeypatch.setattr(sys.modules["of_the_test"], "pause", lambda: None, raising=False)
    assert asked.value == "whole"


def test_a_patch_is_not_lost_by_loading(asked: ModuleType) -> None:
    asked.value = "patched"
    assert asked.value == "patched"


def test_all_that_is_put_off_can_be_used() -> None:
    code = (
        "from capsula.plugins import later; later.put_off(); import sys, importlib\n"
        "names = [name for name in later.NAMES if not name.startswith('grpc')]\n"
        "found = [importlib.import_module(name) for name in names]\n"
        "assert all(type(each) is later._Unloaded for each in found), found\n"
        "assert all(dir(each) for each in found)\n"
        "import http.client, grpc, grpc.aio\n"
        "assert grpc.aio.Channel and importlib.reload(sys.modules['socket']).AF_INET\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
