"""The parts of an address are those that urllib.parse tells, whoever tells them."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.store.address import Plain, parts_of, unquoted

WORDS = ("cache", "Cache.Example", "me", "a%20b", "1", "80", "65536", "\u212b", "[::1]", "")
MARKS = ("://", "//", "/", ":", "@", "?", "#", "%", ".", "-", "[", "]", " ", "\\", "\n", ";", "_")
TEXTS = st.lists(st.sampled_from(("http", "https", "grpc", "s3", "HTTP", *WORDS, *MARKS))).map("".join)
ADDRESSES = st.builds("{}://{}".format, st.sampled_from(["http", "https", "s3", "az", "x-y", "1"]), TEXTS)


def told(parts_of, url):
    try:
        parts = parts_of(url)
        found = [parts.scheme, parts.netloc, parts.path, parts.username, parts.password, parts.hostname]
    except ValueError as error:
        return str(error)
    try:
        return [*found, parts.port]
    except ValueError as error:
        return [*found, str(error)]


@given(TEXTS | ADDRESSES | st.text())
def test_the_parts_are_those_that_the_library_tells(url: str) -> None:
    assert told(parts_of, url) == told(urlsplit, url)


@pytest.mark.parametrize(
    "url",
    [
        "http://cache.example",
        "https://me:word@Cache.example:8080/a/b_c-d/~e/%20/",
        "grpc://127.0.0.1:8980/main",
        "s3://bucket/prefix",
        "http://host:/",
    ],
)
def test_what_people_write_does_without_the_library(url: str) -> None:
    assert isinstance(parts_of(url), Plain)
    assert told(parts_of, url) == told(urlsplit, url)


@given(st.text() | st.sampled_from(["a%20b", "%", "%2", "%zz", "%C3%A4"]))
def test_what_was_quoted_is_what_the_library_says(text: str) -> None:
    assert unquoted(text) == unquote(text)
