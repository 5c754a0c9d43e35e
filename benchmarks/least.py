"""The least: what the parts of a build take with nothing around them, in processor time.

Each promise is an fsync, each hand-over between hosts a call, each step of a checkout a process:
plainly written, without minici's ways to spare some of it. What the processors could do with the
sum, if nothing else were to be done and none of them ever waited, stands beside `rate`'s floor.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from benchmarks import repositories, system
from benchmarks.figures import Figure, Spread
from benchmarks.ground import Ground
from benchmarks.repositories import SMALL, Loop

_TIMES = 100  # builds' worth of each part, for one value
_CALLS = 3  # a start, a hand-over and a result
_PROCESSES = 3  # git, git and the command
_RECORD = b"x" * 800

_SERVER = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def measure(ground: Ground) -> Iterator[Figure]:
    if not system.HAS_PROC:
        return
    rounds = ground.times(10, 1)
    # The first: where files were made and deleted by the thousand, each new one may cost more.
    checkout = _checkouts(ground, rounds)
    disk = Spread.of(_mean(_Disk(ground.folder).build) for _ in range(rounds))
    calls = _calls(ground, rounds)
    processes = Spread.of(_mean(_start_processes) for _ in range(rounds))
    parts = {
        "what is made durable: 13 fsyncs": disk,
        "three calls, between http.client and http.server": calls,
        "starting three processes from Python": processes,
        "git, git and sh themselves": checkout,
    }
    for name, spread in parts.items():
        yield Figure(name, "ms", spread)
    least = sum(spread.median for spread in parts.values())
    yield Figure("all of it", "ms", Spread.of([least]), checkout)
    at_once = os.cpu_count() or 1
    floor = Spread.of([1000 * at_once / checkout.median])
    name = f"the most builds a second that {at_once} processors can do"
    yield Figure(name, "a second", Spread.of([1000 * at_once / least]), floor)


def _mean(act: Callable[[], None]) -> float:
    """The milliseconds of processor time, of this process alone, that something takes."""
    begun = _used()
    for _ in range(_TIMES):
        act()
    return 1000 * (_used() - begun) / _TIMES


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Disk:
    """The files of one build after the other, as contract and outbox want them, and no more."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder / "least")
        self._number = 0
        os.makedirs(f"{self._folder}/builds", exist_ok=True)
        os.makedirs(f"{self._folder}/unfinished", exist_ok=True)

    def build(self) -> None:
        self._number += 1
        build = f"{self._folder}/builds/{self._number}-{time.monotonic_ns()}"
        mark = f"{self._folder}/unfinished/{self._number}"
        self._replace(f"{self._folder}/counter")
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT))
        self._sync(f"{self._folder}/unfinished")
        os.mkdir(build)
        self._replace(f"{build}/build.json")
        self._sync(f"{self._folder}/builds")
        self._replace(f"{build}/build.json")  # it is handed over
        os.mkdir(f"{build}/result")  # at the agent
        self._replace(f"{build}/result/result.json")
        self._sync(build)
        self._replace(f"{build}/build.json")  # its result is recorded
        os.unlink(mark)
        os.unlink(f"{build}/result/result.json")
        os.rmdir(f"{build}/result")

    def _replace(self, path: str) -> None:
        descriptor = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, _RECORD)
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(f"{path}.tmp", path)
        self._sync(os.path.dirname(path))

    @staticmethod
    def _sync(folder: str) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _calls(ground: Ground, rounds: int) -> Spread:
    """Three calls on a connection that is kept; the processor time of both sides."""
    words = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=ground.environment()) as server:
        assert server.stdout is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(server.stdout.readline()))

        def call() -> None:
            for _ in range(_CALLS):
                connection.request("POST", "/", json.dumps({"id": 1, "commit": "f" * 40}))
                json.loads(connection.getresponse().read())

        found = []
        for _ in range(rounds):
            before = system.processor_seconds(server.pid)
            here = _mean(call)
            there = 1000 * (system.processor_seconds(server.pid) - before) / _TIMES
            found.append(here + there)
        connection.close()
        server.kill()
    return Spread.of(found)


def _start_processes() -> None:
    for _ in range(_PROCESSES):
        with subprocess.Popen(["/bin/true"], stdout=subprocess.PIPE, start_new_session=True) as it:
            it.communicate()


def _checkouts(ground: Ground, rounds: int) -> Spread:
    loop = Loop(ground, repositories.make(ground, SMALL))
    found = []
    for _ in range(rounds):
        before = system.children_seconds()
        loop.run(_TIMES // 2)
        found.append(1000 * (system.children_seconds() - before) / (_TIMES // 2))
    return Spread.of(found)
