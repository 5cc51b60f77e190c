"""The table and the reader of words."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.config import options
from capsula.config.options import (
    BY_WORD,
    COMMAND_LINE,
    LIST,
    OPTIONS,
    SWITCH,
    VARIABLE,
    guess_command,
    read_line,
    read_words,
    wants_passive,
    wants_strict,
)
from capsula.errors import UsageError

SHORT = "cfwjitoevpbh"


def names(argv: list[str]) -> list[tuple[str, object]]:
    return [(option.name, value) for option, value in read_line(argv)[0]]


def refused(argv: list[str]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read_line(argv)
    return caught.value


def test_no_name_and_no_letter_stands_for_two_options() -> None:
    spellings = [name for option in OPTIONS for name in (option.name, *option.aliases)]
    letters = [option.short for option in OPTIONS if option.short]
    assert len(set(spellings)) == len(spellings)
    assert sorted(letters) == sorted(SHORT)
    assert not [name for name in spellings if name.startswith("no_") or "-" in name]


@pytest.mark.parametrize(
    "spelled",
    [
        ["--capsule_id", "x"],
        ["--capsule-id", "x"],
        ["--capsule-id=x"],
        ["-c", "x"],
        ["-cx"],
        ["-c=x"],
    ],
)
def test_every_spelling_of_an_option_is_the_same(spelled: list[str]) -> None:
    assert names([*spelled, "--", "make"]) == [("capsule_id", "x")]


def test_short_switches_are_bundled_and_the_last_may_take_a_value() -> None:
    expected: list[tuple[str, object]] = [("verbose", True), ("placebo", True), ("capsule_id", "p")]
    assert names(["-vpcp", "--"]) == names(["-vpc", "p", "--"]) == names(["-vpc=p", "--"]) == expected


def test_each_switch_can_be_turned_off() -> None:
    switches = [
        option for option in OPTIONS if option.kind == SWITCH and option.name not in ("help", "version")
    ]
    for option in switches:
        for name in (option.name, *option.aliases):
            assert names([f"--{name}", f"--no_{name}", f"--no-{name.replace('_', '-')}", "--"]) == [
                (option.name, True),
                (option.name, False),
                (option.name, False),
            ]


def test_a_value_may_be_empty_hold_an_equals_sign_or_start_with_a_hyphen() -> None:
    assert names(
        ["--tool_tag=", "-t", "", "-ta=b", "--tool_tag=a=b", "-i", "-x.c", "-i-", "-i", "-", "--"]
    ) == [
        ("tool_tag", ("",)),
        ("tool_tag", ("",)),
        ("tool_tag", ("a=b",)),
        ("tool_tag", ("a=b",)),
        ("input", ("-x.c",)),
        ("input", ("-",)),
        ("input", ("-",)),
    ]


def test_only_the_first_separator_splits() -> None:
    assert read_line(["-v", "--", "sh", "--", "-v"])[1] == ["sh", "--", "-v"]
    assert read_line(["--", "--"])[1] == ["--"]
    assert read_line([]) == ([], [])


def test_a_separator_is_never_a_value() -> None:
    assert refused(["-i", "--", "make"]).what == "-i needs a value (PATTERN)"


def test_an_option_is_not_taken_for_the_value_that_an_empty_variable_left_out() -> None:
    error = refused(["-c", "--verbose", "--", "make"])
    assert error.what == "-c needs a value (ID)"
    assert "--capsule_id=VALUE" in error.hint
    assert names(["-c=--verbose", "--"]) == [("capsule_id", "--verbose")]


@pytest.mark.parametrize(
    ("word", "what", "hint"),
    [
        ("--capsul_id=x", "there is no option --capsul_id", "did you mean --capsule_id?"),
        ("--verb", "there is no option --verb", "did you mean --verbose?"),
        ("-verbose", "there is no option -verbose", "did you mean --verbose?"),
        ("-input", "there is no option -input", "did you mean --input?"),
        (
            "--no_input",
            "there is no option --no_input",
            "only a switch can be turned off, and --input is none",
        ),
        ("-vX", "there is no option -X", "capsule --help lists the options"),
        ("--verbose=yes", "--verbose takes no value", "--verbose turns it on, --no_verbose off"),
        ("-v=yes", "-v takes no value", "--verbose turns it on, --no_verbose off"),
        ("--\x1b[31m", r"there is no option '--\x1b[31m'", "capsule --help lists the options"),
        ("--verify_hits=2", "--verify_hits: expected a number from 0 to 1, not '2'", ""),
        (
            "-eA=b",
            "-e: 'A' is followed by a value, and only the name is wanted",
            "the value is taken from the environment",
        ),
        ("-c=", "-c: the value is empty", "leave the option out, or give it a value"),
    ],
)
def test_a_bad_option_is_named_with_what_was_probably_meant(word: str, what: str, hint: str) -> None:
    error = refused([word, "--", "make"])
    assert (error.what, error.hint) == (what, hint)


def test_a_command_without_a_separator_is_refused_with_the_way_to_write_it() -> None:
    error = refused(["-v", "make", "-j8"])
    assert error.what == "make is no option, and the command comes after a --"
    assert error.hint == "capsule [options] -- make …"


def test_names_of_files_put_in_by_the_shell_are_recognised() -> None:
    assert "Quote the pattern" in refused(["-i", "a.c", "b.c", "--", "make"]).hint


def test_the_rest_of_a_secret_is_not_shown() -> None:
    for place in (COMMAND_LINE, VARIABLE):
        with pytest.raises(UsageError) as caught:
            read_words(["--honeycomb_token", "two", "words"], place)
        assert "words" not in caught.value.what + caught.value.hint


def test_what_makes_no_sense_in_the_variable_is_refused_there() -> None:
    for words in (["--help"], ["--version"], ["make"], ["--"], ["-v", "--", "make"]):
        with pytest.raises(UsageError) as caught:
            read_words(words, VARIABLE)
        assert caught.value.what.startswith("CAPSULE_ARGS: ")
    assert [
        option.name
        for option, _ in read_words(["-f", "x", "--dry_run", "--explain", "--inputs_hash"], VARIABLE)
    ] == [
        "file",
        "dry_run",
        "explain",
        "inputs_hash",
    ]


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["-v", "--", "make", "--", "x"], ["make", "--", "x"]),
        (["--bogus", "--", "make"], ["make"]),
        (["-i", "a", "b", "--", "make"], ["make"]),
        (["make", "-j8"], ["make", "-j8"]),
        (["-v", "-c", "id", "make", "--verbose"], ["make", "--verbose"]),
        (["-vcid", "make"], ["make"]),
        (["-c=id", "make"], ["make"]),
        (["--capsul_id", "id", "make"], ["make"]),
        (["--capsul_id=id", "make"], ["make"]),
        (["--verbos", "make"], ["make"]),
        (["--zzz", "make"], ["make"]),
        (["-v", "npm", "run", "build", "--", "--prod"], ["npm", "run", "build", "--", "--prod"]),
        (["-", "x"], ["-", "x"]),
        (["--", "-x"], ["-x"]),
        (["-c", "--", "make"], ["make"]),
        (["-v"], []),
        (["-c"], []),
        ([], []),
        (["-v", "--"], []),
    ],
)
def test_the_command_is_found_in_a_line_that_is_wrong(argv: list[str], command: list[str]) -> None:
    assert guess_command(argv) == command


@given(
    st.lists(
        st.sampled_from(
            ["--", "-", "-v", "-c", "-cx", "--input", "--zz", "--inpt", "make", "", "-i=", "--passive"]
        )
    )
)
def test_the_guess_is_the_command_of_every_line_that_is_right_and_always_an_end_of_it(
    argv: list[str],
) -> None:
    guessed = guess_command(argv)
    assert argv[len(argv) - len(guessed) :] == guessed
    try:
        _, command = read_line(argv)
    except UsageError:
        return
    # A command can't start with a hyphen unless somebody insists.
    assert guessed == command


@pytest.mark.parametrize(
    ("argv", "variable", "expected"),
    [
        (["--passive", "--", "make"], None, True),
        (["--passive", "--bogus", "make"], None, True),
        (["--bogus", "--passive", "make"], None, True),
        (["-i", "a", "b", "--passive", "--", "make"], None, True),
        (["--", "make", "--passive"], "", False),
        (["make", "--passive"], None, False),
        (["-c", "id", "make", "--passive"], None, False),
        (["make"], "--passive", True),
        (["make"], "--bogus=' --passive", True),
        (["--no-passive", "--", "make"], "--passive", False),
        (["--passive", "--", "make"], "--no_passive", True),
        (["--capsule_id=--passive", "--", "make"], None, False),
        ([], None, False),
    ],
)
def test_passive_is_seen_whatever_else_is_wrong(
    argv: list[str], variable: "str | None", expected: bool
) -> None:
    assert wants_passive(argv, variable) is expected


def test_strict_is_seen_in_the_same_way() -> None:
    assert wants_strict(["--bogus", "--strict", "make"], None)
    assert wants_strict(["--", "make"], "--strict '")
    assert not wants_strict(["--passive", "--", "make"], None)


# ---- argparse, built from the same table, reads well-formed lines in the same way

TEXTS = {
    "backend": "disk",
    "placebo_exit": "3",
    "verify_hits": "0.5",
    "cache_failure_ttl": "15m",
    "store_size": "1GiB",
    "json": "fd:3",
    "honeycomb_kv": "a=b",
    "s3_endpoint": "http://a",
    "s3_uploads_endpoint": "http://b",
    "s3_downloads_endpoint": "http://c",
    "remote": "https://a/b",
    "remote_mode": "r",
    "remote_timeout": "3s",
    "upload": "background",
    "upload_timeout": "1m",
    "lease_wait": "1m",
    "lease_time": "1m",
    "remote_header": "A: b",
    "env": "NAME",
    "inputs_hash_var": "HASH",
}


def oracle() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in OPTIONS:
        spellings = [
            f"--{name}"
            for known in (option.name, *option.aliases)
            for name in {known, known.replace("_", "-")}
        ]
        spellings += [f"-{option.short}"] if option.short else []
        if option.kind == SWITCH:
            parser.add_argument(*spellings, dest=option.name, action="store_true", default=option.default)
            off = [name.replace("--", "--no_") for name in spellings if name.startswith("--")]
            parser.add_argument(*off, dest=option.name, action="store_false", default=option.default)
        elif option.kind == LIST:
            parser.add_argument(*spellings, dest=option.name, action="append", type=option.read, default=[])
        else:
            parser.add_argument(*spellings, dest=option.name, type=option.read, default=option.default)
    return parser


@st.composite
def well_formed(draw: st.DrawFn) -> list[str]:
    argv: list[str] = []
    for option in draw(st.lists(st.sampled_from(OPTIONS), max_size=8)):
        name = draw(st.sampled_from((option.name, *option.aliases)))
        if draw(st.booleans()):
            name = name.replace("_", "-")
        if option.kind == SWITCH:
            bundle = draw(st.lists(st.sampled_from("vph"), min_size=1, max_size=3))
            off = f"--no_{name}" if "no_" + option.name in BY_WORD else f"--{name}"
            argv.append(draw(st.sampled_from([f"--{name}", off, "-" + "".join(bundle)])))
            continue
        text = TEXTS.get(option.name) or draw(
            st.text("ab =:é/*!\n", min_size=1, max_size=6).filter(lambda t: t[0] != "-")
        )
        forms = [[f"--{name}={text}"], [f"--{name}", text]]
        if option.short:
            forms += [[f"-{option.short}", text], [f"-v{option.short}", text]]
            if text[0] != "=":
                forms += [
                    [f"-{option.short}{text}"],
                    [f"-{option.short}={text}"],
                    [f"-p{option.short}{text}"],
                ]
        argv += draw(st.sampled_from(forms))
    return argv


@given(well_formed())
def test_the_quick_reader_reads_what_argparse_reads(argv: list[str]) -> None:
    found: dict[str, object] = {
        option.name: [] if option.kind == LIST else option.default for option in OPTIONS
    }
    for option, value in read_words(argv, COMMAND_LINE):
        if isinstance(value, tuple):
            value = [*found[option.name], *value]  # type: ignore[misc]
        found[option.name] = value
    assert found == vars(oracle().parse_args(argv))


# ---- cost

LINE = [
    *("-c", "build", "-i", "src/**", "-i", "Makefile", "-o", "dist", "-e", "CC", "-e", "CFLAGS"),
    *("--tool_tag=gcc-13", "-v", "--cache-failure", "--store", "/x", "--", "make"),
]


def test_a_typical_line_is_read_in_less_than_0_3_ms() -> None:
    best = 1.0
    for _ in range(200):
        start = time.perf_counter()
        read_line(LINE)
        best = min(best, time.perf_counter() - start)
    assert best < 0.0003


def test_reading_imports_nothing_but_our_own() -> None:
    source = Path(options.__file__).parents[2]
    program = f"""
import os, sys
before = set(sys.modules)
sys.path.insert(0, {str(source)!r})
from capsula.config.settings import read_settings
read_settings({LINE!r}, environ_args="-v -t 'a b'", home="/nonexistent", cwd="/", find_root=str, program="capsule")
print(*sorted(set(sys.modules) - before))
"""
    found = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert [name for name in found.stdout.split() if not name.startswith("capsula")] == []
