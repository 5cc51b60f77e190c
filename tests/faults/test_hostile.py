"""Names from a store are hostile: a forged entry writes nothing outside of what is declared, and the command runs."""

import shutil
import stat
import time

import pytest

from capsula.core.capsule import TYPE_URL, Origin
from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import (
    ActionResult,
    Any,
    Directory,
    DirectoryNode,
    ExecutedActionMetadata,
    FileNode,
    NodeProperties,
    OutputDirectory,
    OutputFile,
    OutputSymlink,
    SymlinkNode,
    Tree,
)
from capsula.core.wire import encode
from capsula.store.disk import DiskStore

OPTIONS = ("-c", "hostile", "-i", "in", "-o", "dist", "-o", "gen/*.o")
DO = "mkdir -p dist gen; cat in > dist/good; cat in > gen/x.o; echo said"
EVIL = b"evil"


class Forger:
    """Puts a forged result under the key of a real one."""

    def __init__(self, ws):
        self.ws = ws
        self.outside = ws.base / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")
        ws.write("in", "one")
        assert ws.breaking(*OPTIONS, do=DO).ran == 1
        (entry,) = ws.entries()
        self.key = Digest(entry.name, 1)
        self.store = DiskStore(str(ws.store), now=time.time)
        self.evil = self.store.put(EVIL)

    def blob(self, message):
        return self.store.put(encode(message))

    def file(self, path, mode=0o644):
        return OutputFile(path=path, digest=self.evil, node_properties=NodeProperties(unix_mode=mode))

    def node(self, name, mode=0o644):
        return FileNode(name=name, digest=self.evil, node_properties=NodeProperties(unix_mode=mode))

    def tree(self, root, *children, path="dist"):
        tree_digest = self.blob(Tree(root=root, children=children))
        return ActionResult(output_directories=(OutputDirectory(path=path, tree_digest=tree_digest),))

    def put(self, result):
        self.store.store(self.key, result)
        self.ws.forget_records()

    def nothing_outside(self):
        assert [path.name for path in self.outside.iterdir()] == ["precious"]
        assert (self.outside / "precious").read_text() == "precious"
        assert sorted(path.name for path in self.ws.base.iterdir()) == sorted(
            {"work", "home", "cache", "outside", "ran", "out", "err"}
        )
        assert {path.name for path in self.ws.root.iterdir()} <= {"in", "dist", "gen"}

    def refused(self, result):
        """With outputs in place, and with none."""
        for gone in (False, True):
            self.put(result)
            if gone:
                shutil.rmtree(self.ws.path("dist"))
                shutil.rmtree(self.ws.path("gen"))
            done = self.ws.breaking(*OPTIONS, do=DO)
            assert (done.code, done.ran, len(done.said)) == (0, 1, 1), done
            self.nothing_outside()
            assert {path.name for path in self.ws.path("dist").iterdir()} == {"good"}
            again = self.ws.breaking(*OPTIONS, do=DO)
            assert (again.ran, again.said) == (0, []), again


@pytest.fixture
def forger(ws):
    return Forger(ws)


PATHS = [
    "/{outside}/evil",
    "{outside}/evil",
    "../evil",
    "../outside/evil",
    "dist/../../evil",
    "dist/../../outside/precious",
    "./dist/evil",
    "dist//evil",
    "dist/./evil",
    "dist/evil/",
    "evil",
    "in",
    "gen/evil.c",
    "gen/deep/evil.o",
    "dist/.git/config",
    ".git/hooks/post-checkout",
    "dist/.capsula-stage-1-0/evil",
    "dist/evil\0",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:30].replace("\0", "NUL"))
def test_a_file_of_a_hostile_name(forger, path):
    path = path.format(outside=forger.outside)
    forger.refused(ActionResult(output_files=(forger.file(path),)))
    forger.refused(ActionResult(output_symlinks=(OutputSymlink(path=path, target=str(forger.outside)),)))
    if path != "dist/evil/":
        forger.refused(forger.tree(Directory(files=(forger.node("x"),)), path=path))


@pytest.mark.parametrize("name", ["..", ".", "", "/", "a/b", "../evil", "/evil", "\0", "x\0y", ".git"])
def test_a_hostile_name_in_a_tree(forger, name):
    below = Directory(files=(forger.node("x"),))
    link = SymlinkNode(name=name, target=str(forger.outside))
    forger.refused(forger.tree(Directory(files=(forger.node(name),))))
    forger.refused(forger.tree(Directory(symlinks=(link,))))
    node = DirectoryNode(name=name, digest=digest_of(encode(below)))
    forger.refused(forger.tree(Directory(directories=(node,)), below))


def test_something_below_a_link_of_the_entry(forger):
    link = OutputSymlink(path="dist/away", target=str(forger.outside))
    forger.refused(ActionResult(output_symlinks=(link,), output_files=(forger.file("dist/away/evil"),)))
    link = OutputSymlink(path="dist", target=str(forger.outside))
    forger.refused(ActionResult(output_symlinks=(link,), output_files=(forger.file("dist/evil"),)))
    below = Directory(files=(forger.node("evil"),))
    both = Directory(
        directories=(DirectoryNode(name="away", digest=digest_of(encode(below))),),
        symlinks=(SymlinkNode(name="away", target=str(forger.outside)),),
    )
    forger.put(forger.tree(both, below))
    forger.ws.breaking(*OPTIONS, do=DO)
    forger.nothing_outside()


