"""Results of very many small files, on a server that takes and gives many at once: a few calls for them all."""

import random
import shutil
from collections.abc import Iterator

import pytest

from servers.reapi_double import Double

MANY, FEW = 10_000, 12
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
    # Three batches of files, one of what describes them; the rest are single questions.
    assert double.asked["batch_update"] == 4
    assert double.asked.total() <= FEW, double.asked
    before = double.asked.copy()
    for place in (ws.cache, ws.path("out")):
        shutil.rmtree(place)
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.said) == (0, [])
    assert len(list(ws.path("out").iterdir())) == MANY
    more = double.asked - before
    assert more["batch_read"] == 4
    assert more.total() <= FEW, more
