"""`@capsula.monitor(cache=True)` in real programs: the call is a cached action as well."""

import json

import pytest

from cli.functions import SQUARE, Project


@pytest.fixture
def project(ws):
    return Project(ws)


def test_a_hit_returns_the_result_and_the_capsule_says_which_run_made_it(project):
    for _ in range(2):
        done = project.python(SQUARE + "print(square(3))")
        assert (done.stdout, done.stderr) == ("{'n': 9, 'seed': 0}\n", "")
    assert project.ran == 1
    maker, hit = project.read("capsule.json", 0), project.read("capsule.json", 1)
    assert (maker["outcome"], hit["outcome"], hit["key"]) == ("miss", "hit", maker["key"])
    assert hit["made_by"]["capsule"] == maker["id"]
    assert hit["made_by"]["run"] == project.read("post-run-info.json", 0)["result"]["run"]
    assert project.read("post-run-info.json")["return_value"] == {"n": 9, "seed": 0}
    rows = [json.loads(line) for line in project.ws.tool("history", "--json").out.splitlines()]
    assert sorted(row["outcome"] for row in rows) == ["hit", "miss"]
    assert {row["id"] for row in rows} == {"script.square"}


def test_however_the_same_arguments_are_given_it_is_the_same_call(project):
    project.python(
        SQUARE + "square(3); square(n=3); square(3, seed=0); square(seed=0, n=3); square(**{'n': 3})"
    )
    assert project.ran == 1
    project.python(
        SQUARE + "square(3.0); square(True); square('3' and 4); square(3, seed=1); square(3, seed=1.0)"
    )
    assert project.ran == 6
    assert project.why == "argument seed changed"


def test_a_file_that_is_run_or_imported_has_the_same_functions(project):
    project.python(SQUARE + "if __name__ == '__main__': square(3)")
    project.python("import script; script.square(3)", name="other.py")
    assert project.ran == 1


def test_a_class_of_the_file_is_the_one_that_is_there_now(project):
    """`__main__.Point` of one program is no class of another, though they may look alike."""
    point = """
import dataclasses
@dataclasses.dataclass
class Point:
    x: int
@capsula.monitor(cache=True)
def made():
    ran()
    return [Point(1)]
"""
    assert project.python(point + "assert type(made()[0]) is Point", name="shape.py").returncode == 0
    other = "import dataclasses, shape\n@dataclasses.dataclass\nclass Point:\n  x: int\n"
    done = project.python(other + "assert type(shape.made()[0]) is shape.Point", name="other.py")
    assert (done.returncode, done.stderr, project.ran) == (0, "", 1)


VALUES = """
import copy, dataclasses, enum, typing, pathlib, collections, datetime
import numpy

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    where: pathlib.Path

class Pair(typing.NamedTuple):
    left: list
    right: Color

VALUES = [
    None, True, 0, -5, 10 ** 50, 1.5, float("inf"), -0.0, 1j, "", "a\\udcffé", b"\\0", bytearray(b"x"),
    [1, [2]], (1, (2,)), {"b": 1, "a": 2}, {1: {2}}, {1, "x"}, frozenset((3,)), pathlib.Path("a/b"),
    Color.RED, Point(1, pathlib.Path("x")), Pair([1], Color.RED), [Point(2, pathlib.Path("y"))],
    numpy.arange(6.0).reshape(2, 3), numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
    numpy.float32(1.5), numpy.array([1 + 2j]), numpy.zeros((0, 3), ">i2"), numpy.array(7),
]

@capsula.monitor(cache=True)
def made(at):
    ran()
    return copy.deepcopy(VALUES[at])

def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, (numpy.ndarray, numpy.generic)):
        return one.dtype == other.dtype and one.shape == other.shape and (one == other).all()
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and repr(one) == repr(other)

for at, value in enumerate(VALUES):
    assert same(made(at), value), (at, value, made(at))
"""


def test_what_comes_back_is_equal_and_of_the_same_type(project):
    first = project.python(VALUES)
    assert first.stderr == ""
    count = project.ran
    assert count >= 25
    second = project.python(VALUES)
    assert (second.returncode, second.stderr) == (0, "")
    assert project.ran == count


