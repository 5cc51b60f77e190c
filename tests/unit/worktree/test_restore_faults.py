"""An error or an interrupt at any moment of restoring leaves everything as it was."""

import errno
import os
import posix
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsula.errors import BlobMissing, CapsulaError, OutputError
from capsula.store.memory import MemoryStore
from capsula.worktree import restore as restoring
from unit.worktree.benches import Bench, Tree, bench_shot, make, nodes_of

BEFORE: Tree = {
    "same": (0o644, b"same"),
    "edited": (0o644, b"the user's"),
    "own": (0o600, b"made before"),
    "stale": (0o644, b"the user's too"),
    "stale-own": (0o644, b"made before"),
    "mode": (0o644, b"mode"),
    "link": "somewhere",
    "to-file": (0o555, {"x": (0o644, b"x"), "own-x": (0o644, b"y")}),
    "to-dir": (0o644, b"was a file"),
    "to-link": (0o755, {"x": (0o644, b"x")}),
    "gone": (0o755, {"deep": (0o555, {"f": (0o400, b"f"), "l": "f"})}),
    "empty": (0o700, {}),
    "full": (0o755, {"keep": (0o644, b"not an output"), "f": (0o644, b"f")}),
    "dmode": (0o755, {"f": (0o644, b"f")}),
}
WANTED: Tree = {
    "same": (0o644, b"same"),
    "edited": (0o644, b"right"),
    "own": (0o644, b"right"),
    "mode": (0o755, b"mode"),
    "link": "elsewhere",
    "to-file": (0o644, b"now a file"),
    "to-dir": (0o555, {"y": (0o644, b"y"), "sub": (0o700, {"l": "../y"})}),
    "to-link": "dmode",
    "new": (0o755, {"a": (0o755, {"b": (0o444, b"b")}), "e": (0o555, {})}),
    "dmode": (0o500, {"f": (0o644, b"f"), "g": (0o644, b"g")}),
}
MOVING = ("mkdir", "chmod", "rename", "symlink", "unlink", "rmdir", "stat", "lstat", "listdir", "readlink")


class Broken:
    """The system, with an error at the nth call that restoring makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, at: int, code: int) -> None:
        self.count, self.at, self.code, self.name = 0, at, code, ""
        calls = {name: self._failing(name, getattr(posix, name)) for name in MOVING}
        stub = SimpleNamespace(**{**vars(posix), **calls})
        monkeypatch.setattr(restoring, "posix", stub)
        bench.bury = self._failing("bury", bench.bury)  # type: ignore[assignment]
        fetch = self._failing("fetch", bench.store.fetch)
        monkeypatch.setattr(MemoryStore, "fetch", lambda store, *args: fetch(*args))

    def _failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.name = name
                if name == "fetch":
                    raise BlobMissing("gone")
                if name == "bury":
                    raise OutputError("can't be moved")
                raise OSError(self.code, os.strerror(self.code), str(args[0]))
            return call(*args, **options)

        return wrapped


def prepared(base: str) -> Bench:
    bench = Bench(base, ("out/**", "!out/**/keep"))
    make(bench.work, {"out": (0o755, BEFORE), "other": (0o644, b"other")})
    bench.owns(lambda path: "own" in path)
    return bench


@pytest.mark.parametrize("code", [errno.EIO])
def test_an_error_at_any_moment_leaves_everything_as_it_was(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, failed = 0, set()
    while True:
        at += 1
        bench = prepared(str(tmp_path / str(at)))
        nodes = nodes_of(WANTED, bench.store)
        before = bench.shot()
        with monkeypatch.context() as patch:
            broken = Broken(patch, bench, at, code)
            try:
                bench.settle(nodes)
            except CapsulaError:
                failed.add(broken.name)
                raised = True
            else:
                raised = False
        if not broken.name:
            break
        after = {path: what for path, what in bench.shot().items() if restoring.STAGE not in path}
        if raised:
            assert after == before, f"{broken.name}, call {at}"
            assert not bench.buried(), f"{broken.name}, call {at}"
        else:
            # The error was one that didn't matter: then the outputs are right, to the last bit.
            expected = {"out": ("directory", 0o755), **bench_shot(WANTED), "other": before["other"]}
            kept = {"out/full": before["out/full"], "out/full/keep": before["out/full/keep"]}
            assert after == {**expected, **kept}, f"{broken.name}, call {at}"
    assert at > 60
    assert {"mkdir", "chmod", "rename", "symlink", "rmdir", "fetch", "bury", "stat"} <= failed


def test_an_interrupt_at_any_moment_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle, as an exception that is no Exception."""
    bench = prepared(str(tmp_path))
    nodes = nodes_of(WANTED, bench.store)
    before = bench.shot()
    calls = 0

    def rename(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "posix", SimpleNamespace(**{**vars(posix), "rename": rename}))
        with pytest.raises(KeyboardInterrupt):
            bench.settle(nodes)
    assert bench.shot() == before
    assert not bench.leftovers()


def test_without_an_error_it_is_done(tmp_path: Path) -> None:
    bench = prepared(str(tmp_path))
    restored = bench.settle(nodes_of(WANTED, bench.store))
    after = bench.shot()
    assert {path: what for path, what in after.items() if "full" not in path} == {
        "out": ("directory", 0o755),
        **bench_shot(WANTED),
        "other": ("file", 0o644, b"other"),
    }
    assert after["out/full/keep"] == ("file", 0o644, b"not an output")
    assert "out/full/f" not in after
    names = {os.path.relpath(path, f"{bench.work}/out") for path in restored.buried}
    assert names == {
        *(
            "edited",
            "stale",
            "link",
            "to-file/x",
            "to-dir",
            "to-link/x",
            "gone/deep/f",
            "gone/deep/l",
            "full/f",
        )
    }
    assert bench.buried()["out/edited"] == ("file", 0o644, b"the user's")
