"""What is told of an object store that refuses or isn't reached: one line, and what to do."""

import socket
import sys
import threading
from pathlib import Path

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from capsula.core.digest import digest_of
from capsula.errors import CapsulaError, StoreError, StoreUnreachable
from capsula.store.aws import profile
from capsula.store.buckets import from_options, from_url
from capsula.store.refusals import refused
from capsula.testing import soon
from servers.ports import free_port

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def asked(endpoint: str) -> StoreError:
    store = from_url("s3://bucket", {"s3_endpoint": endpoint}, KEYS)
    with pytest.raises(StoreError) as caught:
        store.lookup(digest_of(b"an action"), soon())
    return caught.value


def test_nobody_listens() -> None:
    error = asked(f"http://127.0.0.1:{free_port()}")
    assert (error.what, type(error)) == ("s3://bucket: Connection refused", StoreUnreachable)


def test_there_is_no_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        answering = threading.Thread(target=answer, args=(listener,))
        answering.start()
        error = asked(f"https://127.0.0.1:{port}")
        listener.shutdown(socket.SHUT_RDWR)
        answering.join()
    assert (error.what, type(error)) == ("s3://bucket: there is no TLS at this port", StoreError)


def answer(listener: socket.socket) -> None:
    while True:
        try:
            with listener.accept()[0] as client:
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        except ConnectionError:
            continue
        except OSError:
            return


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000"),
        ("AWS_ENDPOINT_URL", "http://s3.example\n"),
        ("AWS_ENDPOINT_URL", "http://s3 example"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:99999"),
        ("AWS_REGION", "us-east-1\n"),
        ("AWS_ACCESS_KEY_ID", "me\n"),
        ("AWS_SECRET_ACCESS_KEY", "a word\n"),
        ("AWS_SESSION_TOKEN", "a\nb"),
    ],
)
def test_what_would_end_in_a_panic_is_refused_before(variable: str, value: str) -> None:
    """obstore writes of its panics on standard error, which is the command's."""
    with pytest.raises(CapsulaError) as caught:
        from_url("s3://bucket", {}, {**KEYS, variable: value})
    assert "\n" not in caught.value.what
    assert "a word" not in caught.value.what


@pytest.mark.parametrize("bucket", ["a b", "s3://bucket", "bucket/team"])
def test_a_bucket_has_a_name(bucket: str) -> None:
    with pytest.raises(CapsulaError, match="no name of a bucket"):
        from_options({"s3_bucket": bucket}, KEYS)


def test_a_part_of_an_address_may_be_empty_and_leads_nowhere_else() -> None:
    from_url("s3://bucket/a//b/", {}, KEYS)
    with pytest.raises(CapsulaError, match=r"\.\."):
        from_url("s3://bucket/a/../b", {}, KEYS)


def test_a_key_in_a_file_that_cannot_be_read_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    for text in ("aws_secret_access_key = hunter2\n", "[default]\nhunter2\n"):
        (tmp_path / ".aws" / "credentials").write_text(text)
        with pytest.raises(StoreError) as caught:
            profile({"HOME": str(tmp_path)})
        assert "credentials, line " in caught.value.what
        assert "hunter2" not in f"{caught.value.what}{caught.value.hint}"


def test_a_role_is_taken_also_where_keys_stand_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    (tmp_path / ".aws").mkdir()
    text = "[default]\naws_access_key_id = a\naws_secret_access_key = b\nrole_arn = c\nsource_profile = default\n"
    (tmp_path / ".aws" / "credentials").write_text(text)
    with pytest.raises(CapsulaError, match="boto3"):
        profile({"HOME": str(tmp_path)})
    assert profile({"HOME": str(tmp_path), **KEYS}).keys["aws_access_key_id"] == "a"


def test_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last that is asked for them is the machine that one is on, and most are none that would know."""
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    store = from_url("s3://bucket", {"s3_endpoint": "http://127.0.0.1:1"}, {"HOME": str(tmp_path)})
    with pytest.raises(StoreError, match="no credentials were found") as caught:
        store.lookup(digest_of(b"an action"), soon())
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert not isinstance(caught.value, StoreUnreachable)


def test_a_process_that_gives_no_credentials(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\ncredential_process = false\n")
    store = from_url("s3://bucket", {"s3_endpoint": "http://127.0.0.1:1"}, {"HOME": str(tmp_path)})
    with pytest.raises(StoreError) as caught:
        store.lookup(digest_of(b"an action"), soon())
    assert caught.value.what == "s3://bucket: credential_process gave no credentials: KeyError"


@pytest.mark.parametrize(
    ("cause", "what"),
    [
        ("UnknownIssuer", "isn't trusted"),
        ("Expired", "has expired"),
        ("NotValidForNameContext { expected: …", "for another name"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told(cause: str, what: str) -> None:
    said = f"HTTP error: error sending request\n\nDebug source: … InvalidCertificate({cause}) …"
    assert (
        what
        in refused(
            "s3://b", GenericError(f"Generic S3 error: Error performing GET https://h/k - {said}")
        ).what
    )


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("RequestTimeTooSkewed", "clock"),
        ("ExpiredToken", "sign in again"),
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("AccessDenied", "s3:ListBucket"),
    ],
)
def test_each_refusal_says_what_to_do(code: str, hint: str) -> None:
    text = (
        "The operation lacked the necessary privileges to complete for path k: Error performing GET http://h/b/k in "
        f"2ms - Server returned non-2xx status code: 403 Forbidden: <Error><Code>{code}</Code>"
        "<Message>It isn&#39;t so.</Message></Error>\n\nDebug source: …"
    )
    error = refused("s3://b", PermissionDeniedError(text))
    assert error.what == f"s3://b: 403 Forbidden: {code}: It isn't so"
    assert hint in error.hint
    assert not isinstance(error, StoreUnreachable)


def test_another_time_it_may_be_better() -> None:
    said = "Server returned non-2xx status code: 503 Slow Down: "
    error = GenericError(f"Generic S3 error: Error performing GET http://h/k in 2ms - {said}")
    assert isinstance(refused("s3://b", error), StoreUnreachable)


def test_half_of_a_pair_of_keys() -> None:
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY isn't"):
        from_url("s3://bucket", {}, {"AWS_ACCESS_KEY_ID": "a"})
