"""How a run takes leases and waits for those of others, from its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from capsula.store.lease import Terms

if TYPE_CHECKING:
    from capsula.config.settings import Settings


def terms(settings: Settings, run: str, host: str, expects: Callable[[], float | None]) -> Terms:
    mode = settings.remote_mode
    return Terms(
        run=run,
        host=host,
        seconds=settings.lease_time if "w" in mode else 0.0,
        wait=settings.lease_wait if "r" in mode else 0.0,
        key=lambda: _own_key(settings),
        believed=lambda: _believed(settings),
        expects=expects,
    )


def _own_key(settings: Settings) -> str:
    """The id of the key that we sign with, "" if we don't."""
    if not settings.sign_key:
        return ""
    from capsula.plugins.signing import key_of

    return key_of(settings.sign_key)


def _believed(settings: Settings) -> frozenset[str] | None:
    """The ids of the keys whose results we take; None: whoever made them."""
    if not settings.trust:
        return None
    from capsula.config.trust import read_trust

    return frozenset(filter(None, (*read_trust(settings.trust).keys, _own_key(settings))))
