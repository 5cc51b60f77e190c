"""`capsula cache stats`, `gc`, `verify` and `show` of the stores that machines share, on real servers."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from cli.prefix import Prefix
from servers.azurite import Azurite
from servers.casd import Casd
from servers.nginx import Nginx
from servers.ports import free_port
from servers.s3 import credentials
from servers.seaweed import Seaweed

ASK = ("-c", "x", "-i", "in.txt", "-o", "out")
DO = "mkdir -p out; cp in.txt out/a; echo loud; head -c 9000 /dev/zero > out/zeros"


class Bucket(Prefix):
    """A prefix in a bucket, with two results in it."""

    def __init__(self, ws, server: Any) -> None:
        super().__init__(ws, server)
        for content in ("one", "two"):
            ws.write("in.txt", content)
            done = ws.capsule("-b", self.url, *ASK, do=DO)
            assert (done.ran, done.said) == (1, []), done


@pytest.fixture
def bucket(ws, server_of_objects) -> Bucket:
    return Bucket(ws, server_of_objects)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    server = Nginx(tmp_path / "nginx")
    yield server
    server.stop()


# ---------------------------------------------------------------------------------------------------- stats


def test_a_bucket_says_how_much_it_holds(ws, bucket) -> None:
    told = json.loads(ws.tool("cache", "stats", bucket.url, "--json").out)
    (store,) = told["stores"]
    assert (store["store"], store["listed"], store["entries"]["count"]) == (bucket.url, True, 2)
    assert store["blobs"]["count"] == len(bucket.names("cas"))
    assert store["blobs"]["bytes"] == sum(
        each["size"] for each in obstore.list(bucket.direct, f"{bucket.prefix}/cas").collect()
    )
    shown = ws.tool("cache", "stats", bucket.url)
    assert shown.code == 0
    assert "results   2" in shown.out


def test_the_configured_stores_are_meant_when_none_is_named(ws, bucket) -> None:
    assert ws.tool("cache", "stats", "--remote").code == 2
    (ws.home / ".capsules.toml").write_text(f'remote = ["{bucket.url}"]\n')
    assert bucket.url in ws.tool("cache", "stats", "--remote").out
    assert str(ws.store) in ws.tool("cache", "stats").out


def test_where_nothing_is_listed_that_is_said(ws, nginx) -> None:
    ws.write("capsula.toml")
    done = ws.tool("cache", "stats", nginx.url)
    assert done.code == 0
    assert "only the server knows" in done.out
    done = ws.tool("cache", "gc", nginx.url, "--older-than", "1d")
    assert done.code == 2
    assert "removes by itself what it has no room for" in done.out


@pytest.mark.parametrize("verb", ["stats", "gc", "verify"])
def test_one_that_is_away_is_an_error(ws, verb) -> None:
    ws.write("capsula.toml")
    ws.environ |= {**credentials(), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    done = ws.tool("cache", verb, "s3://bucket")
    assert (done.code, done.out) == (1, "")
    assert "capsula: s3://bucket: " in done.err


# ---------------------------------------------------------------------------------------------------- gc


def test_of_a_bucket_old_results_go_and_young_blobs_stay(ws, bucket) -> None:
    blobs = bucket.names("cas")
    done = ws.tool("cache", "gc", bucket.url)
    assert (done.code, bucket.names("cas")) == (0, blobs), done
    assert "nothing to remove" in done.out
    # A foreign thing is nobody's business.
    obstore.put(bucket.direct, f"{bucket.prefix}/cas/readme", b"mine")
    done = ws.tool("cache", "gc", bucket.url, "--older-than", "0")
    assert done.code == 0
    assert "removed 2 results and 0 blobs" in done.out
    assert bucket.names("ac") == []
    assert bucket.names("cas") == sorted([*blobs, f"{bucket.prefix}/cas/readme"])
    assert bucket.names("probe") == []
    shutil.rmtree(ws.cache)
    ws.write("in.txt", "one")
    assert ws.capsule("-b", bucket.url, *ASK, do=DO).ran == 1
    shutil.rmtree(ws.cache)
    assert ws.capsule("-b", bucket.url, *ASK, do=DO).ran == 0


def test_who_only_reads_removes_nothing(ws, bucket) -> None:
    (ws.home / ".capsules.toml").write_text('remote_mode = "r"\n')
    entries = bucket.names("ac")
    for verb in (("gc", "--older-than", "0"), ("verify", "--repair")):
        done = ws.tool("cache", *verb, bucket.url)
        assert (done.code, done.out) == (2, "")
    assert bucket.names("ac") == entries
    assert ws.tool("cache", "verify", bucket.url).code == 0
    ws.environ["CAPSULE_ARGS"] = "--remote_mode rw"
    assert ws.tool("cache", "gc", bucket.url).code == 0


def test_the_options_of_a_bucket_count(ws, bucket, server_of_objects) -> None:
    """-b s3, with a bucket for entries and one for blobs."""
    server = server_of_objects
    if isinstance(server, Azurite):
        pytest.skip("it doesn't speak S3")
    options = {"s3_bucket": server.bucket, "s3_bucket_objects": server.bucket, "s3_endpoint": server.url}
    lines = [f'{name} = "{value}"' for name, value in options.items()]
    (ws.home / ".capsules.toml").write_text("\n".join(['backend = "s3"', *lines]) + "\n")
    ws.write("in.txt", f"{time.time_ns()}")
    assert ws.capsule(*ASK, do=DO).said == []
    (store,) = json.loads(ws.tool("cache", "stats", "--remote", "--json").out)["stores"]
    assert store["entries"]["count"] >= 1
    assert ws.tool("cache", "verify", "--remote").code == 0


def test_an_age_is_refused_for_the_store_here(ws) -> None:
    done = ws.tool("cache", "gc", "--older-than", "1d")
    assert (done.code, done.out) == (2, "")


# ---------------------------------------------------------------------------------------------------- verify


def test_a_sound_bucket_is_verified(ws, bucket) -> None:
    done = ws.tool("cache", "verify", bucket.url, "--read", "1")
    assert done.code == 0, done
    assert "2 results" in done.out
    assert "read again: all as they were stored" in done.out


def test_what_a_bucket_has_lost_is_found_and_repaired(ws, bucket) -> None:
    for name in bucket.names("cas"):
        content = bytes(obstore.get(bucket.direct, name).bytes())
        if content in (b"one", b"two"):
            bucket.remove(name)
    done = ws.tool("cache", "verify", bucket.url)
    assert done.code == 1
    assert done.out.count("something in it is gone") == 2
    assert "--repair" in done.out
    done = ws.tool("cache", "verify", bucket.url, "--repair")
    assert done.code == 1
    assert "sent 2 blobs from this machine, removed 0 results" in done.out
    assert ws.tool("cache", "verify", bucket.url, "--read", "1").code == 0
    # On a machine that has none of it, what can't be used goes.
    bucket.remove(bucket.names("cas")[0])
    shutil.rmtree(ws.cache)
    ws.tool("cache", "verify", bucket.url, "--repair")
    assert ws.tool("cache", "verify", bucket.url).code == 0


def test_what_a_bucket_has_spoilt_is_found_when_it_is_read(ws, bucket) -> None:
    for name in bucket.names("cas"):
        if bytes(obstore.get(bucket.direct, name).bytes()) == b"one":
            obstore.put(bucket.direct, name, b"onf")
    assert ws.tool("cache", "verify", bucket.url).code == 0
    done = ws.tool("cache", "verify", bucket.url, "--read", "1", "--repair")
    assert done.code == 1
    assert "other bytes than were stored" in done.out
    assert ws.tool("cache", "verify", bucket.url, "--read", "1").code == 0


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_elsewhere_the_results_of_this_machine_are_looked_for(ws, tmp_path, kind) -> None:
    server = Nginx(tmp_path / "server") if kind == "http" else Casd(tmp_path / "server")
    url = server.url if isinstance(server, Nginx) else f"grpc://{server.target}"
    try:
        ws.write("capsula.toml")
        ws.write("in.txt", "here and there")
        assert ws.capsule("-b", url, *ASK, do=DO).said == []
        done = ws.tool("cache", "verify", url, "--read", "1")
        assert done.code == 0, done
        assert "1 result" in done.out
        assert "of the results on this machine" in done.out
        if isinstance(server, Nginx):
            for path in server.data.glob("cas/*"):
                if path.read_bytes() == b"here and there":
                    path.unlink()
            assert ws.tool("cache", "verify", url).code == 1
            assert "sent 1 blob" in ws.tool("cache", "verify", url, "--repair").out
            assert ws.tool("cache", "verify", url).code == 0
    finally:
        server.stop()


# ---------------------------------------------------------------------------------------------------- show


def key_of(ws) -> str:
    return ws.entries()[0].name


def commit(ws) -> str:
    for words in (("init", "-q"), ("add", "in.txt"), ("commit", "-q", "-m", "first"), ("rev-parse", "HEAD")):
        git = ["git", "-c", "user.name=me", "-c", "user.email=me@host", *words]
        done = subprocess.run(git, cwd=ws.root, env=ws.environ, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("kind", ["s3", "http", "grpc"])
def test_a_result_that_is_only_elsewhere_is_shown_from_there(ws, request, tmp_path, kind) -> None:
    server = {"s3": Seaweed, "http": Nginx, "grpc": Casd}[kind](tmp_path / "server")
    try:
        if isinstance(server, Seaweed):
            url = Bucket(ws, server).url
            shutil.rmtree(ws.cache)
        else:
            url = server.url if isinstance(server, Nginx) else f"grpc://{server.target}"
        ws.write("capsula.toml")
        ws.write("in.txt", f"{kind} {time.time_ns()}")
        made_from = commit(ws)
        assert ws.capsule("-b", url, "-j", "https://ci/7", *ASK, do=DO).said == []
        key = key_of(ws)
        here = json.loads(ws.tool("cache", "show", key, "--json").out)
        assert (here["commit"], here["store"]) == (made_from, str(ws.store))
        size = (ws.store / "cas" / key[0] / key).stat().st_size
        shutil.rmtree(ws.cache)
        assert ws.tool("cache", "show", key).code == 2
        done = ws.tool("cache", "show", f"{key}/{size}", url, "--json")
        assert done.code == 0, done
        there = json.loads(done.out)
        assert there == {**here, "store": url}
        assert not ws.entries()
        if kind != "grpc":
            assert json.loads(ws.tool("cache", "show", key, url, "--json").out) == there
        short = ws.tool("cache", "show", key[:12], url, "--json")
        assert (short.code == 0) == (kind == "s3"), short
        nothing = ws.tool("cache", "show", "0" * 64, url)
        assert (nothing.code, nothing.out) == (2, "")
        assert url in nothing.err
    finally:
        server.stop()


def test_one_that_is_away_does_not_hide_the_next(ws, bucket) -> None:
    key = key_of(ws)
    shutil.rmtree(ws.cache)
    away = f"http://127.0.0.1:{free_port()}"
    done = ws.tool("cache", "show", key, away, bucket.url)
    assert done.code == 0, done
    assert bucket.url in done.out
    done = ws.tool("cache", "show", "0" * 64, away, bucket.url)
    assert done.code == 2
    assert f"capsula: {away}: " in done.err
