"""Credentials in a stored result are named with their file and line, and nothing is taken out of it."""

from capsula.core.digest import Digest, digest_of
from capsula.core.flagged import TEXT_LIMIT, look
from capsula.core.node import FILE, LINK, Node
from capsula.core.reapi import ActionResult
from capsula.core.result import to_result

TOKEN = "ghp_R7kQ2mZx9TfLw3Vb8NcYh5JpDs1GaXe4Ku6H"
VALUE = "canary7value7x9"


def stored(files: dict[str, bytes]) -> tuple[ActionResult, dict[str, bytes]]:
    nodes = {path: Node(FILE, digest=digest_of(content)) for path, content in files.items()}
    nodes["link"] = Node(LINK, target=TOKEN)
    result, trees = to_result(nodes, 0)
    return result, trees | {digest_of(content).hash: content for content in files.values()}


def found(result: ActionResult, blobs: dict[str, bytes]) -> list[str]:
    def read(digest: Digest) -> bytes:
        return blobs[digest.hash]

    return list(look(result, read, [VALUE]))


def test_outputs_and_logs_are_looked_through() -> None:
    log = f"plain\nit is {VALUE}\n".encode()
    result, blobs = stored({
        "a.txt": f"one\ntwo {TOKEN}\n{VALUE}\n".encode(),
        "b.bin": b"\0\1" + TOKEN.encode(),
        "plain": b"d41d8cd98f00b204e9800998ecf8427e\n" * 100,
        "url": b"https://me:k3Fs9xQ2@host/\n",
    })  # fmt: skip
    result.stdout_raw = f"{TOKEN}\n".encode()
    result.stderr_digest = digest_of(log)
    assert found(result, blobs | {digest_of(log).hash: log}) == [
        "stdout:1 (GitHub token)",
        "stderr:2 (value of a secret variable)",
        "a.txt:2 (GitHub token)",
        "a.txt:3 (value of a secret variable)",
        "b.bin (GitHub token)",
        "url:1 (password in an address)",
    ]


def test_nothing_is_said_of_a_result_without() -> None:
    result, blobs = stored({"a": b"plain\n", "password": b"password = not7a7known9shape\n"})
    assert found(result, blobs) == []


def test_of_a_long_file_the_beginning_is_looked_through() -> None:
    result, blobs = stored({"a": b"x\n" * (TEXT_LIMIT // 2) + TOKEN.encode(), "b": TOKEN.encode()})
    assert found(result, blobs) == ["b:1 (GitHub token)"]
