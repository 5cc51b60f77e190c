"""What is in a store's directory, and what is tried on it."""

from pathlib import Path

from capsula.core.digest import digest_of
from capsula.store.disk import DiskStore

MIB = 1 << 20
SIZES = [10, 3 * MIB]
ACTION = digest_of(b"an action")


def all_files(store: DiskStore, kind: str = "") -> list[Path]:
    return sorted(path for path in (Path(store.root) / kind).rglob("*") if not path.is_dir())


def overwrite(path: str, content: bytes) -> None:
    Path(path).chmod(0o600)
    Path(path).write_bytes(content)


def damage_flip(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 3] ^= 0x20
    overwrite(path, content)
