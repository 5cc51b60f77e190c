"""What every store on this machine has to pass: the suites of the ports BlobStore and ActionCache."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING, Protocol

import pytest

from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import ActionResult, OutputFile
from capsula.errors import BlobCorrupt, BlobMissing, EntryCorrupt, OutputError
from capsula.ports import ActionCache, BlobStore

MIB = 1 << 20
# Around the sizes at which stores change their ways.
CONTENTS = {
    "empty": b"",
    "one byte": b"\0",
    "text": b"line\r\nline\n",
    "small": bytes(range(256)) * 80,
    "just small": b"s" * MIB,
    "just large": b"l" * (MIB + 1),
    "large": b"".join([bytes([n]) * 4093 for n in range(251)]) * 5 + b"odd end",
    "large with zeros": b"a" * MIB + bytes(2 * MIB) + b"b" + bytes(MIB),
}
ABSENT = digest_of(b"never stored by any test")


if TYPE_CHECKING:

    class Store(BlobStore, ActionCache, Protocol):
        """Both ports in one object, as most stores have them."""
else:
    Store = BlobStore  # the ports are protocols for the type checker only


any_content = pytest.mark.parametrize(
    "content", list(CONTENTS.values()), ids=[name.replace(" ", "-") for name in CONTENTS]
)


class _Hooks:
    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("the subclass has to give the fixture `store`")

    def opener(self, store: Store) -> Callable[[], Store] | None:  # noqa: ARG002 - a hook
        """What another process can call (it is pickled) to open the same store; None if that can't be."""
        return None

    def _opener(self, store: Store) -> Callable[[], Store]:
        opener = self.opener(store)
        if opener is None:
            pytest.skip("not shared between processes")
        return opener


