"""Words are split as a shell does it."""

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsula.config import words
from capsula.errors import UsageError

# What the shell does nothing with but splitting and quoting.
PLAIN = st.text(alphabet="ab1-_=/.:,+@% \t\n'\"\\é", max_size=24)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n ", []),
        ("-v -c id", ["-v", "-c", "id"]),
        ("a''b ''", ["ab", ""]),
        ("'a b'\"c d\"e", ["a bc de"]),
        (r"a\ b \'", ["a b", "'"]),
        (r'"a\"b\\c\$d\e"', [r'a"b\c$d\e']),
        ("a\\\nb \\\n", ["ab"]),
        ('"a\\\nb"', ["ab"]),
        ("# $HOME *", ["#", "$HOME", "*"]),
        ("a\xa0b", ["a\xa0b"]),
        ("--x=1\r\n", ["--x=1"]),
    ],
)
def test_quotes_and_backslashes_are_those_of_sh_and_nothing_is_expanded(
    text: str, expected: list[str]
) -> None:
    assert words.split(text) == expected


@pytest.mark.parametrize("text", ["'secret", 'a "secret', "secret\\", "a'b'c'", '"\\'])
def test_what_is_not_closed_is_refused_without_showing_the_text(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        words.split(text)
    assert "secret" not in str(refused.value)


@given(st.lists(st.text(st.characters(exclude_characters="\0"))))
def test_quoted_words_come_back(expected: list[str]) -> None:
    assert words.split(shlex.join(expected)) == expected


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_a_real_shell_splits_in_the_same_way(text: str) -> None:
    try:
        found = words.split(text)
    except UsageError:
        return
    # A word stands in front, so that a first word with `=` isn't an assignment.
    shell = subprocess.run(
        ["sh", "-c", f"set -- {_one_line(text)}; printf '%s\\0' \"$@\""], capture_output=True, check=True
    )
    assert shell.stdout.decode() == "".join(word + "\0" for word in found) or (
        not found and shell.stdout == b"\0"
    )


def _one_line(text: str) -> str:
    """Blank the newlines that end a command outside quotes: for the splitter they are blanks like any other."""
    line, quote, escaped = [], "", False
    for character in text:
        if character == "\n" and not quote and not escaped:
            character = " "
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        line.append(character)
    return "".join(line)
