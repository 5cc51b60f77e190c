"""Where the AWS command line finds its credentials, region and endpoint: variables, then ~/.aws, by profile.

https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html. Static keys, sessions and credential_process
are read here; single sign-on and assumed roles need boto3, which is asked if it is installed. Roles of machines and
containers are found by obstore itself.
"""

from __future__ import annotations

import os

from capsula.errors import NotAvailable, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PROCESS_SECONDS = 60
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_NEEDS_BOTO = ("sso_session", "sso_start_url", "role_arn", "web_identity_token_file")


class Profile:
    """What is known of a profile. `keys` are those of variables, by obstore's names; `credentials` is called when they
    are needed, and again when they have expired; neither: whoever speaks to the store finds them by itself. `trusted`:
    a file of the authorities that certificates may come from; None: the system's."""

    __slots__ = ("credentials", "endpoint", "keys", "region", "trusted")

    def __init__(
        self,
        region: str | None = None,
        endpoint: str | None = None,
        credentials: Any = None,
        keys: Mapping[str, str] | None = None,
        trusted: str | None = None,
    ) -> None:
        self.region = region
        self.endpoint = endpoint
        self.credentials = credentials
        self.keys = keys or {}
        self.trusted = trusted


def profile(environ: Mapping[str, str]) -> Profile:
    """The one that AWS_PROFILE names, else the default one. StoreError for one that is named and isn't there."""
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    facts = _facts(environ, name)
    if not facts and name != "default":
        raise StoreError(
            f"there is no AWS profile {name}", hint="AWS_PROFILE names it; ~/.aws/config lists them"
        )
    # As with the command line: keys in variables win, also over a profile that a variable names.
    keys = {name.lower(): environ[name] for name in _KEYS if environ.get(name)}
    for one, other in (_KEYS[:2], _KEYS[1::-1]):
        if environ.get(one) and not environ.get(other):
            raise StoreError(f"{one} is set, and {other} isn't", hint="they belong together")
    for variable, value in keys.items():
        expect_plain(value, variable.upper())
    # Calling a function that gives them costs obstore 5 ms. It reads variables itself, too, also a token that is empty.
    are_plain = "aws_access_key_id" in keys and environ.get("AWS_SESSION_TOKEN") != ""
    return Profile(
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or facts.get("region"),
        endpoint=environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or facts.get("endpoint_url"),
        credentials=None if are_plain else _credentials(keys if "aws_access_key_id" in keys else facts, name),
        keys=keys if are_plain else None,
        trusted=environ.get("AWS_CA_BUNDLE") or facts.get("ca_bundle"),
    )


def expect_plain(text: str, name: str) -> None:
    """StoreError where something isn't fit for a header. obstore is never given it: it would write of its panic on the
    command's standard error. What it is isn't repeated, as it may be a secret."""
    if not text.isprintable() or text != text.strip():
        raise StoreError(
            f"{name} has a line break or a space in it that doesn't belong there",
            hint="is it pasted with one?",
        )


def _facts(environ: Mapping[str, str], name: str) -> dict[str, str]:
    home = environ.get("HOME") or "/nonexistent"
    config = environ.get("AWS_CONFIG_FILE") or f"{home}/.aws/config"
    shared = environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials"
    facts = _section(config, name if name == "default" else f"profile {name}")
    services = facts.get("services")
    if services:
        facts = {**_nested(_section(config, f"services {services}").get("s3", "")), **facts}
    # Keys of the credentials file win, as with the command line.
    return {**facts, **_nested(facts.get("s3", "")), **_section(shared, name)}


def _section(path: str, name: str) -> dict[str, str]:
    if not os.path.lexists(path):
        return {}
    import configparser

    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from error
    except configparser.Error as error:
        # Not what stands there, as the library says it: there may be a key in that line.
        lines = [error.lineno] if isinstance(error, configparser.MissingSectionHeaderError) else []
        lines += [line for line, _ in error.errors] if type(error) is configparser.ParsingError else []
        where = f", line {lines[0]}" if lines else ""
        raise StoreError(
            f"can't read {path}{where}", hint="[NAME] begins a profile, NAME = VALUE is a setting in it"
        ) from None
    return dict(parser[name]) if parser.has_section(name) else {}


def _nested(text: str) -> dict[str, str]:
    """`s3 =` followed by lines that are indented."""
    rows = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, equals, value in rows if equals}


def _credentials(facts: Mapping[str, str], name: str) -> Any:
    # As with the command line: who has a role takes it, also where the keys that are for taking it stand beside it.
    if any(key in facts for key in _NEEDS_BOTO):
        return _from_boto(name)
    if facts.get("aws_access_key_id") and facts.get("aws_secret_access_key"):
        for key in _KEYS:
            expect_plain(facts.get(key.lower(), ""), f"{key.lower()} of the AWS profile {name}")
        return lambda: {
            "access_key_id": facts["aws_access_key_id"],
            "secret_access_key": facts["aws_secret_access_key"],
            "token": facts.get("aws_session_token"),
            "expires_at": None,
        }
    if command := facts.get("credential_process"):
        return lambda: _from_process(command)
    return None


def _from_process(command: str) -> dict[str, Any]:
    import json
    import shlex
    import subprocess
    from datetime import UTC, datetime

    try:
        done = subprocess.run(
            shlex.split(command),
            capture_output=True,
            timeout=_PROCESS_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        told = json.loads(done.stdout) if done.returncode == 0 else {}
        expires = told.get("Expiration")
        for key in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            expect_plain(told.get(key) or "", key)
        return {
            "access_key_id": told["AccessKeyId"],
            "secret_access_key": told["SecretAccessKey"],
            "token": told.get("SessionToken"),
            "expires_at": datetime.fromisoformat(expires).astimezone(UTC) if expires else None,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.TimeoutExpired) as error:
        # Not what it printed: there may be half a secret in it.
        raise StoreError(f"credential_process gave no credentials: {type(error).__name__}") from error


def _from_boto(name: str) -> Any:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise NotAvailable(
            f"the AWS profile {name} signs in in a way that needs boto3", hint="pip install 'capsula[aws]'"
        ) from error
    return Boto3CredentialProvider(boto3.Session(profile_name=name))
