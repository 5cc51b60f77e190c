"""How a run takes leases and waits for those of others, from its settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from capsula.store.lease import Terms

if TYPE_CHECKING:
    from capsula.config.settings import Settings

# Somebody may have kept a signed lease, and write it again. After this time by our clock that is of no use; a machine
# whose clock is as far behind isn't waited for.
_FRESH_SECONDS = 900


def terms(
    settings: Settings, run: str, host: str, capsule_id: str, expects: Callable[[], float | None]
) -> Terms:
    mode = settings.remote_mode
    given = Terms(
        run=run,
        host=host,
        seconds=settings.lease_time if "w" in mode else 0.0,
        wait=settings.lease_wait if "r" in mode else 0.0,
        expects=expects,
        # What another process sends in our place is on its way when ours is gone.
        ends_with_process=settings.upload != "background",
        patience=settings.remote_timeout,
    )
    if settings.sign_key:
        given.sign = _signs(settings)
    if settings.trust:
        given.believes = _believes(settings, capsule_id)
    return given


def _signs(settings: Settings) -> Callable[[bytes], bytes]:
    @cache
    def signer() -> Callable[[bytes], bytes]:
        from capsula.plugins.signing import signing

        return signing(settings)

    def sign(statement: bytes) -> bytes:
        return signer()(statement)

    return sign


def _believes(settings: Settings, capsule_id: str) -> Callable[[bytes, bytes], bool]:
    """As a result of this capsule would be that has this signature."""

    @cache
    def doubts() -> Callable[[bytes, bytes, float], str]:
        from capsula.plugins.signing import doubting

        return doubting(settings, capsule_id)

    def believes(statement: bytes, signature: bytes) -> bool:
        # Most that aren't are of those who have no key: no library is loaded to find that out.
        return signature != b"" and not doubts()(statement, signature, time.time() - _FRESH_SECONDS)

    return believes
