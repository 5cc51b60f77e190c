"""kill -9 at every step of a miss and of a hit: nothing wrong is hit afterwards, and nothing of the user's is lost."""

import os
import shutil
import subprocess
import time

import pytest

OPTIONS = ("-c", "killed", "-i", "in", "-o", "dist", "-o", "gen/*.o")
DO = (
    "rm -rf dist gen; mkdir -p dist/empty dist/deep gen; read a < in/a; read b < in/b;"
    'echo "plain $a" > dist/plain; echo "deep $b" > dist/deep/file; echo "$a$b" > gen/x.o; echo "$b" > gen/y.o;'
    'chmod 755 dist/plain; ln -s deep/file dist/link; echo "made of $a"; echo "told of $b" >&2'
)
LATER = 100_000


@pytest.fixture
def made(ws):
    """What the command makes of two inputs, found out without `capsule`."""
    plain = ws.base / "plain"
    (plain / "in").mkdir(parents=True)
    (plain / "in" / "a").write_text("@a@\n")
    (plain / "in" / "b").write_text("@b@\n")
    subprocess.run(["sh", "-c", DO], cwd=plain, check=True, capture_output=True)
    found = {name[len(str(plain)) :]: seen for name, seen in pictured(plain).items()}

    def put_in(content, a, b):
        return content.replace(b"@a@", a.encode()).replace(b"@b@", b.encode())

    def of(a, b):
        return {
            name: (mode, put_in(content, a, b) if isinstance(content, bytes) else content)
            for name, (mode, content) in found.items()
        }

    return of


def pictured(root):
    seen = {}
    for top in ("dist", "gen"):
        for path in (root / top, *sorted((root / top).rglob("*"))):
            look = path.lstat()
            if path.is_symlink():
                seen[str(path)] = ("link", os.readlink(path))
            else:
                seen[str(path)] = (f"{look.st_mode:o}", "" if path.is_dir() else path.read_bytes())
    return seen


def give(ws, a, b):
    ws.write("in/a", a + "\n")
    ws.write("in/b", b + "\n")


def run_right(ws, made, a, b, **keywords):
    """A run after the kill: whatever it does, its answer is right."""
    done = ws.breaking(*OPTIONS, do=DO, **keywords)
    assert done.code == 0, done
    seen = {name[len(str(ws.root)) :]: what for name, what in pictured(ws.root).items()}
    assert seen == made(a, b), done
    assert done.out == f"made of {a}\n"
    assert f"told of {b}\n" in done.err
    return done


def kept_contents(ws):
    """All that a user would find: in the workspace, and in the trash."""
    found = set()
    for top in (ws.root, *(folder / "item" for folder in ws.store.glob("trash/*"))):
        for path in (top, *top.rglob("*")):
            if path.is_symlink():
                found.add("-> " + os.readlink(path))
            elif path.is_file():
                found.add(path.read_text())
    return found


def no_leftovers(ws, done):
    names = {path.name for path in ws.root.rglob("*")}
    ours = {"in", "a", "b", "dist", "plain", "deep", "file", "empty", "link", "gen", "x.o", "y.o"}
    assert names <= ours, done


def nothing_stays_in_tmp(ws):
    """What kills left in the store is gone after the sweep of some later day."""
    from capsula.store.sweep import tidy

    tidy(str(ws.store), time.time() + 30 * 86400)
    assert list((ws.store / "tmp").rglob("*")) == []


# ------------------------------------------------------------------------------------------- a miss


@pytest.mark.parametrize("first", [True, False], ids=["of an empty store", "of a store in use"])
def test_killed_at_every_step_of_a_miss(ws, made, first):
    give(ws, "0", "b")
    if not first:
        run_right(ws, made, "0", "b")
    for step in range(1, 1000):
        if first:
            shutil.rmtree(ws.cache, ignore_errors=True)
            shutil.rmtree(ws.path("dist"), ignore_errors=True)
        give(ws, str(step), "b")
        done = ws.breaking(*OPTIONS, do=DO, kind="kill", at=step)
        if done.code != -9:
            assert done.code == 0, done
            break
        ws.verify()
        if step % 2:  # with other inputs first: the half-done run must not answer for them
            give(ws, f"other {step}", "c")
            assert run_right(ws, made, f"other {step}", "c").ran == 1
            give(ws, str(step), "b")
        run_right(ws, made, str(step), "b")
        assert run_right(ws, made, str(step), "b").ran == 0
        ws.verify()
        no_leftovers(ws, done)
    assert step > 30, "too few steps to be all"
    nothing_stays_in_tmp(ws)


# ------------------------------------------------------------------------------------------- a hit


def nothing(ws, step):
    return set()


def all_missing(ws, step):
    shutil.rmtree(ws.path("dist"))
    shutil.rmtree(ws.path("gen"))
    return set()


def edited(ws, step):
    ws.path("dist/empty").rmdir()
    ws.write("dist/plain", f"edited by hand {step}")
    ws.write("dist/deep/file", "D" * len(ws.read("dist/deep/file")))
    ws.path("dist").chmod(0o700)
    ws.write("dist/notes", f"notes {step}")
    ws.write("dist/deep/er/notes", f"deeper notes {step}")
    ws.write("gen/z.o", f"no object {step}")
    ws.path("dist/away").symlink_to(f"nowhere {step}")
    contents = ("edited by hand", "notes", "deeper notes", "no object", "-> nowhere")
    return {f"{content} {step}" for content in contents} | {ws.read("dist/deep/file")}


