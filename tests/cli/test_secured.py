"""Stores with TLS, client certificates and tokens, through the installed commands: who may come in, and what is said to
whoever may not."""

import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from servers.buildgrid import BuildGrid
from servers.certificates import Authority, token
from servers.nginx import Nginx
from servers.process import Server
from servers.reapi_double import Double, Habits

ASK = ("-c", "x", "-i", "in.txt", "-o", "out.txt")
DO = "cp in.txt out.txt"
# A busy machine is slow, not wrong.
PATIENT = ("--remote_timeout", "50")
SECRET = "a secret of at least so many bytes that nobody complains"
OTHER_SECRET = "another secret of at least so many bytes that nobody complains"
TOKEN = token(SECRET)
# With TLS 1.3 a server has no way to say by gRPC that it wants a certificate, or another one.
UNWELCOME = ("400 No required SSL certificate was sent", "400 The SSL certificate error", "Socket closed")
UNKNOWN = ("401 Unauthorized", "UNAUTHENTICATED")


@dataclass(frozen=True)
class Secured:
    url: str
    base: Path

    def options(self, cert: str = "client", ca: str = "authority", bearer: str = TOKEN) -> tuple[str, ...]:
        found: tuple[str, ...] = ("-b", self.url, *PATIENT)
        if ca:
            found += ("--remote_ca", str(self.base / f"{ca}.pem"))
        if cert:
            found += ("--remote_cert", f"{self.base}/{cert}.pem", "--remote_key", f"{self.base}/{cert}.key")
        if bearer:
            found += ("--remote_header", f"Authorization: Bearer {bearer}")
        return found


@pytest.fixture(scope="module", params=["https", "grpcs", pytest.param("BuildGrid", marks=pytest.mark.full)])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    base = tmp_path_factory.mktemp("secured")
    authority = Authority(base)
    authority.issue("client")
    authority.issue("expired", timedelta(days=-1))
    Authority(base, "another").issue("foreign")
    for name in ("garbage.pem", "garbage.key"):
        (base / name).write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    tls = authority.issue("server")
    server: Server | Double
    if request.param == "https":
        server = Nginx(base / "it", tls=tls, clients=authority.ca, token=TOKEN)
        url = server.url
    elif request.param == "grpcs":
        server = Double(Habits(token=TOKEN), tls=tls, clients=authority.ca)
        url = f"grpcs://{server.target}"
    else:
        server = BuildGrid(base / "it", "team", tls=tls, clients=authority.ca, secret=SECRET)
        url = f"grpcs://{server.target}/team"
    yield Secured(url, base)
    server.stop()


@pytest.fixture
def project(ws):
    ws.write("in.txt", f"{time.time_ns()}")
    ws.write("capsula.toml")
    return ws


def another_machine(ws) -> None:
    shutil.rmtree(ws.cache, ignore_errors=True)
    ws.path("out.txt").unlink(missing_ok=True)


def test_who_has_all_that_is_asked_for_shares(project, secured) -> None:
    for ran in (1, 0):
        done = project.capsule(*secured.options(), *ASK, do=DO)
        assert (done.ran, done.code, done.said) == (ran, 0, [])
        another_machine(project)


def test_another_process_sends_with_the_same_certificates(project, secured) -> None:
    done = project.capsule(*secured.options(), "--upload", "background", *ASK, do=DO)
    assert (done.ran, done.said) == (1, [])
    until = time.monotonic() + 200
    while any(path.is_file() for path in project.store.glob("spool/*/*")):
        assert time.monotonic() < until, "it was never sent"
        time.sleep(0.02)
    another_machine(project)
    assert project.capsule(*secured.options(), *ASK, do=DO).ran == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cert": ""}, UNWELCOME),
        ({"cert": "foreign"}, UNWELCOME),
        ({"cert": "expired"}, UNWELCOME),
        ({"ca": ""}, ("its certificate isn't trusted",)),
        ({"ca": "another"}, ("its certificate isn't trusted",)),
        ({"ca": "garbage"}, ("--remote_ca: no certificate can be read in",)),
        ({"cert": "garbage"}, ("aren't a certificate and its key",)),
        ({"bearer": ""}, UNKNOWN),
        ({"bearer": "nonsense"}, UNKNOWN),
        pytest.param({"bearer": token(SECRET, -60)}, UNKNOWN, marks=pytest.mark.full),
        pytest.param({"bearer": token(OTHER_SECRET)}, UNKNOWN, marks=pytest.mark.full),
    ],
    ids=lambda given: (
        "-".join(f"{name}-{value[:8] or 'none'}" for name, value in given.items())
        if isinstance(given, dict)
        else ""
    ),
)
def test_who_has_not_runs_without_it_and_is_told_in_one_line(project, secured, given, words) -> None:
    done = project.capsule(*secured.options(**given), *ASK, do=DO)
    assert (done.ran, done.code, project.read("out.txt")) == (1, 0, project.read("in.txt"))
    assert len(done.err.splitlines()) == 1, done.err
    assert done.says("going on without it"), done.err
    assert any(done.says(word) for word in words), done.err
    bearers = filter(None, (TOKEN, given.get("bearer")))
    assert all(bearer not in done.err for bearer in bearers), done.err


def test_where_there_is_no_tls_it_is_said(project, secured, tmp_path) -> None:
    if secured.url.startswith("https"):
        server: Nginx | Double = Nginx(tmp_path / "plain")
        url = server.url.replace("http:", "https:")
    else:
        server = Double()
        url = f"grpcs://{server.target}"
    try:
        done = project.capsule("-b", url, *PATIENT, *ASK, do=DO)
    finally:
        server.stop()
    assert (done.ran, done.code) == (1, 0)
    assert [line.partition(" (")[0] for line in done.said] == [f"{url}: there is no TLS at this port"]


@pytest.mark.parametrize(
    ("given", "option"),
    [({"cert": ""}, "--remote_cert"), ({"ca": ""}, "--remote_ca"), ({"bearer": "no"}, "--remote_header")],
)
def test_the_doctor_says_what_would_help(project, secured, given, option) -> None:
    project.environ["CAPSULE_ARGS"] = shlex.join(secured.options(**given)[2:])
    done = project.tool("cache", "doctor", secured.url)
    assert done.code == 1
    assert "  wrong  " in done.out
    assert option in done.out
