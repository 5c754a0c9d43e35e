"""Builds a second: many starts at once, and slots to share them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from benchmarks import repositories, rush
from benchmarks.figures import Figure, Goal, at_least
from benchmarks.ground import Ground
from benchmarks.repositories import SMALL, Loop, Repository


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
    loops = [Loop(ground, repository) for _ in range(agents * slots)]
    server = ground.server(repository.path)
    running = [ground.agent(server, slots=slots) for _ in range(agents)]
    rates, floor = rush.measure(server, repository, loops, builds, rounds)
    for process in (*running, server):
        process.end()
    name = f"{_several(agents, 'agent')} of {_several(slots, 'slot')}, {builds} starts"
    return Figure(name, "a second", rates, floor, goal)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
