"""Stores of a team behind a proxy that makes faults, and what a run has to be whatever the fault."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import obstore

from servers.casd import Casd
from servers.nginx import Nginx
from servers.process import Server
from servers.proxy import Proxy
from servers.seaweed import Seaweed

KINDS = ("http", "s3", "grpc")
CONTENT = random.Random(4).randbytes(300_000)
DO = "mkdir -p out; cp in.bin out/big; echo small > out/small; echo loud"
ASK = ("-c", "faults", "-i", "in.bin", "-o", "out")
# Where nothing comes any more, the budget ends it; where the answer is a byte late, nothing does.
SHORT = ("--remote_timeout", "0.7s", "--upload_timeout", "0.7s")


@dataclass
class Shared:
    """A store of a team: `options` lead to it through `proxy`, `direct` don't."""

    kind: str
    server: Server
    proxy: Proxy
    filled: set[tuple[str, ...]] = field(default_factory=set)
    losses: int = 0  # how often all blobs were lost: what was filled before isn't full any more

    def through(self, place: str) -> tuple[str, ...]:
        return self.options(self.proxy.port, place)

    def options(self, port: int, place: str) -> tuple[str, ...]:
        if self.kind == "s3":
            return ("-b", f"s3://{Seaweed.bucket}/{place}", "--s3_endpoint", f"http://127.0.0.1:{port}")
        # Another tag is another key: there is one action cache for all.
        slash = "-t" if self.kind == "grpc" else ""
        return (
            "-b",
            f"{self.kind}://127.0.0.1:{port}" + (f"/{place}" if not slash else ""),
            *((slash, place) if slash else ()),
        )


MAKERS: dict[str, Callable[[Path], Server]] = {"http": Nginx, "s3": Seaweed, "grpc": Casd}


class Stores(dict[str, Shared]):
    """By kind. Each is started when somebody first asks for it."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self._base = base

    def __missing__(self, kind: str) -> Shared:
        server = MAKERS[kind](self._base / kind)
        self[kind] = Shared(kind, server, Proxy(server.port))
        return self[kind]

    def stop(self) -> None:
        for shared in self.values():
            shared.proxy.stop()
            shared.server.kill()  # some wait for their clients first


def another_machine(ws) -> None:
    for place in (ws.cache, ws.path("out")):
        shutil.rmtree(place, ignore_errors=True)


def is_right(ws, done) -> bool:
    return (done.code, done.out) == (0, "loud\n") and (
        ws.path("out/big").read_bytes(),
        ws.path("out/small").read_bytes(),
    ) == (CONTENT, b"small\n")


def fill(ws, shared: Shared, place: str = "filled") -> tuple[str, ...]:
    """Put the result there, without the proxy; the options that lead to it through the proxy."""
    place = f"{place}-{shared.losses}"
    direct = shared.options(shared.server.port, place)
    if direct not in shared.filled:
        done = ws.capsule(*direct, *ASK, do=DO)
        assert (done.ran, done.said) == (1, []), done
        shared.filled.add(direct)
    another_machine(ws)
    return shared.through(place)


def content_of(shared: Shared, place: str, part: str, name: str, content: bytes | None = None) -> bytes:
    """What the server has as an entry ("ac") or a blob ("cas") of this name; with `content`, that from now on."""
    if isinstance(shared.server, Seaweed):
        store, key = (
            shared.server.store(),
            f"{place}/{part}/" + (f"{name[:2]}/" if part == "cas" else "") + name,
        )
        if content is not None:
            obstore.put(store, key, content)
        return bytes(obstore.get(store, key).bytes())
    assert isinstance(shared.server, Nginx | Casd)
    path = shared.server.data / place / part / name
    if isinstance(shared.server, Casd):
        folder = "actioncache" if part == "ac" else "cas"
        path = shared.server.data / folder / "objects" / name[:2] / name[2:]
    if content is not None:
        path.unlink()  # its own would be changed in all places that it is linked to
        path.write_bytes(content)
    return path.read_bytes()


def exchange(shared: Shared, place: str, part: str, one: str, two: str) -> None:
    contents = [content_of(shared, place, part, name) for name in (one, two)]
    for name, content in zip((two, one), contents, strict=True):
        content_of(shared, place, part, name, content)


def lose_blobs(shared: Shared) -> None:
    """Every blob goes, every entry stays."""
    shared.losses += 1
    if isinstance(shared.server, Seaweed):
        store = shared.server.store()
        keys = [each["path"] for page in obstore.list(store) for each in page if "/cas/" in each["path"]]
        obstore.delete(store, keys)
        return
    assert isinstance(shared.server, Nginx | Casd)
    for path in shared.server.data.rglob("*"):
        if path.is_file() and "cas" in path.relative_to(shared.server.data).parts:
            path.unlink()


def waiting(ws) -> tuple[str, ...]:
    """A command that fails, and waits for the test before."""
    return ("sh", "-c", f'echo ran >> "$MARK"; {DO}; echo > "$BASE/began"; read x < "$BASE/go"; exit 7')


def meanwhile(ws, do: Callable[[], None], *options: str):
    """The end of a run, in which something was done between the lookup and the sending."""
    ws.environ["BASE"] = str(ws.base)
    for name in ("began", "go"):
        os.mkfifo(ws.base / name)
    before = ws.marks()
    process = ws.start(*options, "--cache_failure", *ASK, "--", *waiting(ws))
    (ws.base / "began").read_text()
    do()
    (ws.base / "go").write_text("\n")
    return ws.ended(process, before)
