"""Results of very many small files, on a server that takes and gives many at once: a few calls for them all."""

import random
import shutil
from collections.abc import Iterator

import pytest

from servers.reapi_double import Double

MANY, FEW = 10_000, 24
ASK = ("-c", "many", "-i", "in.bin", "-o", "out")
DO = "mkdir -p out; split -b 1024 -a 4 in.bin out/"


@pytest.fixture
def double() -> Iterator[Double]:
    server = Double()
    yield server
    server.stop()


def test_ten_thousand_small_outputs_take_a_few_calls(ws, double: Double) -> None:
    ws.write("capsula.toml")
    ws.write("in.bin", random.Random(7).randbytes(MANY << 10))
    options = ("-b", f"grpc://{double.target}")
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.said) == (1, [])
    assert len(double.blobs) > MANY
    # Batches of a MiB, of files and of what describes them; the rest are single questions.
    assert 10 <= double.asked["batch_update"] <= 14
    assert double.asked.total() <= FEW, double.asked
    before = double.asked.copy()
    for place in (ws.cache, ws.path("out")):
        shutil.rmtree(place)
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.said) == (0, [])
    assert len(list(ws.path("out").iterdir())) == MANY
    more = double.asked - before
    assert 10 <= more["batch_read"] <= 14
    assert more.total() <= FEW, more


@pytest.mark.parametrize(("files", "calls"), [(1, 1), (30, 2)])
def test_what_is_in_many_output_directories_is_asked_for_at_once(
    ws, double: Double, files: int, calls: int
) -> None:
    """It comes with the entry, or as much of it as there is room for; the rest in one call."""
    ws.write("capsula.toml")
    ws.write("in.bin", "x")
    names = [f"out{number}" for number in range(30)]
    outputs = [word for name in names for word in ("-o", name)]
    do = (
        f"for each in {' '.join(names)}; do mkdir -p $each/sub; "
        f"for n in $(seq {files}); do echo $each > $each/sub/$n; done; done"
    )
    options = ("-b", f"grpc://{double.target}", "-c", "many", "-i", "in.bin", *outputs)
    assert ws.capsule(*options, do=do).said == []
    shutil.rmtree(ws.cache)
    for name in names:
        shutil.rmtree(ws.path(name))
    double.asked.clear()
    done = ws.capsule(*options, do=do)
    assert (done.ran, done.said) == (0, [])
    assert [ws.read(f"{name}/sub/{files}") for name in names] == [f"{name}\n" for name in names]
    # The directories, where they are too many, then the files.
    assert double.asked["batch_read"] == calls, double.asked
