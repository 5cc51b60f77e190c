"""The remotes of a run: from settings to guarded stores, and the sending of what was made."""

from __future__ import annotations

import os
import time

from capsula.core.names import printable
from capsula.core.secrets import mask
from capsula.errors import CapsulaError, NotAvailable, RemoteRequired, StoreError, in_one_line
from capsula.store.address import parts_of
from capsula.store.believed import Beliefs
from capsula.store.disk import DiskStore
from capsula.store.guard import Breaker, Guarded
from capsula.store.late import Late, LateFlight
from capsula.store.layout import blob_path, entry_path
from capsula.store.sealed import Sealed
from capsula.store.tiers import Tiers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from capsula.config.settings import Settings
    from capsula.core.digest import Digest
    from capsula.ports import Flight, Remote
    from capsula.store.flight import Flights
    from capsula.store.outbox import Outbox
    from capsula.store.shared_flight import SharedFlight

LOCAL = ("disk", "dummy")
S3_OPTIONS = (
    "s3_bucket",
    "s3_bucket_objects",
    "s3_endpoint",
    "s3_region",
    "s3_uploads_endpoint",
    "s3_uploads_region",
    "s3_downloads_endpoint",
    "s3_downloads_region",
)
# What another process needs to know to send in our place.
HANDED_ON = (
    "backend",
    "remote",
    "remote_mode",
    "remote_timeout",
    "upload_timeout",
    "remote_header",
    "remote_packs",
    *S3_OPTIONS,
    "builder",
    "tier",
    "ref",
)
FILES_HANDED_ON = ("remote_ca", "remote_cert", "remote_key", "credential_helper", "sign_key")
_BUCKETS = ("s3", "gs", "az")
SCHEMES = ("http", "https", "grpc", "grpcs", *_BUCKETS)
_PORTS = {"grpc": 8980, "grpcs": 443}
_BACKGROUND_SECONDS = 600.0


