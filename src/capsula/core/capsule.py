"""The capsule of a cached run: who made a result, when, how long it took, and in which order it spoke."""

from capsula.core.facts import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.facts import Fact

# The type under which it travels in ExecutedActionMetadata.auxiliary_metadata of a stored result.
TYPE_URL = "type.capsula.dev/origin.v1"
# The end of the year 9999: beyond, no calendar shows it.
_LATEST_NS = 253_402_300_800 * 10**9


class Origin:
    """The run that made a result. A hit names it: what was restored was not built here.

    `run` sorts by time; `job` is the user's own word (`--capsule_job`); `commit` is what was checked out; `record` is
    the id of the capsule in a vault that recorded it, "" if none did; `started_ns` is wall clock, `seconds` measured;
    `order` lists (descriptor, byte count) in the order of arrival; `verdict` of the last placebo: "", "same"
    or "differs".
    """

    __slots__ = (
        "argv",
        "capsule_id",
        "commit",
        "host",
        "job",
        "order",
        "record",
        "run",
        "seconds",
        "started_ns",
        "verdict",
    )

    def __init__(
        self,
        *,
        run: str = "",
        capsule_id: str = "",
        argv: str = "",
        host: str = "",
        job: str = "",
        commit: str = "",
        record: str = "",
        started_ns: int = 0,
        seconds: float = 0.0,
        order: tuple[tuple[int, int], ...] = (),
        verdict: str = "",
    ) -> None:
        self.run = run
        self.capsule_id = capsule_id
        self.argv = argv
        self.host = host
        self.job = job
        self.commit = commit
        self.record = record
        self.started_ns = started_ns
        self.seconds = seconds
        self.order = order
        self.verdict = verdict

    def to_bytes(self) -> bytes:
        facts: list[Fact] = [
            ("run", self.run),
            ("id", self.capsule_id),
            ("command", self.argv),
            ("host", self.host),
            ("job", self.job),
            ("commit", self.commit),
            ("capsule", self.record),
            ("started", str(self.started_ns)),
            ("seconds", f"{self.seconds:.6f}"),
            ("order", " ".join([f"{fd}:{count}" for fd, count in self.order])),
            ("verdict", self.verdict),
        ]
        return pack([fact for fact in facts if fact[1]])


def origin_from(content: bytes) -> Origin:
    """Raises WireError for bytes that are no facts; unknown facts are passed over, unreadable values are left empty."""
    values = {fact[0]: fact[1] for fact in unpack(content) if len(fact) == 2}
    try:
        order = tuple(
            [
                (int(fd), int(count))
                for fd, _, count in [p.partition(":") for p in values.get("order", "").split()]
            ]
        )
        started_ns, seconds = int(values.get("started", "0")), float(values.get("seconds", "0"))
    except ValueError:
        order, started_ns, seconds = (), 0, 0.0
    # A store may hold anything: other descriptors would be replayed nowhere, and no clock shows "nan".
    if not all([fd in (1, 2) and count >= 0 for fd, count in order]):
        order = ()
    if not 0 <= seconds < 1e12:
        seconds = 0.0
    if not 0 <= started_ns < _LATEST_NS:
        started_ns = 0
    return Origin(
        run=values.get("run", ""),
        capsule_id=values.get("id", ""),
        argv=values.get("command", ""),
        host=values.get("host", ""),
        job=values.get("job", ""),
        commit=values.get("commit", ""),
        record=values.get("capsule", ""),
        started_ns=started_ns,
        seconds=seconds,
        order=order,
        verdict=values.get("verdict", ""),
    )
