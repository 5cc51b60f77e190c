"""Sending what was observed: after the command has ended, within a budget, and kept for later where nobody takes it.

What waits is in `telemetry/` of the store: the address and the body, never the headers, which may hold credentials.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

FOLDER = "telemetry"
BUDGET_SECONDS = 2.0
# So much is kept for a receiver that is away; then the oldest goes.
_MOST, _LARGEST = 200, 4 << 20
# It won't be taken later, either.
_REFUSED = (400, 401, 403, 404, 405, 413, 415, 422)


@dataclass(frozen=True, slots=True)
class Parcel:
    url: str
    headers: Mapping[str, str]
    body: bytes


def deliver(
    parcels: Sequence[Parcel], root: str, seconds: float, now: Callable[[], float] = time.monotonic
) -> list[str]:
    """Why some weren't taken, a sentence each. `root` "": nothing is kept."""
    until = now() + min(seconds, BUDGET_SECONDS)
    told = []
    for parcel in parcels:
        trouble, is_final = _post(parcel, until - now())
        if trouble:
            told.append(trouble)
            if root and not is_final:
                _keep(root, parcel)
        elif root:
            _send_waiting(root, parcel, until, now)
    return told


def _post(parcel: Parcel, seconds: float) -> tuple[str, bool]:
    """("", …) when it was taken; else why not, and whether that is final."""
    parts = urlsplit(parcel.url)
    name = f"{parts.scheme}://{parts.hostname}"
    if seconds <= 0:
        return f"{name}: no time is left", False
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        try:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            headers = {"Content-Type": "application/json", "User-Agent": "capsula", **parcel.headers}
            connection.request("POST", path, parcel.body, headers)
            answer = connection.getresponse()
            answer.read(_LARGEST)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        text = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else str(error) or type(error).__name__
        )
        return f"{name}: {text}", False
    if 200 <= answer.status < 300:
        return "", True
    return f"{name}: {answer.status} {answer.reason}".rstrip(), answer.status in _REFUSED


def _keep(root: str, parcel: Parcel) -> None:
    folder = os.path.join(root, FOLDER)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        waiting = sorted(os.listdir(folder))
        for name in waiting[: max(0, len(waiting) - _MOST + 1)]:
            os.unlink(os.path.join(folder, name))
        if len(parcel.body) > _LARGEST:
            return
        path = os.path.join(folder, f"{time.time_ns():020d}-{os.getpid()}.json")
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"url": parcel.url, "body": parcel.body.decode()}, file)
        os.rename(f"{path}.new", path)
    except OSError:
        return


def _send_waiting(root: str, like: Parcel, until: float, now: Callable[[], float]) -> None:
    """What waits for the same receiver, oldest first, with the headers of today."""
    folder = os.path.join(root, FOLDER)
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except OSError:
        return
    for name in names:
        if now() >= until:
            return
        path = os.path.join(folder, name)
        taken = f"{path}.{os.getpid()}.taken"
        try:
            with open(path, encoding="utf-8") as file:
                told = json.load(file)
            if told["url"] != like.url:
                continue
            # One of those who come at once sends it.
            os.rename(path, taken)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        trouble, is_final = _post(Parcel(like.url, like.headers, str(told["body"]).encode()), until - now())
        try:
            if trouble and not is_final:
                os.rename(taken, path)
                return
            os.unlink(taken)
        except OSError:
            return
