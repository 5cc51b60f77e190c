"""The four places become one value."""

import os
import shlex
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from capsula.config.options import BY_NAME, FILES, LIST, OPTIONS, SWITCH, Option
from capsula.config.settings import Settings, choose_section, read_settings, split_section
from capsula.errors import ConfigError, UsageError


class Desk:
    """A directory to run in, a home, and what was asked of the workspace root."""

    def __init__(self, path: Path) -> None:
        self.home, self.cwd, self.root = path / "home", path / "root" / "work", path / "root"
        self.home.mkdir()
        self.cwd.mkdir(parents=True)
        self.roots: list[str | None] = []

    def find_root(self, workspace_root: "str | None") -> str:
        self.roots.append(workspace_root)
        return str(self.root)

    def read(
        self, *argv: str, args: "str | None" = None, program: str = "capsule", command: str = "make"
    ) -> Settings:
        return read_settings(
            [*argv, "--", *([command] if command else [])],
            environ_args=args,
            home=str(self.home),
            cwd=str(self.cwd),
            find_root=self.find_root,
            program=program,
        )

    def user(self, text: str) -> None:
        (self.home / ".capsules.toml").write_text(text)

    def file(self, text: str, name: str = "Capsule.toml") -> str:
        path = self.cwd / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# ---- what a setting is


def test_nothing_set_is_the_defaults(desk: Desk) -> None:
    found = desk.read()
    for option in OPTIONS:
        assert getattr(found, option.name) == option.default
    assert (found.command, found.sources) == (("make",), {})
    assert found.backend == "disk"
    assert found.store_size == 10 * 2**30
    assert found.capture_stdout is found.capture_stderr is True
    assert found.capsule_id is found.cache_failure_ttl is found.placebo_exit is None
    assert found.input == ()


def test_each_option_is_an_attribute_with_a_type() -> None:
    annotated = set(Settings.__annotations__) - {"command", "config_files", "sources"}
    assert annotated == {option.name for option in OPTIONS}


def test_a_secret_is_not_in_the_representation(desk: Desk) -> None:
    found = desk.read("--honeycomb_token=hunter2", "-v")
    assert found.honeycomb_token == "hunter2"
    assert repr(found) == "Settings(verbose=True, honeycomb_token=***, command=('make',))"


def test_later_places_win_and_lists_append(desk: Desk) -> None:
    desk.user('input = ["home"]\ncapsule_job = "home"\nverbose = true\nstore = "/home"\n')
    desk.file("""\
input = ["top"]
capsule_job = "top"
store = "/top"
placebo = true
[it]
input = ["section"]
explain = true
""")
    found = desk.read(
        "-i", "line", "--no_verbose", "--input=line2", args="-i args --capsule_job 'a b' --no-placebo"
    )
    assert found.input == ("home", "top", "section", "args", "line", "line2")
    assert (found.capsule_job, found.store) == ("a b", "/top")
    assert (found.verbose, found.placebo, found.explain) == (False, False, True)
    user = f"{desk.home}/.capsules.toml"
    assert found.sources == {
        "input": f"{user}:1, Capsule.toml:1, Capsule.toml:6, CAPSULE_ARGS, command line",
        "capsule_job": "CAPSULE_ARGS",
        "verbose": "command line",
        "store": "Capsule.toml:3",
        "placebo": "CAPSULE_ARGS",
        "capsule_id": "Capsule.toml:5",
        "explain": "Capsule.toml:7",
    }


def test_the_name_placebo_turns_it_on_over_all_other_places_but_the_line(desk: Desk) -> None:
    desk.user("placebo = false\n")
    assert desk.read(program="placebo", args="--no_placebo").placebo is True
    assert desk.read("--no_placebo", program="placebo").placebo is False
    assert desk.read(program="capsule").placebo is False


def test_help_and_version_need_no_command_and_read_no_file(desk: Desk) -> None:
    desk.user("this is not TOML")
    for word in ("-h", "--help", "--version"):
        found = desk.read(word, command="", args="'")
        assert found.help or found.version
        assert found.config_files == ()


