"""The queue: from one build's end to the next one's start in the same slot."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from benchmarks import repositories, system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import Ground
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL, Loop
from benchmarks.standin import StandIn, StandIns

_GOAL = at_most(plus=5.0)
_RECORD = b"x" * 1024  # bytes, about as long as a build's record


def measure(ground: Ground) -> Iterator[Figure]:
    builds = ground.times(300, 20)
    yield _by_stand_in(ground, builds)
    yield from _by_agent(ground, builds)


def _by_stand_in(ground: Ground, builds: int) -> Figure:
    """An agent that is done at once: what passes is all the server's own."""
    arrived: list[float] = []
    ended: list[float] = []

    def taken(agent: StandIn, order: dict[str, str]) -> None:
        arrived.append(time.perf_counter())
        agent.spawn(end(agent, int(order["id"])))

    async def end(agent: StandIn, number: int) -> None:
        ended.append(time.perf_counter())
        await agent.finish(number)

    server = ground.server(ground.folder)
    with Recorded(server) as recorded, Caller(server) as caller:
        for _ in range(builds):
            caller.start("HEAD")
        with StandIns(server, 1, taken):
            recorded.wait_all()
    server.end()
    gaps = [1000 * (b - a) for a, b in zip(ended, arrived[1:])]
    floor = [1000 * seconds for seconds in _two_records(ground.folder, len(gaps))]
    name = "from a result to the next order, at the agent"
    return Figure(name, "ms", Spread.of(gaps), Spread.of(floor), _GOAL)


def _two_records(folder: Path, times: int) -> list[float]:
    """The seconds that it takes to make an end and a start durable: two files replaced."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        for name in ("end", "start"):
            _write(folder / name)
        found.append(time.perf_counter() - begun)
    return found


def _write(path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(_RECORD)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _by_agent(ground: Ground, builds: int) -> Iterator[Figure]:
    """minici's agent: what the records say, and what the commands themselves see."""
    repository = repositories.make(ground, SMALL)
    seen, seen_in_loop = ground.folder / "seen", ground.folder / "seen-in-loop"
    server = ground.server(repository.path)
    agent = ground.agent(server)
    with Recorded(server) as recorded, Caller(server) as caller:
        command = _note_moments(seen)
        numbers = [caller.start(repository.commit(index), command) for index in range(builds)]
        recorded.wait_all()
        records = [caller.api(f"/builds/{number}") for number in numbers]
    agent.end()
    server.end()
    ends = [_seconds(record["finished_at"]) for record in records]
    starts = [_seconds(record["started_at"]) for record in records]
    gaps = [1000 * max(0.0, b - a) for a, b in zip(ends, starts[1:])]
    floor = [1000 * seconds for seconds in _two_records(ground.folder, len(gaps))]
    name = "from an end to the next start, as recorded"
    yield Figure(name, "ms", Spread.of(gaps), Spread.of(floor), _GOAL)
    if system.HAS_PROC:  # elsewhere `date` knows no parts of seconds
        Loop(ground, repository, _note_moments(seen_in_loop)).run(builds)
        name = "from command to command, checkout included"
        yield Figure(name, "ms", _between(seen), _between(seen_in_loop))


def _note_moments(path: Path) -> str:
    """A command that notes when it begins and when it ends, in nanoseconds."""
    return f"date +%s%N >>{path}; date +%s%N >>{path}"


def _between(path: Path) -> Spread:
    """The milliseconds from each command's end to the next one's beginning."""
    moments = [int(line) / 1e6 for line in path.read_text().split()]
    return Spread.of(begun - ended for ended, begun in zip(moments[1::2], moments[2::2]))


def _seconds(moment: str) -> float:
    return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%fZ").timestamp()
