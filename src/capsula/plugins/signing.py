"""Who signs what is sent, and whose signatures are believed: from settings to a wrapper of remotes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from capsula.config.trust import read_trust
from capsula.errors import UsageError
from capsula.plugins.certificates import read
from capsula.store.signed import Claim, Signed, Signer, key_id, read_private

if TYPE_CHECKING:
    from capsula.config.settings import Settings
    from capsula.ports import Remote


def signed(remote: Remote, settings: Settings) -> Remote:
    signer = None
    if settings.sign_key:
        builder = settings.builder or f"{_user(os.environ)}@{os.uname().nodename}"
        claim = Claim("", builder, settings.ref or _ref(os.environ), _run(os.environ), settings.tier, 0)
        signer = Signer(_private(settings.sign_key), claim)
    return Signed(remote, signer, read_trust(settings.trust) if settings.trust else None)


def key_of(sign_key: str) -> str:
    """The id of the key that is meant by --sign_key."""
    return key_id(Signer(_private(sign_key), Claim("", "", "", "", "", 0)).public)


def _private(sign_key: str) -> Ed25519PrivateKey:
    name, from_environment = sign_key.removeprefix("env:"), sign_key.startswith("env:")
    if from_environment and not os.environ.get(name):
        raise UsageError(f"the variable {name or '(no name)'}, which --sign_key names, isn't set")
    return read_private(os.environ[name].encode() if from_environment else read(name), sign_key)


def _user(environ: Mapping[str, str]) -> str:
    """The user's name, or number where there is none, as in many containers."""
    name = environ.get("USER") or environ.get("LOGNAME")
    if name:
        return name
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return str(os.getuid())


def _ref(environ: Mapping[str, str]) -> str:
    """The git ref that is built, as the CI service says; "" where none says it."""
    if environ.get("GITHUB_REF"):
        return environ["GITHUB_REF"]
    if environ.get("CI_COMMIT_TAG"):
        return f"refs/tags/{environ['CI_COMMIT_TAG']}"
    if environ.get("CI_COMMIT_BRANCH"):
        return f"refs/heads/{environ['CI_COMMIT_BRANCH']}"
    if environ.get("BUILD_SOURCEBRANCH"):
        return environ["BUILD_SOURCEBRANCH"]
    if environ.get("CIRCLE_BRANCH") or environ.get("BUILDKITE_BRANCH"):
        return f"refs/heads/{environ.get('CIRCLE_BRANCH') or environ['BUILDKITE_BRANCH']}"
    return ""


def _run(environ: Mapping[str, str]) -> str:
    """The CI job, by its address where the service tells it."""
    if run := environ.get("GITHUB_RUN_ID"):
        place = f"{environ.get('GITHUB_SERVER_URL', '')}/{environ.get('GITHUB_REPOSITORY', '')}"
        return f"{place}/actions/runs/{run}"
    return environ.get("CI_JOB_URL") or environ.get("BUILD_URL") or environ.get("BUILDKITE_BUILD_URL") or ""
