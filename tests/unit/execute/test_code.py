"""What a function's key is made of: whatever changes what it does changes a fact, or it is refused."""

import importlib
import logging
import sys
import textwrap
import types

import numpy
import pytest

from capsula.execute.canonical import Unkeyable
from capsula.execute.code import call_facts

NAME = "a_program_of_the_test"


@pytest.fixture
def program():
    def make(text, name=NAME):
        module = types.ModuleType(name)
        module.__file__ = f"/nowhere/{name}.py"
        sys.modules[name] = module
        made.append(name)
        exec(compile(textwrap.dedent(text), module.__file__, "exec"), module.__dict__)
        return module

    made: list[str] = []
    yield make
    for name in made:
        sys.modules.pop(name, None)


# Each is a program with `?` where two versions of it differ.
WHATEVER_IT_USES = {
    "a function": "def g(): return ?\ndef f(): return g()",
    "a default": "def f(x=[?]): return x",
    "a default of a helper": "def g(x=?): return x\ndef f(): return g()",
    "a keyword default": "def g(*, x=?): return x\ndef f(): return g()",
    "a closure": "def o(x):\n  def i(): return x\n  return i\nf = o(?)",
    "a closure's function": "def o():\n  def g(): return ?\n  def i(): return g()\n  return i\nf = o()",
    "a nested function": "A = ?\ndef f(): return (lambda: (lambda: A)())()",
    "a comprehension": "A = ?\ndef f(): return [A for _ in 'a']",
    "a class body": "A = ?\ndef f():\n  class K:\n    a = A\n  return K.a",
    "a partial": "import functools\ndef g(n): return n\nh = functools.partial(g, ?)\ndef f(): return h()",
    "a table of functions": "T = {'a': lambda x: x + ?}\ndef f(): return T['a'](1)",
    "a method": "class A:\n  def m(self): return ?\na = A()\ndef f(): return a.m()",
    "a base class": "class B:\n  def m(self): return ?\nclass A(B): pass\ndef f(): return A().m()",
    "a metaclass": "class M(type):\n  def go(c): return ?\nclass A(metaclass=M): pass\ndef f(): return A.go()",
    "a property": "class A:\n  @property\n  def p(self): return ?\ndef f(): return A().p",
    "a static method": "class A:\n  @staticmethod\n  def p(): return ?\ndef f(): return A.p()",
    "a cached property": (
        "import functools\nclass A:\n  @functools.cached_property\n  def p(self): return ?\ndef f(): return A().p"
    ),
    "a descriptor": "class D:\n  def __get__(self, o, t): return ?\nclass A:\n  d = D()\ndef f(): return A().d",
    "an attribute of a class": "class A:\n  size = ?\ndef f(): return A.size",
    "an attribute": "class A:\n  def __init__(self): self.x = ?\na = A()\ndef f(): return a.x",
    "a private slot": "class A:\n  __slots__ = ('__x',)\n  def __init__(s): s.__x = ?\na = A()\ndef f(): return a",
    "a nested class": "class A:\n  class B:\n    def m(self): return ?\ndef f(): return A.B().m()",
    "a class made by type": "g = type('G', (), {'m': lambda s: ?})\ndef f(): return g().m()",
    "an exception": "class E(Exception):\n  code = ?\ndef f():\n  try: raise E\n  except E as e: return e.code",
    "a decorator's argument": (
        "def d(k):\n  def w(fn):\n    def i(*a): return fn(*a) * k\n    return i\n  return w\n"
        "@d(?)\ndef g(): return 1\ndef f(): return g()"
    ),
    "a decorator of its own": (
        "import functools\ndef d(k):\n  def w(fn):\n    @functools.wraps(fn)\n    def i(*a): return fn(*a) * k\n"
        "    return i\n  return w\n@d(?)\ndef f(): return 1"
    ),
    "a context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef c():\n  yield ?\ndef f():\n  with c() as x: return x"
    ),
    "a cached function": "import functools\n@functools.lru_cache\ndef g(): return ?\ndef f(): return g()",
    "one of many functions": (
        "import functools\n@functools.singledispatch\ndef g(x): return 1\n@g.register\ndef _(x: int): return ?\n"
        "def f(): return g(1)"
    ),
    "a data class": "import dataclasses\n@dataclasses.dataclass\nclass P:\n  x: int = ?\ndef f(): return P()",
    "what makes a field": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n"
        "  x: list = dataclasses.field(default_factory=lambda: [?])\ndef f(): return P()"
    ),
    "an enumeration": "import enum\nclass C(enum.Enum):\n  A = ?\ndef f(): return C.A.value",
    "flags": "import enum\nclass C(enum.Flag):\n  A = 1\n  B = 2\n  C = 4\nV = C.A | C(? * 2)\ndef f(): return V",
    "an enumeration's method": (
        "import enum\nclass C(enum.Enum):\n  A = 1\n  def m(self): return ?\ndef f(): return C.A.m()"
    ),
    "a named tuple's method": (
        "import typing\nclass C(typing.NamedTuple):\n  a: int = 1\n  def m(self): return ?\ndef f(): return C().m()"
    ),
    "a data class made at run time": (
        "import dataclasses\nP = dataclasses.make_dataclass('P', [('x', int)], namespace={'m': lambda s: ?})\n"
        "def f(): return P(1).m()"
    ),
    "a builtin that is shadowed": "max = lambda *a: ?\ndef f(): return max(1, 2)",
    "a default dictionary": "import collections\nd = collections.defaultdict(lambda: ?)\ndef f(): return d[0]",
    "a counter": "import collections\nd = collections.Counter('a' * ?)\ndef f(): return d",
    "a deque": "import collections\nd = collections.deque([1], ?)\ndef f(): return d",
    "an array": "import numpy\na = numpy.array([?])\ndef f(): return a",
    "a vectorized function": "import numpy\ng = numpy.vectorize(lambda x: x + ?)\ndef f(): return g([1])",
    "a pattern": "import re\nr = re.compile('a' * ?)\ndef f(): return r",
    "what is written on a function": "def g(): return g.k\ng.k = ?\ndef f(): return g()",
    "a bound method of a value": "g = ('a' * ?).join\ndef f(): return g",
}


