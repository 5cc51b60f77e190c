"""Results of many small files in a bucket, through the installed commands, on a real server: all in a few objects."""

import json
import shutil
from pathlib import Path
from typing import Any

import obstore
import pytest

from cli.prefix import Prefix
from servers import nginx

COUNT = 60
ASK = ("-c", "x", "-i", "in.txt", "-o", "out")
# Sixty files of which two are as the input is, one large file, and a long log.
DO = (
    "mkdir -p out/sub; i=0; while [ $i -lt 58 ]; do echo file $i > out/sub/$i; i=$((i+1)); done; "
    "cp in.txt out/same; echo and $(cat in.txt) > out/and; chmod +x out/and; ln -s sub/1 out/link; "
    "yes words | head -c 300000 > out/large; yes loud | head -c 5000"
)


class Bucket(Prefix):
    """What comes of results of sixty files in it."""

    def __init__(self, ws, server: Any) -> None:
        super().__init__(ws, server)
        self._ws = ws

    def run(self, content: str, *options: str, do: str = DO) -> Any:
        self._ws.write("in.txt", content)
        return self._ws.capsule("-b", self.url, *options, *ASK, do=do)

    def objects(self) -> dict[str, bytes]:
        """The blobs, as they are stored."""
        return {name: bytes(obstore.get(self.direct, name).bytes()) for name in self.names("cas")}

    def packs(self) -> list[str]:
        import zstandard

        found = []
        for path, content in self.objects().items():
            if content.startswith(b"\x28\xb5\x2f\xfd"):
                content = zstandard.ZstdDecompressor().stream_reader(content).read()
            if content.startswith(b"capsula-pack1\n"):
                found.append(path)
        return found


@pytest.fixture
def bucket(ws, server_of_objects) -> Bucket:
    return Bucket(ws, server_of_objects)


def another_machine(ws) -> None:
    shutil.rmtree(ws.cache, ignore_errors=True)
    shutil.rmtree(ws.path("out"), ignore_errors=True)


def looked_at(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """What is below: modes, contents, targets of links."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
        )
        for path in root.rglob("*")
    }


def test_sixty_files_are_one_object_and_come_back_as_they_were(ws, bucket) -> None:
    done = bucket.run("first")
    assert (done.ran, done.said) == (1, []), done
    made = looked_at(ws.path("out"))
    # The action, its command, the tree, the large file; the small ones and the log together.
    assert len(bucket.objects()) == 5
    assert len(bucket.packs()) == 1
    another_machine(ws)
    again = bucket.run("first")
    assert (again.ran, again.said, again.out) == (0, [], done.out), again
    assert looked_at(ws.path("out")) == made
    # From now on it is here.
    shutil.rmtree(ws.path("out"))
    assert ws.capsule(*ASK, do=DO).ran == 0


@pytest.mark.parametrize("harm", ["lost", "cut short", "other bytes", "nothing"])
def test_a_pack_that_is_lost_or_spoiled_is_made_again(ws, bucket, harm) -> None:
    bucket.run(harm)
    made = looked_at(ws.path("out"))
    [pack] = bucket.packs()
    stored = bucket.objects()[pack]
    if harm == "lost":
        bucket.remove(pack)
    else:
        spoiled = {
            "cut short": stored[:-20],
            "other bytes": b"capsula-pack1\n" + bytes(len(stored)),
            "nothing": b"",
        }
        obstore.put(bucket.direct, pack, spoiled[harm])
    another_machine(ws)
    done = bucket.run(harm)
    assert (done.ran, done.code) == (1, 0), done
    assert len(done.said) == 1, done.said
    another_machine(ws)
    again = bucket.run(harm)
    assert (again.ran, again.said) == (0, []), again
    assert looked_at(ws.path("out")) == made


def test_verify_finds_and_repairs_and_gc_removes_packs(ws, bucket) -> None:
    for content in ("one", "two"):
        bucket.run(content)
    first, second = bucket.packs()
    assert ws.tool("cache", "verify", "--read", "1", bucket.url).code == 0
    bucket.remove(first)
    obstore.put(bucket.direct, second, b"x" * 100)
    found = ws.tool("cache", "verify", "--read", "1", bucket.url)
    assert (found.code, found.out.count("something in it is gone")) == (1, 2), found
    done = ws.tool("cache", "verify", "--read", "1", "--repair", bucket.url)
    assert "sent 2 blobs from this machine, removed 0 results" in done.out, done
    assert ws.tool("cache", "verify", "--read", "1", bucket.url).code == 0
    another_machine(ws)
    assert bucket.run("one").ran == 0
    # Nothing that is needed goes; what was written just now stays for a day in any case.
    kept = ws.tool("cache", "gc", bucket.url)
    assert "nothing to remove" in kept.out, kept
    assert sorted(bucket.packs()) == sorted((first, second))
    told = json.loads(ws.tool("cache", "stats", bucket.url, "--json").out)
    assert told["stores"][0]["blobs"]["count"] == len(bucket.objects())


def test_a_signed_result_of_many_files_is_believed(ws, bucket) -> None:
    key, trust = str(ws.base / "ci.pem"), ws.base / "trust.toml"
    trust.write_text(ws.tool("keygen", key).out)
    assert bucket.run("signed", "--sign_key", key).said == []
    another_machine(ws)
    done = bucket.run("signed", "--trust", str(trust))
    assert (done.ran, done.said) == (0, []), done


def test_ten_thousand_small_files_are_a_few_objects(ws, bucket) -> None:
    ws.write("big.bin", b"".join(b"%07d" % number * 146 + b"xy" for number in range(10_000)))
    do = "mkdir -p out; split -b 1024 -a 4 big.bin out/"
    done = bucket.run("many", do=do)
    assert (done.ran, done.said) == (1, []), done
    count = len(list(ws.path("out").iterdir()))
    assert count == 10_000
    assert len(bucket.objects()) <= 20
    another_machine(ws)
    done = bucket.run("many", do=do)
    assert (done.ran, done.said) == (0, []), done
    assert len(list(ws.path("out").iterdir())) == count


def test_of_an_http_cache_that_nobody_else_reads_it_takes_a_few_requests(ws, tmp_path) -> None:
    """Whoever fetches needn't be told."""
    server = nginx.Nginx(tmp_path / "nginx")
    try:
        ws.write("in.txt", "one")
        assert ws.capsule("-b", server.url, "--remote_packs", *ASK, do=DO).ran == 1
        stored = [path for path in server.data.glob("cas/*") if path.is_file()]
        assert len([path for path in stored if path.read_bytes().startswith(b"capsula-pack1\n")]) == 1
        # The large file, the tree, and what tells of the action.
        assert len(stored) < 8
        made = looked_at(ws.path("out"))
        another_machine(ws)
        done = ws.capsule("-b", server.url, *ASK, do=DO)
        assert (done.ran, done.said) == (0, [])
        assert looked_at(ws.path("out")) == made
        another_machine(ws)
        assert ws.tool("cache", "verify", server.url).code == 0
        # In a place of its own, and alone as ever.
        other = f"{server.url}/alone"
        assert ws.capsule("-b", other, *ASK, do=DO).ran == 1
        assert len(list(server.data.glob("alone/cas/*"))) > COUNT
    finally:
        server.stop()
