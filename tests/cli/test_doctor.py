"""`capsula cache doctor`, `push` and `show`."""

import json
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.casd import Casd
from servers.nginx import Nginx
from servers.ports import free_port
from servers.proxy import Proxy
from servers.seaweed import KEY, SECRET, Seaweed

ASK = ("-c", "x", "-i", "in.txt", "-o", "out.txt")
DO = "cp in.txt out.txt"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    server = Nginx(tmp_path / "nginx")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    server = Seaweed(tmp_path_factory.mktemp("seaweed") / "data")
    yield server
    server.stop()


def findings(told: str) -> dict[str, list[tuple[str, str]]]:
    stores = json.loads(told)["stores"]
    return {store["store"]: [(each["state"], each["text"]) for each in store["findings"]] for store in stores}


def test_a_store_on_this_machine_is_well(ws) -> None:
    done = ws.tool("cache", "doctor")
    assert (done.code, done.err) == (0, "")
    assert "ok     can be written and read" in done.out


def test_a_store_that_cannot_be_is_told_with_what_to_do(ws) -> None:
    ws.cache.mkdir()
    ws.store.write_text("in the way")
    done = ws.tool("cache", "doctor")
    assert done.code == 1
    assert "wrong" in done.out


def test_an_http_cache_is_looked_at_end_to_end(ws, nginx) -> None:
    done = ws.tool("cache", "doctor", "--json", nginx.url)
    assert done.code == 0, done
    texts = [text for _, text in findings(done.out)[nginx.url]]
    assert any(text.startswith("answers a lookup") for text in texts)
    assert "takes a blob and gives it back" in texts
    assert "takes an entry and gives it back as it was" in texts
    assert "its clock is ours" in texts


def test_a_cache_of_the_remote_execution_api_is_looked_at(ws, tmp_path) -> None:
    server = Casd(tmp_path / "casd")
    try:
        done = ws.tool("cache", "doctor", f"grpc://{server.target}")
        for value, code in (("AAE", 0), ("?", 1)):
            ws.environ["CAPSULE_ARGS"] = f"--remote_header 'x-trace-bin: {value}'"
            told = ws.tool("cache", "doctor", f"grpc://{server.target}")
            assert (told.code, "isn't base64" in told.out) == (code, code == 1), told
    finally:
        server.stop()
    assert done.code == 0, done
    assert "takes an entry and gives it back as it was" in done.out
    assert "batches" in done.out


def test_a_bucket_is_looked_at(ws, seaweed) -> None:
    ws.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": seaweed.url}
    done = ws.tool("cache", "doctor", f"s3://{seaweed.bucket}/doctor")
    assert done.code == 0, done
    assert "writes on condition" in done.out
    assert list(seaweed.store().list("doctor/").collect()) == [], "nothing is left behind"
    ws.environ["AWS_SECRET_ACCESS_KEY"] = "another"
    done = ws.tool("cache", "doctor", f"s3://{seaweed.bucket}/doctor")
    assert done.code == 1
    assert "wrong" in done.out


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_one_that_is_away_is_told_with_what_to_do(ws, kind) -> None:
    ws.write("capsula.toml")
    done = ws.tool("cache", "doctor", f"{kind}://127.0.0.1:{free_port()}")
    assert done.code == 1
    assert "is the address right" in done.out


def test_an_instance_that_is_none_is_told_where_it_is_named(ws, tmp_path) -> None:
    server = Casd(tmp_path / "casd")
    try:
        done = ws.tool("cache", "doctor", f"grpc://{server.target}/another")
    finally:
        server.stop()
    assert done.code == 1
    assert "the path of the address is the name of the instance" in done.out


def test_credentials_that_only_read_are_told_with_what_to_do(ws, nginx) -> None:
    proxy = Proxy(nginx.port)
    try:
        proxy.storm(403, lambda verb, path: verb == "PUT")
        done = ws.tool("cache", "doctor", f"http://127.0.0.1:{proxy.port}")
        assert done.code == 1
        assert "--remote_mode r only reads" in done.out
        proxy.storm(503, lambda verb, path: verb == "PUT")
        done = ws.tool("cache", "doctor", f"http://127.0.0.1:{proxy.port}")
        assert "is the address right" not in done.out
        assert "try it again" in done.out
    finally:
        proxy.stop()


