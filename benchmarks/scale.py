"""One server's share: its processor time for a build, and for thousands of agents at rest.

Agents are stand-ins in this process, as if they were on other hosts: what the server's process
uses is the server's alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from benchmarks import crowd, system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import Ground, Process, wait_for
from benchmarks.recorded import Recorded
from benchmarks.skeleton import Connection, Listener
from benchmarks.standin import StandIns

_AGENTS = 16  # that builds are handed to
_BUILDS = 500
_MOST_MS = 3.0  # of processor time a build
_CROWD = 5000
_MOST_CORE = 50.0  # per cent of one that they may take


def measure(ground: Ground) -> Iterator[Figure]:
    """Without /proc there is nothing to measure."""
    if system.HAS_PROC:
        yield _builds(ground)
        yield crowd.at_rest(ground, ground.times(_CROWD, 50), _MOST_CORE)


def _builds(ground: Ground) -> Figure:
    builds, rounds = ground.times(_BUILDS, 40), ground.times(3, 1)
    skeleton = _Skeleton(ground)
    server = ground.server(ground.folder)
    with StandIns(server, _AGENTS, crowd.end_at_once):
        log = crowd.LogReader(server.log_path)
        wait_for(lambda: log.count(" is new") == _AGENTS, "the agents' registration")
        found, floor = [], []
        for _ in range(rounds):
            floor.append(_a_build(skeleton.server, builds))
            found.append(_a_build(server, builds))
    skeleton.server.end()
    server.end()
    name = f"the server's processor time, {builds} builds on {_AGENTS} agents"
    goal = at_most(plus=_MOST_MS)
    return Figure(name, "ms a build", Spread.of(found), Spread.of(floor), goal)


def _a_build(server: Process, builds: int) -> float:
    """The milliseconds of processor time that a server takes for one of so many builds."""
    with Caller(server) as caller, Recorded(server) as recorded:
        before = system.own_seconds(server.pid)
        for _ in range(builds):
            caller.start("HEAD")
        recorded.wait_all()
        return 1000 * (system.own_seconds(server.pid) - before) / builds


class _Skeleton:
    """The skeleton's server, and an agent for it in this process, which ends builds at once."""

    def __init__(self, ground: Ground) -> None:
        data = ground.folder / "skeleton"
        words = ("-m", "benchmarks.skeleton", "server", str(data))
        self.server = ground.python("skeleton-server", data, *words)
        self._orders: queue.SimpleQueue[dict[str, object]] = queue.SimpleQueue()
        listener = Listener({"/build": (202, self._take)})
        for work in (listener.serve_forever, *[self._finish] * _AGENTS):
            threading.Thread(target=work, daemon=True).start()
        connection = Connection(self.server.port)
        connection.post("/notify_agent", {"port": listener.server_port, "slots": _AGENTS})
        connection.close()

    def _take(self, order: dict[str, object]) -> dict[str, object]:
        self._orders.put(order)
        return {}

    def _finish(self) -> None:
        connection = Connection(self.server.port)
        while True:
            order = self._orders.get()
            result = {"id": order["id"], "slot": order["slot"], "status": 0}
            connection.post("/notify_build_result", result)
