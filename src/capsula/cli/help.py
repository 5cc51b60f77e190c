"""The help of `capsule` and the reference page, both written from the table of options.

Run as a module it prints them: `python -m capsula.cli.help`, with `--markdown` the page docs/reference.md.
"""

import json
import sys
import textwrap

from capsula.config.options import COMMAND_LINE, FILES, GROUPS, LIST, OPTIONS, SWITCH, Option

WIDTH = 80
COLUMN = 28

USAGE = """\
usage: capsule [options] -- command [arguments]
       placebo [options] -- command [arguments]

Runs the command, or brings back what it made the last time when nothing that
it depends on has changed.

examples:
  capsule -i 'src/**' -i Makefile -o dist -- make
  capsule -f Capsule.toml:tests -- pytest -q
"""

NOTES = {
    "s3": "For `-b s3`; `s3://BUCKET/PREFIX` uses endpoint and region.",
    "honeycomb": "OpenTelemetry is set up by its own variables (`OTEL_…`).",
}

HELP_END = """\
Each switch has a form that turns it off, --no_NAME; hyphens and underscores are the same. These can be given
several times: {repeated}.

All options can be set in four places, later wins: ~/.capsules.toml, the TOML file of -f, the variable CAPSULE_ARGS,
the command line.

When something goes wrong with the cache, the command just runs.
"""

PAGE_START = """\
<!-- Written by `python -m capsula.cli.help --markdown` from the table of options: change it there. -->

# Reference: `capsule` and `placebo`

```
capsule [options] -- command [arguments]
placebo [options] -- command [arguments]
```

`placebo` is `capsule --placebo`; so is any link to `capsule` that is named `placebo`.
"""

PAGE_END = """\
## Writing options

- Hyphens and underscores are the same: `--capsule-id` is `--capsule_id`. Names can't be abbreviated.
- `--name=value` and `--name value` are the same; so are `-c value`, `-cvalue` and `-c=value`.
- Short switches can be bundled: `-vp`, and the last may take a value: `-vc value`.
- Each switch has a form that turns it off: `--no_verbose`, `--no_capture_stdout`.
- A value may start with a hyphen. One that is exactly the name of an option is written with `=`: `--output=-v`.
- Everything behind the first `--` is the command.
- A list grows with each occurrence and over all places. For any other option the last one wins.
- A time is a number of seconds, or has one of the units `s`, `m`, `h`, `d`.
- A size is a number of bytes, or has a unit: `KiB`, `MiB`, `GiB`, `TiB` (also `K`, `M`, `G`, `T`) count in 1024s,
  `KB`, `MB`, `GB`, `TB` in 1000s.

## The four places

Later ones win over earlier ones:

1. `~/.capsules.toml`: defaults for all capsules of this user. It has no sections.
2. The TOML file given with `-f`. When there is no `-f` and no capsule id in any of the other places, `./Capsule.toml`,
   else `./Capsules.toml`, is read if it is there.
3. The variable `CAPSULE_ARGS`: options as on the command line, with the quotes and backslashes of a POSIX shell
   (no variables, no patterns, no `~`). `--help`, `--version` and a command don't belong there.
4. The command line. `placebo` as the name of the command counts as `--placebo` at its start.

## TOML files

Keys are the names of the options without the hyphens in front. Each table is one capsule and its name is the capsule's
id, unless a `capsule_id` in the section, in `CAPSULE_ARGS` or on the command line says otherwise. The keys before the
first table are defaults for all capsules of the file.

```toml
backend = "disk"                    # for all capsules of this file
input = ["Makefile"]

[docs]
input = ["docs/**"]                 # appended: Makefile and docs/**
output = "site"                     # a single string will do for a list

["tests.unit"]                      # a name with a dot needs quotes
input = ["src/**", "!**/__pycache__"]
cache_failure = true
cache_failure_ttl = "15m"
```

The section is the one that

1. `-f path:section` names. When a file of the whole name exists, colon and all, it is that file and no section;
2. else has the capsule id as its name;
3. else is the only one.

With several sections and none chosen nothing is cached, and the message lists them.

| option takes | TOML value |
|---|---|
| nothing (a switch) | `true` or `false` |
| a list | an array of strings, or one string |
| a number | an integer or a float |
| a time or a size | a string with a unit, or a number |
| anything else | a string |

A key that is unknown, is set twice or has another type is refused, with file, line and the nearest known key. Only the
top of the file and the chosen section are looked at. Paths and patterns in a file are relative to the **current
directory**, not to the file; `//` stands for the workspace root.

## When something is wrong

A bad option or file never stops the command: it runs, once, and one line on stderr says why it wasn't cached.
With `--strict` the exit code is 125 instead.
"""