def test_a_command_is_needed_except_for_the_inputs_hash(desk: Desk) -> None:
    with pytest.raises(UsageError, match="no command"):
        desk.read(command="")
    with pytest.raises(UsageError, match="no command"):
        read_settings([], environ_args="'", home="/", cwd="/", find_root=str, program="capsule")
    assert desk.read("--inputs_hash", command="").command == ()
    assert desk.read(args="--inputs_hash", command="").inputs_hash


def test_a_bad_word_in_the_variable_is_refused_with_its_name(desk: Desk) -> None:
    for text in ("-c 'x", "--bogus", "word"):
        with pytest.raises(UsageError, match=r"^CAPSULE_ARGS: "):
            desk.read(args=text)


# ---- the user's file


def test_the_file_of_the_user_is_optional_and_watched(desk: Desk) -> None:
    assert desk.read("-c", "x").config_files == (f"{desk.home}/.capsules.toml",)
    for home in (None, ""):
        found = read_settings(
            ["-cx", "--", "make"],
            environ_args=None,
            home=home,
            cwd="/",
            find_root=desk.find_root,
            program="capsule",
        )
        assert found.config_files == ()


def test_the_file_of_the_user_has_no_sections(desk: Desk) -> None:
    desk.user("verbose = true\n[docs]\n")
    with pytest.raises(ConfigError) as caught:
        desk.read()
    assert caught.value.what.startswith(f"{desk.home}/.capsules.toml:2: [docs]")


def test_a_file_that_is_there_and_cannot_be_read_is_an_error(desk: Desk) -> None:
    desk.user("verbose = tru")
    with pytest.raises(ConfigError, match="not valid TOML"):
        desk.read()


# ---- which file and which section


def test_without_file_and_id_the_one_in_the_directory_is_read(desk: Desk) -> None:
    assert desk.read().config_files[1:] == (f"{desk.cwd}/Capsule.toml", f"{desk.cwd}/Capsules.toml")
    desk.file("[second]", "Capsules.toml")
    assert desk.read().capsule_id == "second"
    desk.file("[first]")
    found = desk.read()
    assert (found.capsule_id, found.file) == ("first", None)
    assert found.config_files[1:] == (f"{desk.cwd}/Capsule.toml",)


@pytest.mark.parametrize("place", ["home", "args", "line"])
def test_with_an_id_from_anywhere_the_one_in_the_directory_is_not_read(desk: Desk, place: str) -> None:
    desk.file("verbose = true\n[other]")
    if place == "home":
        desk.user('capsule_id = "mine"')
    found = desk.read(
        *(["-c", "mine"] if place == "line" else []), args="-c mine" if place == "args" else None
    )
    assert (found.capsule_id, found.verbose) == ("mine", False)
    assert len(found.config_files) == 1


def test_the_file_of_the_line_wins_over_that_of_the_variable(desk: Desk) -> None:
    desk.file("[a]", "a.toml")
    desk.file("[b]", "b.toml")
    assert desk.read(args="-f a.toml").capsule_id == "a"
    found = desk.read("-f", "b.toml", args="-f a.toml")
    assert (found.capsule_id, found.file) == ("b", "b.toml")
    assert found.config_files[1:] == (f"{desk.cwd}/b.toml",)


def test_a_path_from_the_workspace_root(desk: Desk) -> None:
    (desk.root / "conf.toml").write_text("[a]\n[b]")
    found = desk.read("-f", "//conf.toml:b", "-w", "here", args="-w there")
    assert (found.capsule_id, desk.roots) == ("b", ["here"])
    assert found.config_files[1:] == (f"{desk.root}/conf.toml:b", f"{desk.root}/conf.toml")
    assert found.sources["capsule_id"] == "//conf.toml:2"


def test_the_root_for_a_path_may_come_from_the_file_of_the_user(desk: Desk) -> None:
    desk.user('workspace_root = "far"')
    (desk.root / "conf.toml").write_text("[a]")
    assert desk.read("-f", "//conf.toml").capsule_id == "a"
    assert desk.roots == ["far"]


def test_the_workspace_root_is_not_looked_for_without_need(desk: Desk) -> None:
    desk.file("[a]")
    desk.read("-f", "Capsule.toml")
    assert desk.roots == []


