"""Files: how fast they come from a command to the server's disk, and what memory that takes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import repositories, system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_least, at_most
from benchmarks.ground import Ground, Server
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL, Repository
from benchmarks.system import MB

_PATIENCE = 300.0  # seconds that one build may take
_SMALL_BYTES = 1000


def measure(ground: Ground) -> Iterator[Figure]:
    repository = repositories.make(ground, SMALL)
    server = ground.server(repository.path, files_limit="2G")
    agent = ground.agent(server)
    processes = {"server": server.pid, "agent": agent.pid}
    _build(server, repository, "true")
    before = {name: system.resident(pid) for name, pid in processes.items()}
    large = _Large(ground, ground.times(1000, 50))
    yield large.figure(server, repository)
    yield _small(ground, server, repository, ground.times(10_000, 500))
    for name, pid in processes.items() if system.HAS_PROC else ():
        peak, rest = Spread.of([system.peak(pid) / MB]), Spread.of([before[name] / MB])
        yield Figure(f"memory of the {name}", "MB", peak, rest, at_most(times=1.0, plus=20.0))
    agent.end()
    server.end()


class _Large:
    """One large file; both ways begin with a copy of it in the cache."""

    def __init__(self, ground: Ground, megabytes: int) -> None:
        self._ground = ground
        self._megabytes = megabytes
        self._source = ground.folder / "large"
        block = os.urandom(MB)
        with open(self._source, "wb") as file:
            for _ in range(megabytes):
                file.write(block)
            os.fsync(file.fileno())

    def figure(self, server: Server, repository: Repository) -> Figure:
        command = f'cp {self._source} "$MINICI_ARTIFACTS/large"'
        rates, floor = [], []
        for _ in range(self._ground.times(3, 1)):
            self._ground.have_memory(3 * self._megabytes)
            floor.append(self._megabytes / self._copy())
            rates.append(self._megabytes / _build(server, repository, command))
        name = f"one file of {self._megabytes} MB"
        return Figure(name, "MB/s", Spread.of(rates), Spread.of(floor), at_least(times=1 / 3))

    def _copy(self) -> float:
        """The seconds for a copy that survives a power cut."""
        target = self._ground.folder / "copy"
        begun = time.perf_counter()
        self._ground.run(["cp", self._source, target])
        _sync(target)
        seconds = time.perf_counter() - begun
        target.unlink()
        return seconds


def _small(ground: Ground, server: Server, repository: Repository, count: int) -> Figure:
    """Many small files, against as many that are written and each brought to disk."""
    act = 'print text > "file" i; close("file" i)'
    make = f'text = sprintf("%{_SMALL_BYTES - 1}s", ""); for (i = 0; i < {count}; i++) {{ {act} }}'
    command = f"cd \"$MINICI_ARTIFACTS\"; awk 'BEGIN {{ {make} }}'"
    seconds, floor = [], []
    for _ in range(ground.times(3, 1)):
        floor.append(_write_small(ground.folder / "many", count))
        seconds.append(_build(server, repository, command))
    name = f"{count} files of {_SMALL_BYTES} bytes"
    return Figure(name, "s", Spread.of(seconds), Spread.of(floor), at_most(plus=10.0))


def _write_small(folder: Path, count: int) -> float:
    begun = time.perf_counter()
    folder.mkdir()
    for number in range(count):
        path = folder / str(number)
        path.write_bytes(bytes(_SMALL_BYTES))
        _sync(path)
    _sync(folder)
    seconds = time.perf_counter() - begun
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return seconds


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _build(server: Server, repository: Repository, command: str) -> float:
    """The seconds from the start request to the record of a success."""
    with Caller(server) as caller, Recorded(server, _PATIENCE) as recorded:
        begun = time.perf_counter()
        number = caller.start(repository.commits[0], command)
        recorded.wait(number)
        seconds = time.perf_counter() - begun
    # Not asked for: an answer with all files would be in the memory that is measured.
    build = json.loads((server.data / f"builds/{number}/build.json").read_bytes())
    if build["status"] != "success" or build["files_left_out"]:
        raise RuntimeError(f"build {number}: {build['reason']}, {build['files_left_out']} left out")
    return seconds
