"""Which object store is meant: from options and addresses to obstore's stores."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from obstore.exceptions import BaseError

from capsula.errors import StoreError, UsageError
from capsula.store.address import parts_of
from capsula.store.aws import Profile, expect_plain, profile
from capsula.store.azure import account, is_in_clear
from capsula.store.objects import ObjectStore, Places

# A server that sends nothing for so long is gone; how long all may take is for the one who asks.
_CLIENT: Any = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=20),
    "timeout": timedelta(hours=12),
}
_RETRY: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
_TRUSTED = "SSL_CERT_FILE"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def from_options(options: Mapping[str, str | None], environ: Mapping[str, str]) -> ObjectStore:
    """`-b s3`, with the options of the s3 group by their names. UsageError when there is no bucket."""
    entries = options.get("s3_bucket") or options.get("s3_bucket_objects")
    blobs = options.get("s3_bucket_objects") or entries
    if not entries or not blobs:
        raise UsageError(
            "-b s3 needs a bucket", hint="--s3_bucket for entries, --s3_bucket_objects for blobs"
        )
    found = profile(environ)

    made: dict[tuple[str | None, ...], Any] = {}

    def at(bucket: str, way: str) -> Any:
        place = (
            bucket,
            options.get(f"s3_{way}_endpoint") or options.get("s3_endpoint") or found.endpoint,
            options.get(f"s3_{way}_region") or options.get("s3_region") or found.region,
        )
        if place not in made:
            made[place] = _s3(*place, found)
        return made[place]

    places = Places(at(entries, "entries"), at(blobs, "uploads"), at(blobs, "downloads"))
    return ObjectStore(f"s3://{entries}", places)


def from_url(url: str, options: Mapping[str, str | None], environ: Mapping[str, str]) -> ObjectStore:
    """s3://bucket/prefix, gs://bucket/prefix or az://container/prefix: entries and blobs in one."""
    parts = parts_of(url)
    prefix, path = _prefix(parts.path), parts.path.strip("/")
    name = f"{parts.scheme}://{parts.netloc}" + (f"/{path}" if path else "")
    if parts.scheme == "s3":
        found = profile(environ)
        store = _s3(
            parts.netloc,
            options.get("s3_endpoint") or found.endpoint,
            options.get("s3_region") or found.region,
            found,
        )
    else:
        store = _other(parts.scheme, parts.netloc, environ)
    return ObjectStore(name, Places(store, store, store), f"{prefix}/" if prefix else "")


def _s3(bucket: str, endpoint: str | None, region: str | None, found: Profile) -> Any:
    from obstore.store import S3Store

    _expect_letters(bucket)
    expect_plain(region or "", "the region of S3")
    config: dict[str, Any] = {"region": region or "us-east-1"}
    client: Any = dict(_CLIENT)
    if endpoint:
        _expect_address(endpoint)
        config["endpoint"] = endpoint
        config["virtual_hosted_style_request"] = False
        if endpoint.startswith("http://"):
            # To read the certificates of the system takes longer than such a server does to answer.
            client |= {"allow_http": True, "disable_system_certificates": True}
    config |= found.keys
    if found.credentials is not None:
        config["credential_provider"] = found.credentials
    try:
        with _Environment(found.trusted):
            return S3Store(bucket, client_options=client, retry_config=_RETRY, **config)
    except BaseError as error:
        raise _not_to_be_had(error) from error


class _Environment:
    """In a `with`, what obstore finds in the environment of the process, which it reads when a store is made, and has
    no other way to be told. The system's authorities are those in the file `trusted`; keys that are empty, as CI
    services set what a pull request may not know, are unset, as for the command line. os.environ stays as it is."""

    def __init__(self, trusted: str | None) -> None:
        self._meant: dict[str, str | None] = {name: None for name in _KEYS if os.environ.get(name) == ""}
        if trusted:
            self._meant[_TRUSTED] = os.path.expanduser(trusted)

    def __enter__(self) -> None:
        for name, value in self._meant.items():
            _set(name, value)

    def __exit__(self, *_: object) -> None:
        # The commands that the program starts have it from the process.
        for name in self._meant:
            _set(name, os.environ.get(name))


def _set(name: str, value: str | None) -> None:
    os.unsetenv(name) if value is None else os.putenv(name, value)


def _prefix(path: str) -> str:
    """As it is in keys, which have no part that is empty."""
    parts = [part for part in path.split("/") if part]
    if {".", ".."} & set(parts):
        raise UsageError("the address of a bucket has . or .. in it", hint="as in s3://bucket/team")
    return "/".join(parts)


# What these two let through, obstore takes: of other names it panics, and says so on standard error.
def _expect_letters(bucket: str) -> None:
    if not bucket.isascii() or not all(letter.isalnum() or letter in "-._" for letter in bucket):
        from capsula.core.names import printable

        raise UsageError(
            f"{printable(bucket)} is no name of a bucket", hint="the name alone, as in --s3_bucket my-cache"
        )


def _expect_address(endpoint: str) -> None:
    try:
        parts = parts_of(endpoint)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        from capsula.core.names import printable
        from capsula.core.secrets import mask

        raise UsageError(
            f"the endpoint of S3 is no address: {mask(printable(endpoint))}",
            hint="as in https://s3.example:9000, from --s3_endpoint, AWS_ENDPOINT_URL or endpoint_url in ~/.aws/config",
        )


def _not_to_be_had(error: BaseException) -> StoreError:
    """What obstore says of settings that it can't use, up to how it came to know."""
    if "No CA certificates" in str(error):
        return StoreError(
            "no certificates to trust were found",
            hint="is the file there that SSL_CERT_FILE, AWS_CA_BUNDLE or ca_bundle in ~/.aws/config names?",
        )
    what = " ".join(str(error).partition("Debug source")[0].split())[:300].rstrip(".")
    hint = "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY say whose" if "Account must" in what else ""
    return StoreError(what, hint=hint)


def _other(scheme: str, bucket: str, environ: Mapping[str, str]) -> Any:
    from obstore.store import AzureStore, GCSStore

    try:
        if scheme == "gs":
            return GCSStore(bucket, client_options=_CLIENT, retry_config=_RETRY)
        found = account(environ)
        client: Any = {**_CLIENT, "allow_http": is_in_clear(found, environ)}
        config: Any = found
        return AzureStore(bucket, client_options=client, retry_config=_RETRY, **config)
    except BaseError as error:
        raise _not_to_be_had(error) from error
