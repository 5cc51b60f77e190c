"""A remote that is opened when it is first asked for something."""

import pytest

from capsula.core.digest import digest_of
from capsula.errors import NotAvailable, StoreError
from capsula.store.late import Late
from capsula.testing.remotes import MemoryRemote, RemoteContract, soon

ACTION = digest_of(b"an action")


class TestLate(RemoteContract):
    @pytest.fixture
    def remote(self) -> Late:
        return Late("late://", MemoryRemote, packs=True)


def test_it_is_opened_once_and_not_before() -> None:
    opened: list[MemoryRemote] = []

    def open_it() -> MemoryRemote:
        opened.append(MemoryRemote())
        return opened[-1]

    late = Late("late://", open_it, packs=True)
    late.close()
    assert opened == []
    for _ in range(2):
        assert late.lookup(ACTION, soon()) is None
    assert len(opened) == 1


def test_what_can_not_be_opened_says_why_each_time_and_is_tried_once() -> None:
    tried: list[int] = []

    def fail() -> MemoryRemote:
        tried.append(1)
        raise NotAvailable("a package is missing", hint="pip install it")

    late = Late("late://", fail, packs=True)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"a package is missing \(pip install it\)"):
            late.lookup(ACTION, soon())
    assert len(tried) == 1
