"""Whose certificates a bucket's may be: those that the AWS command line trusts, for this and for nothing else."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from capsula.core.digest import digest_of
from capsula.errors import StoreError
from capsula.store.buckets import from_url
from capsula.testing import soon
from servers.certificates import Authority
from servers.s3_double import S3Double

KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "word"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def endpoint(authority: Authority) -> Iterator[str]:
    server = S3Double("none", authority.issue("server"))
    yield server.url
    server.stop()


def looks_up(endpoint: str, environ: Mapping[str, str]) -> bool:
    store = from_url("s3://bucket/x", {"s3_endpoint": endpoint}, {**KEYS, **environ})
    return store.lookup(digest_of(b"an action"), soon()) is None


def what_a_command_is_given() -> str:
    return subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True).stdout


def test_a_bundle_in_a_variable_is_trusted(endpoint: str, authority: Authority, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    with pytest.raises(StoreError) as refused:
        looks_up(endpoint, home)
    assert "AWS_CA_BUNDLE" in refused.value.hint
    before = what_a_command_is_given()
    assert looks_up(endpoint, {**home, "AWS_CA_BUNDLE": str(authority.ca)})
    assert what_a_command_is_given() == before


def test_so_is_that_of_a_profile(endpoint: str, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(f"[profile ours]\nca_bundle = {authority.ca}\n")
    assert looks_up(endpoint, {"HOME": str(tmp_path), "AWS_PROFILE": "ours"})


def test_what_was_set_before_is_again(
    endpoint: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    assert looks_up(endpoint, {"HOME": str(tmp_path), "AWS_CA_BUNDLE": str(authority.ca)})
    assert f"SSL_CERT_FILE={tmp_path}/other.pem" in what_a_command_is_given()
    assert os.environ["SSL_CERT_FILE"] == str(tmp_path / "other.pem")


def test_a_bundle_that_is_not_there_is_said(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="certificate") as refused:
        looks_up(endpoint, {"HOME": str(tmp_path), "AWS_CA_BUNDLE": str(tmp_path / "nothing.pem")})
    assert "AWS_CA_BUNDLE" in refused.value.hint


def test_a_key_that_is_empty_is_none_and_commands_have_it_as_it_was(
    endpoint: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that is cached starts commands of its own afterwards."""
    for name in KEYS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "")
    before = what_a_command_is_given()
    assert "AWS_SESSION_TOKEN=\n" in before
    environ = {**os.environ, "HOME": str(tmp_path), "AWS_CA_BUNDLE": str(authority.ca)}
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    store = from_url("s3://bucket/x", {"s3_endpoint": endpoint}, {**environ, "AWS_SKIP_SIGNATURE": "true"})
    assert store.lookup(digest_of(b"an action"), soon()) is None
    monkeypatch.delenv("AWS_SKIP_SIGNATURE")
    assert what_a_command_is_given() == before
