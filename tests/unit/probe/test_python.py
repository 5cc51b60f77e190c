"""Which Python is described, and whether what is installed for it is what was installed."""

import base64
import hashlib
import json
import os
import sys
import time
import tomllib
import types
import venv
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock
from packaging.requirements import Requirement

from capsula.probe import installed, interpreter
from capsula.probe.distributions import Distribution, Origin, distributions
from capsula.probe.indexes import indexes
from capsula.probe.installed import Check, Checker
from capsula.probe.interpreter import called_by
from capsula.probe.lock import pylock, requirements
from capsula.probe.python import Memory, PythonProbe
from clocks import next_tick

NOW_NS = time.time_ns


# ------------------------------------------------------------------------------------------- which interpreter


def script(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_python_of_a_command_is_found_by_its_words(tmp_path: Path) -> None:
    first = script(tmp_path / "first/python3.12", "\x7fELF")
    script(tmp_path / "second/python", "\x7fELF")
    script(tmp_path / "bin/plain", f"#!{first}\nprint()\n")
    script(tmp_path / "bin/with options", f"#! {first}   -I\nprint()\n")
    script(tmp_path / "bin/env", "\x7fELF")
    script(tmp_path / "bin/through-env", "#!/usr/bin/env python\n")
    script(tmp_path / "bin/split", "#!/usr/bin/env -S LANG=C python -O -X utf8\n")
    script(tmp_path / "bin/long", f"#!/bin/sh\n'''exec' \"{first}\" \"$0\" \"$@\"\n' '''\nimport x\n")
    script(tmp_path / "bin/shell", "#!/bin/sh\necho\n")
    script(tmp_path / "bin/loop", f"#!{tmp_path}/bin/loop\n")
    environ = {"PATH": f"{tmp_path}/bin:{tmp_path}/second"}
    other = str(tmp_path / "second/python")
    expected: dict[tuple[str, ...], tuple[str, tuple[str, ...]] | None] = {
        ("python", "x.py", "-O"): (other, ()),
        ("python", "-OO", "-W", "error", "-m", "x", "-I"): (other, ("-OO", "-W", "error")),
        ("python", "-Im", "x"): (other, ("-I",)),
        ("python", "-c", "print()"): (other, ()),
        ("first/python3.12", "-Xutf8", "x"): (str(first), ("-Xutf8",)),
        ("env", "-u", "A", "B=1", "python", "x"): (other, ()),
        ("plain", "x"): (str(first), ()),
        ("with options",): (str(first), ("-I",)),
        ("through-env",): (other, ()),
        ("split",): (other, ("-O", "-X", "utf8")),
        ("long",): (str(first), ()),
        ("shell",): None,
        ("loop",): None,
        ("not there",): None,
        ("env", "-i"): None,
        (): None,
    }
    for command, found in expected.items():
        called = called_by(command, environ, str(tmp_path))
        assert (called and (called.program, called.options)) == found, command


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A virtual environment with one package."""
    place = tmp_path / "other"
    venv.create(place, symlinks=True)
    install(next(place.glob("lib/python*/site-packages")), "only-there", "1.5", {})
    return place


def test_the_python_of_the_command_is_described_and_not_ours(other: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the user')\n")
    environ = {**os.environ, "OMP_NUM_THREADS": "3"}
    command = [str(other / "bin/python"), "-B", "-O", "train.py"]
    found = PythonProbe(environ, command=command, cwd=str(tmp_path)).read()
    section: Any = found.sections["python"]
    assert (section["of"], section["prefix"]) == ("command", str(other))
    assert section["flags"]["optimize"] == 1
    assert [row["name"] for row in section["distributions"] if row["name"] == "only-there"]
    assert "pytest" not in {row["name"] for row in section["distributions"]}
    assert section["numeric"]["OMP_NUM_THREADS"] == "3"
    assert "only-there==1.5" in found.files["requirements-installed.txt"].decode()


def test_our_own_python_is_not_run_to_be_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter.subprocess, "run", None)
    section: Any = PythonProbe(os.environ, command=[sys.executable, "x.py"]).read().sections["python"]
    assert (section["of"], section["executable"]) == ("command", sys.executable)
    clean = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    assert PythonProbe(clean, command=["true"]).read().sections["python"]["of"] == "capsula"  # type: ignore[index, call-overload]


def test_for_another_command_the_active_environment_counts(other: Path) -> None:
    environ = {**os.environ, "VIRTUAL_ENV": str(other)}
    section: Any = PythonProbe(environ, command=["true"]).read().sections["python"]
    assert (section["of"], section["prefix"]) == ("virtual environment", str(other))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "exit code 3"),
        ("echo nonsense", "doesn't answer as a Python does"),
        ("echo '{}'", "doesn't answer as a Python does"),
        ("exec sleep 60", "to answer"),
    ],
)
def test_a_python_that_does_not_answer_is_said_and_ours_is_described(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "SECONDS", 0.2 if "sleep" in text else 20)
    program = script(tmp_path / "python", f"#!/bin/sh\n{text}\n")
    found = PythonProbe(os.environ, command=[str(program), "x.py"]).read()
    section: Any = found.sections["python"]
    assert (section["of"], section["executable"]) == ("capsula", sys.executable)
    assert said in found.left_out[0]


def test_threads_of_numeric_libraries_are_told_where_the_program_has_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert PythonProbe({}).read().sections["python"]["threadpools"] is None  # type: ignore[index, call-overload]
    module = types.ModuleType("threadpoolctl")
    module.threadpool_info = lambda: [{"internal_api": "openblas", "num_threads": 2}]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "threadpoolctl", module)
    found = PythonProbe({}).read()
    assert found.sections["python"]["threadpools"] == [{"internal_api": "openblas", "num_threads": 2}]  # type: ignore[index, call-overload]
    assert not [key for key in found.keys if "threadpools" in key]


# ------------------------------------------------------------------------------------------- RECORD


def install(site: Path, name: str, version: str, files: dict[str, bytes], *, stale: bool = True) -> Path:
    """As pip does it: a RECORD with size and hash of each file."""
    place = site / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    lines = []
    for path, content in {**files, f"{place.name}/METADATA": metadata}.items():
        full = site / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        shown = f'"{path}"' if "," in path else path
        lines.append(f"{shown},sha256={digest},{len(content)}\n")
    lines += [f"{place.name}/RECORD,,\n", "a/__pycache__/x.pyc,,\n"]
    (place / "RECORD").write_text("".join(lines))
    return place


class Site:
    """`later` is how far the clock is ahead, so that what was just written is no longer fresh."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = tmp_path / "site"
        self.memory = tmp_path / "state" / "packages.json"
        self.monkeypatch = monkeypatch
        self.read: list[str] = []
        self.be_later(10)
        right = Checker._is_right

        def counted(checker: Checker, row: Any, base: str) -> bool:
            answer = right(checker, row, base)
            self.read.append(row[0])
            return answer

        monkeypatch.setattr(Checker, "_is_right", counted)

    def be_later(self, seconds: float) -> None:
        self.monkeypatch.setattr(installed.time, "time_ns", lambda: NOW_NS() + int(seconds * 1e9))

    def check(self, seconds: float = 60.0) -> Check:
        self.read.clear()
        next_tick()  # what is changed after this check was not changed in the tick before it
        return Checker(str(self.memory), seconds).check(distributions([str(self.path)], []))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path, monkeypatch)
    install(made.path, "one", "1", {"one/a.py": b"a\n", "one/b,c.py": b"b\n"})
    install(made.path, "two", "1", {"two.py": b"2\n", "../bin/two": b"#!python\n"})
    return made


