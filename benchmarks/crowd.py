"""A thousand agents: what they cost a server at rest and at work, and how their loss is noticed."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from benchmarks import system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import Ground, Server, wait_for
from benchmarks.recorded import Recorded
from benchmarks.standin import StandIn, StandIns

_COUNT = 1000
_LOST = 100
_PING_INTERVAL = 2.0  # seconds; this and the next are the defaults of the configuration
_AGENT_TIMEOUT = 10.0
_LONGEST = _AGENT_TIMEOUT + 2 * _PING_INTERVAL
_CORE = 20.0  # per cent of one that they may take
_BUILDS = 500


def measure(ground: Ground) -> Iterator[Figure]:
    _raise_file_limit(_COUNT)
    count, lost = ground.times(_COUNT, 50), ground.times(_LOST, 5)
    builds = ground.times(_BUILDS, 50)
    floor = _work(ground, 1, builds)
    server = _server(ground)
    log = LogReader(server.log_path)
    with StandIns(server, count, end_at_once) as crowd:
        wait_for(lambda: log.count(" is new") == count, f"{count} agents registered")
        if system.HAS_PROC:
            yield _rest(ground, server, crowd, _CORE)
        yield Figure(
            f"a build at once for each, {builds} builds among {count} agents",
            "ms a build",
            _start_builds(server, builds, ground.times(3, 1)),
            floor,
        )
        for name, act in (("refuse connections", StandIn.die), ("do not answer", StandIn.hang)):
            yield _loss(crowd, log, name, act, lost)
    server.end()


def _server(ground: Ground) -> Server:
    return ground.server(ground.folder, ping_interval=_PING_INTERVAL, agent_timeout=_AGENT_TIMEOUT)


def _raise_file_limit(count: int) -> None:
    """So many listen here, in one process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8 * count
    soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


class LogReader:
    """How often lines were written to a log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._text = ""

    def count(self, words: str) -> int:
        with open(self._path, encoding="utf-8", errors="replace") as file:
            file.seek(self._place)
            added = file.read()
            self._place = file.tell()
        self._text += "".join(line for line in added.splitlines(True) if " agent " in line)
        return self._text.count(words)


def end_at_once(agent: StandIn, order: dict[str, str]) -> None:
    agent.spawn(agent.finish(int(order["id"])))


# At rest.


def at_rest(ground: Ground, count: int, most: float) -> Figure:
    """The cost of so many agents at rest; `most` is the goal, in per cent of a core."""
    _raise_file_limit(count)
    server = _server(ground)
    log = LogReader(server.log_path)
    with StandIns(server, count, end_at_once) as crowd:
        wait_for(lambda: log.count(" is new") == count, f"{count} agents registered")
        found = _rest(ground, server, crowd, most)
    server.end()
    return found


def _rest(ground: Ground, server: Server, crowd: StandIns, most: float) -> Figure:
    """Pings and registrations, in per cent of a core."""
    time.sleep(ground.times(6, 1))  # what they cost when they are new is another matter
    found = []
    for _ in range(ground.times(5, 1)):
        before, since = system.processor_seconds(server.pid), time.monotonic()
        time.sleep(ground.times(4, 1))
        used = system.processor_seconds(server.pid) - before
        found.append(100 * used / (time.monotonic() - since))
    a_second = len(crowd.agents) / _PING_INTERVAL
    floor = [100 * a_second * _bare_ping(crowd.agents) for _ in found]
    name = f"{len(crowd.agents)} agents at rest"
    goal = at_most(plus=most)
    return Figure(name, "% of a core", Spread.of(found), Spread.of(floor), goal)


def _bare_ping(agents: Sequence[StandIn]) -> float:
    """The processor seconds of a ping that is no more than a connection and a request."""
    begun = time.thread_time()
    for agent in agents:
        with socket.create_connection(("127.0.0.1", agent.port), 10) as connection:
            connection.sendall(
                b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            while connection.recv(65536):
                continue
    return (time.thread_time() - begun) / len(agents)


# At work.


def _work(ground: Ground, count: int, builds: int) -> Spread:
    """The same builds with few agents."""
    server = _server(ground)
    with StandIns(server, count, end_at_once):
        found = _start_builds(server, builds, ground.times(3, 1))
    server.end()
    return found


def _start_builds(server: Server, builds: int, rounds: int) -> Spread:
    """The milliseconds a build from the first start to the last record."""
    found = []
    with Caller(server) as caller, Recorded(server) as recorded:
        for _ in range(rounds):
            begun = time.perf_counter()
            for _ in range(builds):
                caller.start("HEAD")
            recorded.wait_all()
            found.append(1000 * (time.perf_counter() - begun) / builds)
    return Spread.of(found)


# Lost.


def _loss(
    crowd: StandIns, log: LogReader, name: str, act: Callable[[StandIn], None], lost: int
) -> Figure:
    """From the moment at which some die together until the last one is known to be gone."""
    victims = [agent for agent in crowd.agents if agent.lives][:lost]
    before = log.count(" is gone (")
    begun = time.perf_counter()
    crowd.each(victims, act)
    wait_for(lambda: log.count(" is gone (") >= before + lost, f"the loss of {lost} agents")
    found = Spread.of([time.perf_counter() - begun])
    return Figure(
        f"{lost} that {name}: all known to be gone", "s", found, None, at_most(plus=_LONGEST)
    )