class BlobStoreContract(_Hooks):
    """What a BlobStore does."""

    def corrupt(self, store: Store, digest: Digest) -> None:  # noqa: ARG002 - a hook
        """Change a byte of the stored blob behind the store's back, keeping its size."""
        pytest.skip("no way to corrupt a blob")

    @any_content
    def test_what_is_put_comes_back(self, store: Store, content: bytes) -> None:
        digest = store.put(content)
        assert digest == digest_of(content)
        assert store.has(digest)
        assert store.read(digest) == content

    @any_content
    def test_a_file_that_is_put_comes_back(self, store: Store, content: bytes, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(content)
        digest = store.put_file(str(source))
        assert digest == digest_of(content)
        assert store.read(digest) == content
        assert source.read_bytes() == content

    @any_content
    def test_a_fetched_file_has_the_bytes(self, store: Store, content: bytes, tmp_path: Path) -> None:
        digest = store.put(content)
        store.fetch(digest, str(tmp_path / "out"), 0o644)
        assert (tmp_path / "out").read_bytes() == content

    @any_content
    def test_putting_twice_is_the_same_as_once(self, store: Store, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(content)
        first = store.put(content)
        assert store.put(content) == first
        assert store.put_file(str(tmp_path / "source")) == first
        assert store.read(first) == content

    @pytest.mark.parametrize("mode", [0o644, 0o755, 0o600, 0o400, 0o444, 0o777, 0o666, 0o200])
    @pytest.mark.parametrize("size", [10, MIB + 10])
    def test_the_mode_is_exact_whatever_the_umask(
        self, store: Store, mode: int, size: int, tmp_path: Path
    ) -> None:
        digest = store.put(b"x" * size)
        before = os.umask(0o077)
        try:
            store.fetch(digest, str(tmp_path / "strict"), mode)
            os.umask(0)
            store.fetch(digest, str(tmp_path / "lax"), mode)
        finally:
            os.umask(before)
        assert S_IMODE((tmp_path / "strict").stat().st_mode) == mode
        assert S_IMODE((tmp_path / "lax").stat().st_mode) == mode

    @pytest.mark.parametrize("size", [10, MIB + 10])
    def test_special_mode_bits_are_never_set(self, store: Store, size: int, tmp_path: Path) -> None:
        store.fetch(store.put(b"x" * size), str(tmp_path / "out"), 0o7755)
        assert S_IMODE((tmp_path / "out").stat().st_mode) == 0o755

    @pytest.mark.parametrize("size", [10, MIB + 10])
    def test_a_fetch_never_overwrites(self, store: Store, size: int, tmp_path: Path) -> None:
        digest = store.put(b"x" * size)
        (tmp_path / "file").write_bytes(b"mine")
        (tmp_path / "link").symlink_to("elsewhere")
        for name in ("file", "link"):
            with pytest.raises(OutputError):
                store.fetch(digest, str(tmp_path / name), 0o644)
        assert (tmp_path / "file").read_bytes() == b"mine"
        assert os.readlink(tmp_path / "link") == "elsewhere"
        assert not (tmp_path / "elsewhere").exists()

    def test_a_place_that_cannot_be_written_is_no_fault_of_the_store(
        self, store: Store, tmp_path: Path
    ) -> None:
        digest = store.put(b"x")
        with pytest.raises(OutputError):
            store.fetch(digest, str(tmp_path / "no such directory" / "out"), 0o644)

    @pytest.mark.parametrize("size", [10, MIB + 10])
    def test_writing_into_a_fetched_file_does_not_change_the_blob(
        self, store: Store, size: int, tmp_path: Path
    ) -> None:
        digest = store.put(b"x" * size)
        store.fetch(digest, str(tmp_path / "out"), 0o644)
        with (tmp_path / "out").open("r+b") as file:
            file.write(b"edited")
        assert store.read(digest) == b"x" * size

    @pytest.mark.parametrize("size", [10, MIB + 10])
    def test_writing_into_a_file_after_it_was_put_does_not_change_the_blob(
        self, store: Store, size: int, tmp_path: Path
    ) -> None:
        (tmp_path / "source").write_bytes(b"x" * size)
        digest = store.put_file(str(tmp_path / "source"))
        with (tmp_path / "source").open("r+b") as file:
            file.write(b"edited")
        assert store.read(digest) == b"x" * size

    def test_a_missing_blob_is_missing(self, store: Store, tmp_path: Path) -> None:
        large = Digest(ABSENT.hash, 5 * MIB)
        for digest in (ABSENT, large):
            assert not store.has(digest)
            with pytest.raises(BlobMissing):
                store.read(digest)
            with pytest.raises(BlobMissing):
                store.fetch(digest, str(tmp_path / "out"), 0o644)
            assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "name",
        ["", "..", "../../../etc/passwd", "/etc/passwd", "a" * 63, "A" * 64, "a" * 63 + "/", "\0" * 64],
    )
    def test_a_hostile_name_is_missing(self, store: Store, name: str, tmp_path: Path) -> None:
        digest = Digest(name, 5)
        assert not store.has(digest)
        with pytest.raises(BlobMissing):
            store.read(digest)
        with pytest.raises(BlobMissing):
            store.fetch(digest, str(tmp_path / "out"), 0o644)

    @pytest.mark.parametrize("claimed", [0, 3, 11, 5 * MIB, 1 << 62])
    def test_a_digest_with_a_wrong_size_does_not_hurt_the_blob(
        self, store: Store, claimed: int, tmp_path: Path
    ) -> None:
        digest = store.put(b"ten bytes.")
        wrong = Digest(digest.hash, claimed)
        assert not store.has(wrong)
        with pytest.raises((BlobMissing, BlobCorrupt)):
            store.read(wrong)
        with pytest.raises((BlobMissing, BlobCorrupt)):
            store.fetch(wrong, str(tmp_path / "out"), 0o644)
        assert not (tmp_path / "out").exists()
        assert store.read(digest) == b"ten bytes."

    def test_only_regular_files_are_put(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "link").symlink_to("file")
        (tmp_path / "directory").mkdir()
        os.mkfifo(tmp_path / "pipe")
        for name in ("link", "directory", "pipe", "nothing"):
            with pytest.raises(OutputError):
                store.put_file(str(tmp_path / name))

    @pytest.mark.parametrize("size", [10, MIB + 10])
    def test_a_corrupt_blob_never_comes_out_and_the_next_put_heals_it(
        self, store: Store, size: int, tmp_path: Path
    ) -> None:
        content = b"x" * size
        digest = store.put(content)
        self.corrupt(store, digest)
        with pytest.raises(BlobCorrupt):
            store.read(digest)
        with pytest.raises((BlobMissing, BlobCorrupt)):
            store.fetch(digest, str(tmp_path / "out"), 0o644)
        assert not (tmp_path / "out").exists()
        assert store.put(content) == digest
        assert store.read(digest) == content

    @pytest.mark.parametrize("size", [10, MIB + 10])
    def test_a_fetch_of_a_corrupt_blob_leaves_nothing(self, store: Store, size: int, tmp_path: Path) -> None:
        digest = store.put(b"x" * size)
        self.corrupt(store, digest)
        with pytest.raises(BlobCorrupt):
            store.fetch(digest, str(tmp_path / "out"), 0o644)
        assert not (tmp_path / "out").exists()
        (tmp_path / "source").write_bytes(b"x" * size)
        assert store.put_file(str(tmp_path / "source")) == digest
        store.fetch(digest, str(tmp_path / "out"), 0o644)

    def test_a_file_that_changes_while_it_is_put_has_the_digest_of_what_was_kept(
        self, store: Store, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"0" * (6 * MIB))
        with _repeating(lambda n: _scribble(source, n)):
            kept = [store.put_file(str(source)) for _ in range(8)]
        for digest in kept:
            assert digest_of(store.read(digest)) == digest

    def test_threads_at_once(self, store: Store, tmp_path: Path) -> None:
        def work(thread: int) -> None:
            for number in range(20):
                for content in (
                    b"shared %d" % number,
                    b"own %d %d" % (thread, number),
                    b"big" * (number * 40_000),
                ):
                    digest = store.put(content)
                    assert store.read(digest) == content
                    path = tmp_path / f"{thread}-{number}-{len(content)}"
                    store.fetch(digest, str(path), 0o644)
                    assert path.read_bytes() == content

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, thread) for thread in range(8)]:
                done.result()

    def test_processes_at_once(self, store: Store) -> None:
        _in_processes(_put_and_read, self._opener(store))
        for number in range(40):
            assert store.read(digest_of(_numbered(number))) == _numbered(number)


