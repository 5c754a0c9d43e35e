"""Live: from a line being printed to its arrival at those who watch."""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Callable

from benchmarks import repositories
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import Ground, Server
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL

_CROWD = 200  # viewers
_PAUSE = 0.1  # seconds between two lines
_PATIENCE = 30.0  # seconds without anything before a viewer gives up
# Prints the moment at which it prints.
_PROGRAM = """\
import sys, time
time.sleep({start})
for _ in range({lines}):
    print(time.time_ns(), flush=True)
    time.sleep({pause})
"""


@dataclass
class Viewer:
    """One connection, and what came on it at what moment."""

    connection: socket.socket
    arrived: list[tuple[int, bytes]] = field(default_factory=list)


# The delays of the lines that one viewer saw, in ms.
Delays = Callable[[Viewer], Iterator[float]]


def measure(ground: Ground) -> Iterator[Figure]:
    repository = repositories.make(ground, SMALL)
    server = ground.server(repository.path)
    agent = ground.agent(server)
    lines = ground.times(200, 20)
    command = f"{sys.executable} -c '{_PROGRAM.format(lines=lines, pause=_PAUSE, start=1)}'"
    for count, worst in ((1, 100.0), (ground.times(_CROWD, 20), 300.0)):
        with Caller(server) as caller, Recorded(server) as recorded:
            number = caller.start(repository.commits[0], command)
            found = Spread.of(_watch(_follow(server, number, count), _event_delays))
            recorded.wait(number)
        if len(found.values) != lines * count:
            raise RuntimeError(f"{len(found.values)} lines came of {lines} to {count} viewers")
        floor = Spread.of(_watch(_relay(ground, count, lines), _line_delays))
        name = f"{count} viewer{'' if count == 1 else 's'}"
        median = at_most(plus=10.0) if count == 1 else None
        yield Figure(f"{name}, median", "ms", found, floor, median)
        yield Figure(
            f"{name}, 99th percentile",
            "ms",
            found.percentile(99),
            floor.percentile(99),
            at_most(plus=worst),
        )
    agent.end()
    server.end()


def _follow(server: Server, number: int, count: int) -> list[Viewer]:
    """So many viewers of the live stream of a build."""
    request = f"GET /build/{number}/live HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode()
    viewers = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", server.port), _PATIENCE)
        connection.sendall(request)
        viewers.append(Viewer(connection))
    return viewers


def _relay(ground: Ground, count: int, lines: int) -> list[Viewer]:
    """The floor: a thread that hands on what it reads from the command's pipe to each viewer."""
    pairs = [socket.socketpair() for _ in range(count)]
    program = _PROGRAM.format(lines=lines // 2, pause=_PAUSE, start=0.1)
    command = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=ground.environment()
    )

    def relay() -> None:
        assert command.stdout is not None
        with command:
            for line in command.stdout:
                for ours, _ in pairs:
                    ours.sendall(line)
        for ours, _ in pairs:
            ours.close()

    threading.Thread(target=relay, name="relay", daemon=True).start()
    return [Viewer(theirs) for _, theirs in pairs]


def _watch(viewers: list[Viewer], delays_of: Delays) -> list[float]:
    """Read all viewers' connections to their ends; the delay of each line at each, in ms."""
    with selectors.DefaultSelector() as selector:
        for viewer in viewers:
            selector.register(viewer.connection, selectors.EVENT_READ, viewer)
        left = len(viewers)
        while left:
            ready = selector.select(_PATIENCE)
            if not ready:
                raise TimeoutError("the live stream stands still")
            for key, _ in ready:
                data = key.data.connection.recv(65536)
                key.data.arrived.append((time.time_ns(), data))
                if not data:
                    selector.unregister(key.fileobj)
                    key.data.connection.close()
                    left -= 1
    return [delay for viewer in viewers for delay in delays_of(viewer)]


def _event_delays(viewer: Viewer) -> Iterator[float]:
    for at, line in _lines(viewer):
        if line.startswith(b'data: {"stream":'):
            piece = json.loads(line[6:])
            if piece["stream"] == "stdout":  # not what git says of the checkout
                yield from _delays(at, piece["text"])


def _line_delays(viewer: Viewer) -> Iterator[float]:
    for at, line in _lines(viewer):
        yield from _delays(at, line.decode())


def _lines(viewer: Viewer) -> Iterator[tuple[int, bytes]]:
    """Each whole line with the moment at which its end came."""
    rest = b""
    for at, data in viewer.arrived:
        *lines, rest = (rest + data).split(b"\n")
        yield from ((at, line) for line in lines)


def _delays(at: int, text: str) -> Iterator[float]:
    for printed in text.split():
        yield (at - int(printed)) / 1e6
