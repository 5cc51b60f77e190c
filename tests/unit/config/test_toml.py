"""TOML files: lines of keys, and refusals that say where."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.config import toml
from capsula.errors import ConfigError


def document(tmp_path: Path, text: "str | bytes") -> toml.Document:
    path = tmp_path / "conf.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return toml.read_file(str(path), "conf.toml")


def refused(tmp_path: Path, text: "str | bytes", section: "str | None" = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        toml.read_keys(document(tmp_path, text), section)
    return caught.value


TRICKY = '''\
# input = ["comment"]
backend = "disk" # ]
input = [
  "a", # "
  'b[',
  """
output = "no key"
""", '''
TRICKY += """'''
verbose = true''',
]
"tool-tag" = "quoted [key]"
'capsule_job' = '\\'

[docs]   # header
output = "site"
  indented.inner = { output = "x", y = [1, {z = 2}] }
["a.b"]
verbose = true
"esc\\u0061ped" = 1
[[many]]
x = 1979-05-27T07:32:00Z
[[many]]
x = 3.14
[outer.inner]
k = \"\"\"two quotes at the end\"\"\"\"\"
last = ''''''
"""


def test_each_key_has_its_line_whatever_looks_like_a_key(tmp_path: Path) -> None:
    assert document(tmp_path, TRICKY).lines == {
        ("backend",): 2,
        ("input",): 3,
        ("tool-tag",): 11,
        ("capsule_job",): 12,
        ("docs",): 14,
        ("docs", "output"): 15,
        ("docs", "indented"): 16,
        ("docs", "indented", "inner"): 16,
        ("a.b",): 17,
        ("a.b", "verbose"): 18,
        ("a.b", "escaped"): 19,
        ("many",): 20,
        ("many", "x"): 21,
        ("outer",): 24,
        ("outer", "inner"): 24,
        ("outer", "inner", "k"): 25,
        ("outer", "inner", "last"): 26,
    }


TEXTS = st.text("a\"'#=[]{}\n\\ ", max_size=8)


def literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n") + '"' if len(text) % 2 else '"""\n' + escaped + '"""'


@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3), st.sampled_from(["", "# x = [\"'", "\n"]))))
def test_lines_are_right_for_any_text_in_keys_and_values(rows: list[tuple[str, list[str], str]]) -> None:
    text, expected = "", {}
    for number, (key, items, end) in enumerate(rows):
        name = f"{number}{key}"
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        expected[(name,)] = text.count("\n") + 1
        text += f"{quoted} = [{', '.join(map(literal, items))}] {end}\n"
    assert list(tomllib.loads(text)) == [name for (name,) in expected]
    assert toml._lines(text) == expected


def test_an_inline_table_is_a_section_whose_keys_are_on_its_line(tmp_path: Path) -> None:
    found = toml.read_keys(document(tmp_path, '\ndocs = { output = "site", verbose = true }\n'), "docs")
    assert [(option.name, value, where) for option, value, where in found] == [
        ("output", ("site",), "conf.toml:2"),
        ("verbose", True, "conf.toml:2"),
    ]


def test_values_of_each_kind(tmp_path: Path) -> None:
    text = """
