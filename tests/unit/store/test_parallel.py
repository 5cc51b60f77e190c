"""One thing done to many items: as many at once as it takes, each once, and no more after an error."""

from _thread import get_ident
from threading import Barrier

import pytest

from capsula.store import parallel
from capsula.store.parallel import each

ITEMS = list(range(500))


@pytest.mark.parametrize("at_first", [0, 1, 3])
@pytest.mark.parametrize("workers", [1, 2, 12])
def test_each_is_done_once(workers: int, at_first: int) -> None:
    done: list[int] = []
    each(ITEMS, done.append, workers, at_first=at_first)
    assert sorted(done) == ITEMS


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_items_need_few_threads(count: int) -> None:
    done: list[int] = []
    each(ITEMS[:count], done.append, 12, at_first=1)
    assert sorted(done) == ITEMS[:count]


def test_those_who_wait_get_company() -> None:
    together = Barrier(12, timeout=60)
    threads = set()

    def work(_: int) -> None:
        threads.add(get_ident())
        together.wait()

    each(ITEMS[:12], work, 12, at_first=1)
    assert len(threads) == 12


def test_after_an_error_no_more_are_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_TRIAL", 60)
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise ValueError(item)

    with pytest.raises(ValueError, match="3"):
        each(ITEMS, work, 4, at_first=1)
    assert begun == ITEMS[:4]
