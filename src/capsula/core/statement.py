"""The statement of an entry: what it says, as bytes that every server leaves alone, to be sealed or signed.

A server may write a result down in its own way (a log as a blob and not in the entry, links in the older fields,
metadata of its own), so the statement is made of what a result means: the action, the exit code, each output with its
digest and mode, the digests of both logs, and our own facts of who made it.
"""

from capsula.core.capsule import TYPE_URL
from capsula.core.digest import EMPTY, Digest, digest_of
from capsula.core.facts import pack
from capsula.core.reapi import ActionResult, Any, ExecutedActionMetadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from capsula.core.facts import Fact
    from capsula.core.wire import Message

    M = TypeVar("M", bound=Message)

VERSION = "capsula-statement1"


def statement(action: Digest, result: ActionResult) -> bytes:
    facts: list[Fact] = [
        (VERSION,),
        ("action", action.hash, str(action.size_bytes)),
        ("exit", str(result.exit_code)),
        ("stdout", *_log(result.stdout_raw, result.stdout_digest)),
        ("stderr", *_log(result.stderr_raw, result.stderr_digest)),
    ]
    outputs: list[Fact] = []
    for file in result.output_files:
        mode = file.node_properties.unix_mode if file.node_properties else None
        outputs.append(
            ("file", file.path, *_digest(file.digest), "x" if file.is_executable else "", f"{mode or 0:o}")
        )
    for link in (*result.output_symlinks, *result.output_file_symlinks, *result.output_directory_symlinks):
        outputs.append(("link", link.path, link.target))
    outputs += [("directory", each.path, *_digest(each.tree_digest)) for each in result.output_directories]
    facts += sorted(set(outputs))
    facts.append(("origin", origin_of(result).hex()))
    return pack(facts)


def origin_of(result: ActionResult) -> bytes:
    """The bytes in which the entry says who made it, b"" if it doesn't."""
    return attached(result, TYPE_URL) or b""


def attached(result: ActionResult, type_url: str) -> bytes | None:
    """What is attached to the entry under this type, None if nothing is."""
    metadata = result.execution_metadata
    for extra in metadata.auxiliary_metadata if metadata is not None else ():
        if extra.type_url == type_url:
            return extra.value
    return None


def with_attached(result: ActionResult, type_url: str, value: "bytes | None") -> ActionResult:
    """The same result with this attached in place of what was there under the type; None: without it."""
    metadata = result.execution_metadata or ExecutedActionMetadata()
    kept = [extra for extra in metadata.auxiliary_metadata if extra.type_url != type_url]
    if value is not None:
        kept.append(Any(type_url=type_url, value=value))
    changed = copied(metadata, auxiliary_metadata=tuple(kept))
    return copied(result, execution_metadata=changed if changed != ExecutedActionMetadata() else None)


def _log(raw: bytes, digest: "Digest | None") -> tuple[str, str]:
    if digest is not None and digest.size_bytes:
        return _digest(digest)
    return _digest(digest_of(raw) if raw else EMPTY)


def _digest(digest: "Digest | None") -> tuple[str, str]:
    return (digest.hash, str(digest.size_bytes)) if digest is not None else ("", "")


def copied(message: "M", **changed: object) -> "M":
    """The same message, these fields aside."""
    values = {row[1]: getattr(message, row[1]) for row in type(message).FIELDS}
    return type(message)(**{**values, **changed})