class ActionCacheContract(_Hooks):
    """What an ActionCache does."""

    def corrupt_entry(self, store: Store, action: Digest) -> None:  # noqa: ARG002 - a hook
        """Change a byte of the stored entry behind the store's back."""
        pytest.skip("no way to corrupt an entry")

    def test_an_absent_entry_is_a_miss(self, store: Store) -> None:
        assert store.lookup(ABSENT) is None

    def test_what_is_stored_is_found(self, store: Store) -> None:
        action = digest_of(b"an action")
        result = a_result(store, 3)
        store.store(action, result)
        assert store.lookup(action) == result
        assert store.lookup(ABSENT) is None

    def test_a_later_result_replaces_the_earlier(self, store: Store) -> None:
        action = digest_of(b"an action")
        store.store(action, a_result(store, 1))
        store.store(action, a_result(store, 2))
        assert store.lookup(action) == a_result(store, 2)

    def test_an_empty_result_is_no_miss(self, store: Store) -> None:
        action = digest_of(b"an action")
        store.store(action, ActionResult())
        assert store.lookup(action) == ActionResult()

    def test_a_hostile_key_is_a_miss_and_cannot_be_stored(self, store: Store) -> None:
        for name in ("", "../../x", "/etc/passwd", "A" * 64):
            assert store.lookup(Digest(name, 1)) is None

    def test_a_corrupt_entry_never_comes_out_and_the_next_store_heals_it(self, store: Store) -> None:
        action = digest_of(b"an action")
        store.store(action, a_result(store, 1))
        self.corrupt_entry(store, action)
        with pytest.raises(EntryCorrupt):
            store.lookup(action)
        assert store.lookup(action) is None
        store.store(action, a_result(store, 1))
        assert store.lookup(action) == a_result(store, 1)

    def test_threads_see_whole_results(self, store: Store) -> None:
        action = digest_of(b"an action")
        results = [a_result(store, number) for number in range(4)]
        store.store(action, results[0])

        def work(thread: int) -> None:
            for _ in range(50):
                store.store(action, results[thread])
                assert store.lookup(action) in results

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work, thread) for thread in range(4)]:
                done.result()

    def test_processes_see_whole_results(self, store: Store) -> None:
        _in_processes(_store_and_look_up, self._opener(store))
        result = store.lookup(digest_of(b"shared"))
        assert result is not None
        for output in result.output_files:
            assert output.digest is not None
            store.read(output.digest)


def a_result(store: BlobStore, number: int) -> ActionResult:
    """A result with a few outputs, whose blobs are in the store."""
    outputs = [
        OutputFile(path=f"dist/{name}", digest=store.put(_numbered(name)), is_executable=name % 2 == 0)
        for name in range(number + 1)
    ]
    return ActionResult(
        output_files=tuple(outputs), exit_code=number, stdout_digest=store.put(b"log %d\n" % number)
    )


def _numbered(number: int) -> bytes:
    return b"%d\n" % number * (number * 1000 + 1)


def _put_and_read(opener: Callable[[], Store], process: int) -> None:
    store = opener()
    numbers = list(range(40))
    for number in numbers[process * 7 :] + numbers[: process * 7]:
        digest = store.put(_numbered(number))
        assert store.read(digest) == _numbered(number)


def _store_and_look_up(opener: Callable[[], Store], process: int) -> None:
    store = opener()
    action = digest_of(b"shared")
    for turn in range(20):
        store.store(action, a_result(store, (process + turn) % 5))
        found = store.lookup(action)
        assert found is not None
        assert found == a_result(store, found.exit_code)


def _in_processes(work: Callable[[Callable[[], Store], int], None], opener: Callable[[], Store]) -> None:
    # Spawned, not forked: a store may have threads and connections that don't survive a fork.
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(opener, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def _scribble(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.seek(number * 65_537 % (6 * MIB))
        file.write(b"%d" % number * 100)


class _repeating:  # noqa: N801 - reads as a statement
    """While the block runs, a thread calls `action` with 0, 1, 2 and so on."""

    def __init__(self, action: Callable[[int], None]) -> None:
        self._action = action
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            self._action(number)
            number += 1