class Remotes:
    """`tiers` is the store of the run: this machine's, with the remotes behind it. `root` is its directory.

    Without `--local`, what comes and goes is kept in a directory that is gone when the run has ended.
    """

    def __init__(self, settings: Settings, root: str, say: Callable[[str], None]) -> None:
        self.root = root
        self.scratch = "" if settings.local else _scratch()
        self._settings = settings
        self._say = say
        self._flight: LateFlight | None = None
        # Called when there is something from now on that a signal to end shouldn't leave behind; `let_go` removes it.
        self.holds: Callable[[], None] = lambda: None
        self._is_handed_on = False
        near = DiskStore(self.scratch or root, now=time.time)
        self.stores = list(_opened(settings, root, say))
        self.tiers = Tiers(
            near,
            self.stores if "r" in settings.remote_mode else (),
            patience=settings.remote_timeout,
            say=say,
            strict=settings.strict_remote,
            beliefs=_beliefs(settings),
        )

    def send(self, say: Callable[[str], None]) -> None:
        """After the run: what was made goes to those that may be written to, and so does what earlier runs couldn't
        send. What isn't sent in time waits for a later run."""
        writers = self.stores if "w" in self._settings.remote_mode else []
        to_send = [action for action in self.tiers.to_send if writers and self._may_leave(action, say)]
        if not to_send:
            return
        try:
            for remote in writers:
                for action in to_send:
                    self._outbox(remote).add(
                        action,
                        anew=remote.name in self.tiers.spoiled,
                        if_none=self.tiers.is_absent(action, remote.name),
                    )
        except StoreError as error:
            say(f"not sent: {error.what}")
            return
        if self._settings.upload != "background" or self.scratch:
            self._send_now(writers, to_send, say)
        elif not all(remote.is_left_alone() for remote in writers):
            leave_to_another(self._settings, self.root)
            self._is_handed_on = True

    def came_from(self, action: Digest) -> str:
        """The name of the remote that a result came from, "" if it was on this machine."""
        return self.tiers.came_from(action)

    def flight(
        self, near: Flights, run: str, host: str, capsule_id: str, expects: Callable[[], float | None]
    ) -> Flight:
        """That of this machine, and around it one for all machines where a remote can have leases."""
        settings = self._settings
        if settings.placebo or not (settings.lease_wait or settings.lease_time):
            return near

        def opened() -> SharedFlight | None:
            # Leases are where the layout is ours.
            if not any(
                _scheme(remote.name) in _BUCKETS and not remote.is_left_alone() for remote in self.stores
            ):
                return None
            from capsula.plugins.leasing import terms
            from capsula.store.shared_flight import SharedFlight

            return SharedFlight(
                near,
                lambda: [remote for remote in self.stores if not remote.is_left_alone()],
                terms(settings, run, host, capsule_id, expects),
                is_here=lambda action: os.path.exists(entry_path(self.scratch or self.root, action.hash)),
                ask_again=self.tiers.ask_again,
                died=lambda: near.died,
                say=self._say if settings.verbose else lambda text: None,  # noqa: ARG005 - as the other is called
                holds=self.holds,
            )

        self._flight = LateFlight(near, opened)
        return self._flight

    def let_go(self) -> None:
        """We are about to end, and make no result any more. A signal may have us do it at any moment."""
        if self._flight is not None:
            self._flight.release(remove=True)

    def _outbox(self, remote: Guarded) -> Outbox:
        """What only this run has can't be sent by a later one, and what waits here isn't in what this run has."""
        from capsula.store.outbox import Outbox

        return Outbox(self.scratch or self.root, remote.name)

    def _may_leave(self, action: Digest, say: Callable[[str], None]) -> bool:
        """Whether nothing in a result looks like a credential, or it doesn't matter to whoever asks."""
        if self._settings.allow_secrets:
            return True
        from capsula.core.flagged import look
        from capsula.core.hiding import telling_values

        try:
            result = self.tiers.near.lookup(action)
            found = (
                list(look(result, self._start_of, telling_values(os.environ))) if result is not None else []
            )
        except (CapsulaError, OSError):
            return True  # what can't be read can't be sent either, and that is said where it is tried
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            say(f"not sent: {printable(found[0])} looks like a credential{more} (--allow_secrets sends it)")
        return not found

    def _start_of(self, digest: Digest) -> bytes:
        from capsula.core.flagged import TEXT_LIMIT

        if digest.size_bytes <= TEXT_LIMIT:
            return self.tiers.near.read(digest)
        with open(blob_path(self.scratch or self.root, digest.hash), "rb") as file:
            return file.read(TEXT_LIMIT)

    def end(self) -> None:
        if self._flight is not None:
            # What another process sends for us is on its way: whoever waits for it sees it come.
            self._flight.release(remove=not self._is_handed_on)
        if self.tiers.troubles:
            _note_troubles(self.root, self.tiers.troubles)
        for remote in self.stores:
            remote.close()
        if self.scratch:
            from capsula.worktree.restore import remove_tree

            remove_tree(self.scratch)

    def _send_now(self, writers: list[Guarded], own: list[Digest], say: Callable[[str], None]) -> None:
        from capsula.store.outbox import empty

        until = time.monotonic() + self._settings.upload_timeout
        writers = [remote for remote in writers if not remote.is_left_alone()]
        for at, remote in enumerate(writers):
            # As when looking up: one that is silent doesn't take the time of the next.
            now = time.monotonic()
            deadline = now + (until - now) / (len(writers) - at)
            error = empty(self._outbox(remote), self.tiers.near, remote, deadline, own)
            if error is not None:
                self.tiers.troubles.append((remote.name, "send", error.what))
            if error is not None and not self.tiers.has_told(remote.name):
                later = "" if self.scratch else "; it is kept to be sent by a later run"
                say(f"not sent: {in_one_line(error)}{later}")


def _beliefs(settings: Settings) -> Beliefs:
    if not settings.trust:
        return Beliefs()
    from capsula.plugins.believing import beliefs

    return beliefs(settings)


def _note_troubles(root: str, troubles: Sequence[tuple[str, str, str]]) -> None:
    """Lines of the journal beside those of runs, for counting."""
    from capsula.observe.journal import append

    for name, doing, what in troubles:
        append(root, {"time": round(time.time(), 3), "trouble": doing, "remote": name, "why": what[:500]})


def _scratch() -> str:
    from tempfile import mkdtemp

    return mkdtemp(prefix="capsula-")


def _opened(settings: Settings, root: str, say: Callable[[str], None]) -> Iterator[Guarded]:
    """One that can't be is said, and is as if it weren't named; but for those who want no run without it."""
    for url in urls(settings):
        try:
            yield _guarded(url, settings, Breaker(root, url))
        except CapsulaError as error:
            if settings.strict or settings.strict_remote:
                raise RemoteRequired(error.what, hint=error.hint) from error
            say(f"{in_one_line(error)}; going on without it")


