"""The settings of one run: the four places merged, later wins, lists append."""

import os

from capsula.config.options import (
    BY_NAME,
    COMMAND_LINE,
    LIST,
    OPTIONS,
    VARIABLE,
    Option,
    read_line,
    read_words,
)
from capsula.config.values import nearest, printable
from capsula.errors import ConfigError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    # An option, its value (for a list, what to append), where it was set.
    Sourced = tuple[Option, object, str]

HOME_FILE = ".capsules.toml"
LOCAL_FILES = ("Capsule.toml", "Capsules.toml")


class Settings:
    """What was asked, from all places: one attribute per option, and

    command: the words after `--`;
    config_files: every path where a configuration was looked for, in order, whether or not something was there. Whoever
        keeps what these settings led to has to look at all of them again;
    sources: by option, where its value was set: "command line", "CAPSULE_ARGS" or "path:line" (several, for a list,
        with ", " between).

    Lists are tuples. What nobody set has its default, or None. Sizes are bytes, times are seconds. Two are equal when
    the same was asked, wherever it was set.
    """

    __slots__ = (*(option.name for option in OPTIONS), "command", "config_files", "sources")

    capsule_id: "str | None"
    file: "str | None"
    workspace_root: "str | None"
    passive: bool
    placebo: bool
    placebo_exit: "int | None"
    dry_run: bool
    inputs_hash: bool
    inputs_hash_var: str
    strict: bool
    help: bool
    version: bool
    input: tuple[str, ...]
    output: tuple[str, ...]
    env: tuple[str, ...]
    tool_tag: tuple[str, ...]
    tool_command: tuple[str, ...]
    capture_stdout: bool
    capture_stderr: bool
    backend: str
    store: "str | None"
    store_size: int
    cache_failure: bool
    cache_failure_ttl: "float | None"
    verify_hits: float
    remote: tuple[str, ...]
    remote_mode: str
    local: bool
    remote_timeout: float
    upload: str
    upload_timeout: float
    remote_packs: bool
    lease_wait: float
    lease_time: float
    strict_remote: bool
    remote_header: tuple[str, ...]
    remote_ca: "str | None"
    allow_secrets: bool
    remote_cert: "str | None"
    remote_key: "str | None"
    credential_helper: "str | None"
    sign_key: "str | None"
    trust: "str | None"
    tier: str
    builder: "str | None"
    ref: "str | None"
    verbose: bool
    explain: bool
    json: "str | None"
    capsule_job: "str | None"
    s3_bucket: "str | None"
    s3_bucket_objects: "str | None"
    s3_endpoint: "str | None"
    s3_region: "str | None"
    s3_uploads_endpoint: "str | None"
    s3_uploads_region: "str | None"
    s3_downloads_endpoint: "str | None"
    s3_downloads_region: "str | None"
    honeycomb_dataset: "str | None"
    honeycomb_token: "str | None"
    honeycomb_trace_id: "str | None"
    honeycomb_parent_id: "str | None"
    honeycomb_kv: tuple[str, ...]

    command: tuple[str, ...]
    config_files: tuple[str, ...]
    sources: dict[str, str]

    def __init__(
        self, given: "Iterable[Sourced]", command: "Sequence[str]", config_files: "Sequence[str]"
    ) -> None:
        for option in OPTIONS:
            setattr(self, option.name, option.default)
        self.command = tuple(command)
        self.config_files = tuple(config_files)
        sources = self.sources = {}
        for option, value, source in given:
            if option.kind == LIST:
                value = getattr(self, option.name) + value
                earlier = sources.get(option.name, "")
                if f", {earlier}".endswith(f", {source}"):  # the same place again, which follows itself
                    source = earlier
                elif earlier:
                    source = f"{earlier}, {source}"
            setattr(self, option.name, value)
            sources[option.name] = source

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Settings)
            and self.command == other.command
            and all(getattr(self, option.name) == getattr(other, option.name) for option in OPTIONS)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, never a key

    def __repr__(self) -> str:
        shown = [
            f"{option.name}={'***' if option.secret else repr(getattr(self, option.name))}"
            for option in OPTIONS
            if option.name in self.sources
        ]
        return f"Settings({', '.join([*shown, f'command={self.command!r}'])})"


def read_settings(
    argv: "Sequence[str]",
    *,
    environ_args: "str | None",
    home: "str | None",
    cwd: str,
    find_root: "Callable[[str | None], str]",
    program: str,
    lenient: bool = False,
) -> Settings:
    """What the four places ask for together; raises UsageError or ConfigError for the first thing that is wrong
    (`lenient`: that may change the inputs hash).

    `argv` is without its first word, whose base name is `program`; `environ_args` is the text of CAPSULE_ARGS.
    `find_root` answers the workspace root for the option of that name; it is only asked for a `-f //path`.
    With --help or --version on the command line nothing else is read.
    """
    if not argv:  # said first, whatever the files hold
        raise _no_command()
    words, command = read_line(argv, lenient=lenient)
    line = [(option, value, COMMAND_LINE) for option, value in words]
    if program == "placebo":
        line.insert(0, (BY_NAME["placebo"], True, COMMAND_LINE))
    if any(option.name in ("help", "version") for option, _ in words):
        return Settings(line, command, ())
    looked: list[str] = []
    defaults = _read_home(home, cwd, looked, lenient=lenient)
    asked = [*_read_variable(environ_args, lenient=lenient), *line]

    roots: list[str] = []  # found once, and only if a path needs it

    def resolve(path: str) -> str:
        if path.startswith("//"):
            if not roots:
                roots.append(find_root(_last([*defaults, *asked], "workspace_root")))
            return os.path.join(roots[0], path.lstrip("/"))
        return os.path.join(cwd, path)

    from_file = _read_capsule_file(defaults, asked, resolve, looked, lenient=lenient)
    settings = Settings([*defaults, *from_file, *asked], command, looked)
    if not command and not settings.inputs_hash:
        raise _no_command()
    return settings


