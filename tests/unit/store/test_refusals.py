"""What is told of an object store that refuses or isn't reached: one line, and what to do."""

import socket
import threading

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from capsula.core.digest import digest_of
from capsula.errors import StoreError, StoreUnreachable
from capsula.store.buckets import from_url
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
