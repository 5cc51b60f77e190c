"""What a dead remote costs: its budget once, and not for each blob, remote or run. Connections and calls are counted,
not seconds.
"""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.node import FILE, Node
from capsula.core.result import to_result
from capsula.errors import BlobMissing, StoreUnreachable
from capsula.store.buckets import from_url
from capsula.store.disk import DiskStore
from capsula.store.guard import TRIES, Breaker, Guarded
from capsula.store.http import HttpStore
from capsula.store.outbox import Outbox, empty
from capsula.store.reapi import ReapiStore
from capsula.store.tiers import Tiers
from capsula.testing import MemoryRemote
from faults.stores import KINDS, Shared, Stores
from servers.proxy import Proxy
from servers.seaweed import KEY, SECRET

ACTION = digest_of(b"an action")
MANY = 1000
# In seconds: the first that is enough to ask at all, on a busy machine.
BUDGETS = (0.3, 3.0, 30.0)
# A few at once, each tried again a few times, by us and by the library: that much may be begun, however many wait.
AT_MOST = 150


class Counting(MemoryRemote):
    """Counts the calls of the remote that it passes them on to."""

    def __init__(self, remote) -> None:
        super().__init__(remote.name)
        self.remote = remote
        self.calls = 0

    def __getattribute__(self, name: str):
        if name in ("lookup", "store", "missing", "fetch", "send"):
            self.calls += 1
            return getattr(self.remote, name)
        return super().__getattribute__(name)


@dataclass
class Dead:
    """A remote that takes connections and never answers ("hole"), or resets each ("reset")."""

    base: Path
    proxy: Proxy
    remote: Counting
    said: list[str] = field(default_factory=list)
    budget: float = BUDGETS[0]
    # How often it had to be asked: a call that began too late is counted as well.
    asks: int = 0

    def __post_init__(self) -> None:
        self.near = DiskStore(str(self.base / "store"), now=time.time)

    def guarded(self) -> Guarded:
        """As another run would have it."""
        return Guarded(self.remote, Breaker(self.near.root, self.remote.name))

    def asked_by(self, ask: Callable[[], object]) -> object:
        """What it answers when it had time to call the remote."""
        for self.budget in BUDGETS:
            self.said.clear()
            self.asks += 1
            answer = ask()
            if self.remote.calls:
                return answer
        raise AssertionError("it was never called")

    def tiers(self, *others, patience: float | None = None) -> Tiers:
        patience = self.budget if patience is None else patience
        return Tiers(self.near, [self.guarded(), *others], patience=patience, say=self.said.append)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["hole", "reset"])
