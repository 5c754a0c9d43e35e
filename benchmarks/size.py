"""Size: lines of code, the archive, memory at rest, and the time to the first answer."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import zipapp
from collections.abc import Iterator
from pathlib import Path

from benchmarks import system
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import ROOT, Ground, wait_for
from benchmarks.system import MB

# The least that answers: the standard library's own server, with nothing behind it.
_BARE = """\
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
_REST = 4.0  # seconds in which a process comes to rest: some pings and registrations


def measure(ground: Ground) -> Iterator[Figure]:
    package = ROOT / "minici"
    _compile(ground)
    yield _one("lines of Python", "lines", _lines(package.rglob("*.py")))
    yield _one("lines of pages and styles", "lines", _lines(_not_python(package)))
    yield _one("the zipapp", "KB", _zipapp(ground, package) / 1000)
    yield _first_answer(ground)
    yield from _at_rest(ground)


def _compile(ground: Ground) -> None:
    """Start both once, so that what is measured finds its modules compiled, as usual."""
    server = ground.server(ground.folder)
    ground.agent(server).end()
    server.end()


def _one(name: str, unit: str, value: float) -> Figure:
    return Figure(name, unit, Spread.of([value]))


def _lines(paths: Iterator[Path]) -> int:
    return sum(path.read_bytes().count(b"\n") for path in paths)


def _not_python(package: Path) -> Iterator[Path]:
    for folder in ("templates", "static"):
        yield from (path for path in (package / "ui" / folder).rglob("*") if path.is_file())


def _zipapp(ground: Ground, package: Path) -> int:
    """The bytes of the archive that `make zipapp` makes."""
    source, target = ground.folder / "zipapp", ground.folder / "minici.pyz"
    shutil.copytree(package, source / "minici", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "__main__.py").write_text("from minici.__main__ import main\nmain()\n")
    zipapp.create_archive(source, target, compressed=True)
    return target.stat().st_size


def _first_answer(ground: Ground) -> Figure:
    """From the start of a process to its first page."""
    found, floor = [], []
    for _ in range(ground.times(10, 2)):
        begun = time.perf_counter()
        server = ground.server(ground.folder)
        with Caller(server) as caller:
            caller.get("/")
        found.append(1000 * (time.perf_counter() - begun))
        server.end()
        floor.append(1000 * _first_bare_answer(ground))
    name = "from the server's start to its first page"
    return Figure(name, "ms", Spread.of(found), Spread.of(floor), at_most(plus=300.0))


def _start_bare(ground: Ground) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-c", _BARE, str(port)]
    process = subprocess.Popen(words, env=ground.environment(), cwd=ground.folder)
    wait_for(lambda: _answers(port), "the first answer of a bare server", pause=0.002)
    return process, port


def _first_bare_answer(ground: Ground) -> float:
    begun = time.perf_counter()
    process, _ = _start_bare(ground)
    seconds = time.perf_counter() - begun
    process.kill()
    process.wait()
    return seconds


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.0 200")
    except OSError:
        return False


def _at_rest(ground: Ground) -> Iterator[Figure]:
    server = ground.server(ground.folder)
    agent = ground.agent(server)
    with Caller(server) as caller:
        caller.get("/")
        time.sleep(_REST)
        server_bytes, agent_bytes = system.resident(server.pid), system.resident(agent.pid)
        supervisors = system.children(agent.pid) if system.HAS_PROC else []
        supervisor_bytes = [system.resident(pid) for pid in supervisors]
    agent.end()
    server.end()
    bare, _ = _start_bare(ground)
    floor = Spread.of([system.resident(bare.pid) / MB])
    bare.kill()
    bare.wait()
    for name, size, goal in (
        ("memory of the server at rest", server_bytes, at_most(plus=30.0)),
        ("memory of an agent at rest", agent_bytes, at_most(plus=30.0)),
    ):
        yield Figure(name, "MB", Spread.of([size / MB]), floor, goal)
    if supervisor_bytes:
        sizes = Spread.of(size / MB for size in supervisor_bytes)
        yield Figure("memory of a slot's supervisor at rest", "MB", sizes, floor)