@pytest.mark.parametrize(
    ("suffix", "capsule_id", "section", "expected_id"),
    [
        (":a", None, "a", "a"),
        (":a", "b", "a", "b"),
        (":a", "free", "a", "free"),
        ("", "b", "b", "b"),
        (":with:colon", None, "with:colon", "with:colon"),
    ],
)
def test_the_section_is_that_of_the_suffix_else_that_of_the_id(
    desk: Desk, suffix: str, capsule_id: "str | None", section: str, expected_id: str
) -> None:
    desk.file('[a]\ninput = "a"\n[b]\ninput = "b"\n["with:colon"]\ninput = "with:colon"\n')
    found = desk.read("-f", "Capsule.toml" + suffix, *(["-c", capsule_id] if capsule_id else []))
    assert (found.input, found.capsule_id) == ((section,), expected_id)


def test_the_only_section_is_it_and_its_name_is_the_id_when_there_is_no_other(desk: Desk) -> None:
    desk.file('[a]\ninput = "a"\n')
    assert desk.read("-f", "Capsule.toml").capsule_id == "a"
    found = desk.read("-f", "Capsule.toml", "-c", "b")
    assert (found.capsule_id, found.input) == ("b", ("a",))


def test_a_key_of_the_section_beats_its_name_and_its_name_the_top_of_the_file(desk: Desk) -> None:
    desk.user('capsule_id = "home"')
    desk.file('capsule_id = "top"\n[a]\n')
    assert desk.read("-f", "Capsule.toml").capsule_id == "a"
    desk.file('capsule_id = "top"\n[a]\ncapsule_id = "key"\n')
    assert desk.read("-f", "Capsule.toml").capsule_id == "key"
    desk.file('capsule_id = "top"\n')
    assert desk.read("-f", "Capsule.toml").capsule_id == "top"
    desk.file('capsule_id = "b"\n[a]\n[b]\n')
    assert desk.read("-f", "Capsule.toml", args=None).capsule_id == "b"


def test_an_id_from_the_file_of_the_user_chooses_when_nothing_later_does(desk: Desk) -> None:
    desk.user('capsule_id = "b"')
    desk.file("[a]\n[b]\n[c]\n")
    assert desk.read("-f", "Capsule.toml").capsule_id == "b"
    assert desk.read("-f", "Capsule.toml", args="-c c").capsule_id == "c"


def test_many_sections_and_none_chosen_are_listed(desk: Desk) -> None:
    desk.file("[docs]\n[tests]\n")
    for argv in ([], ["-f", "Capsule.toml"], ["-f", "Capsule.toml", "-c", "other"]):
        with pytest.raises(UsageError) as caught:
            desk.read(*argv)
        assert caught.value.what == "Capsule.toml has 2 capsules and none is chosen"
        assert "docs, tests" in caught.value.hint


def test_a_section_that_is_not_there_names_the_nearest(desk: Desk) -> None:
    desk.file("[docs]\n[tests]\n")
    with pytest.raises(UsageError, match=r"no section \[test\]") as caught:
        desk.read("-f", "Capsule.toml:test")
    assert caught.value.hint == "did you mean [tests]?"
    with pytest.raises(UsageError, match=r"no section \[\]"):
        desk.read("-f", "Capsule.toml:")
    desk.file("verbose = true")
    with pytest.raises(UsageError) as caught:
        desk.read("-f", "Capsule.toml:x")
    assert caught.value.hint == "it has no sections"


def test_only_the_chosen_section_is_judged(desk: Desk) -> None:
    desk.file("[good]\nverbose = true\n[bad]\nbogus = 1\n")
    assert desk.read("-f", "Capsule.toml:good").verbose
    with pytest.raises(ConfigError, match=r"Capsule.toml:4: bogus: "):
        desk.read("-f", "Capsule.toml:bad")


def test_a_file_that_was_named_has_to_be_there(desk: Desk) -> None:
    for name in ("gone.toml", "gone.toml:section", "//gone.toml", "."):
        with pytest.raises(ConfigError, match="can't read"):
            desk.read("-f", name)


def test_every_path_that_was_looked_at_is_told(desk: Desk) -> None:
    desk.file("[a]")
    found = desk.read("-f", "Capsule.toml:a")
    # A file of the whole name would change the answer, as soon as there is one.
    assert found.config_files[1:] == (f"{desk.cwd}/Capsule.toml:a", f"{desk.cwd}/Capsule.toml")
    desk.file('input = "whole"', "Capsule.toml:a")
    assert desk.read("-f", "Capsule.toml:a").input == ("whole",)


