"""A store that is reached by way of a proxy, as the usual variables say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.certificates import Authority
from servers.forward import Forward
from servers.nginx import Nginx
from servers.receiver import Receiver

ASK = ("-c", "x", "-i", "in.txt", "-o", "out.txt")
DO = "cp in.txt out.txt"


@pytest.fixture(params=["http", "https"])
def proxied(
    request: pytest.FixtureRequest, ws, tmp_path: Path
) -> Iterator[tuple[str, tuple[str, ...], Forward]]:
    """The scheme, the options that lead to a store which only the proxy can reach, and the proxy."""
    authority = Authority(tmp_path / "authority")
    is_secure = request.param == "https"
    nginx = Nginx(tmp_path / "nginx", tls=authority.issue("server") if is_secure else None)
    forward = Forward(int(nginx.url.rpartition(":")[2]), "me:pa ss")
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    ws.environ[f"{request.param}_proxy"] = f"http://me:pa%20ss@127.0.0.1:{forward.port}"
    more = ("--remote_ca", str(authority.ca)) if is_secure else ()
    yield request.param, ("-b", f"{request.param}://cache.example/it", *more), forward
    forward.stop()
    nginx.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def another_machine(ws) -> None:
    ws.environ["XDG_CACHE_HOME"] += "x"
    ws.path("out.txt").unlink()


def test_a_store_behind_a_proxy_is_a_store(ws, proxied) -> None:
    scheme, options, forward = proxied
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.said) == (1, [])
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.said) == (0, [])
    begin = "CONNECT cache.example:443 " if scheme == "https" else "GET http://cache.example/it/ac/"
    assert forward.asked[0].startswith(begin)
    assert not forward.refused


def test_a_proxy_that_wants_to_know_who_it_is_costs_a_line(ws, proxied) -> None:
    scheme, options, forward = proxied
    ws.environ[f"{scheme}_proxy"] = f"127.0.0.1:{forward.port}"
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.code) == (1, 0)
    (line,) = done.said
    assert "407" in line
    assert "pa ss" not in done.err
    assert not forward.asked


def test_an_address_that_no_proxy_is_for_is_asked_directly(ws, tmp_path: Path) -> None:
    nginx = Nginx(tmp_path / "nginx")
    forward = Forward(1)
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    ws.environ["http_proxy"] = ws.environ["ALL_PROXY"] = f"http://127.0.0.1:{forward.port}"
    try:
        assert ws.capsule("-b", nginx.url, *ASK, do=DO).said == []
        assert not forward.asked
    finally:
        forward.stop()
        nginx.stop()


def test_a_proxy_of_another_kind_is_said(ws) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    ws.environ["https_proxy"] = "socks5://me:word@127.0.0.1:1080"
    done = ws.capsule("-b", "https://cache.example", *ASK, do=DO)
    assert (done.ran, done.code) == (1, 0)
    assert done.says("https_proxy")
    assert "word" not in done.err


def test_a_collector_behind_a_proxy_hears_of_the_run(ws, receiver: Receiver) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    forward = Forward(int(receiver.url.rpartition(":")[2]), "me:word")
    ws.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://collector.example:4318"
    ws.environ["http_proxy"] = f"http://me:word@127.0.0.1:{forward.port}"
    try:
        assert ws.capsule("-v", *ASK, do=DO).code == 0
    finally:
        forward.stop()
    (received,) = receiver.received
    assert received.path == "http://collector.example:4318/v1/traces"
    assert forward.asked == ["POST http://collector.example:4318/v1/traces HTTP/1.1"]
