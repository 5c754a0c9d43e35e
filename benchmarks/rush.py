"""A rush: so many builds started at once, beside as many shell loops at once as there are slots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.caller import Caller
from benchmarks.figures import Spread
from benchmarks.ground import Process
from benchmarks.recorded import Recorded
from benchmarks.repositories import Loop, Repository

_STARTERS = 10  # connections that start builds at once
_WARM = 4  # builds a slot, before the first that counts


def measure(
    server: Process, repository: Repository, loops: Sequence[Loop], builds: int, rounds: int
) -> tuple[Spread, Spread]:
    """Builds a second, and checkouts a second of the shell loops, one loop for each slot."""
    lanes = len(loops)
    _build_all(server, repository, _WARM * lanes)
    rates, floor = [], []
    each = max(2, builds // lanes // 4 * 2)  # half of it before the builds, and half after them
    for _ in range(rounds):
        seconds = _loop_all(loops, each)
        rates.append(builds / _build_all(server, repository, builds))
        seconds += _loop_all(loops, each)
        floor.append(2 * each * lanes / seconds)
    return Spread.of(rates), Spread.of(floor)


def _build_all(server: Process, repository: Repository, builds: int) -> float:
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


def _loop_all(loops: Sequence[Loop], times: int) -> float:
    """The seconds in which all loops together do so many checkouts each."""
    with ExitStack() as ending:  # one that writes to nobody any more ends
        begun = time.perf_counter()
        running = [ending.enter_context(loop.start(times)) for loop in loops]
        for each in running:
            each.communicate()
        seconds = time.perf_counter() - begun
    if any(each.returncode for each in running):
        raise RuntimeError("a shell loop has failed")
    return seconds
