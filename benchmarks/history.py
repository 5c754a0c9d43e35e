"""History: pages, the start and the memory of a server, by how many builds it has kept."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import repositories, system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import Ground, Server
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL
from benchmarks.system import MB

_COUNTS = (100, 10_000, 1_000_000)  # the first is the floor of all others
_WHOLE = 200  # of the newest builds, that have their output, too
_A_BUILD = 8000  # bytes of a memory file system, more or less
_MEMORY = Path("/dev/shm")
_GOAL = at_most(times=1.2)
_SWEPT = 3.0  # seconds in which a server has listed its builds, to remove the oldest

_PAGES = {
    "/": "/",
    "/build/ID, the newest": "/build/{count}",
    "/build/ID, in the middle": "/build/{middle}",
    "/?before=ID, in the middle": "/?before={middle}",
    "/api/builds": "/api/builds",
    "/api/builds/ID": "/api/builds/{count}",
}
_FILTER = "/?status=lost, where none is"


def measure(ground: Ground) -> Iterator[Figure]:
    counts = _COUNTS[: ground.times(3, 2)]
    with Ground(_parent(ground, max(counts)), ground.quick) as memory:
        kept = _fill(memory, counts)
        yield from _starts(memory, kept)
        yield from _pages(memory, kept)
        yield from _sweeping(memory, kept)


def _parent(ground: Ground, builds: int) -> Path:
    """Where so many builds find room: in memory, if there is enough, as a disk takes an hour."""
    for parent in (_MEMORY, ground.folder):
        if parent.is_dir() and shutil.disk_usage(parent).free > 2 * builds * _A_BUILD:
            return parent
    raise OSError(f"no room for {builds} builds: {2 * builds * _A_BUILD // MB} MB are needed")


def _fill(ground: Ground, counts: tuple[int, ...]) -> dict[int, Path]:
    """Data folders with so many builds, each made after one that was really built."""
    repository = repositories.make(ground, SMALL)
    server = ground.server(repository.path)
    agent = ground.agent(server)
    with Caller(server) as caller, Recorded(server) as recorded:
        recorded.wait(caller.start(repository.commits[0], "echo one; echo two"))
    agent.end()
    server.end()
    (server.data / "agents.json").unlink()  # it is gone, and would be pinged
    return {count: _multiply(ground, server.data, count) for count in counts}


def _multiply(ground: Ground, data: Path, count: int) -> Path:
    target = ground.folder / f"kept-{count}"
    shutil.copytree(data, target)
    model = target / "builds" / "1"
    record = json.loads((model / "build.json").read_bytes())
    for number in range(2, count + 1):
        folder = f"{target}/builds/{number}"
        if number > count - _WHOLE:
            shutil.copytree(model, folder)
        else:
            os.mkdir(folder)
        record["id"] = number
        with open(f"{folder}/build.json", "w", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False))
    (target / "counter").write_text(f"{count}\n")
    return target


def _starts(ground: Ground, kept: dict[int, Path]) -> Iterator[Figure]:
    """From the start of the process to its first page."""
    found: dict[int, list[float]] = {count: [] for count in kept}
    for _ in range(1 + ground.times(8, 1)):
        for count, data in kept.items():
            begun = time.perf_counter()
            server = ground.server(ground.folder, data=data)
            with Caller(server) as caller:
                caller.get("/")
            found[count].append(1000 * (time.perf_counter() - begun))
            server.end()
    spreads = {count: Spread.of(times[1:]) for count, times in found.items()}  # the first is cold
    yield from _compared("start to first page", "ms", spreads)


def _pages(ground: Ground, kept: dict[int, Path]) -> Iterator[Figure]:
    servers = {c: ground.server(ground.folder, data=data) for c, data in kept.items()}
    callers = {count: Caller(server) for count, server in servers.items()}
    for name, path in {**_PAGES, _FILTER: "/?status=lost"}.items():
        found: dict[int, list[float]] = {count: [] for count in kept}
        order = list(callers.items())
        for _ in range(3 + ground.times(60, 3)):
            order.append(order.pop(0))  # whoever comes first finds the processor cold, or warm
            for count, caller in order:
                begun = time.perf_counter()
                caller.get(path.format(count=count, middle=count // 2))
                found[count].append(1000 * (time.perf_counter() - begun))
        spreads = {count: Spread.of(times[3:]) for count, times in found.items()}
        yield from _compared(name, "ms", spreads, has_goal=name != _FILTER)
    yield from _memory("memory", servers)
    for server in servers.values():
        server.end()


def _sweeping(ground: Ground, kept: dict[int, Path]) -> Iterator[Figure]:
    """With `keep_builds`, a server has to know which builds there are."""
    servers = {
        count: ground.server(ground.folder, data=data, keep_builds=2 * count)
        for count, data in kept.items()
    }
    time.sleep(_SWEPT)
    yield from _memory("memory, with keep_builds", servers)
    for server in servers.values():
        server.end()


def _memory(name: str, servers: dict[int, Server]) -> Iterator[Figure]:
    sizes = {c: Spread.of([system.resident(each.pid) / MB]) for c, each in servers.items()}
    yield from _compared(name, "MB", sizes)


def _compared(
    name: str, unit: str, spreads: dict[int, Spread], has_goal: bool = True
) -> Iterator[Figure]:
    floor = next(iter(spreads.values()))
    for count, spread in list(spreads.items())[1:]:
        goal = _GOAL if has_goal else None
        yield Figure(f"{name}, {count:,} builds", unit, spread, floor, goal)
