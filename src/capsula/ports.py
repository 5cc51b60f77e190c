"""The ports: what the engine needs of the world, a few methods each, with the contract in the docstring."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Protocol

    from capsula.core.digest import Digest
    from capsula.core.found import Found
    from capsula.core.node import Node
    from capsula.core.reapi import ActionResult
else:
    Protocol = object


class BlobStore(Protocol):
    """Bytes by digest. Every byte that comes out has been verified; writing the same blob twice is the same as once.

    Raises StoreError (full, read-only, unreachable), BlobMissing, BlobCorrupt (the bad blob is set aside first, so that
    the next put heals it). Methods may be called from several threads and processes at once.
    """

    @property
    def at_hand(self) -> bool:
        """Whether what is to be fetched is in memory."""
        ...

    def has(self, digest: "Digest") -> bool:
        """Whether the blob is there with the right size; its bytes are not verified."""
        ...

    def read(self, digest: "Digest") -> bytes:
        """The whole content, verified."""
        ...

    def fetch(self, digest: "Digest", path: str, mode: int) -> None:
        """Write the blob to `path`, which must not exist, with permission bits `mode`; verified, else nothing
        is left there."""
        ...

    def put(self, content: bytes) -> "Digest":
        """Keep these bytes; when it returns, they are stored whole."""
        ...

    def put_file(self, path: str) -> "Digest":
        """Keep a regular file's content as it is while it is copied; the digest is of what was kept."""
        ...


class ActionCache(Protocol):
    """Results by action digest. An entry is written only after every blob that it names.

    `lookup` answers None for a miss; raises EntryCorrupt (set aside first) or StoreError. Looking up counts as a use.
    """

    def lookup(self, action: "Digest") -> "ActionResult | None": ...

    def store(self, action: "Digest", result: "ActionResult") -> None:
        """Write or replace the entry, atomically."""
        ...

    def bring(
        self, action: "Digest", result: "ActionResult", digests: "Sequence[Digest]", patience: float
    ) -> None:
        """Before an entry is used: have these blobs, all that it names, at hand, so that reading each is quick.

        It is given up after `patience` seconds, or the store's own if that is longer. Raises BlobMissing when one can't
        be had.
        """
        ...

    def let_go(self) -> None:
        """What was brought has been used, or isn't needed any more. Raises nothing."""
        ...


class Receiver(Protocol):
    """Where one blob goes, piece by piece. Its bytes are verified there: `write` and `finish` raise BlobCorrupt."""

    def write(self, piece: "bytes | memoryview") -> None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None:
        """Nothing is left of it."""
        ...


class Remote(Protocol):
    """Blobs and entries somewhere else, in the protocol that is spoken there.

    Nothing that comes out is verified. Each call gives up at `deadline` (as time.monotonic counts) and raises
    StoreUnreachable for what may be better another time, StoreError for what won't. All may be called from several
    threads at once, and doing one twice is the same as once. `name` is what people call it, without credentials.
    `packs`: nobody but us reads it, and each blob costs a request of its own, so that the small ones of a result go
    there together (core.packs).
    """

    name: str
    packs: bool

    def lookup(self, action: "Digest", deadline: float) -> "ActionResult | None":
        """None for a miss. WireError where what is there is no entry; a wrapper that verifies raises EntryCorrupt or
        EntryUntrusted."""
        ...

    def store(
        self, action: "Digest", result: "ActionResult", deadline: float, *, if_none: bool = False
    ) -> None:
        """After all its blobs were sent. Where somebody else was first, either result may stay. `if_none`: nobody has
        been, as far as it is known; a store that writes on condition then keeps what is there all the same."""
        ...

    def missing(self, digests: "Sequence[Digest]", deadline: float) -> "list[Digest]":
        """Those that aren't there, as far as it can be known without fetching them."""
        ...

    def fetch(
        self, digests: "Sequence[Digest]", receive: "Callable[[Digest], Receiver]", deadline: float
    ) -> None:
        """Give each blob to a receiver of its own, several at once in any order, with memory that doesn't grow with
        their size. BlobMissing if one isn't there; others may have been received by then."""
        ...

    def send(self, digests: "Sequence[Digest]", path_of: "Callable[[Digest], str]", deadline: float) -> None:
        """Store the contents of these files, several at once, with memory that doesn't grow with their size."""
        ...

    def examine(self, deadline: float) -> "list[tuple[str, str]]":
        """What only this protocol can tell of itself, for people: ("ok", "note" or "wrong", a sentence) each."""
        ...

    def holdings(self) -> "Holdings | None":
        """What it keeps, by name, where the layout of that is ours; None where the protocol tells of single entries and
        blobs only."""
        ...

    def close(self) -> None:
        """Let go of connections that nobody uses at the moment."""
        ...


class Holdings(Protocol):
    """The objects of a remote by kind and name. The kind ENTRIES holds entries by the hash of their action, BLOBS
    blobs by theirs, LEASES leases by that of the action (as capsula.store.layout calls them).

    Raises as Remote does, but nothing is tried again and nothing ends at a deadline. Times are the server's, in seconds
    since 1970. A version is whatever `read` and `write` answer, and is only good for giving it back.
    """

    def pages(self, kind: str, after: str = "") -> "Iterator[list[tuple[str, int, float]]]":
        """Name, size as it is stored, and when it was written last, in the order of names, a page at a time. What isn't
        named as we name things is not told."""
        ...

    def remove(self, kind: str, names: "Sequence[str]") -> None:
        """One that isn't there is removed."""
        ...

    def read(self, kind: str, name: str) -> "tuple[bytes, object] | None": ...

    def write(self, kind: str, name: str, content: bytes, over: "object | None") -> "object | None":
        """Create it (`over` is None), or replace the version `over`; answers the new version. None when it is there
        already, or isn't that version any more. Where the server doesn't write on condition, the last one stays."""
        ...

    def now(self) -> float:
        """The server's clock. It writes something to see it."""
        ...

    def age(self, kind: str, name: str) -> "float | None":
        """How long ago it was written, all by the server's clock, to about a second; None when it isn't there. It
        writes something to see that."""
        ...


