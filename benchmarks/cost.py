"""A build's cost: from the start request to the recorded result, one build after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import repositories, system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Goal, Spread, at_most
from benchmarks.ground import Ground
from benchmarks.recorded import Recorded
from benchmarks.repositories import LARGE, SMALL, Loop, Repository

_WARM = 6  # builds before the first that counts
_AT_A_TIME = 20  # builds, and then as many checkouts


def measure(ground: Ground) -> Iterator[Figure]:
    yield from _measure(ground, SMALL, at_most(plus=11.0, times=1.0))
    yield from _measure(ground, LARGE, at_most(times=1.5))


def _measure(ground: Ground, files: int, goal: Goal) -> Iterator[Figure]:
    repository = repositories.make(ground, files)
    loop = Loop(ground, repository)
    server = ground.server(repository.path)
    agent = ground.agent(server)
    builds: list[float] = []
    floor: list[float] = []
    used: list[float] = []
    floor_used: list[float] = []
    with Caller(server) as caller, Recorded(server) as recorded:
        _time_builds(caller, recorded, repository, _WARM)
        for _ in range(ground.times(10, 1)):
            before = _used(server.pid, agent.pid)
            builds += _time_builds(caller, recorded, repository, _AT_A_TIME)
            used.append((_used(server.pid, agent.pid) - before) / _AT_A_TIME)
            before = system.children_seconds()
            floor += loop.run(_AT_A_TIME)
            floor_used.append((system.children_seconds() - before) / _AT_A_TIME)
    agent.end()
    server.end()
    name = f"a repository of {files} files"
    yield Figure(name, "ms", _in_ms(builds), _in_ms(floor), goal)
    if system.HAS_PROC:
        yield Figure(f"{name}, processor time", "ms", _in_ms(used), _in_ms(floor_used))


def _in_ms(seconds: list[float]) -> Spread:
    return Spread.of(1000 * each for each in seconds)


def _used(*pids: int) -> float:
    return sum(map(system.processor_seconds, pids)) if system.HAS_PROC else 0.0


def _time_builds(
    caller: Caller, recorded: Recorded, repository: Repository, times: int
) -> list[float]:
    found = []
    for index in range(times):
        begun = time.perf_counter()
        number = caller.start(repository.commit(index))
        recorded.wait(number)
        found.append(time.perf_counter() - begun)
    return found