def test_a_directory_is_no_file(desk: Desk) -> None:
    (desk.cwd / "Capsule.toml").mkdir()
    assert desk.read().capsule_id is None
    desk.file("[a]", "Capsules.toml")
    assert desk.read().capsule_id == "a"


def test_a_pipe_can_be_the_file(desk: Desk) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"verbose = true\n[a]\n[b]\n")
    os.close(writing)
    found = desk.read("-f", f"/dev/fd/{reading}:b")
    os.close(reading)
    assert (found.verbose, found.capsule_id) == (True, "b")


# ---- the two decisions, alone


@pytest.mark.parametrize(
    ("text", "existing", "expected"),
    [
        ("a.toml", (), ("a.toml", None)),
        ("a.toml:s", (), ("a.toml", "s")),
        ("a.toml:s", ("a.toml",), ("a.toml", "s")),
        ("a.toml:s", ("a.toml", "a.toml:s"), ("a.toml:s", None)),
        ("a.toml:s:t", ("a.toml",), ("a.toml", "s:t")),
        ("a.toml:s:t", ("a.toml", "a.toml:s"), ("a.toml:s", "t")),
        ("a.toml:s:t", (), ("a.toml:s", "t")),
        ("a:", ("a",), ("a", "")),
        (":s", (), ("", "s")),
    ],
)
def test_the_section_follows_the_last_colon(
    text: str, existing: tuple[str, ...], expected: tuple[str, "str | None"]
) -> None:
    assert split_section(text, existing.__contains__) == expected


def test_a_long_list_of_sections_is_cut() -> None:
    with pytest.raises(UsageError) as caught:
        choose_section([f"s{number}" for number in range(15)], None, None, "x.toml")
    assert caught.value.hint.endswith("s8, s9 and 5 more")


# ---- properties

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
CHOICES = {
    "backend": ["disk", "dummy", "s3", "s3://b", "https://h/x?y"],
    "placebo_exit": [1, 255],
    "verify_hits": [0, 1, 0.25, 1e-05],
    "cache_failure_ttl": [90, 1.5, "15m", "2h"],
    "store_size": [0, 1024, "10GiB", "1.5MB"],
    "json": ["fd:3", "out put.json", "-"],
    "remote": ["http://a/b", "grpcs://c:1/d", "s3://e"],
    "remote_mode": ["rw", "r", "w", "off"],
    "upload": ["now", "background"],
    "remote_header": ["A: b", "x:", "Authorization: Bearer y z"],
    "remote_timeout": ["0", "10s"],
    "upload_timeout": ["1m"],
    "lease_wait": ["0", "10m"],
    "lease_time": ["0", "30s"],
    "honeycomb_kv": ["a=b", "a=", "a==b c"],
    "s3_endpoint": ["http://a", "HTTPS://b:1/c"],
    "s3_uploads_endpoint": ["http://a"],
    "s3_downloads_endpoint": ["http://a"],
}
ANYWHERE = [option for option in OPTIONS if FILES in option.places]

Written = bool | int | float | str | list[str]  # as it would stand in TOML


def values_of(option: Option) -> "st.SearchStrategy[Written]":
    one: st.SearchStrategy[str] = TEXTS
    if option.name in CHOICES:
        one = st.sampled_from(CHOICES[option.name])  # type: ignore[assignment]
    elif option.name in ("env", "inputs_hash_var"):
        one = TEXTS.filter(lambda text: "=" not in text)
    if option.kind == SWITCH:
        return st.booleans()
    return st.lists(one, max_size=3) if option.kind == LIST else one


ASSIGNMENTS: "st.SearchStrategy[dict[str, Written]]" = st.fixed_dictionaries(
    {}, optional={option.name: values_of(option) for option in ANYWHERE}
)


def as_toml(assigned: dict[str, Written], draw: st.DrawFn) -> str:
    def literal(value: Written) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return f"[{', '.join(map(literal, value))}]"
        if isinstance(value, str):
            escape = {ord('"'): '\\"', ord("\\"): "\\\\", 0x7F: "\\u007f"}
            return '"' + value.translate(escape | {code: f"\\u{code:04x}" for code in range(32)}) + '"'
        return repr(value)

    return "".join(f"{spelled(name, draw)} = {literal(value)}\n" for name, value in assigned.items())


