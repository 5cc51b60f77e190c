"""Flagged: where a stored result, which must come back exactly, holds what looks like a credential."""

from capsula.core.node import FILE
from capsula.core.result import from_result
from capsula.core.tokens import is_text, tokens, values_in, words_in_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from capsula.core.digest import Digest
    from capsula.core.reapi import ActionResult

# So much of a file is looked at; less of one that isn't text.
TEXT_LIMIT, BINARY_LIMIT = 8 << 20, 1 << 20


def look(
    result: "ActionResult", read: "Callable[[Digest], bytes]", values: "Iterable[str]"
) -> "Iterator[str]":
    """`out/a.txt:3 (GitHub token)`, `stdout:1 (…)`: all outputs and logs, one by one. `read` gives a blob, and may give
    no more than the beginning of one that is longer than TEXT_LIMIT; its errors are passed on."""
    as_bytes = [value.encode("utf-8", "surrogateescape").decode("latin-1") for value in values]
    for name, raw, digest in (
        ("stdout", result.stdout_raw, result.stdout_digest),
        ("stderr", result.stderr_raw, result.stderr_digest),
    ):
        yield from _in(name, raw if digest is None else read(digest), as_bytes)
    for path, node in sorted(from_result(result, read).items()):
        if node.kind == FILE and node.digest is not None:
            yield from _in(path, read(node.digest), as_bytes)


def _in(name: str, content: bytes, values: "list[str]") -> "Iterator[str]":
    text = content[:TEXT_LIMIT].decode("latin-1")
    has_lines = is_text(text)
    if not has_lines:
        text = text[:BINARY_LIMIT]
    found = sorted([*tokens(text), *words_in_addresses(text), *values_in(text, values)])
    for at, _, kind in found:
        yield f"{name}:{text.count(chr(10), 0, at) + 1} ({kind})" if has_lines else f"{name} ({kind})"
