"""What an option's text may be."""

import pytest

from capsula.config import values
from capsula.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("7d", 604800),
        ("45", 45),
        ("1.5h", 5400),
        ("0", 0),
        ("2H", 7200),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert values.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10GiB", 10 * 2**30),
        ("500MB", 500_000_000),
        ("500 MB", 500_000_000),
        ("1k", 1024),
        ("1kB", 1000),
        ("2T", 2 * 2**40),
        ("123", 123),
        ("123B", 123),
        ("0", 0),
        ("1.5KiB", 1536),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, count: int) -> None:
    assert values.size(text) == count


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1x", "1 2", "inf", "nan", "1_0", "1e999", "٣", "1h30m", "--", "1" * 5000]
)
def test_what_is_no_measure_is_refused(text: str) -> None:
    for read in (values.duration, values.size):
        with pytest.raises(UsageError):
            read(text)


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("255", 255), ("007", 7)])
def test_an_exit_code_is_one_that_a_process_can_have(text: str, expected: int) -> None:
    assert values.exit_code(text) == expected


@pytest.mark.parametrize("text", ["0", "256", "-1", "1.0", "", "0x1", "1" * 5000, "²"])
def test_other_exit_codes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.exit_code(text)


def test_a_share_is_from_0_to_1() -> None:
    assert [values.share(text) for text in ("0", "1", "0.01", "1e-3", ".5")] == [0, 1, 0.01, 0.001, 0.5]
    for text in ("1.01", "-0.1", "nan", "1%", ""):
        with pytest.raises(UsageError):
            values.share(text)


@pytest.mark.parametrize(
    "text",
    [
        "disk",
        "dummy",
        "s3",
        "s3://bucket/prefix",
        "https://cache.example/x",
        "http://[::1]:80",
        "http://[::1]/x",
        "http://u:p@h:80/x",
        "grpcs://h:1",
        "grpc://h",
    ]
    + ["gs://b", "az://c"],
)
def test_known_backends_are_kept_as_they_are(text: str) -> None:
    assert values.backend(text) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("dsk", "did you mean disk?"),
        ("S3", "did you mean s3?"),
        ("htps://host", "did you mean https://?"),
        ("ftp://host", "known: disk"),
        ("https://", "as in https://host:port/path"),
        ("https://a b", "as in https://"),
        ("grpc://h:99999", "as in grpc://"),
        ("http://h:port/x", "as in http://"),
        ("http://h:/x", "as in http://"),
        ("http://[::1", "as in http://"),
        ("http://::1/x", "as in http://"),
        ("", "known: disk"),
        ("something", "known: disk"),
    ],
)
def test_an_unknown_backend_names_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        values.backend(text)
    assert refused.value.hint.startswith(hint)


@pytest.mark.parametrize("text", ["http://h", "HTTPS://h:9000/path", "https://u:p@h"])
def test_an_endpoint_is_an_http_url(text: str) -> None:
    assert values.endpoint(text) == text


@pytest.mark.parametrize(
    "text", ["", "h", "ftp://h", "http://", "http:///path", "http://:80", "http://u@", "http://a b"]
)
def test_another_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.endpoint(text)


def test_a_message_shows_no_password_and_no_token_of_an_address() -> None:
    for text in ("ftp://user:hunter2@host/path?sig=hunter2", "htps://x:hunter2@h"):
        for read in (values.endpoint, values.backend):
            with pytest.raises(UsageError) as refused:
                read(text)
            assert "hunter2" not in str(refused.value) + refused.value.hint


def test_the_name_of_a_variable_has_no_equals_sign_and_its_value_is_not_shown() -> None:
    assert values.environment_name("A b") == "A b"
    for text in ("", "TOKEN=hunter2", "=x", "a\0b"):
        with pytest.raises(UsageError) as refused:
            values.environment_name(text)
        assert "hunter2" not in str(refused.value)


def test_a_field_has_a_key() -> None:
    assert values.key_value("branch=a=b") == "branch=a=b"
    assert values.key_value("branch=") == "branch="
    for text in ("", "branch", "=x"):
        with pytest.raises(UsageError):
            values.key_value(text)


def test_a_report_goes_to_a_path_or_a_descriptor() -> None:
    assert [values.report_target(text) for text in ("fd:3", "out.json", "./fd:x")] == [
        "fd:3",
        "out.json",
        "./fd:x",
    ]
    for text in ("", "fd:", "fd:-1", "fd:x", "fd:²", "fd:1", "fd:02"):
        with pytest.raises(UsageError):
            values.report_target(text)


def test_the_nearest_name_is_the_only_longer_one_or_a_similar_one() -> None:
    known = ("capsule_id", "capsule_job", "verbose", "Docs")
    found = [values.nearest(word, known) for word in ("verb", "capsul_id", "docs", "zzz", "")]
    assert found == ["verbose", "capsule_id", "Docs", "", ""]


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    assert values.printable("plain é") == "plain é"
    assert values.printable("a\x1b[31m\udcff") == r"'a\x1b[31m\udcff'"
    assert values.quoted("\udcff") == r"'\udcff'"
    assert len(values.quoted("x" * 5000)) < 100


@pytest.mark.parametrize("text", ["Authorization: Bearer abc", "x-api_key:1", "X.Y: ", "a:\tb"])
def test_a_header_is_a_name_and_a_value(text: str) -> None:
    assert values.header(text) == text


@pytest.mark.parametrize(
    "text", ["Authorization", ": x", "a b: c", "a: b\r\nc: d", "a: b\0", "a: é", "ä: b", "a\r: b"]
)
def test_what_no_header_can_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.header(text)
