"""What the strictest servers look for in an entry before they take it, by the official messages.

bazel-remote refuses an entry with an empty or absolute path, an empty target or a digest that is none; it and Buildbarn
give out none that names a blob which isn't there. The order in directories is the specification's.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from hashlib import sha256
from typing import Any

from google.protobuf.message import DecodeError

from capsula.core import reapi
from official import Official

_HASH = re.compile("[0-9a-f]{64}")


@cache
def _official() -> Official:
    return Official()


def refusals(entry: bytes, blob: Callable[[str], bytes | None]) -> list[str]:
    """Why it isn't taken; `blob` answers the content by its hash, or None."""
    try:
        result = _official().classes[reapi.ActionResult].FromString(entry)
    except DecodeError as error:
        return [f"no ActionResult: {error}"]
    found = list(_digests_refused((result.stdout_digest, result.stderr_digest), blob, may_be_absent=True))
    found += _digests_refused([each.digest for each in result.output_files], blob)
    links = (*result.output_symlinks, *result.output_file_symlinks, *result.output_directory_symlinks)
    found += [f"the target of {each.path!r} is empty" for each in links if not each.target]
    found += _paths_refused([each.path for each in (*result.output_files, *links)])
    found += [f"absolute: {each.path!r}" for each in result.output_directories if each.path.startswith("/")]
    paths = [
        each.path for each in (*result.output_files, *result.output_directories, *result.output_symlinks)
    ]
    found += [f"twice: {path!r}" for path in set(paths) if paths.count(path) > 1]
    for each in result.output_directories:
        wrong = list(_digests_refused([each.tree_digest], blob))
        found += wrong or _tree_refused(blob(each.tree_digest.hash) or b"", blob)
    return found


def _paths_refused(paths: Iterable[str]) -> list[str]:
    return [f"empty or absolute: {path!r}" for path in paths if not path or path.startswith("/")]


def _digests_refused(
    digests: Iterable[Any], blob: Callable[[str], bytes | None], *, may_be_absent: bool = False
) -> Iterable[str]:
    for digest in digests:
        if may_be_absent and not digest.hash and not digest.size_bytes:
            continue
        if not _HASH.fullmatch(digest.hash) or digest.size_bytes < 0:
            yield f"no digest: {digest.hash!r}/{digest.size_bytes}"
        elif digest.size_bytes:
            content = blob(digest.hash)
            if content is None:
                yield f"no such blob: {digest.hash}"
            elif (sha256(content).hexdigest(), len(content)) != (digest.hash, digest.size_bytes):
                yield f"another blob: {digest.hash}/{digest.size_bytes}"


def _tree_refused(content: bytes, blob: Callable[[str], bytes | None]) -> list[str]:
    tree = _official().classes[reapi.Tree].FromString(content)
    found: list[str] = []
    children = {sha256(each.SerializeToString()).hexdigest(): each for each in tree.children}
    if len(children) != len(tree.children):
        found.append("a directory is there twice")
    seen: set[str] = set()
    waiting = [tree.root]
    while waiting:
        directory = waiting.pop()
        found += _directory_refused(directory, blob)
        for node in directory.directories:
            child = children.get(node.digest.hash)
            if child is None:
                found.append(f"no such directory: {node.name!r}")
            elif child.ByteSize() != node.digest.size_bytes:
                found.append(f"of another size: {node.name!r}")
            elif node.digest.hash not in seen:
                seen.add(node.digest.hash)
                waiting.append(child)
    if seen != set(children):
        found.append("a directory is there that nobody names")
    return found


def _directory_refused(directory: Any, blob: Callable[[str], bytes | None]) -> list[str]:
    found = list(_digests_refused([each.digest for each in directory.files], blob))
    lists = [
        [each.name for each in nodes]
        for nodes in (directory.files, directory.directories, directory.symlinks)
    ]
    found += [f"not in order: {names}" for names in lists if names != sorted(names, key=str.encode)]
    names = [name for names in lists for name in names]
    found += [f"twice: {name!r}" for name in set(names) if names.count(name) > 1]
    found += [
        f"no name: {name!r}" for name in names if name in ("", ".", "..") or "/" in name or "\0" in name
    ]
    found += [f"the target of {each.name!r} is empty" for each in directory.symlinks if not each.target]
    return found