@pytest.mark.parametrize("text", WHATEVER_IT_USES.values(), ids=WHATEVER_IT_USES.keys())
def test_a_change_of_it_changes_the_facts(program, text):
    one = call_facts(program(text.replace("?", "1")).f, {})
    again = call_facts(program(text.replace("?", "1")).f, {})
    other = call_facts(program(text.replace("?", "2")).f, {})
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    "text",
    [
        "def f(n=0): return f(n - 1) if n else 0",
        "def g(n): return f(n)\ndef f(n): return g(n)",
        "import logging\nlog = logging.getLogger('x')\ndef f(): log.info('a')",
        "import numpy as np\nfrom numpy import sin\ndef f(x): return np.sum(sin(x)) + np.linalg.norm(x)",
        "import json, os, time\ndef f(): return json.dumps(os.getcwd()), time.time()",
        "import enum\nclass C(enum.IntFlag):\n  A = 1\n  B = 2\ndef f(): return C.A | C.B",
        (
            "import abc\nfrom typing import Generic, NamedTuple, Protocol, TypeVar\nT = TypeVar('T')\n"
            "class P(Protocol):\n  def a(self): ...\nclass G(Generic[T]):\n  def b(self): return 1\n"
            "class A(abc.ABC):\n  @abc.abstractmethod\n  def c(self): ...\n"
            "class N(NamedTuple):\n  a: int\ndef f(): return (P, G, A, N(1), T, list[int], int | None)"
        ),
        (
            "import dataclasses\n@dataclasses.dataclass(slots=True, frozen=True, order=True)\nclass P:\n"
            "  x: int = 1\n  y: list = dataclasses.field(default_factory=list)\n"
            "  def m(self): return super().__hash__()\np = P()\ndef f(): return p.m()"
        ),
        "def f(x=1):\n  'doc'\n  assert x\n  return f'{x!r:>10}' + __name__ + (lambda: x)()",
    ],
)
def test_what_is_ordinary_is_keyed_and_where_it_stands_is_not(program, text):
    one = call_facts(program(text).f, {})
    moved = call_facts(program("# a remark\n\n\n" + text).f, {})
    renamed = call_facts(program(text, "another_name_of_it").f, {})
    assert one == moved == renamed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import random\nr = random.Random(1)\ndef f(): return r.random()", "random.Random"),
        ("import itertools\nc = itertools.count()\ndef f(): return next(c)", "itertools.count"),
        ("import weakref\nclass A: pass\na = A()\nr = weakref.ref(a)\ndef f(): return r()", "ReferenceType"),
        ("class A(dict): pass\na = A(x=1)\ndef f(): return a", "A"),
        ("import numpy\nr = numpy.random.default_rng(1)\ndef f(): return r", "Generator"),
        ("import numpy\na = numpy.array([object()])\ndef f(): return a", "ndarray"),
        ("L = []\nL.append(L)\ndef f(): return L", "holds itself"),
        ("import sys\ndef f(): return sys.modules['x']", "sys.modules, which can reach anything"),
        ("import importlib\ndef f(): return importlib.import_module('x')", "import_module"),
        ("def f(): return input('?')", "f reads standard input"),
        ("import sys\ndef g(): return sys.stdin.read()\ndef f(): return g()", "g reads standard input"),
        ("def f(): return globals()", "globals(), which can reach anything"),
        ("def f():\n  global X\n  X = 1", "changes the global X"),
        ("import io\nF = io.TextIOWrapper(io.BytesIO())\ndef f(): return F", "TextIOWrapper"),
        ("import a_tool_of_the_test\ndef f(): return getattr(a_tool_of_the_test, 'x')", "as a whole"),
        ("import a_tool_of_the_test\ndef f(): return a_tool_of_the_test.y()", "a_tool_of_the_test.y"),
        ("def f():\n  import a_tool_of_the_test", "imports a_tool_of_the_test while it runs"),
    ],
)
def test_what_cannot_be_known_is_refused_by_name(program, text, said):
    program("x = 1", "a_tool_of_the_test")
    with pytest.raises(Unkeyable) as refused:
        call_facts(program(text).f, {})
    assert said in refused.value.what


