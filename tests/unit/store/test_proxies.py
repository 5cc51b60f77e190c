"""Which proxy leads to a server."""

import pytest

from capsula.errors import UsageError
from capsula.store.proxies import proxy_for

HTTP = {"http_proxy": "http://p.example:3128"}


def at(
    environ: dict[str, str], host: str = "cache.example", port: int = 80, scheme: str = "http"
) -> str | None:
    found = proxy_for(scheme, host, port, environ)
    return f"{found.host}:{found.port}" if found is not None else None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (HTTP, "p.example:3128"),
        ({"HTTP_PROXY": "p.example"}, "p.example:80"),
        ({"HTTP_PROXY": "p.example", "REQUEST_METHOD": "GET"}, None),
        ({"https_proxy": "http://p.example"}, None),
        ({"all_proxy": "http://[::2]:81/"}, "::2:81"),
        ({"http_proxy": "", "all_proxy": "http://p.example"}, None),
        ({"http_proxy": "http://low.example", "HTTP_PROXY": "http://high.example"}, "low.example:80"),
    ],
)
def test_what_the_variables_say(environ: dict[str, str], expected: str | None) -> None:
    assert at(environ) == expected


def test_who_we_are_is_told_to_the_proxy() -> None:
    found = proxy_for("http", "cache.example", 80, {"http_proxy": "http://me:a%40b@p.example"})
    assert found is not None
    assert found.headers == {"Proxy-Authorization": "Basic bWU6YUBi"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_none_leads_to_this_machine(host: str) -> None:
    assert at(HTTP, host) is None


@pytest.mark.parametrize(
    ("rules", "host", "port", "is_left_out"),
    [
        ("cache.example", "cache.example", 80, True),
        ("example", "cache.example", 80, True),
        (".example", "cache.example", 80, True),
        ("*.example", "cache.example", 80, True),
        ("ample", "cache.example", 80, False),
        ("a.b, CACHE.example ,c", "cache.example", 80, True),
        ("*", "cache.example", 80, True),
        ("cache.example:80", "cache.example", 80, True),
        ("cache.example:81", "cache.example", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "cache.example", 80, False),
        ("fe80::/10", "fe80::7", 80, True),
        ("fe80::7", "fe80::7", 80, True),
        ("[fe80::7]:80", "fe80::7", 80, True),
        ("[fe80::7]:81", "fe80::7", 80, False),
        ("", "cache.example", 80, False),
    ],
)
def test_whom_no_proxy_is_for(rules: str, host: str, port: int, is_left_out: bool) -> None:
    assert (at({**HTTP, "no_proxy": rules}, host, port) is None) == is_left_out
    assert (at({**HTTP, "NO_PROXY": rules}, host, port) is None) == is_left_out


@pytest.mark.parametrize(
    "value", ["socks5://p.example", "https://p.example", "http://p.example:port", "http://"]
)
def test_what_is_no_proxy_for_us_is_an_error_that_shows_no_password(value: str) -> None:
    with pytest.raises(UsageError, match="http_proxy") as caught:
        at({"http_proxy": value})
    assert "p.example" not in caught.value.what
