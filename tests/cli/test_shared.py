"""Stores that machines share, through the installed commands, on real servers of all three protocols."""

import os
import shlex
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from servers.azurite import Azurite
from servers.buildgrid import BuildGrid
from servers.casd import Casd
from servers.ceph import Ceph
from servers.nginx import Nginx
from servers.ports import free_port
from servers.process import Server
from servers.rclone import Rclone
from servers.s3 import Owned
from servers.seaweed import KEY, SECRET, Seaweed
from servers.swift import Swift

KINDS = ("http", "s3", "grpc")
# What `make test-all` sets up.
MORE = ("BuildGrid", "Ceph", "Swift", "rclone", "Azurite")
DO = "mkdir -p out; cp in.txt out/a; ln -s a out/link; echo loud; echo wrong >&2; head -c 300000 /dev/urandom > out/big"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Started when the first test asks for them."""
    base = tmp_path_factory.mktemp("servers")
    made: dict[str, Server] = {}
    makers: dict[str, Callable[[Path], Any]] = {
        "http": Nginx,
        "s3": Seaweed,
        "grpc": Casd,
        "BuildGrid": BuildGrid,
        "Ceph": Ceph,
        "Swift": Swift,
        "rclone": Rclone,
        "Azurite": Azurite,
    }

    class OnDemand(dict[str, Any]):
        def __missing__(self, kind: str) -> Any:
            made[kind] = self[kind] = makers[kind](base / kind)
            return made[kind]

    yield OnDemand()
    for server in made.values():
        server.stop()


@pytest.fixture(params=[*KINDS, *(pytest.param(kind, marks=pytest.mark.full) for kind in MORE)])
def shared(request: pytest.FixtureRequest, servers: dict[str, Server], ws) -> tuple[str, ...]:
    """The options that name a shared store."""
    server = servers[request.param]
    if isinstance(server, Azurite):
        ws.environ |= server.environs()["a connection string"]
        return ("-b", f"az://{server.container}/{time.time_ns()}")
    if isinstance(server, Owned):
        ws.environ |= server.credentials()
        return ("-b", f"s3://{server.bucket}/{time.time_ns()}", "--s3_endpoint", server.url)
    if isinstance(server, Casd | BuildGrid):
        return ("-b", f"grpc://{server.target}", "-t", str(time.time_ns()))
    return ("-b", f"{server.url}/{time.time_ns()}")


ASK = ("-c", "x", "-i", "in.txt", "-o", "out")


def another_machine(ws) -> None:
    """Nothing is there but the sources."""
    shutil.rmtree(ws.cache, ignore_errors=True)
    shutil.rmtree(ws.path("out"), ignore_errors=True)


def test_another_machine_gets_what_one_has_made(ws, shared) -> None:
    ws.write("in.txt", "input")
    ws.write("capsula.toml")
    first = ws.capsule(*shared, *ASK, do=DO)
    assert (first.ran, first.code, first.said) == (1, 0, [])
    big = ws.path("out/big").read_bytes()
    another_machine(ws)
    second = ws.capsule(*shared, *ASK, do=DO)
    assert (second.ran, second.code, second.out, second.err) == (0, 0, "loud\n", "wrong\n"), second
    assert ws.path("out/big").read_bytes() == big
    assert (ws.read("out/a"), ws.path("out/link").readlink()) == ("input", Path("a"))
    # From now on it is here.
    shutil.rmtree(ws.path("out"))
    assert ws.capsule(*ASK, *(shared[2:] if shared[1].startswith("grpc") else ()), do=DO).ran == 0


def test_a_signal_reaches_the_command_whatever_threads_the_library_has(ws, shared) -> None:
    ws.write("in.txt", "signal")
    ws.write("capsula.toml")
    begun = ws.path("begun")
    os.mkfifo(begun)
    process = ws.start(*shared, *ASK, do="echo > begun; exec cat begun", start_new_session=True)
    begun.read_bytes()
    process.terminate()
    # The command's end, not ours.
    assert (process.wait(60), process.communicate()) == (128 + signal.SIGTERM, (b"", b""))


def test_the_doctor_finds_it_well(ws, shared) -> None:
    ws.environ["CAPSULE_ARGS"] = shlex.join(shared[2:4])
    done = ws.tool("cache", "doctor", shared[1])
    assert done.code == 0, done
    assert "takes an entry and gives it back as it was" in done.out


def test_what_may_only_be_read_is_not_written(ws, shared) -> None:
    ws.write("in.txt", "read only")
    ws.write("capsula.toml")
    ws.capsule(*shared, "--remote_mode", "r", *ASK, do=DO)
    another_machine(ws)
    assert ws.capsule(*shared, *ASK, do=DO).ran == 1
    another_machine(ws)
    assert ws.capsule(*shared, "--remote_mode", "w", *ASK, do=DO).ran == 1
    assert ws.capsule(*shared, "--remote_mode", "off", *ASK, do=DO).ran == 0
    another_machine(ws)
    assert ws.capsule(*shared, "--remote_mode", "r", *ASK, do=DO).ran == 0


def test_without_a_local_store_nothing_stays_here(ws, shared) -> None:
    ws.write("in.txt", "no local")
    ws.write("capsula.toml")
    ws.environ["TMPDIR"] = str(ws.base)
    for ran in (1, 0):
        shutil.rmtree(ws.path("out"), ignore_errors=True)
        assert ws.capsule(*shared, "--no_local", *ASK, do=DO).ran == ran
        assert ws.entries() == []
        assert not list(ws.base.glob("capsula-*"))


def test_a_failure_is_shared_when_asked(ws, shared) -> None:
    ws.write("in.txt", "failing")
    ws.write("capsula.toml")
    for ran in (1, 0):
        done = ws.capsule(*shared, "--cache_failure", *ASK, do="mkdir -p out; echo oh; exit 7")
        assert (done.ran, done.code, done.out) == (ran, 7, "oh\n")
        another_machine(ws)


def test_it_is_sent_by_another_process_when_asked(ws, shared) -> None:
    ws.write("in.txt", "background")
    ws.write("capsula.toml")
    trust = ws.tool("keygen", str(ws.path("key.pem"))).out
    ws.write("trust.toml", f'{trust}refs = ["refs/heads/main"]\n')
    signed = ("--sign_key", "key.pem", "--ref", "refs/heads/main")
    ws.capsule(*shared, "--upload", "background", *signed, *ASK, do=DO)
    until = time.monotonic() + 200
    while any(path.is_file() for path in ws.store.glob("spool/*/*")):
        assert time.monotonic() < until, "it was never sent"
        time.sleep(0.02)
    another_machine(ws)
    done = ws.capsule(*shared, "--trust", "trust.toml", *ASK, do=DO)
    assert (done.ran, done.said) == (0, [])


@pytest.mark.parametrize("where", ["out/a", "stdout"])
def test_a_result_with_a_credential_stays_here_unless_asked(ws, shared, where) -> None:
    ws.write("in.txt", where)
    ws.write("capsula.toml")
    do = {
        "out/a": "mkdir out; echo; echo it is $MY_TOKEN > out/a",
        "stdout": "mkdir out; echo it is $MY_TOKEN",
    }[where]
    environ = {"MY_TOKEN": "canary7shared7x9"}
    line = f"{where}:1 (value of a secret variable)"
    first = ws.capsule(*shared, *ASK, do=do, env=environ)
    assert (first.ran, first.code) == (1, 0)
    assert first.said == [f"not sent: {line} looks like a credential (--allow_secrets sends it)"]
    shutil.rmtree(ws.path("out"))
    here = ws.capsule(*shared, *ASK, do=do, env=environ)
    assert (here.ran, here.said, here.out) == (0, [], first.out), "it is exactly what it was"
    another_machine(ws)
    again = ws.capsule(*shared, "--allow_secrets", *ASK, do=do, env=environ)
    assert (again.ran, again.said) == (1, [])
    another_machine(ws)
    there = ws.capsule(*shared, *ASK, do=do)
    assert (there.ran, there.out) == (0, first.out)


# ---------------------------------------------------------------------------------------------------- trouble


def away(kind: str) -> tuple[str, ...]:
    """Options of a store that nobody answers for."""
    port = free_port()
    if kind == "s3":
        return ("-b", "s3://bucket", "--s3_endpoint", f"http://127.0.0.1:{port}")
    return ("-b", f"{kind}://127.0.0.1:{port}")


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_away_costs_a_line_and_nothing_else(ws, kind: str) -> None:
    ws.write("in.txt", "away")
    ws.write("capsula.toml")
    ws.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    options = away(kind)
    done = ws.capsule(*options, *ASK, do=f"{DO}; exit 3")
    assert (done.ran, done.code, done.out) == (1, 3, "loud\n")
    assert len(done.said) == 1, done.said
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.code) == (1, 0)
    assert len(done.said) <= 1
    # What is here answers as ever.
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.said) == (0, [])
    ws.write("in.txt", "strict")
    for record in ws.store.glob("remotes/*"):
        record.unlink()
    done = ws.capsule(*options, "--strict_remote", *ASK, do=DO)
    assert (done.ran, done.code) == (0, 125), done


def test_what_could_not_be_sent_is_sent_by_a_later_run(ws, servers) -> None:
    server = servers["http"]
    assert isinstance(server, Nginx)
    ws.write("capsula.toml")
    ws.write("in.txt", "later")
    folder = server.data / "later"
    folder.write_text("in the way")
    options = ("-b", f"{server.url}/later")
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.code) == (1, 0)
    assert len(done.said) == 1
    folder.unlink()
    for record in ws.store.glob("remotes/*"):
        record.unlink()
    ws.write("in.txt", "another")
    assert ws.capsule(*options, *ASK, do=DO).said == []
    for content in ("later", "another"):
        another_machine(ws)
        ws.write("in.txt", content)
        assert ws.capsule(*options, *ASK, do=DO).ran == 0


def test_a_silent_server_delays_the_command_by_the_budget_only(ws) -> None:
    ws.write("in.txt", "silent")
    ws.write("capsula.toml")
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def listen() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
            except OSError:
                return

        threading.Thread(target=listen, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = ws.capsule("-b", url, "--remote_timeout", "0.3s", "--upload_timeout", "0.3s", *ASK, do=DO)
        for each in taken:
            each.close()
    assert (done.ran, done.code) == (1, 0)
    assert len(done.said) == 1
    assert done.says("in time")


@pytest.mark.parametrize("harm", ["lost", "changed", "cut short", "swapped entry", "no entry"])
def test_what_a_store_has_lost_or_spoiled_is_made_again(ws, servers, harm: str) -> None:
    server = servers["http"]
    assert isinstance(server, Nginx)
    ws.write("capsula.toml")
    ws.write("in.txt", harm)
    place = server.data / f"harm-{time.time_ns()}"
    options = ("-b", f"{server.url}/{place.name}")
    ws.capsule(*options, *ASK, do=DO)
    ws.write("in.txt", f"{harm} other")
    ws.capsule(*options, *ASK, do=DO)
    for path in place.glob("cas/*"):
        if harm == "lost":
            path.unlink()
        elif harm == "changed" and path.stat().st_size:
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif harm == "cut short":
            path.write_bytes(path.read_bytes()[:-1])
    if harm.endswith("entry"):
        one, two = sorted(place.glob("ac/*"))
        contents = (two.read_bytes(), one.read_bytes()) if harm == "swapped entry" else (b"", b"\xff\xfe")
        one.write_bytes(contents[0])
        two.write_bytes(contents[1])
    another_machine(ws)
    done = ws.capsule(*options, *ASK, do=DO)
    assert (done.ran, done.code, done.out, ws.read("out/a")) == (1, 0, "loud\n", f"{harm} other"), done
    assert len(done.said) <= 2, done.said
    another_machine(ws)
    again = ws.capsule(*options, *ASK, do=DO)
    # The run has sent anew what was spoiled.
    assert (again.ran, again.code, again.said) == (0, 0, []), again
    assert ws.read("out/a") == f"{harm} other"


def test_credentials_of_an_address_are_in_no_message(ws, tmp_path: Path) -> None:
    ws.write("in.txt", "secret")
    ws.write("capsula.toml")
    done = ws.capsule("-b", f"http://me:hunter2secret@127.0.0.1:{free_port()}/x", "-v", *ASK, do=DO)
    assert (done.ran, done.code) == (1, 0)
    assert "hunter2secret" not in done.err
    assert not [
        path for path in ws.store.rglob("*") if path.is_file() and b"hunter2secret" in path.read_bytes()
    ]


def test_a_server_with_a_password(ws, tmp_path: Path) -> None:
    # {PLAIN} is of nginx's own: what follows is the password.
    (tmp_path / "htpasswd").write_text("me:{PLAIN}hunter2secret\n")
    (tmp_path / "htpasswd").chmod(0o644)
    server = Nginx(tmp_path / "nginx", tmp_path / "htpasswd")
    try:
        ws.write("in.txt", "password")
        ws.write("capsula.toml")
        host = server.url.removeprefix("http://")
        wrong = ws.capsule("-b", server.url, *ASK, do=DO)
        assert (wrong.ran, wrong.code) == (1, 0)
        assert wrong.says("401")
        shutil.rmtree(ws.cache)
        for ran in (1, 0):
            assert ws.capsule("-b", f"http://me:hunter2secret@{host}", *ASK, do=DO).ran == ran
            another_machine(ws)
        header = ("--remote_header", "Authorization: Basic bWU6aHVudGVyMnNlY3JldA==")
        assert ws.capsule("-b", server.url, *header, *ASK, do=DO).ran == 0
    finally:
        server.stop()


@pytest.mark.parametrize("helper", ["right", "failing", "nonsense", "a line too many", "no list", "missing"])
def test_a_credential_helper_is_asked_as_bazel_asks_it(ws, tmp_path: Path, helper: str) -> None:
    (tmp_path / "htpasswd").write_text("me:{PLAIN}hunter2secret\n")
    (tmp_path / "htpasswd").chmod(0o644)
    answer = '{"headers": {"Authorization": ["Basic bWU6aHVudGVyMnNlY3JldA=="]}, "expires": "2099-01-01T00:00:00Z"}'
    script = {
        "right": f"cat > asked.json; echo '{answer}'",
        "failing": "exit 3",
        "nonsense": "echo hunter2secret",
        "a line too many": """printf '{"headers": {"Authorization": ["hunter2secret%sn"]}}' '\\'""",
        "no list": """echo '{"headers": {"Authorization": "hunter2secret"}}'""",
    }
    if helper != "missing":
        ws.write("helper.sh", f'#!/bin/sh\ntest "$1" = get || exit 9\n{script[helper]}\n', 0o755)
    server = Nginx(tmp_path / "nginx", tmp_path / "htpasswd")
    try:
        ws.write("in.txt", "helped")
        ws.write("capsula.toml")
        options = ("-b", server.url, "--credential_helper", str(ws.path("helper.sh")), *ASK)
        done = ws.capsule(*options, do=DO)
        assert (done.ran, done.code) == (1, 0)
        assert "hunter2" not in done.err
        if helper != "right":
            assert done.says("credential helper", "going on without it")
            return
        assert done.said == []
        assert ws.read("asked.json") == f'{{"uri": "{server.url}"}}'
        another_machine(ws)
        assert ws.capsule(*options, do=DO).ran == 0
    finally:
        server.stop()


def test_a_hit_that_is_here_opens_nothing(ws, servers) -> None:
    """Also where it takes a full look to see that it is one."""
    server = servers["http"]
    assert isinstance(server, Nginx)
    ws.write("capsula.toml")
    ws.write("in.txt", f"{time.time_ns()}")
    ws.write("helper.sh", "#!/bin/sh\necho asked >> asked.log; echo '{\"headers\": {}}'\n", 0o755)
    options = ("-b", f"{server.url}/late", "--credential_helper", str(ws.path("helper.sh")), *ASK)
    assert ws.capsule(*options, do=DO).ran == 1
    assert ws.read("asked.log").count("asked") == 1, "once a run"
    ws.write("in.txt", ws.read("in.txt"))
    done = ws.capsule(*options, do=DO)
    assert (done.ran, done.said) == (0, [])
    assert ws.read("asked.log").count("asked") == 1


def test_seed_options_name_buckets_and_endpoints(ws, servers) -> None:
    server = servers["s3"]
    assert isinstance(server, Seaweed)
    store = server.store()
    assert obstore.list(store).collect()
    ws.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    ws.write("in.txt", f"{time.time_ns()}")
    ws.write("capsula.toml")
    ends = ("--s3_uploads_endpoint", server.url, "--s3_downloads_endpoint", server.url)
    bucket = ("--s3_bucket", server.bucket, "--s3_bucket_objects", server.bucket, "--s3_region", "us-east-1")
    options = ("-b", "s3", *bucket, "--s3_endpoint", server.url, *ends)
    for ran in (1, 0):
        done = ws.capsule(*options, *ASK, do=DO)
        assert (done.ran, done.said) == (ran, [])
        another_machine(ws)


@pytest.mark.parametrize("way", ["credentials file", "config file", "process", "endpoint in the profile"])
def test_credentials_are_found_as_the_aws_command_line_finds_them(ws, servers, way: str) -> None:
    server = servers["s3"]
    assert isinstance(server, Seaweed)
    ws.write("in.txt", f"{way} {time.time_ns()}")
    ws.write("capsula.toml")
    keys = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    aws = ws.home / ".aws"
    aws.mkdir()
    options = ["-b", f"s3://{server.bucket}/aws", "--s3_endpoint", server.url]
    if way == "credentials file":
        (aws / "credentials").write_text(f"[default]\n{keys}")
    elif way == "config file":
        (aws / "config").write_text(f"[default]\nregion = us-east-1\n[profile team]\n{keys}")
        ws.environ["AWS_PROFILE"] = "team"
    elif way == "process":
        told = ws.write(
            "told.json", f'{{"Version": 1, "AccessKeyId": "{KEY}", "SecretAccessKey": "{SECRET}"}}'
        )
        (aws / "config").write_text(f"[default]\ncredential_process = cat {told}\n")
    else:
        (aws / "config").write_text(f"[default]\n{keys}endpoint_url = {server.url}\n")
        options = options[:2]
    for ran in (1, 0):
        done = ws.capsule(*options, *ASK, do=DO)
        assert (done.ran, done.said) == (ran, [])
        another_machine(ws)


# ---------------------------------------------------------------------------------------------------- trust


def test_only_what_a_trusted_key_signed_is_fetched(ws, shared) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", f"{time.time_ns()}")
    made = ws.tool("keygen", str(ws.base / "ci.pem"))
    assert (made.code, (ws.base / "ci.pem").stat().st_mode & 0o777) == (0, 0o600)
    assert ws.tool("keygen", str(ws.base / "ci.pem")).code == 1
    trust = ws.base / "trust.toml"
    trust.write_text(f'{made.out}refs = ["refs/heads/main"]\n')
    believing = ("--trust", str(trust), "--remote_mode", "r")
    # Nobody signed it, or somebody did for another branch.
    for options in ((), ("--sign_key", str(ws.base / "ci.pem"), "--ref", "refs/heads/feature")):
        assert ws.capsule(*shared, *options, *ASK, do=DO).ran == 1
        another_machine(ws)
        done = ws.capsule(*shared, *believing, *ASK, do=DO)
        assert (done.ran, done.code) == (1, 0)
        assert done.says("isn't believed")
        another_machine(ws)
        ws.write("in.txt", f"{time.time_ns()}")
    key = (ws.base / "ci.pem").read_text()
    signing = ("--sign_key", "env:CI_KEY")
    environ = {"CI_KEY": key, "GITHUB_REF": "refs/heads/main"}
    assert ws.capsule(*shared, *signing, *ASK, do=DO, env=environ).ran == 1
    another_machine(ws)
    done = ws.capsule(*shared, *believing, *ASK, do=DO)
    assert (done.ran, done.said) == (0, []), done
    secret = key.splitlines()[1].encode()
    assert not [path for path in ws.store.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_without_a_readable_trust_nothing_is_believed(ws, shared) -> None:
    ws.write("capsula.toml")
    ws.write("in.txt", f"{time.time_ns()}")
    assert ws.capsule(*shared, *ASK, do=DO).ran == 1
    another_machine(ws)
    done = ws.capsule(*shared, "--trust", "no such file", *ASK, do=DO)
    assert (done.ran, done.code) == (1, 0)
    assert done.says("no such file", "going on without it")


def test_what_was_fetched_before_is_believed_by_the_same_rules(ws, shared) -> None:
    """It may have come before anybody said whom to trust, or be signed with a key that was stolen since."""
    ws.write("capsula.toml")
    ws.write("in.txt", f"{time.time_ns()}")
    trust = ws.base / "trust.toml"
    trust.write_text(ws.tool("keygen", str(ws.base / "key.pem")).out)
    believing = ("--trust", str(trust), "--remote_mode", "r", *ASK)
    signing = ("--sign_key", str(ws.base / "key.pem"))
    # Nobody signed it, and it is here.
    assert ws.capsule(*shared, *ASK, do=DO).ran == 1
    another_machine(ws)
    assert ws.capsule(*shared, *ASK, do=DO).ran == 0
    done = ws.capsule(*shared, *believing, do=DO)
    assert done.ran == 1
    assert done.says("fetched before", "nobody has signed it")
    # What was made here in its place needs nobody who vouches for it.
    done = ws.capsule(*shared, *believing, do=DO)
    assert (done.ran, done.said) == (0, [])
    # Signed, fetched and believed, until the key is revoked; also by the shortest way to a hit.
    ws.write("in.txt", f"{time.time_ns()}")
    another_machine(ws)
    assert ws.capsule(*shared, *signing, *ASK, do=DO).ran == 1
    another_machine(ws)
    ws.warm(*shared, *believing, do=DO)
    trust.write_text(f"{trust.read_text()}revoked = true\n")
    done = ws.capsule(*shared, *believing, do=DO)
    assert done.ran == 1
    assert done.says("fetched before", "is revoked")
    assert ws.capsule(*shared, *believing, do=DO).ran == 0


def test_what_ones_own_key_signed_is_believed_until_that_is_another(ws, shared) -> None:
    """Also by the shortest way to a hit."""
    ws.write("capsula.toml")
    ws.write("in.txt", f"{time.time_ns()}")
    key, trust = ws.base / "key.pem", ws.base / "trust.toml"
    ws.tool("keygen", str(key))
    trust.write_text("")
    own = ("--trust", str(trust), "--sign_key", str(key), *ASK)
    assert ws.capsule(*shared, *own, do=DO).ran == 1
    another_machine(ws)
    ws.warm(*shared, *own, "--remote_mode", "r", do=DO)
    key.unlink()
    ws.tool("keygen", str(key))
    done = ws.capsule(*shared, *own, "--remote_mode", "r", do=DO)
    assert done.ran == 1
    assert done.says("fetched before", "isn't known here")
