"""What every probe has to pass: the suite of the port Probe."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capsula.core.found import Found
from capsula.ports import Probe

MakeProbe = Callable[[Mapping[str, str]], Probe]
# In the environment of a probe, under a name that says what it is; it may come back nowhere.
CANARY = "canary-3b1f6c9d2e8a47055c"


class ProbeContract:
    """What a Probe does. Nothing of what it does is seen by the program beside which it runs."""

    @pytest.fixture
    def make(self) -> MakeProbe:
        raise NotImplementedError("the subclass has to give the fixture `make`")

    @pytest.fixture
    def environ(self) -> dict[str, str]:
        return {**os.environ, "CAPSULA_CANARY_TOKEN": CANARY, "CAPSULA_URL": f"https://me:{CANARY}@host/x"}

    @pytest.fixture
    def found(self, make: MakeProbe, environ: dict[str, str]) -> Found:
        return make(environ).read()

    def test_it_has_a_name(self, make: MakeProbe, environ: dict[str, str]) -> None:
        name = make(environ).name
        assert isinstance(name, str)
        assert name.strip()

    def test_what_it_finds_is_json(self, found: Found) -> None:
        assert isinstance(found, Found)
        text = json.dumps(found.sections, allow_nan=False)
        assert json.loads(text) == found.sections, (
            "a tuple or a key that is no string comes back as something else"
        )

    def test_its_sections_are_not_those_of_the_record_itself(self, found: Found) -> None:
        assert not {"root_directory", "cwd", "timestamp", "probes"} & set(found.sections)

    def test_every_key_fact_is_there(self, found: Found) -> None:
        assert isinstance(found.keys, tuple)
        assert len(set(found.keys)) == len(found.keys)
        assert found.key_facts().keys() == set(found.keys)

    def test_its_key_facts_are_the_same_while_nothing_changes(
        self, make: MakeProbe, environ: dict[str, str]
    ) -> None:
        first, second = make(environ).read(), make(environ).read()
        assert first.key_facts() == second.key_facts()

    def test_its_files_have_plain_names_and_bytes(self, found: Found) -> None:
        for name, content in found.files.items():
            assert isinstance(content, bytes)
            assert name == os.path.basename(name)
            assert name not in ("", ".", "..")

    def test_it_says_what_it_left_out_in_sentences(self, found: Found) -> None:
        for text in (*found.left_out, *found.masked):
            assert isinstance(text, str)
            assert "\n" not in text

    def test_no_credential_of_the_environment_comes_out(self, found: Found) -> None:
        told = json.dumps([found.sections, found.left_out, found.masked])
        assert CANARY not in told
        assert not [name for name, content in found.files.items() if CANARY.encode() in content]

    def test_it_looks_from_any_thread(self, make: MakeProbe, environ: dict[str, str]) -> None:
        with ThreadPoolExecutor(1) as pool:
            assert isinstance(pool.submit(lambda: make(environ).read()).result(), Found)

    def test_it_prints_nothing(
        self, make: MakeProbe, environ: dict[str, str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        make(environ).read()
        assert capfd.readouterr() == ("", "")

    def test_it_leaves_the_process_as_it_was(self, make: MakeProbe, environ: dict[str, str]) -> None:
        make(environ).read()  # what is imported the first time is no change
        before = _state_of_process()
        make(environ).read()
        assert _state_of_process() == before

    def test_it_leaves_the_files_as_they_were(
        self, make: MakeProbe, environ: dict[str, str], tmp_path: Path
    ) -> None:
        probe = make(environ)
        before = _files_below(tmp_path)
        probe.read()
        assert _files_below(tmp_path) == before


def _state_of_process() -> dict[str, object]:
    mask = os.umask(0o022)
    os.umask(mask)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    threads = {thread for thread in threading.enumerate() if thread.is_alive()}
    return {
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "umask": mask,
        "signals": handlers,
        "path": list(sys.path),
        "threads": threads,
        "descriptors": len(os.listdir("/dev/fd")),
    }


def _files_below(root: Path) -> dict[str, tuple[int, ...]]:
    looks: dict[str, tuple[int, ...]] = {}
    for path in sorted(root.rglob("*")):
        look = path.lstat()
        looks[str(path)] = (look.st_mode, look.st_size, look.st_mtime_ns, look.st_ctime_ns, look.st_ino)
    return looks
