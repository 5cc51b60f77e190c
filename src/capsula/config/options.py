"""The options: one table, which the reader of words, the TOML keys, `--help` and the reference come from."""

from capsula.config import values
from capsula.config.values import (
    anything,
    backend,
    endpoint,
    environment_name,
    exit_code,
    header,
    key_value,
    remote,
    remote_mode,
    report_target,
    share,
    upload,
)
from capsula.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Given = tuple["Option", object]  # an option and its value; for a list, a tuple of what to append
    Value = str | bool | None

SWITCH, TEXT, LIST, PATH = "switch", "text", "list", "path"
NUMBER, DURATION, SIZE = "number", "duration", "size"

COMMAND_LINE, VARIABLE, FILES = "command line", "CAPSULE_ARGS", "TOML files"
ANYWHERE = (COMMAND_LINE, VARIABLE, FILES)
WORDS = (COMMAND_LINE, VARIABLE)

_READERS: "dict[str, Callable[[str], object]]" = {DURATION: values.duration, SIZE: values.size}


class Option:
    """One row. `read` turns a text (of a list: one item) into its value; `default` is such a value already.

    `default_text` is the default as people write it. The value of a `secret` is never shown.
    """

    # fmt: off
    __slots__ = (
        "aliases", "default", "default_text", "help", "kind", "metavar", "name", "places", "read", "secret", "short",
    )
    # fmt: on

    def __init__(
        self,
        name: str,
        short: str,
        kind: str,
        metavar: str,
        about: str,
        *,
        default: "str | bool | None" = None,
        read: "Callable[[str], object] | None" = None,
        aliases: tuple[str, ...] = (),
        places: tuple[str, ...] = ANYWHERE,
        secret: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.metavar = metavar
        self.help = about
        self.read = read or _READERS.get(kind, values.filled)
        self.aliases = aliases
        self.places = places
        self.secret = secret
        self.default_text = default if isinstance(default, str) else ""
        self.default: object = default
        if kind == SWITCH:
            self.default = bool(default)
        elif kind == LIST:
            self.default = ()
        elif isinstance(default, str):
            self.default = self.read(default)

    def __repr__(self) -> str:
        return f"<option {self.name}>"


# A table is read by its rows. Which options enter the cache key isn't said here: the action decides that.
# fmt: off
GROUPS: tuple[tuple[str, tuple[Option, ...]], ...] = (
    ("invocation", (
        Option("capsule_id", "c", TEXT, "ID",
            "The capsule's identity: results are shared within one id only. By default the name of the section in the "
            "TOML file, else derived from the command."),
        Option("file", "f", PATH, "PATH[:SECTION]",
            "TOML file with options, and the section that is this capsule. Without it and without any id, "
            "./Capsule.toml is read if there is one.", places=WORDS),
        Option("workspace_root", "w", PATH, "DIR",
            "What // stands for at the start of a path. By default the nearest parent directory with a capsula.toml "
            "or .git, else the current directory."),
        Option("passive", "", SWITCH, "", "Do nothing but run the command."),
        Option("placebo", "p", SWITCH, "",
            "Always run the command, compare what it makes with the cached result and complain about differences. "
            "Also on when called by the name placebo."),
        Option("placebo_exit", "", NUMBER, "N",
            "Exit code, 1 to 255, when a placebo finds a difference; by default the command's own.", read=exit_code),
        Option("dry_run", "", SWITCH, "", "Say whether it would be a hit and why; run nothing."),
        Option("inputs_hash", "", SWITCH, "", "Print the digest of inputs and tool tags (a build id) and exit."),
        Option("inputs_hash_var", "", TEXT, "NAME",
            "Environment variable in which the command finds that digest.",
            default="CAPSULE_INPUTS_HASH", read=environment_name),
        Option("strict", "", SWITCH, "",
            "When something is wrong with options or cache, exit with code 125 instead of just running the command."),
        Option("help", "h", SWITCH, "", "Show this help and exit.", places=(COMMAND_LINE,)),
        Option("version", "", SWITCH, "", "Show the version and exit.", places=(COMMAND_LINE,)),
    )),
    ("inputs and outputs", (
        Option("input", "i", LIST, "PATTERN",
            "A file, directory or pattern that the command reads. !PATTERN excludes; // starts at the workspace "
            "root."),
        Option("output", "o", LIST, "PATTERN",
            "A file, directory or pattern that the command makes and that a hit brings back."),
        Option("env", "e", LIST, "NAME",
            "Name of an environment variable whose value may change the result.", read=environment_name),
        Option("tool_tag", "t", LIST, "TAG",
            "Any text that stands for something that is no input file: a compiler's version, an image's digest.",
            read=anything),
        Option("tool_command", "", LIST, "COMMAND",
            "A command whose output stands for the version of a tool, like 'cc --version'."),
        Option("capture_stdout", "", SWITCH, "",
            "Keep what the command prints on stdout, and print it again on a hit.", default=True),
        Option("capture_stderr", "", SWITCH, "",
            "Keep what the command prints on stderr, and print it again on a hit.", default=True),
    )),
    ("caching", (
        Option("backend", "b", TEXT, "NAME|URL",
            "Where results are kept: disk (on this machine), dummy (nowhere), or the address of a store that machines "
            "share (see remote stores), with the one on this machine in front of it.",
            default="disk", read=backend),
        Option("store", "", PATH, "DIR",
            "Directory of the store on this machine. By default $XDG_CACHE_HOME/capsula or ~/.cache/capsula."),
        Option("store_size", "", SIZE, "SIZE",
            "Limit of that store; what was used longest ago goes first. 0 means no limit.", default="10GiB"),
        Option("cache_failure", "", SWITCH, "",
            "Use cached results of failed commands too; by default a command that failed is run again.",
            aliases=("cache_failures",)),
        Option("cache_failure_ttl", "", DURATION, "TIME",
            "How long a cached failure is used, like 90s, 15m, 2h or 7d; by default without end."),
        Option("verify_hits", "", NUMBER, "SHARE",
            "Share of the hits, 0 to 1, that are run again and compared, as a placebo is.", default="0", read=share),
    )),
    ("remote stores", (
        Option("remote", "", LIST, "URL",
            "A store that machines share, behind that on this machine; asked in order, after --backend. http(s):// is "
            "a cache as Bazel uses it, grpc(s)://HOST:PORT/INSTANCE one of the Remote Execution API, and s3://, gs:// "
            "and az://BUCKET/PREFIX are object stores.", read=remote),
        Option("remote_mode", "", TEXT, "rw|r|w|off",
            "Whether remote stores are read, written, both or left alone.", default="rw", read=remote_mode),
        Option("local", "", SWITCH, "",
            "Keep what comes from remote stores and what is made on this machine, too.", default=True),
        Option("remote_timeout", "", DURATION, "TIME",
            "How long all remote stores together may delay the command. Fetching a result may take longer, as long as "
            "making it did.", default="10s"),
        Option("upload", "", TEXT, "now|background",
            "Whether the end of the run waits until its result is sent.", default="now", read=upload),
        Option("upload_timeout", "", DURATION, "TIME",
            "How long the end of the run waits for that; what isn't sent by then, a later run sends.",
            default="60s"),
        Option("remote_packs", "", SWITCH, "",
            "Send the small files of a result together to http(s) stores, too: for one that nobody reads but capsule."),
        Option("lease_wait", "", DURATION, "TIME",
            "How long at most to wait for another machine that is making the same result. 0: not at all. Object stores "
            "only.", default="10m"),
        Option("lease_time", "", DURATION, "TIME",
            "After how long without a sign of life from this machine others wait for it no longer. 0: they are told "
            "nothing.", default="20s"),
        Option("strict_remote", "", SWITCH, "",
            "When a remote store can't be used, exit with code 125 instead of running the command without it."),
        Option("allow_secrets", "", SWITCH, "",
            "Send results also when something in their outputs or logs looks like a credential."),
        Option("remote_header", "", LIST, "NAME: VALUE",
            "A header for each request to an http(s) or grpc(s) store, like 'Authorization: Bearer …'.",
            read=header, secret=True),
        Option("remote_ca", "", PATH, "FILE",
            "PEM file of the authorities that certificates of https:// and grpcs:// stores may come from, instead of "
            "the system's."),
        Option("remote_cert", "", PATH, "FILE", "PEM file of the certificate that we show to such a store."),
        Option("remote_key", "", PATH, "FILE", "PEM file of its private key."),
        Option("credential_helper", "", PATH, "PROGRAM",
            "A program that gives the headers for an address, by Bazel's protocol: `PROGRAM get`."),
        Option("sign_key", "", PATH, "FILE",
            "Private key (of `capsula keygen`) with which results are signed that are sent. env:NAME takes it from a "
            "variable."),
        Option("trust", "", PATH, "FILE",
            "TOML file of the keys that are believed, and what for. Results that none of them vouches for are misses."),
        Option("tier", "", TEXT, "NAME", "What we sign results as; a reader decides which tiers it accepts.",
            default="trusted"),
        Option("builder", "", TEXT, "NAME", "Who we say that we are when we sign. By default user@host."),
        Option("ref", "", TEXT, "REF",
            "The git ref that we say we build, like refs/heads/main. By default what the CI service says."),
    )),
    ("reporting", (
        Option("verbose", "v", SWITCH, "", "Print the hash of every input and output."),
        Option("explain", "", SWITCH, "", "Say why it was a hit or a miss, fact by fact."),
        Option("json", "", TEXT, "PATH|fd:N",
            "Write a machine-readable report to a file, or to the open descriptor N.", read=report_target),
        Option("capsule_job", "j", TEXT, "TEXT",
            "Kept with a new result and named on each hit, like the URL of the CI job that made it.", read=anything),
    )),
    ("s3", (
        Option("s3_bucket", "", TEXT, "NAME", "Bucket of the cache entries."),
        Option("s3_bucket_objects", "", TEXT, "NAME", "Bucket of the blobs."),
        Option("s3_endpoint", "", TEXT, "URL", "Endpoint, where the two below don't differ.", read=endpoint),
        Option("s3_region", "", TEXT, "REGION", "Region, where the two below don't differ."),
        Option("s3_uploads_endpoint", "", TEXT, "URL", "Endpoint to which blobs are uploaded.", read=endpoint),
        Option("s3_uploads_region", "", TEXT, "REGION", "Region to which blobs are uploaded."),
        Option("s3_downloads_endpoint", "", TEXT, "URL", "Endpoint that blobs are fetched from.", read=endpoint),
        Option("s3_downloads_region", "", TEXT, "REGION", "Region that blobs are fetched from."),
    )),
    ("honeycomb", (
        Option("honeycomb_dataset", "", TEXT, "NAME", "Dataset that gets one event per run.", read=anything),
        Option("honeycomb_token", "", TEXT, "TOKEN", "Key for writing to it.", read=anything, secret=True),
        Option("honeycomb_trace_id", "", TEXT, "ID", "Trace that the event belongs to.", read=anything),
        Option("honeycomb_parent_id", "", TEXT, "ID", "Its parent, like the CI pipeline.", read=anything),
        Option("honeycomb_kv", "", LIST, "KEY=VALUE", "A field to add to the event.", read=key_value),
    )),
)
# fmt: on

OPTIONS: tuple[Option, ...] = tuple(option for _, group in GROUPS for option in group)
BY_NAME: dict[str, Option] = {name: option for option in OPTIONS for name in (option.name, *option.aliases)}
BY_SHORT: dict[str, Option] = {option.short: option for option in OPTIONS if option.short}
# What may stand behind two hyphens, and the value that a switch of that spelling gets.
BY_WORD: dict[str, tuple[Option, bool]] = {name: (option, True) for name, option in BY_NAME.items()}
for _name, _option in BY_NAME.items():
    if _option.kind == SWITCH and _option.places == ANYWHERE:
        BY_WORD["no_" + _name] = (_option, False)


# What says which files are inputs, what joins their hash, and which variable it goes to.
# fmt: off
_HASHED = frozenset((
    "capsule_id", "file", "input", "inputs_hash_var", "output", "tool_command", "tool_tag", "workspace_root",
))
# fmt: on


def canonical(name: str) -> str:
    """The one spelling of a name: hyphens are underscores."""
    return name.replace("-", "_")


def read_line(argv: "Sequence[str]", *, lenient: bool = False) -> "tuple[list[Given], list[str]]":
    """The options of a command line (without its first word) and the command behind the first `--`.

    Raises UsageError for the first thing that is wrong. Lists come as tuples of one item per occurrence.
    """
    words, command = _cut(argv)
    given = read_words(words, COMMAND_LINE, separated=len(words) < len(argv), lenient=lenient)
    return given, command


def read_words(
    words: "Sequence[str]", place: str, *, separated: bool = True, lenient: bool = False
) -> "list[Given]":
    """The options that these words set, in order; raises UsageError. `separated`: a `--` comes after them. `lenient`:
    what is wrong and can't change the inputs hash is left out."""
    given: list[Given] = []
    left_out = -1
    for at, spelled, option, value in _scan(words):
        try:
            if option is None:
                previous = given[-1][0] if given else None
                raise _no_option(spelled, _where(place), separated=separated, previous=previous)
            given.append((option, _value(option, spelled, value, place)))
        except UsageError:
            if not lenient or (at != left_out and may_change_hash(option, spelled)):
                raise
            if option is None and value is None and spelled.startswith("-"):
                left_out = at + 1  # what the unknown option would have taken
    return given


def may_change_hash(option: "Option | None", spelled: str) -> bool:
    """Whether the inputs hash may be another without this option, which is known, meant, or a word that is none."""
    if option is None:
        meant = BY_WORD.get(_meant(spelled))
        if meant is None:
            return not spelled.startswith("-")
        option = meant[0]
    return option.name in _HASHED


def _value(option: Option, spelled: str, value: "Value", place: str) -> object:
    where = _where(place)
    if place not in option.places:
        raise UsageError(f"{where}{spelled} can't be set here", hint=f"it belongs on the {COMMAND_LINE}")
    if option.kind == SWITCH:
        if isinstance(value, str):
            hint = f"--{option.name} turns it on, --no_{option.name} off"
            raise UsageError(f"{where}{spelled} takes no value", hint=hint)
        return value
    if not isinstance(value, str):
        raise UsageError(
            f"{where}{spelled} needs a value ({option.metavar})",
            hint=f"a value that looks like an option is written --{option.name}=VALUE",
        )
    try:
        read = option.read(value)
    except UsageError as refused:
        raise UsageError(f"{where}{spelled}: {refused.what}", hint=refused.hint) from None
    return (read,) if option.kind == LIST else read


def _where(place: str) -> str:
    return "" if place == COMMAND_LINE else place + ": "


def guess_command(argv: "Sequence[str]") -> list[str]:
    """The command in a line that may be wrong, since it has to run all the same; empty if there is none to see."""
    return _guess(argv)[1]


def wants_passive(argv: "Sequence[str]", environ_args: "str | None") -> bool:
    """Whether CAPSULE_ARGS or the command line ask for --passive, even if something else in them is wrong."""
    return _wants("passive", argv, environ_args)


def wants_strict(argv: "Sequence[str]", environ_args: "str | None") -> bool:
    """The same for --strict: it is asked when the options couldn't be read."""
    return _wants("strict", argv, environ_args)


def wants_no_run(argv: "Sequence[str]", environ_args: "str | None") -> bool:
    """The same for --dry_run and --inputs_hash: with either, the command is never run."""
    return _wants("dry_run", argv, environ_args) or _wants("inputs_hash", argv, environ_args)


def _wants(name: str, argv: "Sequence[str]", environ_args: "str | None") -> bool:
    wanted = False
    for words in (_tolerant_split(environ_args), _guess(argv)[0]):
        for _, _, option, value in _scan(words):
            if option is not None and option.name == name:
                wanted = bool(value)
    return wanted


def _cut(argv: "Sequence[str]") -> tuple[list[str], list[str]]:
    """Options and command. The first `--` separates, even where an option still waits for its value."""
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _scan(words: "Sequence[str]") -> "Iterator[tuple[int, str, Option | None, Value]]":
    """Go through words without judging them: (position, option as spelled, option, value) for each thing found.

    No option: a word that is none (it comes as `spelled`), or an unknown one; its value is what followed the `=`.
    No value: the option needs one and there is none. A text for a switch: it was given one and takes none.
    """
    position, end = 0, len(words)
    while position < end:
        at = position
        position += 1
        for spelled, option, attached in _pieces(words[at]):
            value = attached
            if option is not None and value is None and position < end and not _is_option(words[position]):
                value = words[position]
                position += 1
            yield at, spelled, option, value


def _pieces(word: str) -> "Iterator[tuple[str, Option | None, Value]]":
    """What one word holds; an option without a value takes the next word."""
    spelled, equals, text = word.partition("=")
    if not word.startswith("-") or word == "-":
        yield word, None, None
    elif word.startswith("--"):
        option, on = BY_WORD.get(canonical(spelled[2:]), (None, True))
        yield spelled, option, text if equals else on if option and option.kind == SWITCH else None
    elif canonical(spelled[1:]) in BY_WORD:
        # `-verbose` would be `-v -e rbose`, which nobody means.
        yield spelled, None, text if equals else None
    else:
        yield from _bundle(word)


def _bundle(word: str) -> "Iterator[tuple[str, Option | None, Value]]":
    """Short options behind one hyphen, the last of which may carry its value: `-vp`, `-cID`, `-vc=ID`."""
    for index in range(1, len(word)):
        option, rest = BY_SHORT.get(word[index]), word[index + 1 :]
        value: Value = None
        if rest.startswith("="):  # `-c=ID`, as argparse reads it
            value = rest[1:]
        elif option is not None:
            value = True if option.kind == SWITCH else rest or None
        yield "-" + word[index], option, value
        if value is not True:
            return


def _is_option(word: str) -> bool:
    """Whether a word is exactly a known option: then it isn't the value of the one before, which was left empty."""
    if word.startswith("--"):
        return canonical(word[2:].partition("=")[0]) in BY_WORD
    return len(word) == 2 and word[0] == "-" and word[1] in BY_SHORT


def _guess(argv: "Sequence[str]") -> tuple[list[str], list[str]]:
    """Options and command of a line that may be wrong."""
    words, command = _cut(argv)
    if command and not command[0].startswith("-"):
        return words, command
    # Without a `--`, or when the one there is belongs to the command (`capsule npm test -- --watch`).
    skipped = -1
    for at, spelled, option, value in _scan(words):
        if option is None and (not spelled.startswith("-") or spelled == "-"):
            if at != skipped:
                return list(argv[:at]), list(argv[at:])
        elif option is None and value is None:
            meant = BY_WORD.get(_meant(spelled))
            if meant is not None and meant[0].kind != SWITCH:
                skipped = at + 1  # what the misspelt option would have taken
    return words, command


def _meant(spelled: str) -> str:
    """The name of the option that a wrong one was probably meant to be, "" if there is none."""
    name = canonical(spelled.lstrip("-"))
    return values.nearest(name, BY_WORD) if len(name) > 1 else ""


def _tolerant_split(text: "str | None") -> list[str]:
    if not text:
        return []
    from capsula.config import words

    try:
        return words.split(text)
    except UsageError:
        return text.split()


def _no_option(spelled: str, where: str, *, separated: bool, previous: "Option | None") -> UsageError:
    """Why a word can't be read: an option that doesn't exist, or no option at all."""
    shown = values.printable(spelled)
    if spelled == "--":
        return UsageError(f"{where}-- has no place here", hint="the command comes from the command line")
    if spelled.startswith("-") and spelled != "-":
        name, meant = canonical(spelled.lstrip("-")), _meant(spelled)
        hint = f"did you mean --{meant}?" if meant else "capsule --help lists the options"
        if name.startswith("no_") and name[3:] in BY_NAME:
            hint = f"only a switch can be turned off, and --{name[3:]} is none"
        return UsageError(f"{where}there is no option {shown}", hint=hint)
    if previous is not None and previous.secret:
        shown = f"what follows --{previous.name}"  # it may be the rest of the secret
    if where:
        return UsageError(f"{where}{shown} is no option", hint="a value with blanks in it needs quotes")
    hint = f"capsule [options] -- {shown} …"
    if separated:
        hint = "did the shell put in the names of files? Quote the pattern, or repeat the option for each"
    return UsageError(f"{shown} is no option, and the command comes after a --", hint=hint)
