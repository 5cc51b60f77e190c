"""What the files of a vault and of its capsules are called, and the error of all that has to do with them."""

from capsula.core.names import printable
from capsula.errors import CapsulaError

FORMAT = 1
MARK, RECORD = ".capsula-vault", "capsule.json"
PACKAGES = "packages.json"
# They tell of one run, so no other capsule has the same.
TOLD = ("context.json", "pre-run-info.json", "post-run-info.json", "metrics.json")


class VaultError(CapsulaError):
    """The vault, or a capsule in it, can't be what it is asked to be."""


class Unreadable(VaultError):
    """A file of a capsule can't be read; `why` says so without saying where the capsule lies."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"can't read {printable(path)}: {why}")
        self.why = f"{path.rpartition('/')[2]}: {why}"