def test_what_the_function_does_not_use_is_no_fact(program):
    text = "A = 1\ndef unused(): return ?\nclass Unused:\n  x = ?\ndef f(): return A"
    assert call_facts(program(text.replace("?", "1")).f, {}) == call_facts(
        program(text.replace("?", "2")).f, {}
    )


def test_an_installed_package_is_pinned_by_its_version(program):
    import numpy

    facts = call_facts(program("import numpy as np\ndef f(x): return np.sum(x)").f, {"x": 1})
    assert ("package", "numpy", numpy.__version__) in facts
    assert {fact[0] for fact in facts} == {"python", "package", "code", "argument"}


def test_two_functions_of_one_name_are_told_apart(program):
    text = "def o(n):\n  def i(): return n\n  return i\na, b = o(?), o(1)\ndef f(): return a() - b()"
    assert call_facts(program(text.replace("?", "1")).f, {}) != call_facts(
        program(text.replace("?", "2")).f, {}
    )


@pytest.mark.parametrize(
    ("module", "name", "text"),
    [
        ("math", "pi", "import math\ndef f(): return math.pi"),
        ("math", "pi", "import math as m\ndef g(): return m.pi\ndef f(): return g()"),
        ("os.path", "sep", "import os\ndef f(): return os.path.sep"),
        ("decimal", "MAX_PREC", "import decimal\ndef f(): return (lambda: decimal.MAX_PREC)()"),
        ("numpy", "pi", "import numpy as np\ndef f(): return np.pi"),
        ("time", "tzname", "import time\ndef f(): return time.tzname"),
    ],
)
def test_a_constant_of_an_installed_module_that_is_named_counts(program, monkeypatch, module, name, text):
    function = program(text).f
    before = call_facts(function, {})
    monkeypatch.setattr(importlib.import_module(module), name, ("x",))
    assert call_facts(function, {}) != before
    monkeypatch.undo()
    assert call_facts(function, {}) == before


