"""Every remote store, held against the contract of its port, the real ones on real servers."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import obstore
import pytest

from capsula.core.digest import Digest
from capsula.store.buckets import from_url
from capsula.store.http import HttpStore
from capsula.store.objects import ObjectStore
from capsula.store.reapi import ReapiStore
from capsula.testing import Desk, MemoryRemote, RemoteContract, soon
from servers.azurite import Azurite
from servers.buildgrid import BuildGrid
from servers.casd import Casd
from servers.ceph import Ceph
from servers.nginx import Nginx
from servers.rclone import Rclone
from servers.reapi_double import Double, Habits
from servers.seaweed import Seaweed
from servers.swift import Swift


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


class InFiles(RemoteContract):
    """Of a server that has each blob in a file of its own, at `path_of`."""

    def corrupt(self, remote, digest: Digest) -> None:
        content = self.path_of(digest).read_bytes()
        self._replace(digest, content[:-1] + bytes([content[-1] ^ 1]))

    def shorten(self, remote, digest: Digest) -> None:
        self._replace(digest, self.path_of(digest).read_bytes()[:-1])

    def lose(self, remote, digest: Digest) -> None:
        self.path_of(digest).unlink()

    def path_of(self, digest: Digest) -> Path:
        raise NotImplementedError

    def _replace(self, digest: Digest, content: bytes) -> None:
        self.path_of(digest).chmod(0o644)
        self.path_of(digest).write_bytes(content)


class TestHttpStoreOnNginx(InFiles):
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

    def path_of(self, digest: Digest) -> Path:
        return self.data / "cas" / digest.hash


class OnObjects(RemoteContract):
    """Of an object store, looked at and changed by `direct`, at a place of its own for each test."""

    numbers = count()
    direct: ClassVar[Any]
    attributes: Any

    def new_prefix(self) -> str:
        self.prefix = f"contract/{next(self.numbers)}"
        return self.prefix

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


class OnS3(OnObjects):
    @pytest.fixture
    def remote(self, server: Any, tmp_path: Path) -> ObjectStore:
        self.direct = server.store()
        environ = {**server.credentials(), "HOME": str(tmp_path)}
        return from_url(f"s3://{server.bucket}/{self.new_prefix()}", {"s3_endpoint": server.url}, environ)

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        server = cls.kind(tmp_path_factory.mktemp("server") / "it")
        yield server
        server.stop()


class TestObjectStoreOnSeaweedFS(OnS3):
    kind = Seaweed


@pytest.mark.full
class TestObjectStoreOnCeph(OnS3):
    kind = Ceph


@pytest.mark.full
class TestObjectStoreOnSwift(OnS3):
    kind = Swift
    writes_on_condition = False


@pytest.mark.full
class TestObjectStoreOnRclone(OnS3):
    kind = Rclone
    writes_on_condition = False


@pytest.mark.full
class TestObjectStoreOnAzurite(OnObjects):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
        server = Azurite(tmp_path_factory.mktemp("azurite") / "it")
        yield server
        server.stop()

    @pytest.fixture
    def remote(self, server: Azurite, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        self.direct = server.store()
        for name, value in server.environs()["obstore"].items():
            monkeypatch.setenv(name, value)
        return from_url(f"az://{server.container}/{self.new_prefix()}", {}, os.environ)

    @pytest.mark.parametrize("names", ["the command line", "a connection string"])
    def test_the_account_is_found_as_azure_finds_it(
        self, server: Azurite, desk: Desk, monkeypatch: pytest.MonkeyPatch, names: str
    ) -> None:
        for name, value in server.environs()[names].items():
            monkeypatch.setenv(name, value)
        remote = from_url(f"az://{server.container}/{self.new_prefix()}", {}, os.environ)
        digest = desk.blob(b"found")
        remote.send([digest], desk.path_of, soon())
        assert remote.missing([digest], soon()) == []


class TestReapiStoreOnCasd(InFiles):
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

    def path_of(self, digest: Digest) -> Path:
        return next(path for path in self.data.rglob(digest.hash[2:] + "*") if path.is_file())


class TestReapiStoreOnBuildGrid(InFiles):
    program = "servers/bin/bgd"

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildGrid]:
        base = tmp_path_factory.mktemp("buildgrid") / "it"
        server = BuildGrid(base, "team/a", program=Path(sys.prefix, cls.program))
        yield server
        server.stop()

    @pytest.fixture
    def remote(self, server: BuildGrid) -> Iterator[ReapiStore]:
        server.forget()
        self.path = server.path
        remote = ReapiStore(f"grpc://{server.target}/team/a", server.target, "team/a")
        yield remote
        remote.close()

    def path_of(self, digest: Digest) -> Path:
        return self.path(digest.hash)


@pytest.mark.full
class TestReapiStoreOnTheBuildGridOfToday(TestReapiStoreOnBuildGrid):
    program = "more-servers/buildgrid/bin/bgd"

    @pytest.fixture(autouse=True)
    def there(self) -> None:
        if not Path(sys.prefix, self.program).exists():
            why = "BuildGrid 0.9 needs Python 3.13 or later, and there is none"
            pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


HABITS = {
    "plain": Habits(),
    "strict": Habits(strict=True),
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
