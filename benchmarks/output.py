"""Output: how fast it comes from a command to the server's disk, what memory it takes, and how soon
the page is there that shows it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from benchmarks import repositories, system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Goal, Spread, at_least, at_most
from benchmarks.ground import Ground, Server
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL, Repository
from benchmarks.system import MB

_LIMIT = "2G"  # so that all of it is kept
_SIZES = (10, 100, 1000)  # MB, at which memory is looked at
_PATIENCE = 200.0  # seconds that one build may take
_PAGE_MEGABYTES = 100

# 64 bytes with the line's end, as of a log.
_LINE = "2026-01-02 03:04:05 INFO compiling module 17 of 99: parser.c ok"
_LINES = "awk 'BEGIN {{ for (i = 0; i < {count}; i++) {{ {act} }} }}'"
_PRINT = f'print "{_LINE}"'
_BLOCKS = "i=0; while [ $i -lt {count} ]; do cat {file}; i=$((i + 1)); done"


@dataclass(frozen=True)
class Kind:
    """A way to write, and how much of it to measure; `act` is what awk does for each line."""

    name: str
    megabytes: int
    act: Optional[str] = None
    goal: Optional[Goal] = None

    def command(self, megabytes: int, text: Path) -> str:
        """What writes so many MB, a multiple of ten; `text` is a file of ten."""
        if self.act is None:
            return _BLOCKS.format(count=megabytes // 10, file=text)
        return _LINES.format(count=megabytes * MB // len(_LINE + "\n"), act=self.act)


_PAGE_GOAL = at_most(plus=100.0)
_LARGE = Kind("large blocks", 400, goal=at_least(times=0.3))
_KINDS = (
    _LARGE,
    Kind("64-byte lines, some at a time", 100, _PRINT),
    Kind("64-byte lines, each for itself", 20, f"{_PRINT}; fflush()"),
)


def measure(ground: Ground) -> Iterator[Figure]:
    repository = repositories.make(ground, SMALL)
    text = ground.folder / "text"
    text.write_bytes((_LINE + "\n").encode() * (10 * MB // 64))
    yield from _rates(ground, repository, text)
    yield from _pages(ground, repository, text)
    if system.HAS_PROC:
        for megabytes in _SIZES[: ground.times(len(_SIZES), 1)]:
            yield from _memory(ground, repository, text, megabytes)


def _rates(ground: Ground, repository: Repository, text: Path) -> Iterator[Figure]:
    server = ground.server(repository.path, output_limit=_LIMIT)
    agent = ground.agent(server)
    for kind in _KINDS:
        megabytes = ground.times(kind.megabytes, 10)
        command = kind.command(megabytes, text)
        rates, floor = [], []
        _build(server, repository, kind.command(10, text))
        for _ in range(ground.times(5, 1)):
            ground.have_memory(6 * megabytes)
            rates.append(megabytes / _build(server, repository, command))
            floor.append(megabytes / _into_a_file(ground, command))
        yield Figure(kind.name, "MB/s", Spread.of(rates), Spread.of(floor), kind.goal)
    agent.end()
    server.end()


def _build(server: Server, repository: Repository, command: str) -> float:
    """The seconds from the start request to the record, which survives a power cut."""
    with Caller(server) as caller, Recorded(server, _PATIENCE) as recorded:
        begun = time.perf_counter()
        recorded.wait(caller.start(repository.commits[0], command))
        return time.perf_counter() - begun


def _into_a_file(ground: Ground, command: str) -> float:
    """The seconds until the same output is in a file that survives a power cut, too."""
    path = ground.folder / "floor-output"
    begun = time.perf_counter()
    with open(path, "wb") as file:
        subprocess.run(["sh", "-c", command], stdout=file, check=True, env=ground.environment())
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begun
    path.unlink()
    return seconds


def _pages(ground: Ground, repository: Repository, text: Path) -> Iterator[Figure]:
    """The page of a build with a long output, beside that of one with a line."""
    server = ground.server(repository.path, output_limit=_LIMIT)
    agent = ground.agent(server)
    megabytes = ground.times(_PAGE_MEGABYTES, 10)
    command = _LARGE.command(megabytes, text)
    with Caller(server) as caller, Recorded(server, _PATIENCE) as recorded:
        for name, end in (("succeeded", "echo end"), ("failed", "echo error: end; exit 1")):
            numbers = [
                caller.start(repository.commits[0], f"{before}; {end}")
                for before in (command, "true")
            ]
            for number in numbers:
                recorded.wait(number)
            long, short = (_page_times(ground, caller, number) for number in numbers)
            title = f"page of a build that {name}, {megabytes} MB"
            yield Figure(title, "ms", long, short, _PAGE_GOAL)
    agent.end()
    server.end()


def _page_times(ground: Ground, caller: Caller, number: int) -> Spread:
    """The times of a build's page in ms, the first, which knows nothing of it yet, among them."""
    times = []
    for _ in range(ground.times(30, 3)):
        begun = time.perf_counter()
        caller.get(f"/build/{number}")
        times.append(1000 * (time.perf_counter() - begun))
    return Spread.of(times)


def _memory(ground: Ground, repository: Repository, text: Path, megabytes: int) -> Iterator[Figure]:
    """What both processes have at most, beside what they had before."""
    server = ground.server(repository.path, output_limit=_LIMIT)
    agent = ground.agent(server)
    processes = {"server": server.pid, "agent": agent.pid}
    _build(server, repository, "true")
    before = {name: system.resident(pid) for name, pid in processes.items()}
    _build(server, repository, _LARGE.command(megabytes, text))
    peaks = {name: system.peak(pid) for name, pid in processes.items()}
    agent.end()
    server.end()
    for name in processes:
        yield Figure(
            f"memory of the {name}, {megabytes} MB of output",
            "MB",
            Spread.of([peaks[name] / MB]),
            Spread.of([before[name] / MB]),
            at_most(times=1.0, plus=20.0),
        )