@pytest.mark.parametrize(
    ("module", "name", "text"),
    [
        ("json", "dumps", "import json\ndef f(): return json.dumps(1)"),
        ("math", "sqrt", "import math\ndef f(): return math.sqrt(1)"),
        ("decimal", "Decimal", "import decimal\ndef f(): return decimal.Decimal(1)"),
        ("os.path", "join", "import os\ndef f(): return os.path.join('a')"),
        ("builtins", "len", "def f(): return len('a')"),
    ],
)
def test_what_the_program_has_put_in_the_place_of_an_installed_one_counts(
    program, monkeypatch, module, name, text
):
    function = program(text).f
    facts = [call_facts(function, {})]
    for number in "12":
        other = program(f"def {name}(*a): return {number}\nclass K:\n  a = {number}", "its_own_way")
        monkeypatch.setattr(importlib.import_module(module), name, getattr(other, name))
        facts.append(call_facts(function, {}))
    if name[0].isupper():
        monkeypatch.setattr(importlib.import_module(module), name, other.K)
        facts.append(call_facts(function, {}))
    monkeypatch.undo()
    assert len(set(facts)) == len(facts)
    assert call_facts(function, {}) == facts[0]


def test_what_a_package_has_made_of_a_text_is_its_own(program, monkeypatch):
    """As numpy 1 and `decorator` do: a function whose names are of no module."""
    space = {"x": object()}
    exec("def dumps(*a): return x", space)
    del space["__builtins__"]
    function = program("import json\ndef f(): return json.dumps(1)").f
    before = call_facts(function, {})
    monkeypatch.setattr("json.dumps", space["dumps"])
    assert call_facts(function, {}) == before


A_PAIR = """
class A:
    def __init__(self): self.n = 0
def f(one, other): one.append(1); return other
L = []
M = ?
def g(): L.append(1); return M
def h(one): return one
"""


def test_arguments_that_are_one_object_are_not_two_equal_ones(program):
    module = program(A_PAIR.replace("?", "[]"))
    rows, array = [1], numpy.zeros(9)
    pairs = [
        (rows, rows), (rows, [1]),
        ([rows], rows), ([rows], [1]),
        ([rows, rows], 0), ([rows, [1]], 0),
        (one := module.A(), one), (module.A(), module.A()),
        ({"a": rows, "b": rows}, 0), ({"a": rows, "b": [1]}, 0),
        (array[:3], array[:3]), (array[:3], array[1:4]), (array[:3], array[2:5]), (array[:3], array[6:]),
    ]  # fmt: skip
    facts = [call_facts(module.f, {"one": one, "other": other}) for one, other in pairs]
    assert len(set(facts)) == len(pairs)
    again = [call_facts(module.f, {"one": one, "other": other}) for one, other in pairs]
    assert again == facts
    copied = call_facts(module.f, {"one": numpy.zeros(3), "other": numpy.zeros(3)})
    assert copied == facts[-1], "what lies beside each other in one array isn't shared"


def test_an_argument_that_is_a_global_value_is_told_from_its_copy(program):
    module = program("L = [1]\ndef f(one): one.append(1); return L")
    assert call_facts(module.f, {"one": module.L}) != call_facts(module.f, {"one": [1]})


def test_two_global_names_of_one_object_are_told_from_those_of_two(program):
    shared = call_facts(program(A_PAIR.replace("?", "L")).g, {})
    assert shared != call_facts(program(A_PAIR.replace("?", "[]")).g, {})


@pytest.mark.parametrize("value", [0, "text" * 100, (1, 2), None, [1], {"a": [1]}])
def test_where_nothing_is_shared_there_is_no_fact_of_it(program, value):
    module = program(A_PAIR.replace("?", "[]"))
    kinds = {fact[0] for fact in call_facts(module.h, {"one": value})}
    assert kinds == {"python", "code", "argument"}


def test_what_stands_by_its_name_is_not_looked_into(program):
    text = (
        "import enum, logging\nfrom numpy import sin, cos\nclass C(enum.Enum):\n  A = 1\n"
        "one, two = logging.getLogger('one.of.test'), logging.getLogger('two.of.test')\n"
        "def f(): return one, two, sin, cos, C.A\n"
    )
    function = program(text).f
    facts = call_facts(function, {})
    assert "shared" not in {fact[0] for fact in facts}
    for name in ("one", "two"):
        logging.getLogger(f"{name}.of.test").addHandler(logging.NullHandler())
    assert call_facts(function, {}) == facts