def test_a_frame_is_taken_and_given_back(project):
    script = """
import pandas as pd
@capsula.monitor(cache=True)
def grown(frame, by):
    ran()
    return frame.assign(total=frame["a"].cumsum() * by)
frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]}, index=pd.date_range("2026-01-01", periods=3))
told = grown(frame, 2)
pd.testing.assert_frame_equal(told, frame.assign(total=[2, 6, 12]))
"""
    for _ in range(2):
        done = project.python(script)
        assert (done.returncode, done.stderr) == (0, "")
    assert project.ran == 1
    assert project.python(script.replace("[1, 2, 3]", "[1, 2, 4]")).returncode == 1
    assert project.why == "argument frame changed"


EDITED = """
RATE = 3
TABLE = {"a": [1]}
def helper(x):
    return deeper(x) + 1
def deeper(x):
    return x
def unrelated():
    return 1
class Model:
    size = 2
    def fit(self, x):
        return x * self.size
@capsula.monitor(cache=True)
def work(n=1):
    # a remark
    ran()
    return helper(n) * RATE + Model().fit(n) + TABLE["a"][0] + sum(map(lambda x: x + 1, [n]))
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("* RATE +", "* RATE -", "code work was edited"),
        ("x + 1, [n]", "x + 2, [n]", "code work was edited"),
        ("deeper(x) + 1", "deeper(x) + 2", "code helper was edited"),
        ("    return x\n", "    return x + 0\n", "code deeper was edited"),
        ("size = 2", "size = 3", "code Model was edited"),
        ("x * self.size", "x + self.size", "code Model.fit was edited"),
        ("RATE = 3", "RATE = 3.0", "value RATE changed"),
        ("[1]}", "[2]}", "value TABLE changed"),
        ("n=1", "n=2", "argument n changed; code work was edited"),
        ("# a remark", "# another one\n\n", None),
        ("return 1\nclass", "return 2\nclass", None),
        ("RATE = 3\n", "\n\n\nRATE = 3\nOTHER = 4\n", None),
    ],
)
def test_an_edit_of_what_it_uses_is_a_miss_that_names_it(project, old, new, why):
    project.python(EDITED + "work()")
    assert old in EDITED
    project.python(EDITED.replace(old, new) + "work()")
    assert project.ran == (1 if why is None else 2)
    if why is not None:
        assert project.why == why


def test_the_current_directory_and_the_words_of_the_program_are_part_of_the_key(project):
    script = "import sys\nos.chdir(sys.argv[1])\n"
    script += "@capsula.monitor(cache=True)\ndef f():\n  open(LOG, 'a').write('ran\\n')\n  return REST\n"
    script = script.replace("REST", "open('in.txt').read()").replace("LOG", repr(str(project.ws.path("ran"))))
    for name in ("one", "two"):
        project.ws.write(f"{name}/in.txt", name)
        assert project.python(script + "print(f())", name).stdout == f"{name}\n"
    assert project.why == "cwd was 'one', is 'two'"
    script = "import sys\n@capsula.monitor(cache=True)\ndef g(): return sys.argv[1:]\nprint(g())"
    assert project.python(script, "one").stdout == "['one']\n"
    assert project.python(script, "two").stdout == "['two']\n"
    assert project.why == "value sys.argv changed"


@pytest.mark.parametrize("use", ["import tools", "from tools import clean"])
def test_a_function_of_another_file_of_the_program_is_followed(project, use):
    call = "tools.clean" if use == "import tools" else "clean"
    script = f"{use}\n@capsula.monitor(cache=True)\ndef work(n):\n    ran()\n    return {call}(n)\nwork(1)"
    tools = (
        "LIMIT = {limit}\ndef clean(n):\n    return other(n) + LIMIT\ndef other(n):\n    return n {op} 1\n"
    )
    for limit, op, runs, why in (
        (1, "+", 1, "it is the first run of this capsule"),
        (1, "+", 1, "nothing that it depends on has changed"),
        (1, "-", 2, "code tools.other was edited"),
        (2, "-", 3, "value tools.LIMIT changed"),
    ):
        project.ws.write("tools.py", tools.format(limit=limit, op=op))
        done = project.python(script)
        assert (done.stderr, project.ran, project.why) == ("", runs, why)


def test_code_that_was_edited_since_it_was_imported_is_not_keyed_as_what_it_is_now(project):
    """The old code runs, and its result must not be the answer for the new one."""
    tools = "def clean(n):\n    return n + {add}\n"
    script = """
