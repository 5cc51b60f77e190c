"""Bazel itself reads what we wrote, and we what it wrote, in the caches of both protocols."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.core.digest import Digest
from capsula.core.reapi import ActionResult, Tree
from capsula.core.wire import decode
from capsula.ports import Remote
from capsula.store.http import HttpStore
from capsula.store.reapi import ReapiStore
from capsula.testing import Desk, soon
from servers.bazel import OUTPUTS, Bazel
from servers.buildgrid import BuildGrid
from servers.nginx import Nginx

pytestmark = pytest.mark.full
HIT = "1 remote cache hit"
ASK = ("-c", "x", "-i", "in.txt")


@pytest.fixture(scope="module")
def bazel(tmp_path_factory: pytest.TempPathFactory) -> Bazel:
    return Bazel(tmp_path_factory.mktemp("bazel"))


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    server = Nginx(tmp_path_factory.mktemp("nginx") / "it")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def buildgrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildGrid]:
    server = BuildGrid(tmp_path_factory.mktemp("buildgrid") / "it")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def keys(bazel: Bazel, nginx: Nginx) -> dict[str, Digest]:
    """Of Bazel's actions, which are the same for either protocol."""
    found = {}
    for target in ("file", "tree"):
        before = set((nginx.data / "ac").glob("*"))
        assert HIT not in bazel.build(target, nginx.url)
        (new,) = set((nginx.data / "ac").glob("*")) - before
        # The action is a blob, too.
        found[target] = Digest(new.name, (nginx.data / "cas" / new.name).stat().st_size)
    return found


@pytest.fixture(params=["http", "grpc"])
def cache(request: pytest.FixtureRequest) -> Iterator[tuple[str, Remote]]:
    """Its address, and a store of ours there."""
    remote: HttpStore | ReapiStore
    if request.param == "http":
        url = request.getfixturevalue("nginx").url
        remote = HttpStore(url)
    else:
        target = request.getfixturevalue("buildgrid").target
        url, remote = f"grpc://{target}", ReapiStore(target, target, "")
    yield url, remote
    remote.close()


@pytest.mark.parametrize("target", ["file", "tree"])
def test_bazel_takes_what_a_capsule_made(ws, bazel, nginx, keys, cache, target) -> None:
    url, remote = cache
    ws.write("capsula.toml")
    ws.write("in.txt", f"{time.time_ns()}")
    name = "out.txt" if target == "file" else "tree"
    made = f"{OUTPUTS}/{name}"
    do = f"mkdir -p {OUTPUTS}; cp in.txt {made}"
    if target == "tree":
        do = f"mkdir -p {made}/sub/deep; cp in.txt {made}/sub/a; echo b > {made}/sub/deep/b; chmod +x {made}/sub/a"
    options = ("-b", url, "--remote", nginx.url, "--remote_timeout", "50", *ASK, "-o", made)
    done = ws.capsule(*options, do=do, report=True)
    assert (done.ran, done.said) == (1, [])
    # The entry as it is, under the key by which Bazel asks.
    entry = decode(ActionResult, (nginx.data / "ac" / done.report["key"]).read_bytes())
    remote.store(keys[target], entry, soon())
    assert HIT in bazel.build(target, url)
    if target == "file":
        assert bazel.made("out.txt") == ws.read("in.txt")
    else:
        assert bazel.made("tree/sub/a") == ws.read("in.txt")
        assert bazel.made("tree/sub/deep/b") == "b\n"
        assert (bazel.root / "bazel-bin/tree/sub/a").stat().st_mode & 0o100


def test_what_bazel_made_is_read(bazel, nginx, buildgrid, keys, cache, tmp_path: Path) -> None:
    url, remote = cache
    (tmp_path / "desk").mkdir()
    desk = Desk(tmp_path / "desk")
    (nginx.data / "ac" / keys["tree"].hash).unlink()
    buildgrid.forget()
    bazel.build("tree", url)
    result = remote.lookup(keys["tree"], soon())
    assert isinstance(result, ActionResult)
    (directory,) = result.output_directories
    assert directory.path == f"{OUTPUTS}/tree"
    assert directory.tree_digest is not None
    remote.fetch([directory.tree_digest], desk.receive, soon())
    tree = decode(Tree, desk.received(directory.tree_digest))
    assert tree.root is not None
    (sub,) = tree.root.directories
    assert sub.name == "sub"
    (leaf,) = tree.children
    (file,) = leaf.files
    remote.fetch([file.digest], desk.receive, soon())
    assert desk.received(file.digest).decode() == bazel.made("tree/sub/a")
