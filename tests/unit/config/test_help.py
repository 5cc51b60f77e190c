"""The help and the reference are those of the table."""

import re
from pathlib import Path

import pytest

from capsula.cli import help as cli_help
from capsula.config.options import BY_NAME, OPTIONS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference.md"


def test_the_committed_reference_is_the_generated_one() -> None:
    assert REFERENCE.read_text() == cli_help.reference_page(), (
        "python -m capsula.cli.help --markdown > docs/reference.md"
    )


def test_the_help_names_every_option_within_80_columns() -> None:
    text = cli_help.help_text()
    assert max(map(len, text.splitlines())) <= 80
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    for option in OPTIONS:
        assert re.search(
            rf"^  {f'-{option.short}, ' if option.short else '    '}--(\[no_\])?{option.name}\b",
            text,
            re.MULTILINE,
        )
        assert option.help in " ".join(text.split())
    assert "(default: 10GiB)" in " ".join(text.split())


def test_the_reference_names_every_spelling_and_where_it_may_not_be_set() -> None:
    page = cli_help.reference_page()
    for name in BY_NAME:
        assert re.search(rf"`--(\[no_\])?{name}`", page)
    assert page.count("On the command line only.") == 2
    assert page.count("Not in TOML files.") == 1


def test_the_examples_of_the_reference_are_what_it_says(tmp_path: Path) -> None:
    from capsula.config.settings import read_settings

    example = cli_help.reference_page().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "Capsule.toml").write_text(example)

    def read(*argv: str) -> tuple[object, ...]:
        found = read_settings(
            [*argv, "--", "make"],
            environ_args=None,
            home=None,
            cwd=str(tmp_path),
            find_root=str,
            program="capsule",
        )
        return found.capsule_id, found.input, found.output, found.cache_failure_ttl

    assert read("-f", "Capsule.toml:docs") == ("docs", ("Makefile", "docs/**"), ("site",), None)
    assert read("-f", "Capsule.toml", "-c", "tests.unit")[0:2] == (
        "tests.unit",
        ("Makefile", "src/**", "!**/__pycache__"),
    )
    assert read("-f", "Capsule.toml:tests.unit")[3] == 900


def test_the_module_prints_one_or_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_help.main([]) == 0
    assert capsys.readouterr().out == cli_help.help_text()
    assert cli_help.main(["--markdown"]) == 0
    assert capsys.readouterr().out == cli_help.reference_page()
