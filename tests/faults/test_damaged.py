"""Damage in the store: whatever is wrong there is noticed, said in one line, and healed by a run that is right."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from capsula.store.reach import Reach, load_entry

OPTIONS = ("-c", "damaged", "-i", "in", "-o", "dist", "-o", "gen/*.o")
DO = (
    "mkdir -p dist/deep gen; read a < in; echo plain $a > dist/plain; echo deep $a > dist/deep/file;"
    "yes $a | head -c 1200000 > dist/large; echo object $a > gen/x.o; yes log $a | head -c 5000"
)


def picture(ws):
    return ws.picture("dist", "gen")


@pytest.fixture
def kept(ws):
    """A result in the store; answers what the outputs are."""
    ws.write("in", "one\n")
    assert ws.breaking(*OPTIONS, do=DO).ran == 1
    return picture(ws)


def remove_outputs(ws):
    shutil.rmtree(ws.path("dist"))
    shutil.rmtree(ws.path("gen"))


def truncated(path, other):
    os.truncate(path, path.stat().st_size * 2 // 3)


def emptied(path, other):
    os.truncate(path, 0)


def extended(path, other):
    with path.open("ab") as file:
        file.write(b"more")


def flipped(path, other):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def zeroed(path, other):
    """As after a power cut: the length is there, the content isn't."""
    path.write_bytes(bytes(path.stat().st_size))


def swapped(path, other):
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def removed(path, other):
    path.unlink()


def replaced_by_a_directory(path, other):
    path.unlink()
    path.mkdir()


def replaced_by_a_link(path, other):
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


DAMAGES = [
    truncated,
    emptied,
    extended,
    flipped,
    zeroed,
    swapped,
    removed,
    replaced_by_a_directory,
    replaced_by_a_link,
]


def writable(path: Path):
    """The modes of what is stored would make an honest mistake harder, and damage comes in other ways."""
    os.chmod(path, 0o600)
    return path


def check(ws, kept, what):
    """The run after the damage, and the one after that."""
    done = ws.breaking(*OPTIONS, do=DO)
    assert (done.code, picture(ws)) == (0, kept), (what, done)
    assert done.out == "log one\n" * 625, (what, done)
    healed = ws.breaking(*OPTIONS, do=DO)
    remove_outputs(ws)
    again = ws.breaking(*OPTIONS, do=DO)
    assert (healed.ran, again.ran, picture(ws)) == (0, 0, kept), (what, healed, again)
    assert healed.err == again.err == "", (what, healed, again)
    return done


@pytest.mark.parametrize(
    ("damage", "recalled"),
    [*[(damage, False) for damage in DAMAGES], (flipped, True), (removed, True), (swapped, True)],
)
def test_a_damaged_blob_is_noticed_when_outputs_are_put_back(ws, kept, damage, recalled):
    (entry,) = ws.entries()
    blobs = {blob.name: blob for blob in ws.blobs()}
    result = load_entry(str(entry), entry.name)
    names = sorted(Reach(str(ws.store), lambda name: blobs[name].stat().st_size).of_result(result))
    assert len(names) == 6, "four outputs, the log and a tree"
    outputs = {hashlib.sha256(path.read_bytes()).hexdigest() for path in ws.root.rglob("*") if path.is_file()}
    for number, name in enumerate(names):
        if recalled:
            for _ in range(2):
                ws.breaking(*OPTIONS, do=DO, clock=100_000)
        else:
            ws.forget_records()
        remove_outputs(ws)
        damage(writable(blobs[name]), writable(blobs[names[number - 1]]))
        done = check(ws, kept, name)
        if recalled and name not in outputs and done.ran == 0:
            # The record has the log and the names, and doesn't ask the store for them. It may be lost at any time.
            assert done.said == [], done
            ws.forget_records()
            remove_outputs(ws)
            done = check(ws, kept, name)
        assert (done.ran, len(done.said)) == (1, 1), done
        ws.verify()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_noticed(ws, kept, damage):
    (ours,) = ws.entries()
    ws.write("in", "other\n")
    ws.breaking(*OPTIONS, do=DO)
    ws.write("in", "one\n")
    assert ws.breaking(*OPTIONS, do=DO).ran == 0
    other = next(path for path in ws.entries() if path != ours)
    for outputs in ("there", "gone"):
        ws.forget_records()
        if outputs == "gone":
            remove_outputs(ws)
        damage(writable(ours), writable(other))
        done = check(ws, kept, outputs)
        assert done.ran == 1, done
        assert len(done.said) == (0 if damage is removed else 1), done
        assert "damaged" in done.err or damage is removed
        # The damage may have been done to the other's as well.
        if damage is swapped:
            ws.write("in", "other\n")
            assert len(ws.breaking(*OPTIONS, do=DO).said) == 1
            ws.write("in", "one\n")
            ws.breaking(*OPTIONS, do=DO)
        ws.verify()


def test_every_bit_of_an_entry_counts(ws, kept):
    (entry,) = ws.entries()
    content = entry.read_bytes()
    for at in range(0, len(content), 23):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        entry.write_bytes(damaged)
        ws.forget_records()
        done = ws.breaking(*OPTIONS, do=DO)
        assert (done.ran, len(done.said), picture(ws)) == (1, 1, kept), at


@pytest.mark.parametrize("what", ["recall/*", "state/*", "ids/*", "size", "locks/*", "journal/*"])
def test_damage_to_what_is_only_remembered_changes_no_answer(ws, kept, what):
    for damage in (truncated, emptied, extended, flipped, zeroed, swapped, removed):
        for content, ran in (("one\n", 0), (f"new {damage}\n", 1), ("one\n", 0)):
            ws.write("in", content)
            for path in sorted(ws.store.glob(what)):
                if damage is not flipped or path.stat().st_size:
                    damage(path, ws.store / "CACHEDIR.TAG")
            done = ws.breaking(*OPTIONS, do=DO)
            assert (done.code, done.ran) == (0, ran), (damage, done)
            # Whose outputs those of the last run are may have been forgotten: then they are taken for the user's.
            assert all(line.startswith("moved to the trash") for line in done.said), (damage, done)
            assert ws.read("dist/plain") == f"plain {content}"
        for _ in range(2):
            ws.breaking(*OPTIONS, do=DO, clock=100_000)
        assert ws.records() != []


def test_a_file_in_the_place_of_each_directory_of_the_store(ws, kept):
    for name in sorted(path.name for path in ws.store.iterdir() if path.is_dir()):
        aside = ws.base / "aside"
        (ws.store / name).rename(aside)
        (ws.store / name).write_text("in the way")
        for content in ("one\n", f"{name}\n"):
            ws.write("in", content)
            done = ws.breaking(*OPTIONS, do=DO)
            assert (done.code, ws.read("dist/plain")) == (0, f"plain {content}"), done
            assert len(done.said) <= 1, done
        (ws.store / name).unlink()
        aside.rename(ws.store / name)
        ws.write("in", "one\n")
        assert ws.breaking(*OPTIONS, do=DO).code == 0
        assert picture(ws) == kept
