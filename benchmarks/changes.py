"""What is new in an output: how fast it is found, and what memory that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import repositories, system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import Ground
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL
from benchmarks.system import MB

_PATIENCE = 200.0  # seconds that one build may take
# A line of some 77 bytes with a time, a duration and other numbers; the second build, which fails,
# has a few lines that the first did not have.
_COMMAND = """\
awk -v id=$MINICI_BUILD_ID 'BEGIN {{ srand(id); for (i = 0; i < {lines}; i++) {{
  printf "2026-01-%02d 03:%02d:%02d INFO ", id, rand() * 60, rand() * 60
  printf "module %d of {lines}: parser_%d.c ok in %d ms\\n", i, i % 977, rand() * 1000
  if (id > 1 && i % 100000 == 7) print "the roof fell in at " i }} }}'
exit $((MINICI_BUILD_ID - 1))
"""
_LINE_BYTES = 77


def measure(ground: Ground) -> Iterator[Figure]:
    repository = repositories.make(ground, SMALL)
    server = ground.server(repository.path, output_limit="2G")
    agent = ground.agent(server)
    megabytes = ground.times(100, 5)
    command = _COMMAND.format(lines=megabytes * MB // _LINE_BYTES)
    with Caller(server) as caller, Recorded(server, _PATIENCE) as recorded:
        for _ in range(2):
            recorded.wait(caller.start(repository.commits[0], command))
        agent.end()
        before = system.resident(server.pid)
        seconds, floor = [], []
        for _ in range(ground.times(5, 1)):
            begun = time.perf_counter()
            found = caller.api("/builds/2/changes")
            seconds.append(time.perf_counter() - begun)
            floor.append(_plainly(server.data / "builds"))
    if len(found["lines"]) != -(-(megabytes * MB // _LINE_BYTES - 7) // 100000):
        raise RuntimeError(f"{len(found['lines'])} lines are new, and should not be")
    name = f"{megabytes} MB against {megabytes} MB"
    yield Figure(name, "s", Spread.of(seconds), Spread.of(floor), at_most(plus=5.0))
    if system.HAS_PROC:
        peak, rest = Spread.of([system.peak(server.pid) / MB]), Spread.of([before / MB])
        yield Figure(f"memory, {name}", "MB", peak, rest, at_most(times=1.0, plus=20.0))
    server.end()


def _plainly(builds: Path) -> float:
    """The seconds until a set has said which lines are not the same to the byte."""
    begun = time.perf_counter()
    with open(builds / "1/1/stdout", "rb") as earlier:
        known = set(map(hash, earlier))
    with open(builds / "2/1/stdout", "rb") as output:
        sum(hash(line) not in known for line in output)
    return time.perf_counter() - begun