@pytest.mark.parametrize("recalled", [False, True])
def test_something_below_a_link_that_is_there(forger, recalled):
    """The link may be the user's own; what is behind it isn't declared."""
    ws = forger.ws
    do = "mkdir -p dist/sub gen; cat in > dist/sub/good; cat in > gen/x.o"
    assert ws.breaking(*OPTIONS, do=do).ran == 1
    for _ in range(2):
        ws.breaking(*OPTIONS, do=do, clock=100_000)
    if not recalled:
        ws.forget_records()
    for name in ("dist/sub", "dist"):
        shutil.rmtree(ws.path(name))
        ws.path(name).symlink_to(forger.outside)
        done = ws.breaking(*OPTIONS, do=do)
        assert (done.code, done.ran) == (0, 0), done
        forger.nothing_outside()
        assert not ws.path(name).is_symlink()
        assert ws.read("dist/sub/good") == ws.read("gen/x.o") == "one"
    # This way was written by the user, who wants what matches there, and nothing else.
    shutil.rmtree(ws.path("gen"))
    ws.path("gen").symlink_to(forger.outside)
    assert ws.breaking(*OPTIONS, do=do).code == 0
    assert sorted(path.name for path in forger.outside.iterdir()) == ["precious", "x.o"]


def test_bits_that_give_rights_away_are_dropped(forger):
    ws = forger.ws
    root = Directory(
        files=(forger.node("program", 0o6755), forger.node("odd", 0o107777)),
        node_properties=NodeProperties(unix_mode=0o7777),
    )
    shutil.rmtree(ws.path("dist"))
    forger.put(forger.tree(root))
    ws.breaking(*OPTIONS, do=DO)
    for path in (ws.path("dist"), *ws.path("dist").iterdir()):
        assert not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX), path


@pytest.mark.parametrize(
    "forge",
    [
        lambda f: ActionResult(output_files=(OutputFile(path="dist/good"),)),
        lambda f: ActionResult(output_files=(OutputFile(path="dist/good", digest=Digest("ab", 4)),)),
        lambda f: ActionResult(output_files=(OutputFile(path="dist/good", digest=Digest("../" * 20, 4)),)),
        lambda f: ActionResult(
            output_files=(OutputFile(path="dist/good", digest=Digest(f.evil.hash, 1 << 50)),)
        ),
        lambda f: ActionResult(output_files=(OutputFile(path="dist/good", digest=Digest(f.evil.hash, -4)),)),
        lambda f: ActionResult(output_directories=(OutputDirectory(path="dist"),)),
        lambda f: ActionResult(output_directories=(OutputDirectory(path="dist", tree_digest=f.evil),)),
        lambda f: f.tree(Directory(directories=(DirectoryNode(name="gone", digest=f.evil),))),
        lambda f: f.tree(Directory(directories=(DirectoryNode(name="gone"),))),
        lambda f: ActionResult(stdout_digest=Digest("0" * 64, 5)),
        lambda f: ActionResult(stdout_digest=Digest(f.evil.hash, 1 << 45)),
    ],
    ids=range(11),
)
def test_a_result_that_cannot_be(forger, forge):
    forger.refused(forge(forger))


@pytest.mark.parametrize(
    "path", ["dist/" + "long/" * 1000 + "evil", "dist/" + "n" * 300], ids=["deep", "long"]
)
def test_names_that_no_file_system_takes(forger, path):
    ws = forger.ws
    for result in (
        ActionResult(output_files=(forger.file(path),)),
        ActionResult(output_symlinks=(OutputSymlink(path=path, target="x"),)),
    ):
        before = ws.picture("dist", "gen")
        forger.put(result)
        done = ws.breaking(*OPTIONS, do=DO)
        assert (done.code, done.ran, len(done.said)) == (0, 1, 1), done
        assert ws.picture("dist", "gen") == before
        forger.nothing_outside()
        ws.verify()
    assert list((ws.store / "tmp").iterdir()) == []


@pytest.mark.parametrize("order", [((5, 3),), ((1, -3), (2, 1 << 60)), ((0, 1),), ((1, 1 << 62),)])
def test_an_order_of_the_log_that_cannot_be(forger, order):
    ws = forger.ws
    shutil.rmtree(ws.path("dist"))
    result = forger.tree(Directory(files=(forger.node("good"),)))
    result.stdout_raw = b"said\n"
    metadata = Any(type_url=TYPE_URL, value=Origin(order=order).to_bytes())
    result.execution_metadata = ExecutedActionMetadata(auxiliary_metadata=(metadata,))
    forger.put(result)
    done = ws.breaking(*OPTIONS, do=DO)
    assert (done.code, done.out) == (0, "said\n"), done
