"""Writing on condition where a server does it in its own way, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.ports import Holdings
from capsula.store.buckets import from_url
from servers.s3 import credentials
from servers.s3_double import S3Double

LEASES = "lease"
NAME = "ab" * 32


@pytest.fixture(params=["none", "unquoted"])
def holdings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Holdings]:
    server = S3Double(request.param)
    environ = {**credentials(), "HOME": str(tmp_path)}
    found = from_url("s3://test/here", {"s3_endpoint": server.url}, environ).holdings()
    assert found is not None
    yield found
    server.stop()


def test_one_that_is_there_is_not_created_again(holdings: Holdings) -> None:
    first = holdings.write(LEASES, NAME, b"first", None)
    assert first is not None
    assert holdings.write(LEASES, NAME, b"second", None) is None
    assert holdings.read(LEASES, NAME) == (b"first", first)


def test_the_version_that_is_there_is_replaced(holdings: Holdings) -> None:
    first = holdings.write(LEASES, NAME, b"first", None)
    second = holdings.write(LEASES, NAME, b"second", first)
    assert second not in (None, first)
    assert holdings.read(LEASES, NAME) == (b"second", second)


def test_another_version_is_not_replaced(holdings: Holdings) -> None:
    first = holdings.write(LEASES, NAME, b"first", None)
    second = holdings.write(LEASES, NAME, b"second", first)
    assert holdings.write(LEASES, NAME, b"third", first) is None
    assert holdings.read(LEASES, NAME) == (b"second", second)
    holdings.remove(LEASES, [NAME])
    assert holdings.write(LEASES, NAME, b"fourth", second) is None
    assert holdings.read(LEASES, NAME) is None
