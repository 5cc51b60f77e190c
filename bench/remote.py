"""What a result costs that comes from a shared store: on loopback, so that what is measured is us and the server."""

import random
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import far
from artifacts import ANSWERS, Away, Peer, warm
from hits import TROUBLE, install, why_not
from measure import Command, Times, timed
from report import Part, Target, milliseconds, ratio
from tools import CAPSULE, HERE, Options, Place, Unavailable, prepare
from workload import CheckFailed

# The real servers of the tests serve here as well.
sys.path.insert(0, str(HERE.parent / "tests"))

LARGE_MIB = 500
_BUDGET_SECONDS = 0.5
_DISTANT_ROUNDS = 9
PEERS = ("turbo", "mise")


def run(options: Options) -> Part:
    part = Part("remote", "A hit from a shared store (ms)", ("store", "median", "least", "by a local hit"))
    try:
        install(CAPSULE, options.scratch)
        with started(options.scratch / "remote" / "servers") as stores:
            work = Reference(options)
            measure(part, options, stores, work)
            distant(part, options, stores, work)
            silent(part, options, work)
            work.away.end()
            large(part, options, stores["SeaweedFS (S3)"][-1])
    except (Unavailable, ImportError, AssertionError, *TROUBLE) as error:
        part.notes.append(f"not measured: {why_not(error)}")
    return part


@contextmanager
def started(base: Path) -> Iterator[dict[str, tuple[str, ...]]]:
    """The options that lead to each store."""
    from servers.casd import Casd
    from servers.nginx import Nginx
    from servers.seaweed import Seaweed

    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    servers = nginx, seaweed, casd = Nginx(base / "nginx"), Seaweed(base / "seaweed"), Casd(base / "casd")
    try:
        yield {
            "nginx (HTTP)": ("-b", nginx.url),
            "nginx (HTTP), packs": ("-b", f"{nginx.url}/packs", "--remote_packs"),
            "SeaweedFS (S3)": ("-b", f"s3://{seaweed.bucket}", "--s3_endpoint", seaweed.url),
            "casd (REAPI)": ("-b", f"grpc://{casd.target}"),
        }
    finally:
        for server in servers:
            server.stop()


class Reference:
    """The reference work, with its results wherever they were sent to."""

    def __init__(self, options: Options) -> None:
        self.away = Away(options.scratch / "remote" / "away")
        self.place = Place(options.scratch, options.scratch / "remote" / "work")
        self.plain = prepare(CAPSULE, self.place)
        self.store = Path(self.plain.env["XDG_CACHE_HOME"]) / "capsula"
        self.hit(self.plain, must_run=True)
        self.expected = self.place.workload.expected()

    def to(self, options: tuple[str, ...]) -> Command:
        argv = self.plain.argv
        return Command((argv[0], *options, *argv[1:]), self.plain.cwd, with_credentials(self.plain.env))

    def hit(self, command: Command, *, must_run: bool = False) -> float:
        before = self.place.workload.times_run()
        seconds = timed(command)
        if (self.place.workload.times_run() > before) != must_run:
            raise CheckFailed("the task ran" if not must_run else "the task didn't run")
        return seconds

    def without_outputs(self) -> None:
        self.away.put(self.place.workload.project / "dist")

    def without_results(self) -> None:
        """The inputs are known, as they are where the task has run before; the result isn't here."""
        self.without_outputs()
        for name in ("ac", "cas", "unopened", "recall", "remotes"):
            self.away.put(self.store / name)

    def without_anything(self) -> None:
        self.without_outputs()
        self.away.put(self.store.parent)


