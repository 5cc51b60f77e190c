"""Every probe, held against the contract of its port; and one of a package that is installed as users would."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from capsula.core.found import Surroundings
from capsula.probe.commands import CommandsProbe
from capsula.probe.files import FilesProbe
from capsula.probe.git import GitProbe
from capsula.probe.host import HostProbe
from capsula.probe.plugin import PluginProbe
from capsula.probe.python import Memory, PythonProbe
from capsula.probe.variables import EnvironmentProbe
from capsula.testing import ProbeContract

GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


class TestHost(ProbeContract):
    @pytest.fixture
    def make(self):
        return lambda environ: HostProbe(True, environ)


class TestEnvironment(ProbeContract):
    @pytest.fixture
    def make(self):
        names = ("PATH", "CAPSULA_CANARY_TOKEN", "NOT_SET")
        return lambda environ: EnvironmentProbe(
            names, environ, keep=frozenset(), others=True, salt=os.urandom(16)
        )


class TestGit(ProbeContract):
    @pytest.fixture
    def make(self, tmp_path):
        root = tmp_path / "work"
        root.mkdir()
        (root / "tracked").write_text("one\n")
        words = ["git", "-c", "user.name=me", "-c", "user.email=me@host"]
        remote = ["remote", "add", "up", "https://me:canary-3b1f6c9d2e8a47055c@host/x"]
        for more in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"], remote):
            subprocess.run([*words, *more], cwd=root, env={**os.environ, **GIT}, check=True)
        (root / "tracked").write_text("two\n")
        (root / "untracked").write_text("three\n")
        (root / ".env").write_text("TOKEN=canary-3b1f6c9d2e8a47055c\n")
        return lambda environ: GitProbe("me", str(root), ".", {**environ, **GIT})


class TestFiles(ProbeContract):
    @pytest.fixture
    def make(self, tmp_path):
        (tmp_path / "a").write_text("a")
        return lambda environ: FilesProbe((("a", "sha256"), ("gone", "md5"), ("a", None)), str(tmp_path))


class TestPython(ProbeContract):
    @pytest.fixture
    def make(self, tmp_path):
        return lambda environ: PythonProbe(environ, memory=Memory("", 0.01))


class TestAnotherPython(ProbeContract):
    @pytest.fixture
    def make(self, tmp_path):
        venv.create(tmp_path / "other", symlinks=True)
        command = [str(tmp_path / "other/bin/python"), "-B", "train.py"]
        return lambda environ: PythonProbe(environ, command=command, cwd=str(tmp_path))


class TestCommands(ProbeContract):
    @pytest.fixture
    def make(self, tmp_path):
        commands = (("one", "echo $CAPSULA_CANARY_TOKEN; echo warned >&2"), ("two", "exit 3"))
        return lambda environ: CommandsProbe(commands, str(tmp_path), environ)


WEATHER = """
from capsula.core.found import Found

class Weather:
    name = "weather"

    def __init__(self, around, station, unit="C"):
        self.root, self.station, self.unit = around.root, station, unit

    def read(self):
        told = {"station": self.station, "unit": self.unit, "token": "none"}
        return Found({"weather": told}, keys=("/weather/station",), files={"weather.txt": b"sunny"})

probe = Weather
"""


class TestPluginInAFile(ProbeContract):
    @pytest.fixture
    def make(self, tmp_path):
        (tmp_path / "weather.py").write_text(WEATHER)
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        yield lambda environ: PluginProbe(
            "weather", "weather.py", {"station": "north"}, Surroundings(str(tmp_path), environ)
        )
        sys.dont_write_bytecode = before


CONTRACT = """
import pytest
from capsula.core.found import Surroundings
from capsula.testing import ProbeContract
from capsula_weather import Weather

class TestWeather(ProbeContract):
    @pytest.fixture
    def make(self, tmp_path):
        return lambda environ: Weather(Surroundings(str(tmp_path), environ), station="north")
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "capsula-weather"
version = "1.0"
[project.entry-points."capsula.probes"]
weather = "capsula_weather:Weather"
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment of its own, which has what this one has, and the plugin."""
    place = tmp_path / "environment"
    venv.create(place, symlinks=True)
    inner = next(place.glob("lib/python*/site-packages"))
    (inner / "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    source = tmp_path / "plugin"
    (source / "src/capsula_weather").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "src/capsula_weather/__init__.py").write_text(WEATHER)
    (source / "test_weather.py").write_text(CONTRACT)
    words = ["-m", "pip", "install", "-qq", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [place / "bin/python", *words, "--disable-pip-version-check", source], capture_output=True
    )
    assert done.returncode == 0, done
    return place


def test_a_package_with_a_probe_passes_the_contract_and_is_asked(environment: Path, tmp_path: Path) -> None:
    python = environment / "bin/python"
    environ = {**os.environ, **GIT, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_weather.py"]
    done = subprocess.run([python, *words], cwd=tmp_path / "plugin", env=environ, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
    root = tmp_path / "project"
    root.mkdir()
    (root / "capsula.toml").write_text("[capture.probes.weather]\nstation = 'north'\n")
    main = "import sys; from capsula.cli.capsula import main; sys.exit(main())"
    done = subprocess.run([python, "-c", main, "capture"], cwd=root, env=environ, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    (capsule,) = root.glob("vault/*/capsule.json")
    context = json.loads((capsule.parent / "context.json").read_text())
    assert context["weather"]["station"] == "north"
    assert context["probes"]["weather"]["key_facts"] == ["/weather/station"]
    assert (capsule.parent / "weather.txt").read_bytes() == b"sunny"
    assert "capsula-weather" in context["python"]["packages"]
