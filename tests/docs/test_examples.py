"""The pages say what is true: their examples are run, their lists are held against the table of options.

In a page, a `console` block is run: a line with `$ ` is a command, lines with `> ` continue it, and what follows is
what it prints, stdout and stderr together. `…` stands for anything in a line, and alone for any lines. A block with a
file's name behind the language (```c greet.c) writes that file. All blocks of a page are run in order, by one shell,
in an empty directory that is a workspace of its own. `<!-- setup … -->` is run too, and its output isn't looked at.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from capsula.config.options import BY_WORD, OPTIONS, canonical
from capsula.core.action import key
from capsula.core.context import Context
from capsula.core.digest import Digest, digest_of
from capsula.core.reapi import Action, FileNode
from capsula.core.recipe import Recipe
from capsula.core.tree import build, leaves
from capsula.core.wire import decode, encode

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SCRIPTS = Path(sys.executable).parent
PAGES = [
    ROOT / "README.md",
    DOCS / "tutorial.md",
    DOCS / "tutorial-recording.md",
    *sorted((DOCS / "how-to").glob("*.md")),
]

PIECE = re.compile(
    r"^```(?P<language>[a-z]+) *(?P<name>[^\n]*)\n(?P<body>.*?)^```$|^<!-- setup\n(?P<setup>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)

# In the descriptions of Capsules that docs/compatibility.md is about.
THEIR_OPTIONS = """
    --capsule_id -c --file -f --passive --placebo -p --inputs_hash --verbose -v --workspace_root -w --input -i
    --tool_tag -t --output -o --capture_stdout --capture_stderr --backend -b --cache_failures --cache_failure
    --capsule_job -j --s3_bucket --s3_bucket_objects --s3_endpoint --s3_region --s3_uploads_endpoint
    --s3_uploads_region --s3_downloads_endpoint --s3_downloads_region --honeycomb_dataset --honeycomb_token
    --honeycomb_trace_id --honeycomb_parent_id --honeycomb_kv --inputs_hash_var