input = ["a", "b"]
output = "lone"
tool-command = []
verbose = true
capture-stdout = false
cache_failures = true
verify_hits = 0.25
placebo_exit = 3
cache_failure_ttl = 90
store_size = "1GiB"
capsule_job = ""
"""
    found = toml.read_keys(document(tmp_path, text))
    assert {option.name: value for option, value, _ in found} == {
        "input": ("a", "b"),
        "output": ("lone",),
        "tool_command": (),
        "verbose": True,
        "capture_stdout": False,
        "cache_failure": True,
        "verify_hits": 0.25,
        "placebo_exit": 3,
        "cache_failure_ttl": 90.0,
        "store_size": 2**30,
        "capsule_job": "",
    }
    assert [where for _, _, where in found][:2] == ["conf.toml:2", "conf.toml:3"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("verbose = 1", "verbose: expected true or false, found an integer"),
        ('verbose = "yes"', "verbose: expected true or false, found a string"),
        ("capsule-id = 42", "capsule-id: expected a string, found an integer"),
        ("capsule_id = true", "capsule_id: expected a string, found a boolean"),
        ('capsule_id = ["x"]', "capsule_id: expected a string, found an array"),
        ("input = 1", "input: expected an array of strings, found an integer"),
        ('input = ["a", 1]', "input: expected an array of strings, found other things in it"),
        ("verify_hits = '0.5'", "verify_hits: expected a number, found a string"),
        ("verify_hits = true", "verify_hits: expected a number, found a boolean"),
        ("verify_hits = nan", "verify_hits: expected a number from 0 to 1, not 'nan'"),
        ("placebo_exit = 1.5", "placebo_exit: expected a whole number from 1 to 255, not '1.5'"),
        (
            "store_size = 1979-05-27",
            'store_size: expected a string like "10GiB", or a number of bytes, found a date or a time',
        ),
        ("store_size = -1", "store_size: expected a size like 10GiB, 500MB or a number of bytes, not '-1'"),
        ('capsule_id = "a\\u0000"', "capsule_id: the value holds a NUL character"),
        ('input = ["a", ""]', "input: the value is empty"),
        ("honeycomb_token = 123456", "honeycomb_token: expected a string, found an integer"),
        ("file = 'x'", "file: can't be set in a file"),
        ("help = true", "help: can't be set in a file"),
        ("inputt = []", "inputt: there is no such option"),
        ("tool-tag = []\n\n", ""),
    ],
)
def test_a_bad_value_is_refused_with_file_line_and_key(tmp_path: Path, line: str, what: str) -> None:
    if not what:
        toml.read_keys(document(tmp_path, line))
        return
    assert refused(tmp_path, f"\n\n{line}\n").what == f"conf.toml:3: {what}"
    assert refused(tmp_path, f"[x]\n\n{line}\n", "x").what == f"conf.toml:3: {what}"


def test_the_nearest_known_key_is_suggested(tmp_path: Path) -> None:
    assert refused(tmp_path, "in-putt = []").hint == "did you mean input?"
    assert refused(tmp_path, "no_verbose = true").hint == "verbose = false"
    assert refused(tmp_path, "zzz = true").hint == "capsule --help lists the options"
    assert refused(tmp_path, "[[docs]]").hint == "a section has single brackets: [docs]"
    assert refused(tmp_path, "[my.docs]", "my").hint == 'for a capsule of that name: ["my.docs"], in quotes'


def test_one_option_in_two_spellings_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, 'tool-tag = "a"\ntool_tag = "b"')
    assert error.what == "conf.toml:2: tool_tag: the same option is set above, as tool-tag"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'input = ["a"\nx = 1\n', "conf.toml:2: not valid TOML: "),
        (b"a = 1\na = 2\n", "conf.toml:2: not valid TOML: "),
        (b"a = ", "conf.toml: not valid TOML: "),
        (b"a = 1\n\xff\n", "conf.toml:2: not UTF-8"),
        (b"a = " + b"[" * 5000, "conf.toml"),
        (b"a = " + b"1" * 5000, "conf.toml"),
    ],
)
def test_what_is_not_toml_is_refused_with_the_position(tmp_path: Path, content: bytes, what: str) -> None:
    assert refused(tmp_path, content).what.startswith(what)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read gone\.toml: no such file or directory"):
        toml.read_file(str(tmp_path / "gone.toml"), "gone.toml")
    with pytest.raises(ConfigError, match=r"can't read 'a\\nb': is a directory"):
        toml.read_file(str(tmp_path), "a\nb")


def test_crlf_and_an_empty_file_are_fine(tmp_path: Path) -> None:
    found = toml.read_keys(document(tmp_path, 'verbose = true\r\ninput = """\r\nx"""\r\nstrict = true\r\n'))
    assert [where for _, _, where in found] == ["conf.toml:1", "conf.toml:2", "conf.toml:4"]
    assert toml.read_keys(document(tmp_path, "")) == []


def test_the_byte_order_mark_of_some_editors_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "Capsule.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b'tool_tag = ["a"]\nnot_one = 1\n')
    document = toml.read_file(str(path), "Capsule.toml")
    assert (document.at("tool_tag"), document.at("not_one")) == ("Capsule.toml:1", "Capsule.toml:2")
