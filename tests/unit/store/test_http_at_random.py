"""Whatever a server makes of what it is asked ahead: nothing wrong is kept, and all is had that can be had."""

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult
from capsula.core.wire import encode
from capsula.errors import StoreError
from capsula.store.http import HttpStore
from capsula.store.layout import blob_path
from capsula.testing import Desk, soon
from unit.store.cache_server import MISSING, RESET, Cache, said

ACTION = digest_of(b"an action")
RESULT = ActionResult(stdout_raw=b"what the action said")
NOWHERE = Digest("0" * 64, 3)


def in_chunks(content: bytes, chance: random.Random) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    at = 0
    while piece := content[at : at + chance.randint(1, 2000)]:
        yield b"%x;so=1\r\n%b\r\n" % (len(piece), piece)
        at += len(piece)
    yield b"0\r\nTrailer: x\r\n\r\n"


def in_pieces(content: bytes, chance: random.Random) -> Iterator[bytes]:
    whole = said(content)
    ends = sorted(chance.choices(range(len(whole)), k=5))
    for begin, end in zip([0, *ends], [*ends, len(whole)], strict=True):
        yield whole[begin:end]


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
# How a right answer comes, and what comes in its place.
WAYS: tuple[Callable[[bytes, random.Random], bytes | Iterable[bytes]], ...] = (
    lambda content, _: said(content),
    lambda content, _: INTERIM + b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + said(content),
    lambda content, _: said(content).replace(b"1.1", b"1.0", 1),
    lambda content, _: said(content, b"Connection: keep-alive\r\n").replace(b"1.1", b"1.0", 1),
    in_chunks,
    in_pieces,
)
TROUBLES: dict[str, Callable[[bytes, bytes], bytes | Iterable[bytes] | None]] = {
    "none": lambda *_: None,
    "reset": lambda *_: [RESET],
    "half of it, and reset": lambda content, _: [said(content)[: -len(content) // 2], RESET],
    "all but the last byte": lambda content, _: [said(content)[:-1], RESET],
    "another": lambda _, other: said(other),
    "one byte is another": lambda content, _: said(bytes([content[0] ^ 1]) + content[1:]),
    "too short": lambda content, _: said(content[:-1]),
    "too long": lambda content, _: said(content + b"x"),
    "more than was announced": lambda content, _: said(content) + b"x",
    "followed by another": lambda content, other: said(content) + said(other),
    "said twice": lambda content, _: said(content) * 2,
    "followed by a miss": lambda content, _: said(content) + MISSING,
    "followed by an entry": lambda content, _: said(content) + said(encode(ActionResult(exit_code=1))),
    "followed by an interim one": lambda content, _: said(content) + INTERIM,
    "missing": lambda *_: MISSING,
    "busy": lambda *_: MISSING.replace(b"404", b"503"),
    "busy, and reset": lambda *_: [MISSING.replace(b"404", b"429")[:-1], RESET],
    "elsewhere": lambda *_: MISSING.replace(b"404", b"302"),
    "missing, at length": lambda *_: [MISSING.replace(b" 2", b" 99999999") + bytes(1 << 17), RESET],
    "no HTTP": lambda *_: b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "two lengths": lambda content, _: said(content, b"Content-Length: 1\r\n"),
}


class Scene:
    """A server that has trouble with some blobs when they are first asked for, and with none a second time;
    `only_ahead`, with none that is asked for alone. What it says is short, so that what it says too much has come with
    the rest."""

    def __init__(self, base: Path, chance: random.Random) -> None:
        self.desk = Desk(base)
        self.digests = [
            self.desk.blob(chance.randbytes(chance.randint(1, 3000)))
            for _ in range(chance.choice([30, 60, 120]))
        ]
        self.cache = Cache(self.desk)
        self.cache.answer = self.answer
        self.only_ahead = False
        self._chance = chance
        share = chance.choice([0.02, 0.05, 0.1])
        self._troubled = {digest.hash for digest in self.digests if chance.random() < share}
        self._lock = threading.Lock()

    def answer(self, name: str) -> bytes | Iterable[bytes] | None:
        if name == ACTION.hash:
            return said(encode(RESULT))
        content = self.cache.content(name)
        with self._lock:
            is_troubled = name in self._troubled
            self._troubled.discard(name)
            if is_troubled and (name in self.cache.asked_ahead or not self.only_ahead):
                other = self.cache.content(self._chance.choice(self.digests).hash)
                return self._chance.choice(list(TROUBLES.values()))(content, other)
            return self._chance.choice(WAYS)(content, random.Random(self._chance.random()))

    def left(self) -> list[Digest]:
        return [each for each in self.digests if not Path(blob_path(self.desk.root, each.hash)).exists()]

    def has_all(self, seed: int) -> None:
        for digest in self.digests:
            assert self.desk.received(digest) == self.cache.content(digest.hash), seed
        assert self.desk.rests() == []


@pytest.fixture
def scene(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    # One thread, or all of them.
    monkeypatch.setattr("capsula.store.parallel._TRIAL", 600 if seed % 2 else 0)
    monkeypatch.setattr("capsula.store.http._AHEAD_SECONDS", 600)
    one = Scene(tmp_path, random.Random(seed))
    yield one
    one.cache.stop()


@pytest.mark.parametrize("seed", range(20))
def test_trouble_with_what_is_asked_ahead_is_no_trouble(scene: Scene, seed: int) -> None:
    scene.only_ahead = True
    with closing(HttpStore(scene.cache.url)) as store:
        store.fetch(scene.digests, scene.desk.receive, soon())
    scene.has_all(seed)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_wrong_is_kept_and_all_is_had(scene: Scene, seed: int) -> None:
    with closing(HttpStore(scene.cache.url)) as store:
        for _ in scene.digests:
            try:
                store.fetch(scene.left(), scene.desk.receive, soon())
            except StoreError:
                pass  # trouble with one that was asked for alone, and with none of them twice
            assert store.lookup(ACTION, soon()) == RESULT
            assert store.missing([scene.digests[0], NOWHERE], soon()) == [NOWHERE]
            if not scene.left():
                break
    scene.has_all(seed)
