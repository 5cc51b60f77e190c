"""Who signs what is sent, and whose signatures are believed: from settings to a wrapper of remotes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from capsula.config.trust import read_trust
from capsula.errors import UsageError
from capsula.plugins.certificates import read
from capsula.store.signed import Claim, Signed, Signer, Trust, read_private, vouch, why_not, why_not_vouched

if TYPE_CHECKING:
    from capsula.config.settings import Settings
    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult
    from capsula.ports import Remote


def signed(remote: Remote, settings: Settings) -> Remote:
    signer = None
    if settings.sign_key:
        builder = settings.builder or f"{_user(os.environ)}@{os.uname().nodename}"
        signer = _signer(settings, builder, _run(os.environ))
    return Signed(remote, signer, read_trust(settings.trust) if settings.trust else None)


def signing(settings: Settings) -> Callable[[bytes], bytes]:
    """What signs statements that are no results. Who makes it isn't said: that is for those who get a result."""
    signer = _signer(settings, "", "")
    return lambda statement: vouch(statement, signer, int(time.time()))


def doubting(settings: Settings, capsule_id: str) -> Callable[[bytes, bytes, float], str]:
    """Why such a statement (with its signature, since then) isn't believed, "" if it is."""
    trust = read_trust(settings.trust) if settings.trust else Trust()
    own = _signer(settings, "", "").public if settings.sign_key else None

    def why(statement: bytes, signature: bytes, since: float) -> str:
        return why_not_vouched(signature, statement, lambda: capsule_id, trust, own, since=since)

    return why


def believing(settings: Settings) -> Callable[[Digest, ActionResult], str]:
    """Why a result isn't believed, "" if it is."""
    trust = read_trust(settings.trust) if settings.trust else Trust()
    own = _signer(settings, "", "").public if settings.sign_key else None
    return lambda action, result: why_not(action, result, trust, own)


def _signer(settings: Settings, builder: str, run: str) -> Signer:
    claim = Claim("", builder, settings.ref or _ref(os.environ), run, settings.tier, 0)
    return Signer(_private(settings.sign_key or ""), claim)


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
