"""What every remote store has to pass: the suite of the port Remote, and a remote in memory that passes it."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pytest

from capsula.core.digest import EMPTY, Digest, digest_of
from capsula.core.reapi import (
    ActionResult,
    Any,
    Directory,
    DirectoryNode,
    ExecutedActionMetadata,
    FileNode,
    OutputDirectory,
    OutputFile,
    Tree,
)
from capsula.core.statement import attached, statement
from capsula.core.wire import decode, encode
from capsula.errors import BlobMissing, StoreError, StoreUnreachable
from capsula.ports import Receiver, Remote
from capsula.store.layout import blob_path
from capsula.store.receive import Receiving, receiving

MIB = 1 << 20
SIZES = {"one byte": 1, "small": 2000, "a piece": 1 << 18, "just over": (1 << 18) + 1, "large": 9 * MIB + 3}
MARK = "type.capsula.dev/test"


class MemoryRemote:
    """A Remote in two dictionaries. `lookups`, `fetched` and `sent` count what was asked of it."""

    def __init__(self, name: str = "memory://", *, packs: bool = True) -> None:
        self.name = name
        self.packs = packs
        self.blobs: dict[str, bytes] = {EMPTY.hash: b""}
        self.entries: dict[str, bytes] = {}
        self.leases: dict[str, bytes] = {}
        # When what was written last, by kind and name; 0 where nothing else is said.
        self.times: dict[tuple[str, str], float] = {}
        self.clock = 0.0
        self.turn = Lock()
        self.lookups = 0
        self.fetched: list[str] = []
        self.sent: list[str] = []

    def lookup(self, action: Digest, deadline: float) -> ActionResult | None:
        self._in_time(deadline)
        self.lookups += 1
        content = self.entries.get(action.hash)
        return None if content is None else decode(ActionResult, content)

    def store(self, action: Digest, result: ActionResult, deadline: float, *, if_none: bool = False) -> None:
        self._in_time(deadline)
        if not (if_none and action.hash in self.entries):
            self.entries[action.hash] = encode(result)

    def missing(self, digests: Sequence[Digest], deadline: float) -> list[Digest]:
        self._in_time(deadline)
        return [digest for digest in digests if digest.hash not in self.blobs]

    def fetch(
        self, digests: Sequence[Digest], receive: Callable[[Digest], Receiver], deadline: float
    ) -> None:
        self._in_time(deadline)
        for digest in digests:
            if digest.hash not in self.blobs:
                raise BlobMissing(f"{self.name} doesn't have the blob {digest!r}")
            self.fetched.append(digest.hash)
            with receiving(receive, digest) as receiver:
                receiver.write(self.blobs[digest.hash])

    def send(self, digests: Sequence[Digest], path_of: Callable[[Digest], str], deadline: float) -> None:
        self._in_time(deadline)
        for digest in digests:
            self.sent.append(digest.hash)
            self.blobs[digest.hash] = Path(path_of(digest)).read_bytes()

    def examine(self, deadline: float) -> list[tuple[str, str]]:
        self._in_time(deadline)
        return []

    def holdings(self) -> "MemoryHoldings":
        return MemoryHoldings(self)

    def close(self) -> None:
        pass

    def _in_time(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise StoreUnreachable(f"{self.name} didn't answer in time")


class MemoryHoldings:
    """What a MemoryRemote holds. A version is the content itself."""

    def __init__(self, remote: MemoryRemote) -> None:
        self._remote = remote
        self._kinds = {"ac": remote.entries, "cas": remote.blobs, "lease": remote.leases, "probe": {}}

    def pages(self, kind: str, after: str = "") -> Iterator[list[tuple[str, int, float]]]:
        held, times = self._kinds[kind], self._remote.times
        names = sorted(name for name in held if name > after)
        for at in range(0, len(names), 3):
            yield [(name, len(held[name]), times.get((kind, name), 0.0)) for name in names[at : at + 3]]

    def remove(self, kind: str, names: Sequence[str]) -> None:
        for name in names:
            self._kinds[kind].pop(name, None)

    def read(self, kind: str, name: str) -> tuple[bytes, object] | None:
        content = self._kinds[kind].get(name)
        return None if content is None else (content, content)

    def write(self, kind: str, name: str, content: bytes, over: object | None) -> object | None:
        with self._remote.turn:
            if self._kinds[kind].get(name) != over:
                return None
            self._kinds[kind][name] = content
            self._remote.times[kind, name] = self._remote.clock
            return content

    def now(self) -> float:
        return self._remote.clock

    def age(self, kind: str, name: str) -> float | None:
        if name not in self._kinds[kind]:
            return None
        return self._remote.clock - self._remote.times.get((kind, name), 0.0)


class Desk:
    """Where a test keeps what it sends, and receives what it fetches."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = str(base / "received")

    def blob(self, content: bytes) -> Digest:
        digest = digest_of(content)
        (self.base / digest.hash).write_bytes(content)
        return digest

    def path_of(self, digest: Digest) -> str:
        return str(self.base / digest.hash)

    def receive(self, digest: Digest) -> Receiving:
        return Receiving(self.root, digest, time.time)

    def received(self, digest: Digest) -> bytes:
        return Path(blob_path(self.root, digest.hash)).read_bytes()

    def rests(self) -> list[Path]:
        return list(Path(self.root).glob("tmp/*"))


