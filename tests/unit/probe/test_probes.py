"""The probes of host, CPU, Python, variables, files and commands: what they say, and what they never say."""

import hashlib
import json
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from capsula.probe import cpu, host
from capsula.probe.commands import LIMIT_TEXT, CommandsProbe
from capsula.probe.files import FilesProbe
from capsula.probe.host import HostProbe
from capsula.probe.python import PythonProbe
from capsula.probe.variables import EnvironmentProbe

INTEL = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 165
model name\t: Intel(R) Core(TM) i5-10400 CPU @ 2.90GHz
stepping\t: 5
cpu MHz\t\t: 2904.010
flags\t\t: vme fpu avx2

processor\t: 1
vendor_id\t: Other
"""


def test_the_cpu_is_described_by_the_fields_of_the_seed(tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate(
        [
            ("1", "Data", "32K"),
            ("1", "Instruction", "32K"),
            ("2", "Unified", "1M"),
            ("3", "Unified", "12288K"),
        ]
    ):
        place = tmp_path / "cpu0" / "cache" / f"index{index}"
        place.mkdir(parents=True)
        for name, text in (
            ("level", level),
            ("type", kind),
            ("size", size),
            ("coherency_line_size", "64"),
            ("ways_of_associativity", "8"),
        ):
            (place / name).write_text(text + "\n")
    told = cpu.describe(INTEL, tmp_path)
    assert (told["vendor_id_raw"], told["family"], told["model"], told["stepping"]) == (
        "GenuineIntel",
        6,
        165,
        5,
    )
    assert told["flags"] == ["avx2", "fpu", "vme"]
    assert (told["hz_advertised_friendly"], told["hz_advertised"]) == ("2.9000 GHz", [2900000000, 0])
    assert (told["hz_actual_friendly"], told["hz_actual"]) == ("2.9040 GHz", [2904010000, 0])
    assert (told["l1_data_cache_size"], told["l3_cache_size"]) == (32768, 12582912)
    assert (told["l2_cache_line_size"], told["l2_cache_associativity"]) == (64, 8)
    assert told["cpuinfo_version"] == [9, 0, 0]


def test_what_is_not_known_of_a_cpu_is_left_out(tmp_path: Path) -> None:
    told = cpu.describe("", tmp_path)
    assert "vendor_id_raw" not in told
    assert None not in told.values()


def test_the_host_has_the_platform_of_the_seed() -> None:
    found = HostProbe(True, {"GITHUB_ACTIONS": "true", "SLURM_JOB_ID": "1", "PATH": ""}).read()
    sections: Any = json.loads(json.dumps(found.sections))
    assert sections["platform"]["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert sections["host"]["ci"] == {"name": "GitHub Actions"}
    assert sections["host"]["scheduler"] == {"name": "Slurm", "job": "1"}
    assert sections["cpu"]["count"] >= 1
    assert "cpu" not in HostProbe(False, {}).read().sections
    keys = found.key_facts()
    assert {
        "/platform/machine",
        "/platform/python",
        "/host/libc",
        "/host/locale",
        "/cpu/flags",
    } <= keys.keys()
    assert not {"/platform/node", "/host/memory_bytes", "/host/ci", "/cpu/hz_actual"} & keys.keys()


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo 'Card, 1, 2, 3'", ["Card, 1, 2, 3"]), ("exit 3", "error"), ("exec sleep 60", "error")],
)
def test_a_graphics_card_is_asked_for_only_a_moment(
    tmp_path: Path, script: str, said: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_GPU_SECONDS", 0.2 if "sleep" in script else 20)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    told: Any = HostProbe(False, {"PATH": str(tmp_path)}).read().sections["host"]
    assert told["gpu"] == said or said in told["gpu"]


def install(base: Path, name: str, version: str, **files: str) -> None:
    place = base / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not me\n"
    )
    for file, text in files.items():
        (place / file.replace("_json", ".json")).write_text(text)


def locked(content: bytes) -> Any:
    """What PEP 751 says of a lock file holds for it."""
    from packaging.pylock import Pylock

    return Pylock.from_dict(tomllib.loads(content.decode()))


def test_distributions_are_told_with_their_origin(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    install(first, "plain", "1.0", INSTALLER="pip\n")
    install(second, "Plain", "2.0")
    install(
        first,
        "fromgit",
        "1",
        direct_url_json='{"url": "https://me:word@host/x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
    )
    install(first, "here", "1", direct_url_json='{"url": "file:///src", "dir_info": {"editable": true}}')
    install(
        first,
        "wheel",
        "1",
        direct_url_json='{"url": "https://h/w.whl", "archive_info": {"hashes": {"sha256": "ff"}}}',
    )
    install(first, "odd", "1", direct_url_json="{")
    (first / "nameless-1.dist-info").mkdir()
    found = PythonProbe(
        {"OMP_NUM_THREADS": "2", "OTHER": "x"}, [str(first), str(second), "/nowhere.zip"]
    ).read()
    locked(found.files["pylock.toml"])
    section: Any = found.sections["python"]
    rows = {row["name"]: row for row in section["distributions"]}
    assert rows["plain"] == {
        "name": "plain",
        "version": "1.0",
        "installer": "pip",
        "origin": {"kind": "index"},
    }
    assert "Plain" not in rows
    assert rows["fromgit"]["origin"] == {
        "kind": "vcs",
        "url": "https://***@host/x",
        "vcs": "git",
        "commit": "abc",
    }
    assert rows["here"]["origin"]["kind"] == "editable"
    assert rows["odd"]["origin"]["kind"] == "unknown"
    assert section["numeric"] == {"OMP_NUM_THREADS": "2"}
    assert len(found.left_out) == 1
    lock = tomllib.loads(found.files["pylock.toml"].decode())
    packages = {row["name"]: row for row in lock["packages"]}
    unlocked = {row["name"]: row["version"] for row in lock["tool"]["capsula"]["unlocked"]}
    assert unlocked == {"plain": "1.0", "odd": "1"}
    assert found.files["requirements-installed.txt"].decode().splitlines() == [
        "fromgit @ git+https://***@host/x@abc",
        "-e file:///src",
        "odd==1",
        "plain==1.0",
        "wheel @ https://h/w.whl",
    ]
    assert packages["wheel"]["archive"] == {"url": "https://h/w.whl", "hashes": {"sha256": "ff"}}
    assert packages["fromgit"]["vcs"]["commit-id"] == "abc"
    assert packages["here"]["directory"] == {"path": "/src", "editable": True}


def test_this_python_is_told_with_what_it_runs_from() -> None:
    found = PythonProbe({}).read()
    section: Any = json.loads(json.dumps(found.sections["python"]))
    assert section["executable"] == sys.executable
    assert {"pytest", "hypothesis"} <= {row["name"].lower() for row in section["distributions"]}


ENVIRON = {
    "HOME": "/home/me",
    "API_TOKEN": "canary7canary7",
    "USES_IT": "--auth canary7canary7",
    "INDEX": "https://me:word@host/simple",
    "KEPT_SECRET": "kept on purpose",
}


def test_variables_are_told_and_credentials_are_not() -> None:
    names = ("HOME", "API_TOKEN", "KEPT_SECRET", "UNSET")
    probe = EnvironmentProbe(names, ENVIRON, keep=frozenset(["KEPT_SECRET"]), others=True, salt=b"1")
    found = probe.read()
    told = json.dumps(found.sections)
    assert found.sections["environment_variables"] == {
        "HOME": "/home/me",
        "API_TOKEN": "***",
        "KEPT_SECRET": "kept on purpose",
    }
    assert "canary7" not in told
    assert "word" not in told
    environment: Any = found.sections["environment"]
    assert environment["unset"] == ["UNSET"]
    assert set(environment["others"]) == {"USES_IT", "INDEX"}
    assert found.masked == ("API_TOKEN", "INDEX", "USES_IT")


def test_hidden_values_cannot_be_compared_between_capsules() -> None:
    def hidden(salt: bytes) -> Any:
        section: Any = (
            EnvironmentProbe((), ENVIRON, keep=frozenset(), others=True, salt=salt)
            .read()
            .sections["environment"]
        )
        return section["others"]["API_TOKEN"]

    assert hidden(b"1") == hidden(b"1") != hidden(b"2")
    without = EnvironmentProbe((), ENVIRON, keep=frozenset(), others=False, salt=b"").read()
    assert without.sections["environment"] == {"unset": []}


def test_files_are_hashed_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    found = FilesProbe((("a", "md5"), ("gone", "sha256"), (".", "sha256"), ("a", None)), str(tmp_path)).read()
    section: Any = found.sections["files"]
    assert section["gone"]["file_hash"] is None
    assert "No such file" in section["gone"]["error"]
    assert section["."]["error"] == "it is no file"
    assert section["a"] == {"hash_algorithm": None, "file_hash": None}
    assert FilesProbe((("a", "md5"),), str(tmp_path)).read().sections["files"] == {
        "a": {"hash_algorithm": "md5", "file_hash": "d41d8cd98f00b204e9800998ecf8427e"}
    }
    assert len(found.left_out) == 2


@pytest.mark.parametrize("algorithm", sorted(hashlib.algorithms_guaranteed))
def test_every_algorithm_that_python_guarantees_can_be_used(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "a").write_bytes(b"content")
    found = FilesProbe((("a", algorithm),), str(tmp_path)).read()
    expected = hashlib.new(algorithm, b"content")
    length = {"shake_128": (32,), "shake_256": (64,)}.get(algorithm, ())
    section: Any = found.sections["files"]
    assert section["a"] == {"hash_algorithm": algorithm, "file_hash": expected.hexdigest(*length)}


def test_commands_are_told_by_what_they_print(tmp_path: Path) -> None:
    commands = (
        ("one", "pwd; echo warned >&2; exit 3"),
        ("secret", "echo $API_TOKEN"),
        ("long", f"head -c {2 * LIMIT_TEXT} /dev/zero"),
    )
    found = CommandsProbe(commands, str(tmp_path), {**ENVIRON, "PATH": "/usr/bin:/bin"}).read()
    section: Any = found.sections["commands"]
    assert (section["one"]["stdout"], section["one"]["stderr"], section["one"]["exit_code"]) == (
        f"{tmp_path}\n",
        "warned\n",
        3,
    )
    assert section["secret"]["stdout"] == "***\n"
    assert len(section["long"]["stdout"]) == LIMIT_TEXT
    assert len(found.left_out) == 1
    assert found.masked == ("secret",)


def test_what_a_command_has_started_ends_with_it_when_it_takes_too_long(tmp_path: Path) -> None:
    command = "echo begun; (sleep 600; touch late) & echo $! > child; sleep 600"
    for seconds in (0.5, 5, 50):  # on a busy machine, it may take a while until it has started anything
        found = CommandsProbe((("slow", command),), str(tmp_path), {"PATH": "/usr/bin:/bin"}, seconds).read()
        if (tmp_path / "child").exists() and (tmp_path / "child").read_text():
            break
    section: Any = found.sections["commands"]
    assert section["slow"]["exit_code"] is None
    assert "as time was up" in section["slow"]["failed"]
    (failed,) = found.failed
    assert failed.startswith(f"slow: {section['slow']['failed']}")
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 200
    while is_running(child):  # it was killed; the kernel takes its moment
        assert time.monotonic() < until
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_driver_of_a_graphics_card_is_read_where_the_kernel_tells_it(tmp_path: Path) -> None:
    card = tmp_path / "gpus/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t NVIDIA A100\nIRQ:   \t\t 11\nGPU UUID: \t GPU-x\n")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\nGCC version: 12\n"
    )
    assert host._gpu_kernel(tmp_path) == {
        "driver": "NVIDIA UNIX x86_64 Kernel Module  550.54",
        "models": ["NVIDIA A100"],
    }
    assert host._gpu_kernel(tmp_path / "nowhere") is None