class Captured(Protocol):
    """One stream of a run: `content` when it stayed small, else the file at `path`; `size` in bytes either way. A
    path below /proc/self/fd is that of a file without a name: who is done with it closes that descriptor.
    `left_out`: so many of it aren't there."""

    content: "bytes | None"
    left_out: int
    path: "str | None"
    size: int


class Outcome(Protocol):
    """What became of a command. `stdout` and `stderr` are None when they weren't captured whole.

    `order` lists (descriptor, byte count) as it arrived; `left_open`: a background process still holds the streams;
    `signal`: the one that ended it; `interrupted_by`: one that came from outside to end it (0: none);
    `write_error`: the errno with which our own stdout or stderr refused output;
    `started`: a process was made at all.
    """

    exit_code: int
    started: bool
    order: tuple[tuple[int, int], ...]
    start_ns: int
    end_ns: int
    seconds: float
    left_open: bool
    cut: bool
    signal: "int | None"
    write_error: "int | None"
    interrupted_by: int
    reason: str

    @property
    def stdout(self) -> "Captured | None": ...

    @property
    def stderr(self) -> "Captured | None": ...


class Inputs(Protocol):
    """The declared inputs as found, `unmatched` the patterns that found none."""

    root: "Digest"
    directories: dict[str, bytes]
    outside: tuple[tuple[str, str], ...]
    linked: tuple[tuple[str, str], ...]
    unmatched: tuple[str, ...]

    def hashes(self) -> list[tuple[str, str]]: ...

    @property
    def notes(self) -> list[str]: ...


class Outputs(Protocol):
    """The declared outputs as found, by full path; `unmade` the patterns that found none; `unkept` why something among
    them can't be kept, in sentences.
    """

    nodes: "dict[str, Node]"
    unmade: tuple[str, ...]
    unkept: list[str]


class Restored(Protocol):
    """What putting back did; `buried` are the user's files that went to the trash."""

    written: int
    removed: int
    bytes: int
    buried: list[str]


class WorkTree(Protocol):
    """The user's directory, as far as one capsule declares it. Raises InputError and OutputError."""

    def inputs(self) -> Inputs: ...

    def moved(self) -> str:
        """Which input isn't what it was when `inputs` found it, for people; "" when all stood still."""
        ...

    def outputs(self) -> Outputs: ...

    def settle(
        self, wanted: "dict[str, Node]", store: BlobStore, bury: "Callable[[str], Callable[[], None]]"
    ) -> Restored:
        """Make the declared outputs exactly `wanted`, all or nothing; a declared input is never removed."""
        ...

    def remember_made(self, since_ns: int) -> None:
        """Of the outputs that were found last, those that changed since then were made by a run of this capsule."""
        ...

    def named(self, full: str) -> str: ...

    def full(self, path: str) -> str: ...


class Past(Protocol):
    """The actions that a capsule had, newest first, for explaining misses. Never raises: what can't be kept is
    forgotten."""

    def recent(self, capsule_id: str) -> "tuple[Digest, ...]": ...

    def record(self, capsule_id: str, action: "Digest") -> None: ...


class Flight(Protocol):
    """At most one run of an action at a time."""

    def enter(self, action: "Digest", waiting: "Callable[[str], None]") -> bool:
        """Wait until nobody else runs it; `waiting(who)` is called first if someone does. True if we had to wait.

        Held until the process ends or `leave` is called; a holder that dies lets go. An ancestor's hold isn't
        waited for.
        """
        ...

    def leave(self) -> None: ...


class Probe(Protocol):
    """Reads one part of the context of a recorded run. `name` is unique among the probes of a run."""

    name: str

    def read(self) -> "Found":
        """Look now. May raise anything: the run goes on, and the record says of this probe that it failed, and how."""
        ...


class Contents(Protocol):
    """Takes the contents of files that a record names by their digests. Raises CapsulaError when it can't."""

    def put_file(self, path: str) -> "Digest":
        """Keep a regular file's content as it is while it is copied; the digest is of what was kept."""
        ...

    def hold(self, listed: bytes, files: "list[tuple[str, Digest, bool]]") -> None:
        """Keep these (path, content, executable) together, for as long as a result that was used as recently."""
        ...


class FileRule(Protocol):
    """What is to be done with a file that the user named: hash it, copy it into the capsule, or move it there."""

    @property
    def path(self) -> str: ...
    @property
    def hash(self) -> "str | None": ...
    @property
    def copy(self) -> bool: ...
    @property
    def move(self) -> bool: ...


class Draft(Protocol):
    """A capsule that is being written. Names are relative paths below it; OSError or CapsulaError when that can't be
    done. Nothing in it changes any more after `seal`. `id` is what it is called by for ever."""

    path: str
    id: str

    def write(self, name: str, content: bytes) -> None: ...

    def write_json(self, name: str, value: object) -> None: ...

    def take(self, source: str, name: str, *, move: bool) -> None:
        """Copy or move a file of the user's into it."""
        ...

    def free_name(self, wanted: str) -> str:
        """`wanted`, or something near it that isn't taken."""
        ...

    def seal(self, status: str, summary: "dict[str, object]") -> None: ...

    def leave(self, status: str, summary: "dict[str, object]") -> None:
        """Say how it ended, but don't seal it: there is no time to."""
        ...
