"""Every remote store, held against the contract of its port, the real ones on real servers."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import obstore
import pytest

from capsula.core.digest import Digest
from capsula.store.buckets import from_url
from capsula.store.http import HttpStore
from capsula.store.objects import ObjectStore
from capsula.store.reapi import ReapiStore
from capsula.testing import MemoryRemote, RemoteContract
from servers.buildgrid import BuildGrid
from servers.casd import Casd
from servers.nginx import Nginx
from servers.reapi_double import Double, Habits
from servers.seaweed import KEY, SECRET, Seaweed


class TestMemoryRemote(RemoteContract):
    @pytest.fixture
    def remote(self) -> MemoryRemote:
        return MemoryRemote()

    def corrupt(self, remote, digest: Digest) -> None:
        remote.blobs[digest.hash] = remote.blobs[digest.hash][:-1] + b"?"

    def shorten(self, remote, digest: Digest) -> None:
        remote.blobs[digest.hash] = remote.blobs[digest.hash][:-1]

    def lose(self, remote, digest: Digest) -> None:
        del remote.blobs[digest.hash]


class TestHttpStoreOnNginx(RemoteContract):
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Nginx]:
        server = Nginx(tmp_path / "nginx")
        yield server
        server.stop()

    @pytest.fixture
    def remote(self, server: Nginx) -> Iterator[HttpStore]:
        remote = HttpStore(server.url)
        self.data = server.data
        yield remote
        remote.close()

    def corrupt(self, remote, digest: Digest) -> None:
        path = self.data / "cas" / digest.hash
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    def shorten(self, remote, digest: Digest) -> None:
        path = self.data / "cas" / digest.hash
        path.write_bytes(path.read_bytes()[:-1])

    def lose(self, remote, digest: Digest) -> None:
        (self.data / "cas" / digest.hash).unlink()


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    server = Seaweed(tmp_path_factory.mktemp("seaweed") / "data")
    yield server
    server.stop()


class TestObjectStoreOnSeaweedFS(RemoteContract):
    numbers = count()

    @pytest.fixture
    def remote(self, seaweed: Seaweed, tmp_path: Path) -> ObjectStore:
        self.prefix = f"contract/{next(self.numbers)}"
        self.direct = seaweed.store()
        environ = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "HOME": str(tmp_path)}
        return from_url(f"s3://{seaweed.bucket}/{self.prefix}", {"s3_endpoint": seaweed.url}, environ)

    def corrupt(self, remote, digest: Digest) -> None:
        content = self._content(digest)
        self._replace(digest, content[:-1] + bytes([content[-1] ^ 1]))

    def shorten(self, remote, digest: Digest) -> None:
        self._replace(digest, self._content(digest)[:-1])

    def lose(self, remote, digest: Digest) -> None:
        obstore.delete(self.direct, self._key(digest))

    def _key(self, digest: Digest) -> str:
        return f"{self.prefix}/cas/{digest.hash[:2]}/{digest.hash}"

    def _content(self, digest: Digest) -> bytes:
        found = obstore.get(self.direct, self._key(digest))
        self.attributes = found.attributes
        return bytes(found.bytes())

    def _replace(self, digest: Digest, content: bytes) -> None:
        obstore.put(self.direct, self._key(digest), content, attributes=self.attributes)


class TestReapiStoreOnCasd(RemoteContract):
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Casd]:
        server = Casd(tmp_path / "casd")
        yield server
        server.stop()

    @pytest.fixture
    def remote(self, server: Casd) -> Iterator[ReapiStore]:
        self.data = server.data
        remote = ReapiStore(f"grpc://{server.target}", server.target, "")
        yield remote
        remote.close()

    def corrupt(self, remote, digest: Digest) -> None:
        path = self._path(digest)
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def lose(self, remote, digest: Digest) -> None:
        self._path(digest).unlink()

    def _path(self, digest: Digest) -> Path:
        return next(path for path in self.data.rglob(digest.hash[2:] + "*") if path.is_file())


@pytest.fixture(scope="module")
def buildgrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildGrid]:
    server = BuildGrid(tmp_path_factory.mktemp("buildgrid") / "it", "team/a")
    yield server
    server.stop()


class TestReapiStoreOnBuildGrid(RemoteContract):
    @pytest.fixture
    def remote(self, buildgrid: BuildGrid) -> Iterator[ReapiStore]:
        buildgrid.forget()
        self.path = buildgrid.path
        remote = ReapiStore(f"grpc://{buildgrid.target}/team/a", buildgrid.target, "team/a")
        yield remote
        remote.close()

    def corrupt(self, remote, digest: Digest) -> None:
        content = self.path(digest.hash).read_bytes()
        self._replace(digest, content[:-1] + bytes([content[-1] ^ 1]))

    def shorten(self, remote, digest: Digest) -> None:
        self._replace(digest, self.path(digest.hash).read_bytes()[:-1])

    def lose(self, remote, digest: Digest) -> None:
        self.path(digest.hash).unlink()

    def _replace(self, digest: Digest, content: bytes) -> None:
        self.path(digest.hash).chmod(0o644)
        self.path(digest.hash).write_bytes(content)


HABITS = {
    "plain": Habits(),
    "compresses": Habits(zstd=True),
    "small batches, sizes as sent": Habits(zstd=True, batch=5000, committed="sent", capabilities="unpacked"),
    "sizes untold": Habits(zstd=True, committed="-1", ends_early=False, batch=1 << 30),
    "tells nothing of itself": Habits(capabilities=""),
}


class TestReapiStoreOnTheDouble(RemoteContract):
    @pytest.fixture(params=list(HABITS))
    def server(self, request: pytest.FixtureRequest) -> Iterator[Double]:
        server = Double(replace(HABITS[request.param]))
        yield server
        server.stop()

    @pytest.fixture
    def remote(self, server: Double) -> Iterator[ReapiStore]:
        self.blobs = server.blobs
        remote = ReapiStore(f"grpc://{server.target}", server.target, "team/a")
        yield remote
        remote.close()

    def corrupt(self, remote, digest: Digest) -> None:
        self.blobs[digest.hash] = self.blobs[digest.hash][:-1] + b"?"

    def shorten(self, remote, digest: Digest) -> None:
        self.blobs[digest.hash] = self.blobs[digest.hash][:-1]

    def lose(self, remote, digest: Digest) -> None:
        del self.blobs[digest.hash]