def test_what_was_right_is_not_read_again_until_it_changes(site: Site) -> None:
    assert site.check().matching == ["one", "two"]
    assert len(site.read) == 6
    assert site.check().matching == ["one", "two"]
    assert site.read == []
    time_before = (site.path / "one/a.py").stat()
    (site.path / "one/a.py").write_bytes(b"A\n")
    os.utime(site.path / "one/a.py", ns=(time_before.st_atime_ns, time_before.st_mtime_ns))
    result = site.check()
    assert result.differing == {"one": ["one/a.py: other content"]}
    assert result.matching == ["two"]
    assert site.check().differing == result.differing


def test_what_is_gone_or_of_another_size_is_named_without_reading(site: Site) -> None:
    (site.path / "two.py").unlink()
    (site.path / "one/b,c.py").write_bytes(b"longer\n")
    result = site.check()
    assert result.differing == {
        "one": ["one/b,c.py: 7 bytes, not 2"],
        "two": ["two.py: No such file or directory"],
    }
    assert site.read == []


def test_nothing_matches_that_was_not_read(site: Site) -> None:
    result = site.check(seconds=0)
    assert (result.matching, sorted(result.unread)) == ([], ["one", "two"])


def test_reading_goes_on_where_the_last_run_came_to(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file a run, of the smallest distribution first; and what changes meanwhile is read again."""
    right = Checker._is_right

    def one(checker: Checker, row: Any, base: str) -> bool:
        if site.read:
            raise installed._OutOfTime
        return right(checker, row, base)

    with monkeypatch.context() as patched:
        patched.setattr(Checker, "_is_right", one)
        rows = []
        for _ in range(5):
            result = site.check()
            rows.append(len(result.matching))
    assert rows[0] == 0
    assert rows[-1] == 1
    (site.path / "one/a.py").write_bytes(b"X\n")
    assert site.check().differing == {"one": ["one/a.py: other content"]}


def test_looking_at_many_files_takes_no_time_from_reading_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    looked_at = installed._looked_at

    def slow(*words: Any) -> Any:
        now[0] += 0.7
        return looked_at(*words)

    monkeypatch.setattr(installed.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(installed, "_looked_at", slow)
    assert site.check(seconds=1.0).matching == ["one", "two"]


def test_what_changed_a_moment_ago_is_not_remembered(site: Site) -> None:
    site.be_later(0)
    assert site.check().matching == ["one", "two"]
    assert not site.memory.exists() or json.loads(site.memory.read_text())["known"] == {}
    site.check()
    assert len(site.read) == 6


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "known": 3}', b'{"format": 1, "known": {"x": [1]}}'],
)
def test_a_memory_that_is_damaged_is_none(site: Site, content: bytes) -> None:
    site.check()
    site.memory.write_bytes(content)
    assert site.check().matching == ["one", "two"]
    assert len(site.read) == 6


def test_a_memory_that_says_otherwise_is_not_believed(site: Site) -> None:
    """Counts that are too large, digests of other files: what isn't the digest of what is there matches nothing."""
    site.check()
    (site.path / "one/a.py").write_bytes(b"X\n")
    told = json.loads(site.memory.read_text())
    for key in told["known"]:
        told["known"][key][0] = 99
    site.memory.write_text(json.dumps(told))
    assert site.check().differing == {"one": ["one/a.py: other content"]}


def test_a_record_that_says_something_else_is_believed_and_not_the_memory(site: Site) -> None:
    site.check()
    record = site.path / "two-1.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("two.py,sha256=", "two.py,sha256=x"))
    assert site.check().differing == {"two": ["two.py: other content"]}


def test_an_unknown_algorithm_proves_nothing(site: Site) -> None:
    record = site.path / "two-1.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("sha256=", "md99="))
    result = site.check()
    assert (result.matching, result.unread) == (["one"], ["two"])


def test_without_a_record_nothing_is_said(site: Site) -> None:
    (site.path / "two-1.dist-info" / "RECORD").unlink()
    assert site.check().without_record == ["two"]


def test_the_changed_file_of_a_package_is_in_what_is_recorded(tmp_path: Path) -> None:
    install(tmp_path / "site", "one", "1", {"one.py": b"1\n"})
    (tmp_path / "site" / "one.py").write_bytes(b"2\n")
    found = PythonProbe({}, [str(tmp_path / "site")], memory=Memory(str(tmp_path / "state"), 60)).read()
    section: Any = found.sections["python"]
    assert section["modified"] == {"one": ["one.py: other content"]}
    assert section["check"] == {"matching": 0, "unread": [], "without_record": []}
    assert not [key for key in found.keys if "modified" in key or "check" in key]


# ------------------------------------------------------------------------------------------- locks and indexes


def made(name: str, version: str, origin: Origin) -> Distribution:
    return Distribution(name, version, "pip", origin, Path("/x"))


ODD = (
    made("Plain_Name", "1.0", Origin("index")),
    made("odd-version", "1.0-custom build", Origin("url", "https://h/o.zip", hashes=(("sha256", "ff"),))),
    made("no-commit", "1", Origin("vcs", "https://h/x", "git")),
    made("vcs", "1.0+local.1", Origin("vcs", "https://h/x", "git", "abc", "sub dir")),
    made("here", "0", Origin("editable", "file:///a%20b/c")),
    made("there", "", Origin("local", "file:///d")),
    made("quoted", '1"\n[evil]\n', Origin("url", 'https://h/"\n', hashes=(('a"b', "\x7f\u00e9\udcff"),))),
    made("no-hash", "1", Origin("url", "https://h/y.whl")),
    made("nothing", "", Origin("unknown")),
)


def test_a_lock_is_one_whatever_is_installed() -> None:
    text = pylock(ODD, "3.12")
    lock = Pylock.from_dict(tomllib.loads(text))
    assert {package.name for package in lock.packages} == {
        "odd-version", "vcs", "here", "there", "quoted",
    }  # fmt: skip
    by_name = {package.name: package for package in lock.packages}
    here = by_name["here"].directory  # type: ignore[index]
    assert here is not None
    assert (here.path, here.editable) == ("/a b/c", True)
    unlocked = tomllib.loads(text)["tool"]["capsula"]["unlocked"]
    assert [row["name"] for row in unlocked] == ["plain-name", "no-commit", "no-hash", "nothing"]
    empty = Pylock.from_dict(tomllib.loads(pylock((), "3.11")))
    assert list(empty.packages) == []


def test_requirements_are_what_pip_reads() -> None:
    lines = requirements(ODD).splitlines()
    assert len(lines) == len(ODD)
    assert lines[0] == "Plain_Name==1.0"
    assert "-e file:///a%20b/c" in lines
    for line in lines:
        if not line.startswith(("-e ", "#")) and "odd-version" not in line and "quoted" not in line:
            Requirement(line)


def test_a_file_of_pip_names_its_index_without_credentials(tmp_path: Path) -> None:
    (tmp_path / "home/.config/pip").mkdir(parents=True)
    file = tmp_path / "home/.config/pip/pip.conf"
    file.write_text(
        "[global]\nindex-url = https://me:k3Fs9xQ2word@host/simple\nextra-index-url =\n  https://b\n  https://c\n"
    )
    (tmp_path / "pip.conf").write_text("no section\n")
    environ = {"HOME": str(tmp_path / "home"), "UV_INDEX_URL": "https://you:k3Fs9xQ2word@host2/simple"}
    rows, masked = indexes(environ, str(tmp_path))
    mine: list[Any] = [row for row in rows if str(tmp_path) in str(row) or "UV" in str(row)]
    assert "k3Fs9xQ2word" not in repr(rows)
    assert {row["name"]: row["value"] for row in mine} == {
        "index-url": "https://***@host/simple",
        "extra-index-url": "https://b https://c",
        "": "can't be read",
        "UV_INDEX_URL": "https://***@host2/simple",
    }
    assert len(masked) == 2
    assert indexes({"PIP_CONFIG_FILE": os.devnull}, str(tmp_path)) == ([], [])
