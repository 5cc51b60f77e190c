"""Whom we trust, and who we are, where a store is reached with TLS: from files that are looked at first."""

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from capsula.errors import UsageError

if TYPE_CHECKING:
    from capsula.config.settings import Settings
    from capsula.store.calls import Certificates

# gRPC comes with a list of its own, on which no company's authority is; with this variable it takes another.
_OWN_LIST = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"


def read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from error


def context(settings: "Settings") -> ssl.SSLContext:
    """For HTTP. UsageError, naming the file, for one that can't be what it is said to be."""
    ca, cert, key = settings.remote_ca, settings.remote_cert, settings.remote_key
    if key and not cert:
        raise UsageError("--remote_key says nothing without --remote_cert")
    for path in (ca, cert, key):
        if path:
            read(path)
    try:
        made = ssl.create_default_context(cafile=_path(ca))
    except ssl.SSLError as error:
        raise UsageError(
            f"--remote_ca: no certificate can be read in {ca}", hint="it has to be PEM"
        ) from error
    if cert:
        try:
            # Without the password nobody is asked for one, in the midst of a build.
            made.load_cert_chain(_path(cert) or "", _path(key), password="")
        except ssl.SSLError as error:
            what = f"--remote_cert: {cert} and {key} aren't a certificate and its key" if key else ""
            what = what or f"--remote_cert: a certificate and its key can't be read in {cert}"
            raise UsageError(what, hint="both have to be PEM, without a password") from error
    return made


def certificates(settings: "Settings") -> "Certificates":
    """For gRPC, which takes what is in the files, and says nothing of what is wrong with it."""
    from capsula.store.calls import Certificates

    context(settings)
    ca, cert = settings.remote_ca, settings.remote_cert
    if not ca and _OWN_LIST not in os.environ:
        ca = ssl.get_default_verify_paths().cafile
    # The key may stand in the same file.
    key = settings.remote_key or cert
    return Certificates(*(read(path) if path else None for path in (ca, key, cert)))


def _path(path: "str | None") -> "str | None":
    return os.path.expanduser(path) if path else None