def other_types(ws, step):
    ws.path("dist/plain").unlink()
    ws.write("dist/plain/inside", f"in place of a file {step}")
    shutil.rmtree(ws.path("dist/deep"))
    ws.write("dist/deep", f"in place of a directory {step}")
    ws.path("dist/link").unlink()
    ws.write("dist/link", f"in place of a link {step}")
    ws.path("dist/empty").rmdir()
    ws.path("dist/empty").symlink_to(f"empty {step}")
    ws.path("gen/x.o").unlink()
    ws.write("gen/x.o/inside", f"where no pattern looks {step}")
    return {
        f"in place of a file {step}",
        f"in place of a directory {step}",
        f"in place of a link {step}",
        f"-> empty {step}",
        f"where no pattern looks {step}",
    }


def kill_a_hit(ws, made, spoil, *, recalled):
    give(ws, "a", "b")
    run_right(ws, made, "a", "b")
    for step in range(1, 1000):
        if recalled:  # twice: when outputs have just been put back, the record isn't whole yet
            for _ in range(2):
                run_right(ws, made, "a", "b", clock=LATER)
            assert len(ws.records()) == 1
        else:
            ws.forget_records()
        precious = spoil(ws, step)
        done = ws.breaking(*OPTIONS, do=DO, kind="kill", at=step)
        assert precious <= kept_contents(ws), done
        if done.code != -9:
            assert (done.code, done.ran) == (0, 0), done
            break
        ws.verify()
        assert run_right(ws, made, "a", "b").ran == 0, done
        assert precious <= kept_contents(ws), done
        no_leftovers(ws, done)
        shutil.rmtree(ws.store / "trash", ignore_errors=True)
    run_right(ws, made, "a", "b")
    nothing_stays_in_tmp(ws)
    return step


ALL = [nothing, all_missing, edited, other_types]


@pytest.mark.parametrize("recalled", [True, False], ids=["recalled", "the whole way"])
@pytest.mark.parametrize("spoil", ALL)
def test_killed_at_every_step_of_a_hit(ws, made, spoil, recalled):
    steps = kill_a_hit(ws, made, spoil, recalled=recalled)
    assert steps > (3 if spoil is nothing else 15), "too few steps to be all"


def test_killed_at_every_step_of_a_hit_that_replaces_an_older_result(ws, made):
    def old_result(ws, step):
        give(ws, "old", "b")
        run_right(ws, made, "old", "b")
        give(ws, "a", "b")
        return set()

    assert kill_a_hit(ws, made, old_result, recalled=False) > 15
    assert list(ws.store.glob("trash/*")) == [], "what runs of this capsule made isn't the user's"


# ------------------------------------------------------------------------------------------- across file systems


@pytest.fixture
def far(ws, elsewhere):
    """The store is on another file system than the workspace: nothing can be renamed from one to the other."""
    ws.cache, ws.store = elsewhere, elsewhere / "capsula"
    ws.environ["XDG_CACHE_HOME"] = str(elsewhere)


@pytest.mark.parametrize(("spoil", "recalled"), [(edited, True), (other_types, False)])
def test_killed_at_every_step_of_a_hit_from_another_file_system(far, ws, made, spoil, recalled):
    assert kill_a_hit(ws, made, spoil, recalled=recalled) > 15


@pytest.mark.parametrize("where", ["the same file system", "another file system"])
def test_killed_at_every_step_with_a_large_output(ws, request, where):
    """Above a MiB contents go in pieces from file to file."""
    kinds = ("miss", "hit over an edited one")
    if where == "another file system":
        request.getfixturevalue("far")
        kinds = ("hit over an edited one",)
    options, do = ("-i", "in", "-o", "big"), "read a < in; yes $a | head -c 1300000 > big"
    for kind in kinds:
        for step in range(1, 1000):
            content = f"{kind} {step}"
            ws.write("in", content)
            right = ((content + "\n").encode() * 300_000)[:1_300_000]
            precious = b""
            if kind != "miss":
                assert ws.breaking(*options, do=do).code == 0
                ws.path("big").unlink()
            if kind == "hit over an edited one":
                precious = f"edited {content}\n".encode() * 100_000
                ws.write("big", precious)
            done = ws.breaking(*options, do=do, kind="kill", at=step)
            if done.code != -9:
                assert done.code == 0
                break
            ws.verify()
            again = ws.breaking(*options, do=do)
            assert (again.code, again.ran) == (0, int(kind == "miss" and again.ran)), done
            assert ws.path("big").read_bytes() == right, done
            if precious:
                assert {path.read_bytes() for path in ws.store.glob("trash/*/item")} == {precious}, done
                shutil.rmtree(ws.store / "trash")
            assert sorted(path.name for path in ws.root.iterdir()) == ["big", "in"]
        assert step > 10
    ws.verify()
    nothing_stays_in_tmp(ws)


def test_killed_while_outputs_on_another_file_system_are_put_back(ws, elsewhere):
    """Then they are prepared right beside their place, as nothing of ours is on their file system."""
    names = "abcdef"
    options = ("-i", "in", *[word for name in names for word in ("-o", f"{elsewhere}/{name}/out")])
    do = f"for n in {' '.join(names)}; do mkdir -p {elsewhere}/$n; cat in > {elsewhere}/$n/out; done"
    ws.write("in", "one")
    assert ws.breaking(*options, do=do).code == 0
    for step in range(1, 1000):
        for name in names:
            (elsewhere / name / "out").unlink()
        done = ws.breaking(*options, do=do, kind="kill", at=step)
        if done.code != -9:
            break
        assert ws.breaking(*options, do=do).ran == 0
        found = sorted(str(path.relative_to(elsewhere)) for path in elsewhere.rglob("*"))
        assert found == sorted([*names, *[f"{name}/out" for name in names]]), done
        assert {(elsewhere / name / "out").read_text() for name in names} == {"one"}
    assert step > 15