def split_section(text: str, exists: "Callable[[str], bool]") -> "tuple[str, str | None]":
    """The path and the section in the text of --file.

    The section is what follows the last `:`, unless a file of the whole name exists. A section with a `:` in its own
    name is found too, when what stands before an earlier one exists.
    """
    if ":" not in text or exists(text):
        return text, None
    end = text.rfind(":")
    last = end
    while end > 0:
        if exists(text[:end]):
            return text[:end], text[end + 1 :]
        end = text.rfind(":", 0, end)
    return text[:last], text[last + 1 :]


def choose_section(
    names: "Sequence[str]", asked: "str | None", capsule_id: "str | None", shown: str
) -> "str | None":
    """The section that is this capsule; None if the file has none. Raises UsageError when it can't be told."""
    if asked is not None:
        if asked in names:
            return asked
        meant = nearest(asked, names)
        hint = f"did you mean [{printable(meant)}]?" if meant else _listed(names)
        raise UsageError(f"{shown} has no section [{printable(asked)}]", hint=hint)
    if capsule_id is not None and capsule_id in names:
        return capsule_id
    if len(names) > 1:
        raise UsageError(
            f"{shown} has {len(names)} capsules and none is chosen",
            hint=f"choose with -f {shown}:SECTION; {_listed(names)}",
        )
    return names[0] if names else None


def _no_command() -> UsageError:
    return UsageError("there is no command to run", hint="capsule [options] -- command …")


def _listed(names: "Sequence[str]") -> str:
    if not names:
        return "it has no sections"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return "its sections: " + ", ".join(printable(name) for name in names[:10]) + more


def _last(given: "Iterable[Sourced]", name: str) -> "str | None":
    """The text that wins among these."""
    found = None
    for option, value, _ in given:
        if option.name == name:
            found = value
    return found if isinstance(found, str) else None


def _read_variable(text: "str | None", *, lenient: bool) -> "list[Sourced]":
    if not text:
        return []
    from capsula.config import words

    try:
        split = words.split(text)
    except UsageError as refused:
        raise UsageError(f"{VARIABLE}: {refused.what}", hint=refused.hint) from None
    return [(option, value, VARIABLE) for option, value in read_words(split, VARIABLE, lenient=lenient)]


def _read_home(home: "str | None", cwd: str, looked: list[str], *, lenient: bool) -> "list[Sourced]":
    """The defaults for all capsules of this user."""
    if not home:
        return []
    path = os.path.join(cwd, home, HOME_FILE)
    if not _exists(path, looked):
        return []
    from capsula.config import toml

    document = toml.read_file(path, path)
    for name in toml.sections(document):
        raise ConfigError(
            f"{document.at(name)}: [{printable(name)}]: this file has no sections, it is for all capsules",
            hint="sections belong into the file that is given with -f",
        )
    return toml.read_keys(document, lenient=lenient)


def _read_capsule_file(
    defaults: "list[Sourced]",
    asked: "list[Sourced]",
    resolve: "Callable[[str], str]",
    looked: list[str],
    *,
    lenient: bool,
) -> "list[Sourced]":
    """The file of -f, or the one in the current directory when nobody says which capsule it is."""
    text, section = _last(asked, "file"), None
    if text is not None:
        path, section = split_section(text, lambda name: _exists(resolve(name), looked))
        if resolve(path) not in looked:
            looked.append(resolve(path))
    elif _last([*defaults, *asked], "capsule_id") is not None:
        return []
    else:
        for path in LOCAL_FILES:
            if _exists(resolve(path), looked):
                break
        else:
            return []
    from capsula.config import toml

    document = toml.read_file(resolve(path), path)
    given = toml.read_keys(document, lenient=lenient)
    capsule_id = _last([*defaults, *given, *asked], "capsule_id")
    section = choose_section(toml.sections(document), section, capsule_id, document.shown)
    if section is not None:
        # The section's name is the capsule's id, unless one of its keys or a later place says otherwise.
        given.append((BY_NAME["capsule_id"], section, document.at(section)))
        given.extend(toml.read_keys(document, section, lenient=lenient))
    return given


def _exists(path: str, looked: list[str]) -> bool:
    # Also the pipe of `-f <(...)`; a directory is none. Not to be there is an answer that can change: it is looked at.
    looked.append(path)
    return os.path.exists(path) and not os.path.isdir(path)