def test_credentials_that_are_empty_are_none(ws, seaweed) -> None:
    """As CI services give them to pull requests of forks."""
    ws.environ |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ENDPOINT_URL": seaweed.url}
    ws.environ["AWS_METADATA_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    done = ws.tool("cache", "doctor", f"s3://{seaweed.bucket}/doctor")
    assert done.code == 1
    assert "no credentials were found" in done.out
    ws.environ["AWS_SKIP_SIGNATURE"] = "true"
    assert "no credentials were found" not in ws.tool("cache", "doctor", f"s3://{seaweed.bucket}/doctor").out


def test_the_configured_stores_are_looked_at(ws, nginx) -> None:
    (ws.home / ".capsules.toml").write_text(f'backend = "{nginx.url}"\nremote_mode = "r"\n')
    done = ws.tool("cache", "doctor", "--json")
    assert done.code == 0
    assert ("note", "is only read (--remote_mode r), so writing wasn't tried") in findings(done.out)[
        nginx.url
    ]


def test_what_waits_is_sent_when_asked(ws, nginx) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    (nginx.data / "later").write_text("in the way")
    url = f"{nginx.url}/later"
    ws.capsule("-b", url, *ASK, do=DO)
    (nginx.data / "later").unlink()
    for record in ws.store.glob("remotes/*"):
        record.unlink()
    done = ws.tool("cache", "doctor", "--json", url)
    assert ("note", "what waits to be sent: 1 result") in findings(done.out)[url]
    assert ws.tool("cache", "push").code == 2
    done = ws.tool("cache", "push", url)
    assert (done.code, done.out) == (0, "Nothing waits any more.\n")
    # One is of what was made, the other of the doctor's.
    assert len(list((nginx.data / "later" / "ac").iterdir())) == 2


def test_a_result_is_shown_with_who_made_it(ws) -> None:
    ws.write("in.txt", "one")
    done = ws.capsule(*ASK, "-v", "-j", "https://ci/7", do=DO)
    short = re.search(r"kept as (\w+)", done.err)
    assert short
    shown = ws.tool("cache", "show", short[1])
    assert shown.code == 0
    for text in ("https://ci/7", "sh -c", "1 file"):
        assert text in shown.out
    told = json.loads(ws.tool("cache", "show", short[1], "--json").out)
    assert (told["capsule_id"], told["exit_code"], told["job"]) == ("x", 0, "https://ci/7")
    assert [each["path"] for each in told["outputs"]] == ["out.txt"]
    for wrong in ("xyz", "a", "../..", "0" * 64):
        assert ws.tool("cache", "show", wrong).code == 2


def test_a_signed_result_says_who_vouches_for_it(ws, nginx) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", "one")
    ws.tool("keygen", "key.pem")
    signing = ("--sign_key", "key.pem", "--builder", "ci", "--ref", "refs/heads/main")
    ws.capsule("-b", nginx.url, *signing, *ASK, do=DO)
    for path in (ws.store / "ac", ws.store / "recall"):
        for below in sorted(path.rglob("*")):
            if below.is_file():
                below.unlink()
    done = ws.capsule("-b", nginx.url, "-v", *ASK, do=DO)
    assert done.ran == 0
    key = ws.entries()[0].name
    told = json.loads(ws.tool("cache", "show", key, "--json").out)
    assert (told["signature"]["builder"], told["signature"]["ref"]) == ("ci", "refs/heads/main")


def test_a_builder_without_a_name_is_the_user_on_this_machine(ws, nginx) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", "nameless")
    ws.tool("keygen", "key.pem")
    ws.capsule("-b", nginx.url, "--sign_key", "key.pem", *ASK, do=DO, env={"USER": "", "LOGNAME": ""})
    (entry,) = ws.entries()
    entry.unlink()
    told = json.loads(ws.tool("cache", "show", entry.name, nginx.url, "--json").out)
    assert told["signature"]["builder"] == f"{pwd.getpwuid(os.getuid()).pw_name}@{os.uname().nodename}"
