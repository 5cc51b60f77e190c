"""Sending what was observed: after the command has ended, within a budget, and kept for later where nobody takes it.

What waits is in `telemetry/` of the store: the address and the body, never the headers, which may hold credentials.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from capsula.core.names import printable

if TYPE_CHECKING:
    import ssl

FOLDER = "telemetry"
BUDGET_SECONDS = 2.0
# So much is kept for a receiver that is away; then the oldest goes.
_MOST, _LARGEST = 200, 4 << 20
# It won't be taken later, either.
_REFUSED = (400, 401, 403, 404, 405, 413, 415, 422)


@dataclass(frozen=True, slots=True)
class Parcel:
    """`trust`: paths of PEM files, of whom to trust instead of the system's authorities, of our certificate and of its
    key, "" for none. A body is packed on its way where the headers say so."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    via: Via | None = None
    trust: tuple[str, str, str] = ("", "", "")


class Via(Protocol):
    """A proxy, and the headers that are for it alone."""

    host: str
    port: int
    headers: Mapping[str, str]


class Patience(Protocol):
    """Remembers for a while that a receiver was silent."""

    def is_open(self) -> bool:
        """Whether it is to be left alone now."""
        ...

    def failed(self) -> None: ...


def deliver(
    parcels: Sequence[Parcel],
    root: str,
    seconds: float,
    patience: Callable[[str], Patience],
    now: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Why some weren't taken, a sentence each. `root` "": nothing is kept. One that let us wait isn't asked again by
    the runs of the next minute, as its `patience` (by address) remembers: what they have to tell waits, too."""
    until = now() + min(seconds, BUDGET_SECONDS)
    told = []
    for parcel in parcels:
        memory = patience(parcel.url)
        if memory.is_open():
            _keep(root, parcel)
            continue
        end = _post(parcel, until - now())
        if end.is_late:
            memory.failed()
        if end.trouble:
            told.append(end.trouble)
            if not end.is_final:
                _keep(root, parcel)
        elif root:
            _send_waiting(root, parcel, until, now)
    return told


@dataclass(frozen=True, slots=True)
class _End:
    """Of an attempt: why it wasn't taken ("": it was), whether that is final, and whether it was for lack of time."""

    trouble: str = ""
    is_final: bool = False
    is_late: bool = False


def _post(parcel: Parcel, seconds: float) -> _End:
    """Not longer than that, whatever the network does: looking up a name, or an answer of a byte a second, knows no
    timeout, so it is done in a thread that nobody waits for any more."""
    try:
        parts = urlsplit(parcel.url)
    except ValueError:
        return _End("the address to send it to is none", is_final=True)
    name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if seconds <= 0:
        return _End(f"{name}: no time is left")
    ends: list[_End] = []
    done = allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            ends.append(_exchange(parcel, name, seconds))
        finally:
            done.release()

    start_new_thread(run, ())
    done.acquire(timeout=seconds)
    return ends[0] if ends else _End(f"{name}: no answer in time", is_late=True)


def _exchange(parcel: Parcel, name: str, seconds: float) -> _End:
    parts, via = urlsplit(parcel.url), parcel.via
    try:
        host, port = parts.hostname or "", parts.port
        at, to = (host, port) if via is None else (via.host, via.port)
        connection = (
            http.client.HTTPSConnection(at, to, timeout=seconds, context=_context(*parcel.trust))
            if parts.scheme == "https"
            else http.client.HTTPConnection(at, to, timeout=seconds)
        )
        try:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            headers = {"Content-Type": "application/json", "User-Agent": "capsula", **parcel.headers}
            if via is not None and parts.scheme == "https":
                connection.set_tunnel(host, port, via.headers)
            elif via is not None:
                path, headers = f"{name}{path}", {**headers, **via.headers}
            is_packed = headers.get("Content-Encoding") == "gzip"
            body = gzip.compress(parcel.body, mtime=0) if is_packed else parcel.body
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read(_LARGEST)
        finally:
            connection.close()
    except TimeoutError:
        return _End(f"{name}: no answer in time", is_late=True)
    except OSError as error:
        return _End(f"{name}: {error.strerror or error}")
    except (http.client.InvalidURL, ValueError):
        # Not what the library says: it repeats the header, which may be a key.
        return _End(f"{name}: the address or a header has a character that none can have")
    except http.client.HTTPException as error:
        return _End(f"{name}: {type(error).__name__}: {printable(str(error))}")
    if 200 <= answer.status < 300:
        return _End()
    what = printable(f"{answer.status} {answer.reason}".rstrip())
    return _End(f"{name}: {what}", is_final=answer.status in _REFUSED)


def _context(trusted: str, certificate: str, key: str) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context(cafile=trusted or None)
    if certificate:
        # Without the password nobody is asked for one, in the midst of a build.
        context.load_cert_chain(certificate, key or None, password="")
    return context


def _keep(root: str, parcel: Parcel) -> None:
    if not root:
        return
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
        end = _post(replace(like, body=str(told["body"]).encode()), until - now())
        try:
            if end.trouble and not end.is_final:
                os.rename(taken, path)
                return
            os.unlink(taken)
        except OSError:
            return