"""
THEIR_NAMES = ["~/.capsules.toml", "Capsule.toml", "Capsules.toml", "CAPSULE_ARGS", "CAPSULE_INPUTS_HASH"]
# Of `capsula`, and of other people's programs.
OTHER_OPTIONS = {
    *(
        "all",
        "any_links",
        "cache",
        "cache_context",
        "directory",
        "exit_code",
        "id",
        "item",
        "json",
        "keep",
        "max_size",
        "n",
        "no_cache",
        "only",
        "outcome",
    ),
    *("since", "store", "to", "yes", "token"),
    *(
        "columns",
        "crashed",
        "dry_run",
        "force",
        "keep_last",
        "older_than",
        "prometheus",
        "remove",
        "sort",
        "status",
        "until",
        "where",
    ),
}


@dataclass(frozen=True)
class Step:
    """One command, and what it prints (None: nobody looks)."""

    command: str
    expected: str | None


def steps_of(text: str) -> list[Step]:
    steps = []
    for piece in PIECE.finditer(text):
        body, name = piece["body"], piece["name"]
        if piece["setup"]:
            steps.append(Step(piece["setup"], None))
        elif piece["language"] == "console":
            steps += console(body)
        elif name:
            folder = os.path.dirname(name) or "."
            steps.append(Step(f"mkdir -p {folder}; cat > {name} <<'END OF FILE'\n{body}END OF FILE", None))
    return steps


def console(body: str) -> list[Step]:
    commands: list[list[str]] = []
    printed: list[list[str]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            commands.append([line[2:]])
            printed.append([])
        elif line.startswith("> ") and not printed[-1]:
            commands[-1].append(line[2:])
        else:
            printed[-1].append(line)
    return [
        Step("\n".join(command), "".join(f"{line}\n" for line in lines))
        for command, lines in zip(commands, printed, strict=True)
    ]


def run(steps: list[Step], base: Path) -> list[str]:
    """What each of them prints. One shell for all, so that `cd`, `export` and `$?` mean what they say."""
    work = base / "work"
    for folder in (work, base / "home", base / "steps"):
        folder.mkdir()
    (work / "capsula.toml").touch()
    script = ["set +m"]
    for at, step in enumerate(steps):
        (base / f"steps/{at}").write_text(step.command)
        script.append(
            f'text=$(cat "$STEPS/{at}"); (exit $code); eval "$text" > "$STEPS/{at}.out" 2>&1 < /dev/null; code=$?'
        )
    done = subprocess.run(
        ["bash", "--norc", "-c", "code=0\n" + "\n".join(script) + "\nexit 0"],
        cwd=work,
        env={
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "HOME": str(base / "home"),
            "XDG_CACHE_HOME": str(base / "cache"),
            "STEPS": str(base / "steps"),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        },
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done
    return [(base / f"steps/{at}.out").read_text(errors="replace") for at in range(len(steps))]


def as_pattern(expected: str) -> str:
    """`…` alone is any lines, elsewhere anything in its line."""
    lines = [
        r"(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in expected.splitlines()
    ]
    return "".join(lines)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the examples are written for bash")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    assert (SCRIPTS / "capsule").exists(), "capsule isn't installed beside this Python: run `make test`"
    steps = steps_of(page.read_text())
    assert any(step.expected is not None for step in steps)
    for step, printed in zip(steps, run(steps, tmp_path), strict=True):
        if step.expected is not None and not re.fullmatch(as_pattern(step.expected), printed):
            pytest.fail(
                f"{page.name}\n$ {step.command}\n--- the page says\n{step.expected}--- it is\n{printed}"
            )


# ------------------------------------------------------------------------------------------------ options


def test_the_compatibility_page_names_every_option() -> None:
    text = (DOCS / "compatibility.md").read_text()
    ours = [f"--{name}" for option in OPTIONS for name in (option.name, *option.aliases)]
    ours += [f"-{option.short}" for option in OPTIONS if option.short]
    missing = [name for name in (*ours, *THEIR_OPTIONS.split(), *THEIR_NAMES) if f"`{name}`" not in text]
    assert not missing


def test_no_page_names_an_option_that_does_not_exist() -> None:
    wrong = set()
    for page in (*PAGES, DOCS / "compatibility.md", DOCS / "format.md", DOCS / "glossary.md"):
        for command in re.findall(r"`([^`\n]+)`", page.read_text()):
            if command.split()[0].startswith("-") or command.split()[0] in ("capsule", "placebo", "capsula"):
                words = command.partition(" -- ")[0]
                names = {canonical(name) for name in re.findall(r"(?<![\w-])--([a-z][\w-]*)", words)}
                wrong |= {(page.name, name) for name in names - BY_WORD.keys() - OTHER_OPTIONS}
    assert not wrong


# ------------------------------------------------------------------------------------------------ the format


def worked_example() -> tuple[str, str]:
    """The program in docs/format.md, and what the page says it prints."""
    text = (DOCS / "format.md").read_text()
    found = re.search(r"^```python\n(.*?)^```$.*?^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1], found[2]


def test_the_worked_example_of_the_format_prints_what_the_page_says() -> None:
    program, printed = worked_example()
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (printed, "")


def test_the_worked_example_of_the_format_is_what_capsula_computes() -> None:
    _, printed = worked_example()
    content = digest_of(b"hello\n")
    files = [("in.txt", content.hash, content.size_bytes, False)]
    root, directories = build({"": leaves(files, [], declared=False)})
    recipe = Recipe(
        capsule_id="greet",
        argv=("cp", "in.txt", "out.txt"),
        root="/any",
        cwd="/any",
        inputs=("in.txt",),
        outputs=("out.txt",),
        environment=("LANG", "NOT_SET"),
        tags=("v1",),
    )
    context = Context(
        input_root=root,
        directories=directories,
        system=("linux", "x86_64"),
        environment=(("LANG", "C"), ("NOT_SET", None)),
    )
    keyed = key(recipe, context)
    command = decode(Action, keyed.blobs[keyed.digest.hash]).command_digest
    assert command is not None
    assert printed.split() == [
        *("command", command.hash, "inputs", root.hash, "action", keyed.digest.hash),
        *("inputs_hash", keyed.inputs_hash),
    ]


@pytest.mark.skipif(
    (os.uname().sysname, os.uname().machine) != ("Linux", "x86_64"),
    reason="the example is of Linux on x86_64",
)
def test_the_worked_example_of_the_format_is_what_the_command_says(tmp_path: Path) -> None:
    _, printed = worked_example()
    said = dict(zip(printed.split()[::2], printed.split()[1::2], strict=True))
    (tmp_path / "capsula.toml").touch()
    (tmp_path / "in.txt").write_text("hello\n")
    options = "-c greet -i in.txt -o out.txt -e LANG -e NOT_SET -t v1 --dry_run --json report.json"
    subprocess.run(
        [SCRIPTS / "capsule", *options.split(), "--", "cp", "in.txt", "out.txt"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C"},
        check=True,
        capture_output=True,
    )
    report = (tmp_path / "report.json").read_text()
    assert f'"key": "{said["action"]}"' in report
    assert f'"inputs_hash": "{said["inputs_hash"]}"' in report


def test_the_example_of_the_wire_form_is_right() -> None:
    text = (DOCS / "format.md").read_text()
    block = text[text.index("0a 02 c3a9") :].partition("```")[0]
    columns = [re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines()]
    said = "".join(columns).replace(" ", "").replace("6161…61", "61" * 64)
    node = encode(FileNode(name="é", digest=Digest("a" * 64, 300), is_executable=True))
    assert said == node.hex()


# ------------------------------------------------------------------------------------------------ decisions


def headings(page: Path) -> list[str]:
    return re.findall(r"^## .*$", page.read_text(), re.MULTILINE)


def test_every_decision_has_the_parts_of_the_template() -> None:
    template, *pages = sorted((DOCS / "decisions").glob("*.md"))
    assert pages
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text()
        assert headings(page) == headings(template), page.name
        assert text.startswith(f"# {page.name[:4]}: "), page.name
        assert re.search(r"^- \*\*State\*\*: (proposed|accepted|replaced by \d{4})$", text, re.MULTILINE), (
            page.name
        )
        assert re.search(r"^- \*\*Date\*\*: \d{4}-\d\d-\d\d$", text, re.MULTILINE), page.name
