"""What we write, held against the rules of the strictest servers and read by clients that aren't ours."""

import shlex
import shutil
import time
from collections.abc import Iterator

import pytest
import zstandard

from servers.nginx import Nginx
from servers.reapi_double import Double, Habits
from servers.s3 import by_boto3, credentials
from servers.seaweed import Seaweed
from servers.strict import refusals

MAKES = {
    # Options, and what is done.
    "files": ("-o out.txt", "cp in.txt out.txt; chmod +x out.txt"),
    "an empty file": ("-o out.txt", "> out.txt"),
    "a directory": (
        "-o out",
        ("mkdir -p out/z out/a/b/c out/twin/c; cp in.txt out/a/b/c/x; cp in.txt out/twin/c/x; echo > 'out/a b'; "
        "head -c 3000000 /dev/zero > out/z/large; mkdir out/none; for x in é Z ab a-; do echo > out/$x; done"),
    ),
    "an empty directory": ("-o out", "mkdir out"),
    "links": (
        "-o out -o link -o dangling",
        ("mkdir out; echo > out/a; ln -s a out/link; ln -s /etc/passwd out/far; ln -s ../in.txt out/up; "
        "ln -s . out/here; ln -s out/a link; ln -s nowhere dangling"),
    ),
    "patterns": ("-o 'build/**/*.o' -o '*.log'", "mkdir -p build/x; touch build/x/a.o build/b.o c.log"),
    "above the working directory": ("-o ../out.txt -o ../made", "echo > ../out.txt; mkdir ../made; echo > ../made/x"),
    "outside the project": (
        "-o $OUTSIDE/file -o $OUTSIDE/link -o $OUTSIDE/made",
        "echo > $OUTSIDE/file; ln -s file $OUTSIDE/link; mkdir $OUTSIDE/made; echo > $OUTSIDE/made/x",
    ),
    "the working directory itself": ("-o .", "echo > made.txt"),
    "logs": ("-o out.txt", "cp in.txt out.txt; seq 5000; seq 5000 >&2"),
    "short logs": ("-o out.txt", "cp in.txt out.txt; echo out; echo err >&2"),
    "a failure": ("--cache_failure -o out.txt", "echo > out.txt; exit 7"),
}  # fmt: skip
# A busy machine is slow, not wrong.
PATIENT = ("--remote_timeout", "50")


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    server = Nginx(tmp_path_factory.mktemp("nginx") / "it")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def double() -> Iterator[Double]:
    server = Double(Habits(strict=True))
    yield server
    server.stop()


def make(ws, what: str, *options: str) -> str:
    """The key of what was made, in a directory of its project."""
    ws.write("capsula.toml")
    ws.write("sub/in.txt", f"{time.time_ns()}")
    outside = ws.base / "outside"
    outside.mkdir()
    words, do = (text.replace("$OUTSIDE", str(outside)) for text in MAKES[what])
    ask = (*options, *PATIENT, "-i", "in.txt", *shlex.split(words))
    done = ws.capsule(*ask, do=do, cwd=ws.path("sub"), report=True)
    assert (done.ran, done.said) == (1, []), done
    return done.report["key"]


@pytest.mark.parametrize("what", list(MAKES))
def test_what_a_capsule_made_is_taken_by_the_strictest_server(ws, nginx, double, what) -> None:
    # One says nothing, and the other what it has against it.
    key = make(ws, what, "-b", nginx.url, "--remote", f"grpc://{double.target}")

    def blob(name: str) -> bytes | None:
        path = nginx.data / "cas" / name
        return path.read_bytes() if path.exists() else None

    assert refusals((nginx.data / "ac" / key).read_bytes(), blob) == []


@pytest.mark.parametrize("what", ["above the working directory", "outside the project"])
def test_what_lies_elsewhere_comes_back_there(ws, nginx, what) -> None:
    make(ws, what, "-b", nginx.url)
    made = (ws.base / "outside" if what.startswith("outside") else ws.root) / "made"
    shutil.rmtree(made)
    shutil.rmtree(ws.cache)
    words, do = (text.replace("$OUTSIDE", str(ws.base / "outside")) for text in MAKES[what])
    done = ws.capsule(
        "-b", nginx.url, *PATIENT, "-i", "in.txt", *shlex.split(words), do=do, cwd=ws.path("sub")
    )
    assert (done.ran, done.said) == (0, [])
    assert (made / "x").read_text() == "\n"


DUMP = """
import pathlib
base = pathlib.Path(sys.argv[3])
for page in s3.get_paginator("list_objects_v2").paginate(Bucket="test", Prefix=sys.argv[2]):
    for each in page.get("Contents", ()):
        found = s3.get_object(Bucket="test", Key=each["Key"])
        path = base / (each["Key"].removeprefix(sys.argv[2]) + ("." + found.get("ContentEncoding", "plain")))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found["Body"].read())
"""


def test_amazon_s_own_library_finds_it_where_the_pages_say(ws, tmp_path_factory) -> None:
    base = tmp_path_factory.mktemp("seaweed")
    server = Seaweed(base / "it")
    try:
        ws.environ |= credentials()
        key = make(ws, "a directory", "-b", f"s3://{server.bucket}/team", "--s3_endpoint", server.url)
        by_boto3(server.url, DUMP, "team/", str(base / "dump"))
    finally:
        server.stop()
    found = {
        path.relative_to(base / "dump").as_posix(): path.read_bytes() for path in (base / "dump").rglob("*.*")
    }

    def blob(name: str) -> bytes | None:
        place = f"cas/{name[:2]}/{name}"
        if f"{place}.zstd" in found:
            return zstandard.ZstdDecompressor().decompressobj().decompress(found[f"{place}.zstd"])
        return found.get(f"{place}.plain")

    assert refusals(found[f"ac/{key}.plain"], blob) == []
    assert any(name.endswith(".zstd") for name in found), "three million zeros are compressed"


def test_the_rules_can_be_broken() -> None:
    # A field 2 (an output file) with the path "/x", and no digest.
    assert refusals(b"\x12\x04\x0a\x02/x", lambda name: None) == [
        "no digest: ''/0",
        "empty or absolute: '/x'",
    ]