def as_words(assigned: dict[str, Written], draw: st.DrawFn) -> list[str]:
    words: list[str] = []
    for name, value in assigned.items():
        option = BY_NAME[name]
        long = spelled(name, draw)
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no_'}{long}")
            continue
        for item in value if isinstance(value, list) else [value]:
            text = str(item)
            forms = [[f"--{long}={text}"]]
            if not text.startswith("-"):
                forms.append([f"--{long}", text])
            if option.short and not text.startswith("="):
                forms += [[f"-{option.short}{text}"], [f"-{option.short}={text}"]]
            words += draw(st.sampled_from(forms))
    return words


def spelled(name: str, draw: st.DrawFn) -> str:
    name = draw(st.sampled_from([name, *BY_NAME[name].aliases]))
    return name.replace("_", "-") if draw(st.booleans()) else name


class Place:
    def __init__(self, home: str, file: str, args: str, line: list[str]) -> None:
        self.home, self.file, self.args, self.line = home, file, args, line
        self.home_path = ""

    def read(self) -> Settings:
        with tempfile.TemporaryDirectory() as directory:
            self.home_path = f"{directory}/.capsules.toml:"
            Path(directory, ".capsules.toml").write_text(self.home)
            Path(directory, "conf.toml").write_text(self.file)
            return read_settings(
                ["-f", "conf.toml", *self.line, "--", "make"],
                environ_args=self.args,
                home=directory,
                cwd=directory,
                find_root=lambda _: directory,
                program="capsule",
            )


def expected(places: list[dict[str, Written]]) -> dict[str, object]:
    """The merge, said once more and in the plainest way."""
    merged: dict[str, object] = {option.name: option.default for option in OPTIONS}
    merged["file"] = "conf.toml"
    for assigned in places:
        for name, value in assigned.items():
            read = BY_NAME[name].read
            if isinstance(value, list):
                merged[name] = (*merged[name], *value)  # type: ignore[misc]
            else:
                merged[name] = value if isinstance(value, bool) else read(str(value))
    return merged


def shown(found: Settings) -> dict[str, object]:
    return {option.name: getattr(found, option.name) for option in OPTIONS}


@hypothesis_settings(deadline=None, max_examples=60)
@given(ASSIGNMENTS, st.data())
def test_all_four_places_give_the_same_settings(assigned: dict[str, Written], data: st.DataObject) -> None:
    found = [
        Place(as_toml(assigned, data.draw), "", "", []).read(),
        Place("", as_toml(assigned, data.draw), "", []).read(),
        Place("", "[it]\n" + as_toml({"capsule_id": "it"} | assigned, data.draw), "", []).read(),
        Place("", "", shlex.join(as_words(assigned, data.draw)), []).read(),
        Place("", "", "", as_words(assigned, data.draw)).read(),
    ]
    if "capsule_id" not in assigned:
        assert found[2].capsule_id == "it"
        found[2].capsule_id = None
    for settings in found:
        assert shown(settings) == expected([assigned])
        assert settings == found[0]


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.tuples(ASSIGNMENTS, ASSIGNMENTS, ASSIGNMENTS, ASSIGNMENTS), st.data())
def test_later_places_win_in_any_mix(places: tuple[dict[str, Written], ...], data: st.DataObject) -> None:
    home, file, args, line = places
    place = Place(
        as_toml(home, data.draw),
        as_toml(file, data.draw),
        shlex.join(as_words(args, data.draw)),
        as_words(line, data.draw),
    )
    found = place.read()
    assert shown(found) == expected(list(places))
    starts = (place.home_path, "conf.toml:", "CAPSULE_ARGS", "command line")
    for name in {name for assigned in places for name in assigned}:
        # An empty list leaves no word behind.
        setters = [
            start
            for start, assigned in zip(starts, places, strict=True)
            if name in assigned and (assigned[name] != [] or start in starts[:2])
        ]
        sources = found.sources[name].split(", ") if setters else []
        if BY_NAME[name].kind != LIST:
            setters = setters[-1:]
        assert [source.startswith(start) for source, start in zip(sources, setters, strict=True)] == [
            True
        ] * len(setters)