def with_credentials(env: Mapping[str, str]) -> dict[str, str]:
    from servers.seaweed import KEY, SECRET

    return {**env, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


def measure(part: Part, options: Options, stores: dict[str, tuple[str, ...]], work: Reference) -> None:
    commands = {name: work.to(given) for name, given in stores.items()}
    for command in commands.values():
        work.without_anything()
        work.hit(command, must_run=True)
    away = work.to(("-b", f"http://127.0.0.1:{unused_port()}", "--remote_timeout", f"{_BUDGET_SECONDS}s"))
    cases: dict[str, tuple[Callable[[], None], Command]] = {
        "local, outputs in place": (lambda: None, work.plain),
        "the same, with a remote": (lambda: None, commands["nginx (HTTP)"]),
        "the same, with one that is away": (lambda: None, away),
        "local": (work.without_outputs, work.plain),
        **{name: (work.without_results, command) for name, command in commands.items()},
        **{f"{name}, new machine": (work.without_anything, command) for name, command in commands.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    with peers(part, options, work.away) as others:
        seconds |= {name: [] for name in others}
        for _ in range(options.rounds):
            for name in random.sample(list(seconds), len(seconds)):
                if name in others:
                    seconds[name].append(others[name].hit())
                    continue
                clear, command = cases[name]
                # One that hits as it was left by one like it: whoever goes before shows in nobody's time.
                work.hit(commands["nginx (HTTP)"])
                work.hit(command) if clear.__name__ == "<lambda>" else None
                clear()
                seconds[name].append(work.hit(command))
                work.place.workload.check_outputs(work.expected)
    times = {name: Times(tuple(each)) for name, each in seconds.items()}
    local, here = times["local"].median, times["local, outputs in place"].median
    for name, one in times.items():
        part.rows.append((name, milliseconds(one.median), milliseconds(one.least), ratio(one.median / local)))
    for name in stores:
        part.targets.append(
            Target(f"a hit from {name} by a local one that restores", times[name].median / local, 2.5)
        )
    fastest = min(times[name].median for name in stores)
    for name in others:
        by = fastest / times[name].median
        part.targets.append(Target(f"a hit from the fastest of our stores by {name}", by, 1))
    for name in ("the same, with a remote", "the same, with one that is away"):
        part.targets.append(Target(f"a local hit, {name.partition(', ')[2]}", times[name].median / here, 1.1))
    part.numbers |= {name: one.as_json() for name, one in times.items()}
    part.notes.append(
        f"Medians of {options.rounds} rounds, the reference work of `hits`. Where nothing else is said, the outputs"
        " are gone and come from the store; on a new machine, nothing is known of the inputs either."
    )


@contextmanager
def peers(part: Part, options: Options, away: Away) -> Iterator[dict[str, Peer]]:
    """Those that can be had, by what their row is called, with what they have sent on an nginx."""
    from servers.nginx import Nginx

    base = options.scratch / "remote" / "peers"
    shutil.rmtree(base, ignore_errors=True)
    nginx = Nginx(base, more=ANSWERS)
    found = {}
    try:
        for name in PEERS:
            try:
                peer = warm(name, options, nginx.url, away)
                found[f"{name} {peer.tool.version}, nginx"] = peer
            except TROUBLE as error:
                part.notes.append(f"left out: {name}: {why_not(error)}")
        yield found
    finally:
        nginx.stop()


def distant(part: Part, options: Options, stores: dict[str, tuple[str, ...]], work: Reference) -> None:
    """The same from a server that is far: what counts there is how often somebody waits for an answer."""
    from servers.nginx import Nginx

    seconds: dict[str, list[float]] = {}
    away = f", {2000 * far.SECONDS:.0f} ms away"
    rounds = min(options.rounds, _DISTANT_ROUNDS)
    for name, given in stores.items():
        with far.from_far(given) as there:
            command = work.to(there)
            work.hit(command)
            seconds[name + away] = []
            for _ in range(rounds):
                work.hit(command)
                work.without_results()
                seconds[name + away].append(work.hit(command))
                work.place.workload.check_outputs(work.expected)
    base = options.scratch / "remote" / "peers"
    shutil.rmtree(base, ignore_errors=True)
    nginx = Nginx(base, more=ANSWERS)
    try:
        with far.from_far([nginx.url]) as there:
            peer = warm("turbo", options, there[0], work.away)
            seconds[f"turbo {peer.tool.version}, nginx{away}"] = [peer.hit() for _ in range(rounds)]
    except TROUBLE as error:
        part.notes.append(f"left out: turbo from afar: {why_not(error)}")
    finally:
        nginx.stop()
    for name, each in seconds.items():
        times = Times(tuple(each))
        part.rows.append((name, milliseconds(times.median), milliseconds(times.least), "-"))
        part.numbers[name] = times.as_json()
    part.notes.append(
        f"Away: medians of {rounds} rounds, by a line on which whatever is said takes half of that to arrive."
    )


def silent(part: Part, options: Options, work: Reference) -> None:
    """What a miss costs when the remote takes connections and says nothing: its budget, once, and then nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        port = listener.getsockname()[1]
        # One that is only read: what is looked through before it may be sent is no matter of the remote's.
        asked = ("-b", f"http://127.0.0.1:{port}", "--remote_mode", "r")
        deaf = work.to((*asked, "--remote_timeout", f"{_BUDGET_SECONDS}s"))
        known = work.store / "remotes"
        cases = {
            "a miss": (work.plain, False),
            "a miss, with a silent remote": (deaf, False),
            "another one within a minute": (deaf, True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(options.rounds):
            for at, name in enumerate(random.sample(list(cases), len(cases))):
                command, is_known = cases[name]
                work.place.workload.edit_input(0, 1 + 2 * (number * len(cases) + at))
                # Whoever went before shows in nobody's time.
                work.hit(deaf if is_known else work.plain, must_run=True)
                if not is_known:
                    work.away.put(known)
                work.place.workload.edit_input(0, 2 + 2 * (number * len(cases) + at))
                seconds[name].append(work.hit(command, must_run=True))
    times = {name: Times(tuple(each)) for name, each in seconds.items()}
    for name, one in times.items():
        part.rows.append((name, milliseconds(one.median), milliseconds(one.least), "-"))
        part.numbers[name] = one.as_json()
    alone, first, next_one = (one.median for one in times.values())
    budget = f"{_BUDGET_SECONDS:g} s"
    part.targets += [
        Target(
            f"what a silent remote adds to a miss by its budget of {budget}",
            (first - next_one) / _BUDGET_SECONDS,
            1.1,
        ),
        Target("the next miss by one without a remote", next_one / alone, 1.1),
    ]


def large(part: Part, options: Options, endpoint: str) -> None:
    """What fetching one large blob, verified, takes beside what obstore takes to write it to a file."""
    import obstore

    from capsula.core.digest import Digest
    from capsula.store.buckets import from_url
    from capsula.store.receive import Receiving

    base = options.scratch / "remote" / "large"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    hashed, content = sha256(), base / "content"
    with content.open("wb") as file:
        for number in range(LARGE_MIB):
            piece = random.Random(number).randbytes(1 << 20)
            file.write(piece)
            hashed.update(piece)
    digest = Digest(hashed.hexdigest(), LARGE_MIB << 20)
    store = from_url("s3://test/large", {"s3_endpoint": endpoint}, with_credentials({"HOME": str(base)}))
    store.send([digest], lambda _: str(content), time.monotonic() + 600)
    raw = store._places.downloads
    seconds: dict[str, list[float]] = {"obstore": [], "capsule": []}
    for _ in range(options.rounds):
        for who in random.sample(sorted(seconds), 2):
            shutil.rmtree(base / "to", ignore_errors=True)
            (base / "to").mkdir()
            began = time.perf_counter()
            if who == "obstore":
                with (base / "to" / "file").open("wb") as file:
                    path = f"large/cas/{digest.hash[:2]}/{digest.hash}"
                    for got in obstore.get(raw, path).stream(min_chunk_size=1 << 20):
                        file.write(got)
            else:
                receive = partial(Receiving, str(base / "to"), now=time.time)
                store.fetch([digest], receive, time.monotonic() + 600)
            seconds[who].append(time.perf_counter() - began)
    shutil.rmtree(base)
    times = {who: Times(tuple(each)) for who, each in seconds.items()}
    for who, one in times.items():
        part.rows.append(
            (f"{LARGE_MIB} MiB by {who}", milliseconds(one.median), milliseconds(one.least), "-")
        )
        part.numbers[f"large, {who}"] = one.as_json()
    by = times["capsule"].median / times["obstore"].median
    part.targets.append(Target(f"{LARGE_MIB} MiB from S3 by what obstore alone takes", by, 1.25))


def unused_port() -> int:
    from servers.ports import free_port

    return free_port()
