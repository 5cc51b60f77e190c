"""The errors of Capsula: each says what went wrong, with which thing, and what to do next."""


class CapsulaError(Exception):
    """Base of all our errors: `what` is one sentence without a full stop, `hint` what to do next ("" if nothing)."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class UsageError(CapsulaError):
    """An option, a variable or a configuration file asks for something that can't be."""


class ConfigError(UsageError):
    """A configuration file is wrong; `what` names the file and, where known, the line and the key."""


class NotAvailable(CapsulaError):
    """A backend or a feature that is named but isn't built or installed here."""


class InputError(CapsulaError):
    """A declared input can't be read, vanished, or moved while it was looked at."""


class OutputError(CapsulaError):
    """A declared output wasn't made, can't be read, or can't be put into the work tree."""


class StoreError(CapsulaError):
    """A store can't be used: not reachable, full, read-only. It is never a miss."""


class StoreUnreachable(StoreError):
    """A store doesn't answer, not in time, or says that it is overloaded: another time it may."""


class RemoteRequired(StoreError):
    """A remote store can't be used, and the user wants no run without it."""


class BlobMissing(StoreError):
    """A blob that an entry names isn't in the store."""


class BlobCorrupt(StoreError):
    """A blob's bytes don't have the digest that they are stored under; it has been set aside."""


class EntryCorrupt(StoreError):
    """An action-cache entry doesn't verify; it has been set aside."""


class EntryUntrusted(StoreError):
    """Nobody vouches for an entry of a remote who may."""


class WireError(CapsulaError):
    """Bytes that are not the message they should be, or a value that no message can hold."""


def in_one_line(error: Exception) -> str:
    """What went wrong, and what to do about it; of what is none of our errors, that it is a bug."""
    if not isinstance(error, CapsulaError):
        return f"an error inside capsula: {type(error).__name__}: {error}"
    return f"{error.what} ({error.hint})" if error.hint else error.what
