"""What a lease says, and what is none."""

import json

import pytest

from capsula.core.digest import digest_of
from capsula.core.facts import unpack
from capsula.store.lease import LEASES, Lease, lease_from

ACTION = digest_of(b"action")


def lease(**given: object) -> Lease:
    said: dict[str, object] = {
        "run": "r",
        "host": "h",
        "pid": 7,
        "seconds": 30.0,
        "beat": 2,
        "place": "p",
        "life": "l",
        "signature": b"s\xff",
    }
    return Lease(**{**said, **given})  # type: ignore[arg-type]


def test_it_is_read_as_it_was_written() -> None:
    read = lease_from(lease().to_bytes())
    assert read is not None
    assert vars(read) == vars(lease())
    unsigned = lease_from(lease(signature=b"").to_bytes())
    assert unsigned is not None
    assert unsigned.signature == b""


@pytest.mark.parametrize(
    "change",
    [{"run": "x"}, {"host": "x"}, {"pid": 8}, {"seconds": 31.0}, {"beat": 3}, {"place": "x"}, {"life": "x"}],
)
def test_all_that_it_says_is_signed_and_of_which_action(change) -> None:
    plain = lease().statement(ACTION)
    assert lease(**change).statement(ACTION) != plain
    assert lease().statement(digest_of(b"another")) != plain
    assert lease(signature=b"").statement(ACTION) == plain
    assert unpack(plain)[0] == ("capsula-lease1",)


@pytest.mark.parametrize("seconds", [0.5, 30, 1 / 3, 1e9])
def test_what_is_signed_is_the_same_when_it_was_read(seconds) -> None:
    written = lease(seconds=seconds)
    read = lease_from(written.to_bytes())
    assert read is not None
    assert read.statement(ACTION) == written.statement(ACTION)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"null", b'{"capsula-lease": 2}', b'{"capsula-lease": 1}', b"[" * 9000],
)
def test_what_is_none(content) -> None:
    assert lease_from(content) is None


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": "soon"},
        {"pid": None},
        {"beat": []},
        {"signature": "ß"},
        {"pid": 1e999},
        {"signature": "a"},
    ],
)
def test_nonsense_in_it_makes_it_none(change) -> None:
    assert lease_from(json.dumps({**json.loads(lease().to_bytes()), **change}).encode()) is None


@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_kept_within_bounds(seconds) -> None:
    read = lease_from(json.dumps({**json.loads(lease().to_bytes()), "seconds": seconds}).encode())
    assert read is None or 1 <= read.seconds <= 300


def test_a_lease_is_where_it_is_looked_for() -> None:
    assert LEASES == "lease"
