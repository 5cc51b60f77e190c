"""What a blob costs in memory on its way to a remote and back: the same for one of 300 MiB as for one of one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsula.testing.remotes import MIB
from servers.casd import Casd
from servers.nginx import Nginx
from servers.reapi_double import Double, Habits
from servers.seaweed import KEY, SECRET, Seaweed

# A few parts at a time, and what libraries keep.
ROOM = 100 * MIB

WAY = """
import os, sys, time
from hashlib import sha256
sys.path.insert(0, sys.argv[1])
from capsula.core.digest import Digest
from capsula.store.receive import Receiving
kind, where, base, many, size, content = sys.argv[2:8]
if kind == "http":
    from capsula.store.http import HttpStore
    store = HttpStore(where)
elif kind == "grpc":
    from capsula.store.reapi import ReapiStore
    store = ReapiStore(where, where, "")
else:
    from capsula.store.buckets import from_url
    store = from_url("s3://test/memory", {"s3_endpoint": where}, os.environ)
paths = {}
for _ in range(int(many)):
    path, hashed = f"{base}/content{len(paths)}", sha256()
    step = min(int(size), 1024)
    block = bytes(step << 10) if content == "zeros" else os.urandom(step << 10)
    with open(path, "wb") as file:
        for _ in range(int(size) // step):
            file.write(block)
            hashed.update(block)
    paths[Digest(hashed.hexdigest(), int(size) << 10)] = path
until = time.monotonic() + 100
store.send(list(paths), paths.__getitem__, until)
store.fetch(list(paths), lambda digest: Receiving(f"{base}/store", digest, time.time), until)
for digest in paths:
    assert os.stat(f"{base}/store/cas/{digest.hash[0]}/{digest.hash}").st_size == digest.size_bytes
# What getrusage tells is at least what the parent had.
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, str]]]:
    base = tmp_path_factory.mktemp("servers")
    nginx, seaweed, casd = Nginx(base / "nginx"), Seaweed(base / "seaweed"), Casd(base / "casd")
    double = Double(Habits(zstd=True))
    yield {
        "nginx": ("http", nginx.url),
        "SeaweedFS": ("s3", seaweed.url),
        "casd": ("grpc", casd.target),
        "a server that compresses": ("grpc", double.target),
    }
    for server in (nginx, seaweed, casd, double):
        server.stop()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("nginx", "noise"),
        ("SeaweedFS", "noise"),
        ("SeaweedFS", "zeros"),
        ("casd", "noise"),
        ("a server that compresses", "zeros"),
    ],
)
def test_memory_is_flat_in_the_size_of_a_blob(
    places: dict[str, tuple[str, str]], tmp_path: Path, name: str, content: str
) -> None:
    kind, where = places[name]
    source = str(Path(__file__).parents[2] / "src")
    peaks = []
    sizes = [("1", "1024"), ("1", "307200")]  # how many, of so many KiB
    if content == "noise":
        sizes += [("40", "7168")]
    if name == "casd":
        sizes += [("2000", "100")]  # which travel in batches
    for many, size in sizes:
        base = tmp_path / f"{many}-{size}"
        base.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", WAY, source, kind, where, str(base), many, size, content],
            capture_output=True,
            timeout=300,
            env={"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "HOME": str(base)},
        )
        assert done.returncode == 0, done.stderr.decode()
        peaks.append(int(done.stdout) << 10)
    print(name, content, [peak // MIB for peak in peaks])
    assert max(peaks) - peaks[0] < ROOM, peaks
