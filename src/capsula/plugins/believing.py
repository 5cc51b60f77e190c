"""Whom a run believes of what was fetched before: from settings."""

from __future__ import annotations

import os

from capsula.core.digest import sha256
from capsula.errors import CapsulaError
from capsula.store.believed import Beliefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.config.settings import Settings
    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult


def beliefs(settings: Settings) -> Beliefs:
    """With --trust."""

    def why_not(action: Digest, result: ActionResult) -> str:
        # Only here, as it takes a library that is slow to load.
        try:
            from capsula.plugins.signing import believing

            return believing(settings)(action, result)
        except (CapsulaError, ImportError) as error:
            return f"whom to trust can't be told: {error}"

    # What one's own key signed is believed by oneself.
    key = settings.sign_key or ""
    own = os.environ.get(key.removeprefix("env:"), "").encode() if key.startswith("env:") else _content(key)
    return Beliefs(sha256(_content(settings.trust or "") + b"\0" + own).digest(), why_not)


def _content(path: str) -> bytes:
    """What can't be read is like nothing: whoever reads it later says so."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return file.read()
    except OSError:
        return b""
