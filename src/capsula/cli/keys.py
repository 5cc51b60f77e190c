"""`capsula keygen`: a pair of keys for signing results."""

from __future__ import annotations

import os

from capsula.core.names import printable
from capsula.errors import CapsulaError, NotAvailable


def keygen(path: str) -> int:
    """The private key goes into a new file that only its owner reads, the public one to stdout."""
    try:
        from capsula.store.signed import generate, key_id, written
    except ImportError as error:
        raise NotAvailable(
            f"a package is missing: {error.name}", hint="pip install 'capsula[sign]'"
        ) from error
    pem, public = generate()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CapsulaError(f"{printable(path)} is there already, and is left as it is") from None
    with open(descriptor, "wb") as file:
        file.write(pem)
        os.fsync(file.fileno())
    print(f'[[key]]\nname = "{key_id(public)}"\npublic = "{written(public)}"')
    return 0