PROJECT_START = """\
## capsula.toml

What recorded runs (`capsula capture`, `capsula monitor`, `@capsula.monitor`) look at is set in the `capsula.toml` of a
project; every key may be left out, and so may the file. It is for them alone: cached runs take it for the mark of a
workspace root, and don't read it.
"""


def help_text() -> str:
    """What `capsule --help` prints; at most 80 columns."""
    blocks = [USAGE]
    for title, group in GROUPS:
        lines = [f"{title}:"]
        if title in NOTES:
            lines.append(f"  {NOTES[title]}")
        for option in group:
            lines.extend(_entry(option))
        blocks.append("\n".join(lines) + "\n")
    repeated = ", ".join(f"--{option.name}" for option in OPTIONS if option.kind == LIST)
    end = HELP_END.replace("{repeated}", repeated)
    blocks.extend(
        textwrap.fill(paragraph, WIDTH, break_on_hyphens=False) + "\n" for paragraph in end.split("\n\n")
    )
    return "\n".join(blocks)


def reference_page() -> str:
    """docs/reference.md, whole."""
    blocks = [PAGE_START, "## Options\n"]
    for title, group in GROUPS:
        rows = [f"### {title[0].upper()}{title[1:]}\n"]
        if title in NOTES:
            rows.append(f"{NOTES[title]}\n")
        rows.extend(["| option | takes | default | |", "|---|---|---|---|"])
        rows.extend(_row(option) for option in group)
        blocks.append("\n".join(rows) + "\n")
    return "\n".join([*blocks, PAGE_END, *_project_keys()])


def _project_keys() -> list[str]:
    from capsula.config.tables import KEYS

    rows = [PROJECT_START, "| section | key | default | |", "|---|---|---|---|"]
    for key in KEYS:
        section = f"`[{key.section.replace('item', 'item.NAME')}]`" if key.section else ""
        default = f"`{json.dumps(key.default)}`" if key.default not in (None, [], {}) else ""
        rows.append(f"| {section} | `{key.name}` | {default} | {key.about} |")
    return ["\n".join(rows) + "\n"]


def main(argv: list[str]) -> int:
    sys.stdout.write(reference_page() if "--markdown" in argv else help_text())
    return 0


def _spelled(option: Option) -> str:
    """The long name, with `[no_]` where off is what one would want to say."""
    return f"--{'[no_]' if option.default is True else ''}{option.name}"


def _default(option: Option) -> str:
    if option.default is True:
        return "on"
    return option.default_text


def _entry(option: Option) -> list[str]:
    """One option's lines in the help."""
    short = f"-{option.short}, " if option.short else "    "
    left = f"  {short}{_spelled(option)} {option.metavar}".rstrip()
    default = _default(option)
    about = option.help + (f" (default: {default})" if default else "")
    lines = textwrap.wrap(about, WIDTH - COLUMN, break_on_hyphens=False)
    if len(left) + 2 > COLUMN:
        return [left, *(" " * COLUMN + line for line in lines)]
    return [left.ljust(COLUMN) + lines[0], *(" " * COLUMN + line for line in lines[1:])]


def _row(option: Option) -> str:
    """One option's line in the reference."""
    names = [f"`-{option.short}`"] if option.short else []
    names.append(f"`{_spelled(option)}`")
    names.extend(f"`--{alias}`" for alias in option.aliases)
    takes = (
        "" if option.kind == SWITCH else f"`{option.metavar}`" + (", a list" if option.kind == LIST else "")
    )
    default = _default(option)
    about = option.help
    if option.places == (COMMAND_LINE,):
        about += " On the command line only."
    elif FILES not in option.places:
        about += " Not in TOML files."
    if option.secret:
        about += " Never shown."
    cells = [", ".join(names), takes, f"`{default}`" if default else "", about.replace("*", "\\*")]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
