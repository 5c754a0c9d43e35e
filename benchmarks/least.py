"""The least: what the parts of a build take with nothing around them, in processor time.

Each promise is an fsync, each hand-over between hosts a call, each step of a checkout a process:
plainly written, without minici's ways to spare some of it. What the processors could do with the
sum, if nothing else were to be done and none of them ever waited, stands beside `rate`'s floor.

They do wait: for the disk, for each other, for the interpreter. So there is a skeleton, too: all
parts in their order, in two processes as minici's, under the starts that `rate` measures.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from benchmarks import repositories, rush, system
from benchmarks.figures import Figure, Spread
from benchmarks.ground import Ground, Process
from benchmarks.repositories import SMALL, Loop, Repository
from benchmarks.skeleton import Connection, Outbox, Records

_TIMES = 100  # builds' worth of each part, for one value
_CALLS = 3  # a start, a hand-over and a result
_PROCESSES = 3  # git, git and the command
_SLOTS = 2  # of the skeleton's agent

_SERVER = """
from benchmarks.skeleton import Listener
Listener({"/": (200, lambda given: {})}).serve()
"""


def measure(ground: Ground) -> Iterator[Figure]:
    repository = repositories.make(ground, SMALL)
    if system.HAS_PROC:
        yield from _parts(ground, repository)
    yield _skeleton(ground, repository)


def _parts(ground: Ground, repository: Repository) -> Iterator[Figure]:
    rounds = ground.times(10, 1)
    # The first: where files were made and deleted by the thousand, each new one may cost more.
    checkout = _checkouts(Loop(ground, repository), rounds)
    disk = _Disk(ground.folder / "least")
    durable = Spread.of(_mean(disk.build) for _ in range(rounds))
    calls = _calls(ground, rounds)
    processes = Spread.of(_mean(_start_processes) for _ in range(rounds))
    parts = {
        "what is made durable: 13 fsyncs": durable,
        "three calls, between http.client and http.server": calls,
        "starting three processes from Python": processes,
        "git, git and sh themselves": checkout,
    }
    for name, spread in parts.items():
        yield Figure(name, "ms", spread)
    least = sum(spread.median for spread in parts.values())
    yield Figure("all of it", "ms", Spread.of([least]), checkout)
    at_once = os.cpu_count() or 1
    floor = Spread.of([1000 * at_once / checkout.median])
    name = f"the most builds a second that {at_once} processors can do"
    yield Figure(name, "a second", Spread.of([1000 * at_once / least]), floor)


def _mean(act: Callable[[], None]) -> float:
    """The milliseconds of processor time, of this process alone, that something takes."""
    begun = _used()
    for _ in range(_TIMES):
        act()
    return 1000 * (_used() - begun) / _TIMES


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Disk:
    """The files of one build after the other, as contract and outbox want them, and no more."""

    def __init__(self, folder: Path) -> None:
        self._records = Records(f"{folder}/server")
        self._outbox = Outbox(f"{folder}/agent")

    def build(self) -> None:
        number = self._records.add()
        self._records.attempt(number)
        self._outbox.put(number)
        self._records.finish(number)
        self._outbox.drop(number)


def _calls(ground: Ground, rounds: int) -> Spread:
    """Three calls on a connection that is kept; the processor time of both sides."""
    server = ground.python("calls", ground.folder, "-c", _SERVER)
    connection = Connection(server.port)

    def call() -> None:
        for _ in range(_CALLS):
            connection.post("/", {"id": 1, "commit": "f" * 40})

    found = []
    for _ in range(rounds):
        before = system.processor_seconds(server.pid)
        here = _mean(call)
        there = 1000 * (system.processor_seconds(server.pid) - before) / _TIMES
        found.append(here + there)
    connection.close()
    server.end()
    return Spread.of(found)


def _start_processes() -> None:
    for _ in range(_PROCESSES):
        with subprocess.Popen(["/bin/true"], stdout=subprocess.PIPE, start_new_session=True) as it:
            it.communicate()


def _checkouts(loop: Loop, rounds: int) -> Spread:
    found = []
    for _ in range(rounds):
        before = system.children_seconds()
        loop.run(_TIMES // 2)
        found.append(1000 * (system.children_seconds() - before) / (_TIMES // 2))
    return Spread.of(found)


def _skeleton(ground: Ground, repository: Repository) -> Figure:
    """Builds a second of the skeleton, whose agent has the trees of the loops beside it."""
    builds = ground.times(500, 40)
    loops = [Loop(ground, repository) for _ in range(_SLOTS)]
    server, agent = start_skeleton(ground, [loop.tree for loop in loops])
    rates, floor = rush.measure(server, repository, loops, builds, ground.times(3, 1))
    agent.end()
    server.end()
    name = f"a skeleton, one agent of two slots, {builds} starts"
    return Figure(name, "a second", rates, floor)


def start_skeleton(ground: Ground, trees: Sequence[Path]) -> tuple[Process, Process]:
    """Its server, and its agent with a slot for each tree."""
    module, folder = ("-m", "benchmarks.skeleton"), ground.folder / "skeleton"
    data, outbox = folder / "server", folder / "agent"
    server = ground.python("skeleton-server", data, *module, "server", str(data))
    words = ("agent", str(outbox), str(server.port), *map(str, trees))
    return server, ground.python("skeleton-agent", outbox, *module, *words)