def _guarded(url: str, settings: Settings, breaker: Breaker) -> Guarded:
    def opened() -> Remote:
        return _signed(Sealed(open_remote(url, settings)), settings)

    name = _name(url, settings)
    packs = _scheme(url) in _BUCKETS or (settings.remote_packs and _scheme(url) in ("http", "https"))
    late = Late(name, opened, packs=packs)
    return Guarded(late if name else opened(), breaker)


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _name(url: str, settings: Settings) -> str:
    """What people call the store at this address, without credentials; "" for one that can't be at all."""
    if url == "s3":
        bucket = settings.s3_bucket or settings.s3_bucket_objects
        return f"s3://{bucket}" if bucket else ""
    parts = parts_of(url)
    if parts.scheme not in SCHEMES:
        return ""
    place = parts.netloc.rpartition("@")[2]
    if parts.scheme.startswith("grpc"):
        # As ReapiStore is called.
        place = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def send_all(settings: Settings, root: str, *, is_patient: bool = False) -> list[StoreError]:
    """Send what waits in this store; what keeps some of it from being sent. A remote that failed a moment ago is left
    alone, unless somebody asked for it and waits (`is_patient`)."""
    from capsula.store.outbox import Outbox, empty

    found = []
    near = DiskStore(root, now=time.time)
    for url in urls(settings):
        remote = _guarded(url, settings, Breaker("" if is_patient else root, url))
        deadline = time.monotonic() + max(settings.upload_timeout, _BACKGROUND_SECONDS)
        try:
            if error := empty(Outbox(root, remote.name), near, remote, deadline, waits=is_patient):
                found.append(error)
                _note_troubles(root, [(remote.name, "send", error.what)])
        finally:
            remote.close()
    return found


def leave_to_another(settings: Settings, root: str) -> None:
    """Start a process of its own that sends what waits. The settings, which may hold credentials, go through a pipe."""
    import json
    import subprocess
    import sys

    asked = {name: getattr(settings, name) for name in HANDED_ON}
    asked |= {name: _found_from_anywhere(getattr(settings, name)) for name in FILES_HANDED_ON}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "capsula.cli.send"],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(json.dumps([root, asked]).encode())


def _found_from_anywhere(path: str | None) -> str | None:
    """A program may be named without a directory, and a key be in a variable."""
    from shutil import which

    if path is None or path.startswith("env:") or (os.sep not in path and which(path)):
        return path
    return os.path.abspath(os.path.expanduser(path))


def urls(settings: Settings) -> list[str]:
    """In the order in which they are asked."""
    found = [] if settings.backend in LOCAL else [settings.backend]
    return [] if settings.remote_mode == "off" else list(dict.fromkeys((*found, *settings.remote)))


def open_remote(url: str, settings: Settings) -> Remote:
    """The store at this address. NotAvailable for a kind that isn't built, or whose library isn't installed."""
    scheme = _scheme(url)
    if scheme in ("http", "https"):
        from capsula.store.http import HttpStore

        context = None
        if scheme == "https" and (settings.remote_ca or settings.remote_cert):
            from capsula.plugins import certificates

            context = certificates.context(settings)
        return HttpStore(url, headers=headers(settings, url), context=context, environ=os.environ)
    if scheme in _BUCKETS:
        try:
            from capsula.store import buckets
        except ImportError as error:
            raise _missing(mask(url), error, "s3") from error
        options = {name: getattr(settings, name) for name in S3_OPTIONS}
        if url == "s3":
            return buckets.from_options(options, os.environ)
        return buckets.from_url(url, options, os.environ)
    if scheme in ("grpc", "grpcs"):
        return _open_reapi(url, settings)
    raise NotAvailable(
        f"the backend '{mask(url)}' is not available in this version",
        hint="use -b disk, which keeps results on this machine",
    )


def _open_reapi(url: str, settings: Settings) -> Remote:
    """grpc://host:port/instance, with TLS as grpcs://"""
    try:
        from capsula.store.reapi import ReapiStore
    except ImportError as error:
        raise _missing(mask(url), error, "grpc") from error
    parts = parts_of(url)
    instance = parts.path.strip("/")
    port = parts.port or _PORTS[parts.scheme]
    given = None
    if parts.scheme == "grpcs":
        from capsula.plugins.certificates import certificates

        given = certificates(settings)
    name = f"{parts.scheme}://{parts.hostname}:{port}" + (f"/{instance}" if instance else "")
    return ReapiStore(
        name,
        f"{parts.hostname}:{port}",
        instance,
        headers=headers(settings, url),
        certificates=given,
    )


def _signed(remote: Remote, settings: Settings) -> Remote:
    """With a key, what we send is signed; with a file of trusted keys, what we get has to be."""
    if not settings.sign_key and not settings.trust:
        return remote
    try:
        from capsula.plugins.signing import signed
    except ImportError as error:
        raise _missing("signatures", error, "sign") from error
    return signed(remote, settings)


def _missing(what: str, error: ImportError, extra: str) -> NotAvailable:
    return NotAvailable(
        f"for {what} a package is missing: {error.name}", hint=f"pip install 'capsula[{extra}]'"
    )


def headers(settings: Settings, url: str) -> Mapping[str, str]:
    """Those of the credential helper for this address, and over them those that were given."""
    given = (text.partition(":") for text in settings.remote_header)
    helped: Mapping[str, str] = {}
    if settings.credential_helper:
        from capsula.store.credentials import ask

        helped = ask(settings.credential_helper, url)
    return {**helped, **{name.strip(): value.strip() for name, _, value in given}}