import pathlib, sys
import tools
if len(sys.argv) > 1:
    pathlib.Path("tools.py").write_text(pathlib.Path("new.py").read_text())
@capsula.monitor(cache=True)
def work(n):
    return tools.clean(n)
print(work(1))
"""
    project.ws.write("tools.py", tools.format(add=1))
    project.ws.write("new.py", tools.format(add=100))
    assert project.python(script, "edit").stdout == "2\n"
    assert project.python(script).stdout == "101\n"


def test_inputs_outputs_and_variables_are_declared(project):
    script = """
@capsula.monitor(cache=True, inputs=["in.txt"], outputs=["made/*.txt"], env=["MODE"])
def work():
    ran()
    os.makedirs("made", exist_ok=True)
    text = open("in.txt").read() + os.environ.get("MODE", "")
    open("made/out.txt", "w").write(text)
    return len(text)
print(work())
"""
    project.ws.write("in.txt", "one")
    assert project.python(script).stdout == "3\n"
    project.ws.path("made/out.txt").unlink()
    assert project.python(script).stdout == "3\n"
    assert (project.ran, project.ws.read("made/out.txt")) == (1, "one")
    project.ws.write("in.txt", "three")
    assert project.python(script).stdout == "5\n"
    assert project.why == "in.txt was edited"
    assert project.python(script, environ={"MODE": "fast"}).stdout == "9\n"
    assert project.why == "variable MODE is set now"
    project.ws.path("in.txt").unlink()
    done = project.python(script)
    assert "work() is not cached: no input matches 'in.txt'" in done.stderr
    assert "FileNotFoundError" in done.stderr


def test_an_item_of_the_project_declares_as_well(project):
    project.ws.write(
        "capsula.toml",
        "[monitor]\ncapture = false\n[monitor.item.x]\ncache = true\n[monitor.item.x.files]\n'out.txt' = 'md5'\n",
    )
    script = """
@capsula.monitor(items=["x"])
def work():
    ran()
    open("out.txt", "w").write("made")
work()
"""
    project.python(script)
    project.ws.path("out.txt").unlink()
    project.python(script)
    assert (project.ran, project.ws.read("out.txt")) == (1, "made")
    project.python(script.replace('["x"]', '["x"], cache=False'))
    assert project.ran == 2


def test_an_exception_is_not_cached_and_reaches_the_caller(project):
    script = """
@capsula.monitor(cache=True)
def work():
    ran()
    raise ValueError("odd")
work()
"""
    for _ in range(2):
        done = project.python(script)
        assert done.stderr.endswith("ValueError: odd\n")
        assert (done.returncode, done.stderr.count("Traceback")) == (1, 1)
    assert project.ran == 2
    assert project.read("post-run-info.json")["result"]["not_stored"] == "the function raised ValueError"
    assert project.read("capsule.json")["status"] == "failed"


LOCKED = """
import threading
def g(lock):
    @capsula.monitor(cache=True)
    def f():
        with lock:
            ran()
    return f
