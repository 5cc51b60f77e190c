"""The commit that is checked out, as a result tells of it: found without git, since every miss asks for it."""

# Where there is no repository (a tree that was exported into a container), what the CI service says.
_VARIABLES = (
    b"GITHUB_SHA",
    b"CI_COMMIT_SHA",
    b"BUILDKITE_COMMIT",
    b"CIRCLE_SHA1",
    b"BUILD_SOURCEVERSION",
    b"GIT_COMMIT",
)
_MOST_STEPS = 8


def checked_out(directory: str, environ: "dict[bytes, bytes]") -> str:
    """The commit of the repository that the directory lies in, as a hexadecimal hash; "" where it isn't known. Changes
    to the work tree are no part of it."""
    try:
        folder = _git_directory(directory)
        found = _named_by("HEAD", folder) if folder else ""
    except OSError:
        return ""
    if not folder:
        found = next((_text(environ[name]) for name in _VARIABLES if environ.get(name)), "")
    return found if _is_hash(found) else ""


def _git_directory(directory: str) -> str:
    """That of the nearest repository upwards, "" where there is none."""
    while True:
        try:
            said = _read(f"{directory.rstrip('/')}/.git")
        except IsADirectoryError:
            return f"{directory.rstrip('/')}/.git"
        except (FileNotFoundError, NotADirectoryError):
            if directory in ("", "/"):
                return ""
            directory = directory.rpartition("/")[0] or "/"
            continue
        # A file: another work tree of the repository, or a submodule.
        return _beside(directory, said.removeprefix("gitdir:").strip())


def _named_by(name: str, folder: str) -> str:
    """What a name stands for in the end. A branch without a commit yet stands for nothing."""
    try:
        shared = _beside(folder, _read(f"{folder}/commondir"))
    except FileNotFoundError:
        shared = folder
    for _ in range(_MOST_STEPS):
        said = _lookup(name, folder, shared)
        if not said.startswith("ref:"):
            return said
        name = said.removeprefix("ref:").strip()
        if ".." in name or not name.startswith("refs/"):
            return ""
    return ""


def _lookup(name: str, folder: str, shared: str) -> str:
    for place in (folder, shared):
        try:
            return _read(f"{place}/{name}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
    try:
        with open(f"{shared}/packed-refs", "rb") as file:
            wanted = b" " + name.encode("utf-8", "surrogateescape")
            return next(
                (_text(line.split(b" ")[0]) for line in file if line.rstrip(b"\n").endswith(wanted)), ""
            )
    except FileNotFoundError:
        return ""


def _beside(folder: str, path: str) -> str:
    return path if path.startswith("/") else f"{folder}/{path}"


def _read(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return _text(file.read(4096))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape").strip()


def _is_hash(text: str) -> bool:
    return len(text) in (40, 64) and not text.strip("0123456789abcdef")