def soon() -> float:
    return time.monotonic() + 60


class RemoteContract:
    """What a Remote does. `writes_on_condition`: whether its server can; with one that can't, the last one stays."""

    writes_on_condition = True

    @pytest.fixture
    def remote(self) -> Remote:
        raise NotImplementedError("the subclass has to give the fixture `remote`")

    @pytest.fixture
    def desk(self, tmp_path: Path) -> Desk:
        (tmp_path / "desk").mkdir()
        return Desk(tmp_path / "desk")

    def corrupt(self, remote: Remote, digest: Digest) -> None:  # noqa: ARG002 - a hook
        """Change a byte of the stored blob behind the server's back, keeping its size."""
        pytest.skip("no way to corrupt a blob")

    def shorten(self, remote: Remote, digest: Digest) -> None:  # noqa: ARG002 - a hook
        """Cut the stored blob short behind the server's back."""
        pytest.skip("no way to cut a blob short")

    def lose(self, remote: Remote, digest: Digest) -> None:  # noqa: ARG002 - a hook
        """Remove the stored blob behind the server's back."""
        pytest.skip("no way to lose a blob")

    @pytest.mark.parametrize("size", list(SIZES.values()), ids=[name.replace(" ", "-") for name in SIZES])
    def test_what_is_sent_comes_back(self, remote: Remote, desk: Desk, size: int) -> None:
        digest = desk.blob(b"".join([bytes([n % 256]) * 4093 for n in range(size // 4093 + 1)])[:size])
        assert remote.missing([digest], soon()) == [digest]
        remote.send([digest], desk.path_of, soon())
        assert remote.missing([digest], soon()) == []
        remote.fetch([digest], desk.receive, soon())
        assert desk.received(digest) == Path(desk.path_of(digest)).read_bytes()

    def test_many_go_and_come_at_once(self, remote: Remote, desk: Desk) -> None:
        digests = [desk.blob(b"%d\n" % number * (number % 50 + 1) * 40) for number in range(300)]
        remote.send(digests[::2], desk.path_of, soon())
        absent = remote.missing(digests, soon())
        assert sorted(each.hash for each in absent) == sorted(each.hash for each in digests[1::2])
        remote.send(digests, desk.path_of, soon())
        assert remote.missing(digests, soon()) == []
        remote.fetch(digests, desk.receive, soon())
        for digest in digests:
            assert desk.received(digest) == Path(desk.path_of(digest)).read_bytes()

    def test_nothing_is_no_trouble(self, remote: Remote, desk: Desk) -> None:
        assert remote.missing([], soon()) == []
        remote.send([], desk.path_of, soon())
        remote.fetch([], desk.receive, soon())

    def test_a_blob_that_is_not_there_is_missing(self, remote: Remote, desk: Desk) -> None:
        there, absent = desk.blob(b"there"), digest_of(b"never sent")
        remote.send([there], desk.path_of, soon())
        with pytest.raises(BlobMissing):
            remote.fetch([there, absent], desk.receive, soon())
        assert desk.rests() == []

    def test_sending_twice_is_the_same_as_once(self, remote: Remote, desk: Desk) -> None:
        digests = [desk.blob(b"small"), desk.blob(b"large" * MIB)]
        for _ in range(2):
            remote.send(digests, desk.path_of, soon())
        remote.fetch(digests, desk.receive, soon())
        assert desk.received(digests[1]) == b"large" * MIB

    def test_an_absent_entry_is_a_miss(self, remote: Remote) -> None:
        assert remote.lookup(digest_of(b"never stored"), soon()) is None

    def test_what_is_stored_is_found(self, remote: Remote, desk: Desk) -> None:
        action = digest_of(b"an action")
        result = self._a_result(remote, desk, 3)
        remote.store(action, result, soon())
        found = remote.lookup(action, soon())
        assert found is not None
        assert statement(action, found) == statement(action, result)
        assert attached(found, MARK) == b"attached"

    def test_a_result_of_directories_in_directories_is_found(self, remote: Remote, desk: Desk) -> None:
        leaf = Directory(files=(FileNode(name="file", digest=desk.blob(b"in a directory")),))
        root = Directory(directories=(DirectoryNode(name="inner", digest=digest_of(encode(leaf))),))
        tree = desk.blob(encode(Tree(root=root, children=(leaf,))))
        remote.send([digest_of(b"in a directory"), tree], desk.path_of, soon())
        result = ActionResult(output_directories=(OutputDirectory(path="dist", tree_digest=tree),))
        remote.store(digest_of(b"an action"), result, soon())
        found = remote.lookup(digest_of(b"an action"), soon())
        assert found is not None
        assert found.output_directories[0].tree_digest == tree

    def test_an_entry_can_be_stored_again(self, remote: Remote, desk: Desk) -> None:
        action = digest_of(b"an action")
        results = [self._a_result(remote, desk, number) for number in (1, 2)]
        for result in results:
            remote.store(action, result, soon())
        found = remote.lookup(action, soon())
        assert found is not None
        assert statement(action, found) in [statement(action, result) for result in results]

    def test_of_two_who_know_of_no_entry_the_first_stays(self, remote: Remote, desk: Desk) -> None:
        """Where the store is ours and writes on condition; elsewhere either may."""
        action = digest_of(b"an action")
        results = [self._a_result(remote, desk, number) for number in (1, 2)]
        told = [statement(action, result) for result in results]
        for result in results:
            remote.store(action, result, soon(), if_none=True)
        found = remote.lookup(action, soon())
        assert found is not None
        is_ours = remote.holdings() is not None
        assert statement(action, found) in (told[:1] if is_ours and self.writes_on_condition else told)
        # Who has seen that what is there can't be used replaces it.
        remote.store(action, results[1], soon())
        found = remote.lookup(action, soon())
        assert found is not None
        assert statement(action, found) in (told[1:] if is_ours else told)

    def test_what_comes_corrupted_is_refused(self, remote: Remote, desk: Desk) -> None:
        for size in (100, 3 * MIB):
            digest = desk.blob(b"%d" % size + b"c" * size)
            remote.send([digest], desk.path_of, soon())
            self.corrupt(remote, digest)
            with pytest.raises(StoreError):
                remote.fetch([digest], desk.receive, soon())
            assert desk.rests() == []

    def test_what_comes_cut_short_is_refused(self, remote: Remote, desk: Desk) -> None:
        for size in (100, 3 * MIB):
            digest = desk.blob(b"%d" % size + b"s" * size)
            remote.send([digest], desk.path_of, soon())
            self.shorten(remote, digest)
            with pytest.raises(StoreError):
                remote.fetch([digest], desk.receive, soon())
            assert desk.rests() == []

    def test_a_blob_that_got_lost_is_missing(self, remote: Remote, desk: Desk) -> None:
        digest = desk.blob(b"to be lost")
        remote.send([digest], desk.path_of, soon())
        self.lose(remote, digest)
        assert remote.missing([digest], soon()) == [digest]
        with pytest.raises(BlobMissing):
            remote.fetch([digest], desk.receive, soon())

    def test_after_the_deadline_nothing_is_begun(self, remote: Remote, desk: Desk) -> None:
        past, digest = time.monotonic() - 1, desk.blob(b"late")
        for ask in (
            lambda: remote.lookup(digest, past),
            lambda: remote.missing([digest], past),
            lambda: remote.send([digest], desk.path_of, past),
            lambda: remote.fetch([digest], desk.receive, past),
        ):
            with pytest.raises(StoreUnreachable):
                ask()

    def test_what_it_holds_is_told_and_removed_where_it_can_be(self, remote: Remote, desk: Desk) -> None:
        holdings = remote.holdings()
        if holdings is None:
            return
        blobs = [desk.blob(b"%d" % at * 1000) for at in range(7)]
        remote.send(blobs, desk.path_of, soon())
        action = digest_of(b"held")
        remote.store(action, self._a_result(remote, desk, 1), soon())
        now = holdings.now()
        told = {name: moment for page in holdings.pages("cas") for name, _, moment in page}
        assert {digest.hash for digest in blobs} < set(told)
        assert all(abs(told[digest.hash] - now) < 100 for digest in blobs)
        names = [name for page in holdings.pages("cas") for name, _, _ in page]
        assert names == sorted(names)
        assert [name for page in holdings.pages("cas", names[2]) for name, _, _ in page] == names[3:]
        assert [name for page in holdings.pages("ac") for name, _, _ in page] == [action.hash]
        holdings.remove("cas", [blobs[0].hash, blobs[1].hash, "0" * 64])
        assert set(remote.missing(blobs, soon())) == set(blobs[:2])
        holdings.remove("ac", [action.hash])
        assert remote.lookup(action, soon()) is None
        assert list(holdings.pages("ac")) == []
        holdings.remove("ac", [action.hash])
        holdings.remove("ac", [])

    def test_what_is_written_by_name_is_read_replaced_and_removed(self, remote: Remote) -> None:
        holdings = remote.holdings()
        if holdings is None:
            return
        name = digest_of(b"by name").hash
        assert holdings.read("lease", name) is None
        first = holdings.write("lease", name, b"first", None)
        assert holdings.read("lease", name) == (b"first", first)
        second = holdings.write("lease", name, b"second", first)
        assert second is not None
        assert holdings.read("lease", name) == (b"second", second)
        age = holdings.age("lease", name)
        assert age is not None
        assert abs(age) < 100
        holdings.remove("lease", [name])
        assert holdings.read("lease", name) is None
        assert holdings.age("lease", name) is None

    def test_of_many_who_write_on_condition_one_is_first(self, remote: Remote) -> None:
        holdings = remote.holdings()
        if holdings is None:
            return
        name = digest_of(b"on condition").hash
        assert holdings.read("lease", name) is None

        def write(content: bytes, over: object) -> object:
            return holdings.write("lease", name, content, over)

        if not self.writes_on_condition:
            first = write(b"first", None)
            assert first is not None
            assert write(b"second", first) is not None
            found = holdings.read("lease", name)
            assert found is not None
            assert found[0] == b"second"
            return
        with ThreadPoolExecutor(8) as pool:
            made = [each for each in pool.map(lambda at: write(b"first %d" % at, None), range(8)) if each]
            assert len(made) == 1
            found = holdings.read("lease", name)
            assert found is not None
            assert found[1] == made[0]
            next_ones = list(pool.map(lambda at: write(b"second %d" % at, made[0]), range(8)))
        assert len([each for each in next_ones if each]) == 1
        assert write(b"too late", made[0]) is None
        holdings.remove("lease", [name])
        assert holdings.read("lease", name) is None
        assert write(b"of one that is gone", next(each for each in next_ones if each)) is None

    def test_threads_at_once(self, remote: Remote, desk: Desk) -> None:
        def work(thread: int) -> None:
            for number in range(5):
                digest = desk.blob(b"%d %d" % (thread, number) * 1000)
                remote.send([digest], desk.path_of, soon())
                remote.fetch([digest], desk.receive, soon())
                assert desk.received(digest) == b"%d %d" % (thread, number) * 1000

        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(work, thread) for thread in range(6)]:
                done.result()

    def _a_result(self, remote: Remote, desk: Desk, number: int) -> ActionResult:
        """A result whose blobs are in the store, with something attached to it."""
        blobs = [desk.blob(b"output %d" % each) for each in range(number + 1)]
        remote.send(blobs, desk.path_of, soon())
        outputs = [
            OutputFile(path=f"dist/{at}", digest=digest, is_executable=at % 2 == 0)
            for at, digest in enumerate(blobs)
        ]
        metadata = ExecutedActionMetadata(
            worker="host", auxiliary_metadata=(Any(type_url=MARK, value=b"attached"),)
        )
        return ActionResult(
            output_files=tuple(outputs), exit_code=number, stdout_raw=b"log\n", execution_metadata=metadata
        )
