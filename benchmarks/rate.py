"""Builds a second: many starts at once, and slots to share them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

from benchmarks import repositories
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Goal, Spread, at_least
from benchmarks.ground import Ground, Server
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL, Loop, Repository

_STARTERS = 10  # connections that start builds at once
_WARM = 4  # builds a slot, before the first that counts


def measure(ground: Ground) -> Iterator[Figure]:
    repository = repositories.make(ground, SMALL)
    builds = ground.times(500, 40)
    goal = at_least(times=0.5)
    yield _measure(ground, repository, 1, 2, builds, ground.times(3, 1), goal)
    for agents in (1, 4, 16):
        yield _measure(ground, repository, agents, 1, builds, ground.times(2, 1))


def _measure(
    ground: Ground,
    repository: Repository,
    agents: int,
    slots: int,
    builds: int,
    rounds: int,
    goal: Optional[Goal] = None,
) -> Figure:
    lanes = agents * slots
    loops = [Loop(ground, repository) for _ in range(lanes)]
    server = ground.server(repository.path)
    running = [ground.agent(server, slots=slots) for _ in range(agents)]
    _build_all(server, repository, _WARM * lanes)
    rates, floor = [], []
    each = max(2, builds // lanes // 4 * 2)  # half of it before the builds, and half after them
    for _ in range(rounds):
        seconds = _loop_all(loops, each)
        rates.append(builds / _build_all(server, repository, builds))
        seconds += _loop_all(loops, each)
        floor.append(2 * each * lanes / seconds)
    for process in (*running, server):
        process.end()
    name = f"{_several(agents, 'agent')} of {_several(slots, 'slot')}, {builds} starts"
    return Figure(name, "a second", Spread.of(rates), Spread.of(floor), goal)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _build_all(server: Server, repository: Repository, builds: int) -> float:
    """The seconds from the first start to the last record."""

    def start(first: int) -> None:
        with Caller(server) as caller:
            for index in range(first, builds, _STARTERS):
                caller.start(repository.commit(index // _STARTERS))

    with Recorded(server) as recorded, ThreadPoolExecutor(_STARTERS) as starters:
        begun = time.perf_counter()
        list(starters.map(start, range(min(_STARTERS, builds))))
        recorded.wait_all()
        return time.perf_counter() - begun


def _loop_all(loops: list[Loop], times: int) -> float:
    """The seconds in which all loops together do so many checkouts each."""
    begun = time.perf_counter()
    running = [loop.start(times) for loop in loops]
    for each in running:
        each.communicate()
    seconds = time.perf_counter() - begun
    if any(each.returncode for each in running):
        raise RuntimeError("a shell loop has failed")
    return seconds