f = g(threading.Lock())
f()
f()
"""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "FILE = open(__file__)\n@capsula.monitor(cache=True)\ndef f(): ran(); return FILE.name and 1\nf(); f()",
            "FILE, which f uses, can't be part of a key: it is or holds a _io.TextIOWrapper",
        ),
        (
            "@capsula.monitor(cache=True)\ndef f(x): ran(); return 1\nf(iter([1])); f(iter([1]))",
            "the argument x can't be part of a key: it is or holds a list_iterator",
        ),
        (
            "@capsula.monitor(cache=True)\ndef f(): ran(); return os.environ.get('MODE')\nf(); f()",
            "f reads os.environ (name the variables that it reads: env=['NAME'])",
        ),
        (
            "from os import getenv\n@capsula.monitor(cache=True)\ndef f(): ran(); return getenv('M')\nf(); f()",
            "f reads getenv (name the variables that it reads: env=['NAME'])",
        ),
        (
            "@capsula.monitor(cache=True)\ndef f(): ran(); return eval('1')\nf(); f()",
            "f uses eval(), which can reach anything",
        ),
        (
            "N = 0\n@capsula.monitor(cache=True)\ndef f():\n  global N; N += 1; ran()\nf(); f()",
            "f changes the global N",
        ),
        (
            LOCKED,
            "what g.<locals>.f has of its surroundings as lock can't be part of a key",
        ),
        (
            "@capsula.monitor(cache=True)\ndef f():\n  import tools; ran()\nf(); f()",
            "f imports tools while it runs (import it at the top of the file)",
        ),
        (
            "@capsula.monitor(cache=True, include_return_value=False)\ndef f(): ran()\nf(); f()",
            "include_return_value=False",
        ),
        (
            "@capsula.monitor(cache=True)\ndef f():\n  ran()\n  yield 1\nlist(f()); list(f())",
            "a generator has no result that could be kept",
        ),
        (
            "@capsula.monitor(cache=True, cache_context=['git'])\ndef f(): ran()\nf(); f()",
            "the context has no section git that may change a result",
        ),
    ],
)
def test_what_cannot_be_keyed_safely_runs_and_the_reason_is_said_once(project, script, reason):
    project.ws.write("tools.py")
    done = project.python(script)
    assert done.returncode == 0, done
    assert project.ran == 2
    assert done.stderr.count("is not cached: ") == 1
    assert reason in done.stderr
    assert [project.read("capsule.json", at)["outcome"] for at in (0, 1)] == ["uncached"] * 2
    assert reason in project.why


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return object()", "its return value isn't stored: it is or holds a object"),
        ("return [print]", "its return value isn't stored"),
        ("x.append(1); return 1", "argument x changed while the function ran"),
        ("return [[0]] * 2", "isn't stored: it holds the same list in two places"),
        ("return [x]", "isn't stored: it is or holds a list that the program has already"),
        ("return SEEN", "isn't stored: it is or holds a list that the program has already"),
        ("return 2", "the declared output 'never.txt' was not made"),
        ("SEEN.append(1); return 1", "value SEEN changed while the function ran"),
    ],
)
def test_a_result_that_could_not_be_given_back_as_it_is_is_not_kept(project, body, reason):
    options = "cache=True, outputs=['never.txt']" if body == "return 2" else "cache=True"
    script = f"SEEN = []\n@capsula.monitor({options})\ndef f(x):\n  ran(); {body}\nf([]); f([])"
    done = project.python(script)
    assert (done.returncode, done.stderr.count("f() is not cached: ")) == (0, 1)
    assert reason in done.stderr
    assert project.ran == 2
    assert reason in project.read("post-run-info.json")["result"]["not_stored"]


def test_methods_closures_partials_and_coroutines_work(project):
    script = """
import asyncio, functools
class Model:
    def __init__(self, size): self.size = size
    @capsula.monitor(cache=True)
    def fit(self, x): ran(); return x * self.size
    @classmethod
    @capsula.monitor(cache=True)
    def make(cls, x): ran(); return x
def outer(step):
    @capsula.monitor(cache=True)
    def inner(x): ran(); return x + step
    return inner
@capsula.monitor(cache=True)
async def later(x): ran(); await asyncio.sleep(0); return x
@capsula.monitor(cache=True)
def apply(function, x): ran(); return function(x)
@capsula.monitor(cache=True)
def down(n): ran(); return n and down(n - 1) + 1
async def both(): return await asyncio.gather(later(1), later(1))
assert [Model(2).fit(3), Model(3).fit(3), Model.make(1), outer(1)(1), outer(2)(1)] == [6, 9, 1, 2, 3]
assert asyncio.run(later(5)) == 5
assert asyncio.run(both()) == [1, 1]
assert apply(functools.partial(pow, 2), 3) == 8
assert apply(lambda x: x + 1, 3) == 4
assert down(3) == 3
"""
    done = project.python(script)
    assert (done.returncode, done.stderr) == (0, "")
    count = project.ran
    assert count in (13, 14)  # of two coroutines at once, none waits for the other
    done = project.python(script)
    assert (done.returncode, done.stderr, project.ran) == (0, "", count)


def test_a_secret_argument_is_nowhere_in_the_store(project):
    project.python(
        '@capsula.monitor(cache=True)\ndef f(token): ran(); return len(token)\nf("canary7canary7"); f("canary7canary7")'
    )
    assert project.ran == 1
    for path in project.ws.store.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"canary7" not in content
        assert b"5:token" not in content, "not even as a hash, from which a short one can be guessed"
    assert project.ws.entries()
