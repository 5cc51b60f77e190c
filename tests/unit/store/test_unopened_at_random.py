"""Whatever happens to a store with unopened results in it, nothing wrong is read, and what it calls whole is whole."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import CapsulaError
from capsula.store import upkeep
from capsula.store.disk import DiskStore
from capsula.store.layout import GRACE
from capsula.store.sealed import Sealed
from capsula.store.sweep import sweep
from capsula.store.tiers import Tiers
from capsula.store.unopened import keep
from capsula.testing import MemoryRemote, soon

ACTIONS = [digest_of(b"action %d" % number) for number in range(8)]
STEPS = 150


def content(number: int) -> bytes:
    return b"content %d " % number * (1 + number % 7) + b"x" * (70_000 if number % 40 == 0 else 0)


class Scene:
    """One store, some results that share contents, and a remote that has all of them."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = str(root)
        self.chance = chance
        self.far = MemoryRemote()
        self.results: dict[str, ActionResult] = {}
        for action in ACTIONS:
            first = chance.randrange(100)
            numbers = range(first, first + chance.choice([5, 31, 33, 60]))
            files = tuple(OutputFile(path=str(each), digest=digest_of(content(each))) for each in numbers)
            self.results[action.hash] = ActionResult(output_files=files)
            self.far.blobs |= {digest_of(content(each)).hash: content(each) for each in numbers}
            Sealed(self.far).store(action, self.results[action.hash], soon())

    def near(self) -> DiskStore:
        return DiskStore(self.root, now=time.time)

    def step(self) -> None:
        action = self.chance.choice(ACTIONS)
        ways: list[Callable[[Digest], None]] = [
            self.comes_from_the_remote,
            self.comes_from_the_remote,
            self.is_asked_for_here,
            self.is_made_here,
            self.comes_and_is_killed,
            self.is_swept,
            self.is_verified,
            self.loses_a_file,
            self.has_a_byte_changed,
        ]
        self.chance.choice(ways)(action)

    def comes_from_the_remote(self, action: Digest) -> None:
        """From which all can be had, whatever is spoiled here."""
        tiers = Tiers(self.near(), [Sealed(self.far)], patience=60, say=lambda _: None)
        try:
            found = tiers.lookup(action)
        except CapsulaError:
            return  # an entry that was spoiled
        assert found is not None
        digests = [file.digest for file in found.output_files if file.digest is not None]
        try:
            tiers.bring(action, found, digests, 60)
            for digest in digests:
                assert digest_of(tiers.read(digest)) == digest
        finally:
            tiers.let_go()

    def is_asked_for_here(self, action: Digest) -> None:
        try:
            self.restore(action)
        except CapsulaError:
            pass  # something of it was spoiled or taken away

    def restore(self, action: Digest) -> None:
        near = self.near()
        found = near.lookup(action)
        for file in found.output_files if found is not None else ():
            assert file.digest is not None
            assert digest_of(near.read(file.digest)) == file.digest

    def is_made_here(self, action: Digest) -> None:
        near = self.near()
        for number in range(200):
            if digest_of(content(number)) in [each.digest for each in self.results[action.hash].output_files]:
                near.put(content(number))
        near.store(action, self.results[action.hash])

    def comes_and_is_killed(self, action: Digest) -> None:
        """Before its entry is stored."""
        some = [file.digest for file in self.results[action.hash].output_files if file.digest is not None][
            :40
        ]
        keep(self.near(), action, {each.hash: self.far.blobs[each.hash] for each in some}, time.time())

    def is_swept(self, action: Digest) -> None:
        limit = self.chance.choice([0, 5_000, 50_000, 300_000])
        sweep(self.root, limit, now=lambda: time.time() + self.chance.choice([0, 3 * GRACE]))

    def is_verified(self, action: Digest) -> None:
        """What it calls whole, after it has healed what wasn't, is whole without any remote."""
        upkeep.verify(self.root)
        found = upkeep.verify(self.root)
        assert found.sound
        for each in ACTIONS:
            self.restore(each)

    def files(self) -> list[Path]:
        return [
            path
            for kind in ("cas", "ac", "unopened")
            for path in Path(self.root, kind).rglob("*")
            if path.is_file()
        ]

    def loses_a_file(self, action: Digest) -> None:
        if files := self.files():
            self.chance.choice(files).unlink()

    def has_a_byte_changed(self, action: Digest) -> None:
        if files := [path for path in self.files() if path.stat().st_size]:
            path = self.chance.choice(files)
            raw = bytearray(path.read_bytes())
            raw[self.chance.randrange(len(raw))] ^= 1
            path.chmod(0o600)
            path.write_bytes(raw[: len(raw) - self.chance.choice([0, 0, 1])])


@pytest.mark.parametrize("seed", range(12))
def test_nothing_wrong_is_read_and_what_is_called_whole_is_whole(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path / "near", random.Random(seed))
    for _ in range(STEPS):
        scene.step()
        assert list(Path(scene.root, "tmp").glob("*")) == []
    scene.is_verified(ACTIONS[0])