def dead(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Iterator[Dead]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent:
        proxy = Proxy(silent.getsockname()[1])
        if request.param == "reset":
            proxy.fail("reset")
        dead = Dead(tmp_path, proxy, Counting(opened(kind, proxy.port)))
        yield dead
        proxy.stop()
        dead.remote.remote.close()


def opened(kind: str, port: int):
    if kind == "http":
        return HttpStore(f"http://127.0.0.1:{port}")
    if kind == "grpc":
        return ReapiStore(f"grpc://127.0.0.1:{port}", f"127.0.0.1:{port}", "")
    environ = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    return from_url("s3://bucket", {"s3_endpoint": f"http://127.0.0.1:{port}"}, environ)


def test_a_lookup(dead: Dead) -> None:
    assert dead.asked_by(lambda: dead.tiers().lookup(ACTION)) is None
    assert 1 <= dead.remote.calls <= TRIES * dead.asks
    assert dead.proxy.connections <= AT_MOST * dead.asks
    assert len(dead.said) == 1
    costs_nothing_more(dead, lambda: dead.tiers().lookup(ACTION))


def test_fetching_many_blobs(dead: Dead) -> None:
    result, digests = a_result(dead.near)
    for path in Path(dead.near.root).glob("cas/*/*"):
        path.unlink()

    def bring() -> None:
        with pytest.raises(BlobMissing):
            dead.tiers().bring(ACTION, result, digests, dead.budget)

    dead.asked_by(bring)
    assert 1 <= dead.remote.calls <= TRIES * dead.asks
    assert dead.proxy.connections <= AT_MOST * dead.asks
    costs_nothing_more(dead, bring)


def test_sending_many_blobs(dead: Dead) -> None:
    result, _ = a_result(dead.near)
    dead.near.store(ACTION, result)
    box = Outbox(dead.near.root, dead.remote.name)
    box.add(ACTION)

    def send() -> None:
        assert isinstance(
            empty(box, dead.near, dead.guarded(), time.monotonic() + dead.budget), StoreUnreachable
        )

    dead.asked_by(send)
    assert 1 <= dead.remote.calls <= TRIES * dead.asks
    assert dead.proxy.connections <= AT_MOST * dead.asks
    assert list(box.waiting()) == [ACTION]
    costs_nothing_more(dead, send)


def test_one_that_is_dead_does_not_keep_the_next_from_being_asked(dead: Dead) -> None:
    good = MemoryRemote()
    result, digests = a_result(dead.near)
    for digest in digests:
        good.blobs[digest.hash] = dead.near.read(digest)
    good.store(ACTION, result, time.monotonic() + 1)
    for path in Path(dead.near.root).glob("*/*/*"):
        path.unlink()
    tiers = dead.tiers(good, patience=3)
    assert tiers.lookup(ACTION) is not None
    assert dead.remote.calls <= TRIES
    before = dead.remote.calls
    tiers.bring(ACTION, result, digests, 60)
    tiers.let_go()
    assert dead.remote.calls == before
    assert dead.near.lookup(ACTION) is not None
    assert (good.lookups, len(good.fetched), dead.near.missing(digests)) == (1, MANY, [])
    assert len(dead.said) == 1


def a_result(near: DiskStore):
    nodes = {
        f"out/{number}": Node(FILE, mode=0o644, digest=near.put(b"blob %d" % number))
        for number in range(MANY)
    }
    result, trees = to_result(nodes, 0)
    assert not trees
    digests: list[Digest] = [node.digest for node in nodes.values() if node.digest is not None]
    return result, digests


def costs_nothing_more(dead: Dead, ask: Callable[[], object]) -> None:
    before = dead.remote.calls
    for _ in range(3):
        ask()
    assert dead.remote.calls == before
    # What was begun before may still be tried again by the library.
    assert dead.proxy.connections <= AT_MOST * dead.asks


# ------------------------------------------------------------------------------------------------ whole runs

ASK = ("-c", "dead", "-i", "in.txt", "-o", "out.txt")
DO = "cp in.txt out.txt"


def test_a_hit_on_this_machine_asks_nobody(ws, stores: Stores) -> None:
    proxy = stores["http"].proxy
    ws.write("capsula.toml")
    ws.write("in.txt", "hit")
    options = ("-b", f"http://127.0.0.1:{proxy.port}/hit")
    assert ws.capsule(*options, *ASK, do=DO).ran == 1
    before = proxy.connections
    ws.forget_records()
    ws.path("out.txt").unlink()
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.said, proxy.connections) == (0, [], before)


def test_runs_one_after_the_other_ask_a_dead_remote_once(ws, shared: Shared) -> None:
    proxy = shared.proxy
    ws.write("capsula.toml")
    options = (*shared.through("spool"), "--upload", "background")
    proxy.fail("hole")
    costs = []
    for number in range(4):
        before = proxy.connections
        ws.write("in.txt", f"run {number}")
        assert ws.capsule(*options, "--remote_timeout", "0.7s", *ASK, do=DO).ran == 1
        costs.append(proxy.connections - before)
    # The first lookup; neither the runs nor those that send for them come again within the minute.
    assert (costs[0] <= TRIES, costs[1:]) == (True, [0, 0, 0]), costs
    assert len(waiting(ws)) == 4
    proxy.heal()
    for record in ws.store.glob("remotes/*"):
        record.unlink()
    ws.write("in.txt", "run 4")
    assert ws.capsule(*options, *ASK, do=DO).ran == 1
    ws.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
    assert ws.tool("cache", "push", options[1]).code == 0
    assert waiting(ws) == []
    for number in range(5):
        ws.write("in.txt", f"run {number}")
        ws.path("out.txt").unlink()
        for path in ws.entries():
            path.unlink()
        done = ws.capsule(*options, *ASK, do=DO)
        assert (done.ran, done.said, ws.read("out.txt")) == (0, [], f"run {number}")


def waiting(ws) -> list[Path]:
    return [path for path in ws.store.glob("spool/*/*") if len(path.name) == 64]
