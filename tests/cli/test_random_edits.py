"""Whatever is done to the files: a run through `capsule` leaves what the command alone would have left.

Found once: a file that was new at one run and gone at the next was still in the key, if nothing else had changed.
"""

import os
import random
import shutil
import subprocess

import pytest

# Shows everything that it may depend on, in several outputs; of other outputs it takes away what it finds.
DO = r"""
rm -rf dist *.log; mkdir -p dist/sub dist/empty
{ cat in ../outer; echo "V=${V-unset}"; for f in src/* src/*/*; do ls -ld "$f" | cut -c1,4; echo "$f"; readlink "$f";
test -f "$f" && cat "$f"; done; } > dist/all 2> /dev/null
cp dist/all dist/sub/all; ln -s all dist/link; wc -c < dist/all | tee gen.log; echo warned >&2; umask 022
test -x src/a && chmod 755 dist/all; true
"""
SHAPES = (
    ("-i", "in", "-i", "src/**", "-i", "../outer", "-e", "V", "-o", "dist", "-o", "*.log"),
    ("-i", "i*", "-i", "src/*", "-i", "src/sub", "-i", "../out*", "-e", "V", "-o", "dist/**", "-o", "*.log"),
    ("-i", "**", "-i", "!hidden", "-i", "../outer", "-e", "V", "-o", "//dist/", "-o", "[gs]*.log"),
)  # fmt: skip
WORDS = ("1", "2", "x")
NAMES = ("src/a", "src/b", "src/c", "src/sub/d", "in")


class Tinkerer:
    """Does to the workspace what people, editors and other programs do."""

    def __init__(self, ws, chance):
        self.ws = ws
        self.chance = chance
        self.last = ws.path("in")

    def do_something(self):
        try:
            self.chance.choice((
                self.edit, self.edit, self.edit, self.edit, self.remove, self.remove_last, self.remove_last,
                self.remove_last, self.mode, self.keep_time, self.touch, self.variable, self.outer, self.link,
                self.hidden, self.lose_outputs, self.spoil, self.leave_over, self.lose_memory,
            ))()  # fmt: skip
        except (FileNotFoundError, NotADirectoryError):  # there is nothing to do it to
            pass

    def file(self):
        return self.ws.path(self.chance.choice(NAMES))

    def edit(self):
        self.last = self.file()
        self.last.unlink(missing_ok=True)
        self.last.write_text(self.chance.choice(WORDS))

    def remove_last(self):
        if self.last.name != "in":
            self.last.unlink()

    def remove(self):
        self.ws.path(self.chance.choice(NAMES[:-1])).unlink()

    def mode(self):
        self.file().chmod(self.chance.choice((0o644, 0o755)))

    def keep_time(self):
        path = self.file()
        before = path.stat()
        path.write_text(self.chance.choice(WORDS))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def touch(self):
        os.utime(self.file())

    def variable(self):
        self.ws.environ["V"] = self.chance.choice(WORDS)

    def outer(self):
        self.ws.write("../outer", self.chance.choice(WORDS))

    def link(self):
        self.ws.path("src/link").unlink(missing_ok=True)
        os.symlink(self.chance.choice(("a", "b", "../hidden", "nowhere")), self.ws.path("src/link"))

    def hidden(self):
        self.ws.write("hidden", self.chance.choice(WORDS))

    def lose_outputs(self):
        shutil.rmtree(self.ws.path("dist"))

    def spoil(self):
        path = self.ws.path(self.chance.choice(("dist/all", "dist/sub/all", "gen.log")))
        self.chance.choice((lambda: path.chmod(0o600), lambda: path.write_text("spoilt"), path.unlink))()

    def leave_over(self):
        self.ws.write(self.chance.choice(("dist/stale", "dist/empty/stale", "stale.log")))

    def lose_memory(self):
        lost = self.chance.choice(("recall", "state", "ac", "cas"))
        shutil.rmtree(self.ws.store / lost, ignore_errors=True)


def outputs(root):
    seen = {}
    for path in sorted([*root.glob("*.log"), root / "dist", *(root / "dist").rglob("*")]):
        content = os.readlink(path) if path.is_symlink() else "" if path.is_dir() else path.read_text()
        seen[str(path.relative_to(root))] = (f"{path.lstat().st_mode:o}", content)
    return seen


@pytest.mark.parametrize("seed", range(6))
def test_a_run_leaves_what_the_command_alone_would_have_left(ws, seed):
    chance, shape = random.Random(seed), SHAPES[seed % len(SHAPES)]
    tinkerer = Tinkerer(ws, chance)
    for name in ("in", "src/a", "src/sub/always", "../outer"):
        ws.write(name, "1")
    ran = 0
    for step in range(30):
        for _ in range(chance.choice((0, 1, 1, 2))):
            tinkerer.do_something()
        alone = ws.base / f"alone{step}"
        alone.mkdir()
        shutil.copytree(ws.root, alone / "work", symlinks=True)
        shutil.copy(ws.base / "outer", alone / "outer")
        # Ours first: a change of this very moment is the hardest.
        done = ws.capsule(*chance.choice(((), ("-v",))), *shape, do=DO)
        expected = subprocess.run(
            ["sh", "-c", DO], cwd=alone / "work", env=ws.environ, capture_output=True, text=True, check=True
        )
        assert (done.code, done.out) == (0, expected.stdout), f"step {step}"
        assert "warned\n" in done.err
        assert outputs(ws.root) == outputs(alone / "work"), f"step {step}"
        ran += done.ran
    assert 0 < ran < 30
