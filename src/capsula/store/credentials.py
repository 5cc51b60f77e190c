"""A credential helper: a program that knows the headers for an address, asked as Bazel asks it.

https://github.com/EngFlow/credential-helper-spec: `PROGRAM get` reads {"uri": "…"} and prints {"headers": {"Name":
["value"]}}; all else that it prints is passed over.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from capsula.core.names import printable
from capsula.errors import StoreError

_SECONDS = 10


def ask(program: str, url: str) -> Mapping[str, str]:
    """StoreError when it can't be run, fails or prints something else; what it printed is never told."""
    parts = urlsplit(url)
    # User and password are ours; gRPC is HTTP/2 to those who know the protocol.
    scheme = {"grpc": "http", "grpcs": "https"}.get(parts.scheme, parts.scheme)
    uri = urlunsplit((scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    shown = printable(program)
    try:
        done = subprocess.run(
            [os.path.expanduser(program), "get"],
            input=json.dumps({"uri": uri}).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"the credential helper {shown} took longer than {_SECONDS} seconds") from error
    except OSError as error:
        raise StoreError(f"the credential helper {shown} can't be run: {error.strerror}") from error
    if done.returncode:
        raise StoreError(f"the credential helper {shown} ended with exit code {done.returncode}")
    try:
        told = json.loads(done.stdout)["headers"]
        headers = {name: values[0] for name, values in told.items() if values}
        lists = all(isinstance(values, list) for values in told.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise StoreError(f"the credential helper {shown} printed no headers") from error
    if not lists or not all(_is_header(name, value) for name, value in headers.items()):
        raise StoreError(
            f"the credential helper {shown} printed a header that can't be sent",
            hint='it is {"headers": {"NAME": ["VALUE"]}}, without line breaks',
        )
    return headers


def _is_header(name: str, value: object) -> bool:
    """What isn't one is refused here: who comes upon it later would say what it is."""
    is_token = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    return is_token and isinstance(value, str) and value.isascii() and value.isprintable()
