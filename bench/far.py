"""A line to a server that is far: a process that hands on whatever passes a while later.

As a script it is that process: `far.py PORT SECONDS` prints the port on which it takes connections to PORT.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# One way: there and back it is what a bucket in a neighbouring region takes.
SECONDS = 0.02
_HERE = "127.0.0.1:"
_PIECE = 1 << 16


@contextmanager
def from_far(options: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The same options, with the server in them as it is seen from there."""
    port = next(each for each in options if _HERE in each).partition(_HERE)[2].partition("/")[0]
    argv = [sys.executable, str(Path(__file__)), port, str(SECONDS)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            there = process.stdout.readline().strip()
            yield tuple(each.replace(_HERE + port, _HERE + there) for each in options)
        finally:
            process.kill()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        piece = b"-"
        while piece:
            due, piece = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(piece)
            await writer.drain()
        writer.close()

    arriving = asyncio.create_task(arrive())
    piece = b"-"
    while piece:
        try:
            piece = await reader.read(_PIECE)
        except OSError:
            piece = b""
        on_the_way.put_nowait((time.monotonic() + seconds, piece))
    with suppress(OSError):
        await arriving


async def _serve(port: int, seconds: float) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass(reader, there[1], seconds), _pass(there[0], writer, seconds))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
