"""Bundles that were cut short, changed or blown up, and files that are none."""

import contextlib
import gzip
import io
import lzma
import random
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.errors import CapsulaError, NotAvailable
from capsula.vault import arrival, bundle, compression
from capsula.vault.archive import Reader
from capsula.vault.record import capsules
from unit.vault.bundles import DATA, HOW, exported, imported, sealed, vault_at


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = vault_at(tmp_path_factory.mktemp("small") / "vault")
    found = [sealed(place, b"1"), sealed(place, b"2")]
    return {how: exported(found, how) for how in HOW}


def check(content: bytes) -> None:
    arrival.check(Reader(io.BytesIO(content)), lambda count: None)


def test_something_in_the_gaps_is_refused(small: dict[str, bytes]) -> None:
    content = bytearray(small[""])
    end = content.rindex(DATA) + len(DATA)
    assert content[end] == 0
    content[end] = 1
    with pytest.raises(CapsulaError, match="data in it is damaged"):
        check(bytes(content))


@pytest.mark.parametrize("how", HOW)
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_one_that_is_cut_short_is_said(small: dict[str, bytes], how: str, share: float) -> None:
    check(small[how])
    # In a tar that isn't compressed, the zeros at the end are padding.
    last = len(small[how]) if how else len(small[how].rstrip(b"\0"))
    with pytest.raises(CapsulaError):
        check(small[how][: int(share * last)])


@pytest.mark.parametrize("how", HOW)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_a_flipped_bit_is_said_or_harmless(
    small: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, how: str, share: float, bit: int
) -> None:
    content = bytearray(small[how])
    content[int(share * len(content))] ^= 1 << bit
    flipped = bytes(content)
    try:
        check(flipped)
    except CapsulaError:
        return
    # The header of a gzip file has flags and a time that mean nothing to anybody.
    into = vault_at(tmp_path_factory.mktemp("flipped") / "vault")
    imported(into, flipped)
    assert exported(capsules(into.root), how) == small[how]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\0" * 20000, random.Random(1).randbytes(5000), b"\x1f\x8b", b"\xfd7zXZ\0"]
)
def test_what_is_no_bundle_is_said(content: bytes) -> None:
    with pytest.raises(CapsulaError):
        check(content)


def test_another_tar_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    subprocess.run(["tar", "cf", "a.tar", "a"], cwd=tmp_path, check=True)
    with pytest.raises(CapsulaError, match="no bundle of capsules"):
        check((tmp_path / "a.tar").read_bytes())


def peak_of(content: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(CapsulaError):
            check(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compressed(content: bytes, how: str) -> bytes:
    out = io.BytesIO()
    with contextlib.closing(compression.compressed(out, how)) as sink:
        sink.write(content)
    return out.getvalue()


def test_a_bomb_fills_neither_memory_nor_disk(small: dict[str, bytes]) -> None:
    zeros = bytes(64 << 20)
    header = tarfile.TarInfo("capsula-bundle.json")
    header.size = len(zeros)
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, len(zeros)
    after = small[""].rstrip(b"\0")
    before = small[""][: -(-int(small[""][124:135], 8) // 512) * 512 + 512]
    assert len(Reader(io.BytesIO(before)).manifest.capsules) == 2
    for bomb in (
        gzip.compress(header.tobuf() + zeros, 1),
        gzip.compress(before + extended.tobuf() + zeros, 1),
        gzip.compress(after + bytes(-len(after) % 512) + zeros, 1),
        small["gz"] + gzip.compress(zeros, 1),
        lzma.compress(before + extended.tobuf() + zeros, preset=0),
        compressed(before + extended.tobuf() + zeros, "zst"),
        compressed(after + bytes(-len(after) % 512) + zeros, "zst"),
    ):
        assert len(bomb) < 2 << 20
        assert peak_of(bomb) < 16 << 20


def test_something_behind_the_end_is_refused(small: dict[str, bytes]) -> None:
    for how in HOW:
        for more in (b"x", small[how]):
            with pytest.raises(CapsulaError):
                check(small[how] + more)


def test_an_xz_that_asks_for_much_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    with pytest.raises(CapsulaError, match="damaged"):
        check(lzma.compress(b"x" * 100, filters=filters, format=lzma.FORMAT_XZ))


def test_without_a_library_for_zstd_that_is_said(
    small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("compression", "backports"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: check(small["zst"]), lambda: compression.compressed(io.BytesIO(), "zst")):
        with pytest.raises(NotAvailable, match="zst"):
            call()


def test_a_format_of_the_future_is_said() -> None:
    with pytest.raises(CapsulaError, match="format 2"):
        bundle.parse(b'{"capsula-bundle": 2}')


@pytest.mark.parametrize("content", [b"[" * 100_000, b"7", b"{}", b'{"capsula-bundle": 1}', b"\xff"])
def test_a_manifest_that_is_none_is_said(content: bytes) -> None:
    with pytest.raises(CapsulaError, match="its manifest"):
        bundle.parse(content)
