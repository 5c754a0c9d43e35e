"""A skeleton of minici: two processes that hand builds over as the contract wants it, and no more.

All that is made durable and all calls are there, in the order of the contract and written plainly:
no checks, no watch over processes, no output, no logs, no pages. How many builds a second the two
do is what Python could do at the most, where a result counts once the server's disk has it and the
next order of its slot goes out after that.

    python -m benchmarks.skeleton server FOLDER
    python -m benchmarks.skeleton agent FOLDER PORT TREE...

Each prints its port when it answers. PORT is the server's; each TREE, a clone, makes a slot.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable

Data = dict[str, Any]  # an order or a result: what a call brings, and what answers it
Acts = Mapping[str, tuple[int, Callable[[Data], Data]]]  # the status and the answer, by path

_CONTENT = b"x" * 800  # about as long as a build's record


# What is made durable: 13 fsyncs a build.


class Records:
    """The server's folder. A build has a mark until its result is recorded."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._last = 0
        self._counting = threading.Lock()  # guards _last, and the file that says it
        os.makedirs(f"{folder}/builds")
        os.makedirs(f"{folder}/unfinished")

    def add(self) -> int:
        """The number of a new build: 6 fsyncs."""
        with self._counting:
            self._last += 1
            number = self._last
            _replace(f"{self._folder}/counter")
        os.close(os.open(self._mark(number), os.O_WRONLY | os.O_CREAT))
        _sync(f"{self._folder}/unfinished")
        os.mkdir(f"{self._folder}/builds/{number}")
        self._write(number)
        _sync(f"{self._folder}/builds")
        return number

    def attempt(self, number: int) -> None:
        """It is about to be handed over: 2 fsyncs."""
        self._write(number)

    def finish(self, number: int) -> None:
        """Its result is here: 2 fsyncs."""
        self._write(number)
        os.unlink(self._mark(number))

    def _write(self, number: int) -> None:
        _replace(f"{self._folder}/builds/{number}/build.json")

    def _mark(self, number: int) -> str:
        return f"{self._folder}/unfinished/{number}"


class Outbox:
    """The agent's folder: results until the server has them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder)

    def put(self, number: int) -> None:
        """3 fsyncs."""
        os.mkdir(f"{self._folder}/{number}")
        _replace(f"{self._folder}/{number}/result.json")
        _sync(self._folder)

    def drop(self, number: int) -> None:
        os.unlink(f"{self._folder}/{number}/result.json")
        os.rmdir(f"{self._folder}/{number}")


def _replace(path: str) -> None:
    descriptor = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, _CONTENT)
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(f"{path}.tmp", path)
    _sync(os.path.dirname(path))


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


# The calls, on connections that are kept.


class Listener(ThreadingHTTPServer):
    """Listens on a port of its own; `acts` are called in a thread for each connection."""

    request_queue_size = 128

    def __init__(self, acts: Acts) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.acts = acts

    def serve(self) -> None:
        """Say where, and answer for ever."""
        print(self.server_port, flush=True)
        self.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True
    server: Listener

    def do_POST(self) -> None:
        status, act = self.server.acts[self.path]
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(act(given)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Connection:
    """One kept connection to a listener. For one thread."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def post(self, path: str, data: Data) -> None:
        self._connection.request("POST", path, json.dumps(data))
        json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        self._connection.close()


# The server.


class _Server:
    """The builds that wait, and a lane for each slot of the agent."""

    def __init__(self, folder: str) -> None:
        self._records = Records(folder)
        self._waiting: queue.SimpleQueue[Data] = queue.SimpleQueue()
        self._lanes: list[_Lane] = []
        self.acts: Acts = {
            "/api/builds": (201, self._start),
            "/notify_agent": (200, self._register),
            "/notify_build_result": (200, self._record),
        }

    def _start(self, order: Data) -> Data:
        number = self._records.add()
        self._waiting.put({**order, "id": number})
        return {"id": number}

    def _register(self, agent: Data) -> Data:
        for slot in range(agent["slots"]):
            self._lanes.append(_Lane(self._records, self._waiting, agent["port"], slot))
            self._lanes[slot].start()
        return {}

    def _record(self, result: Data) -> Data:
        self._records.finish(result["id"])
        self._lanes[result["slot"]].free()
        return {}


class _Lane(threading.Thread):
    """One slot, as the server sees it: an attempt and an order once the last build is recorded."""

    def __init__(
        self, records: Records, waiting: queue.SimpleQueue[Data], port: int, slot: int
    ) -> None:
        super().__init__(daemon=True)
        self._records = records
        self._waiting = waiting
        self._port = port
        self._slot = slot
        self._free = threading.Semaphore()

    def free(self) -> None:
        self._free.release()

    def run(self) -> None:
        agent = Connection(self._port)
        while True:
            self._free.acquire()
            order = self._waiting.get()
            self._records.attempt(order["id"])
            agent.post("/build", {**order, "slot": self._slot})


# The agent.


class _Slot(threading.Thread):
    """One slot: its tree, and the orders that have come for it.

    The tree is not cleaned: minici does not do so either where nothing has come into it.
    """

    def __init__(self, outbox: Outbox, port: int, number: int, tree: str) -> None:
        super().__init__(daemon=True)
        self._outbox = outbox
        self._port = port
        self._number = number
        self._tree = tree
        self._git = shutil.which("git") or "git"
        self._shell = shutil.which("sh") or "sh"
        self.orders: queue.SimpleQueue[Data] = queue.SimpleQueue()

    def run(self) -> None:
        server = Connection(self._port)
        while True:
            order = self.orders.get()
            status = self._build(order["commit"], order["command"])
            self._outbox.put(order["id"])
            result = {"id": order["id"], "slot": self._number, "status": status}
            server.post("/notify_build_result", result)
            self._outbox.drop(order["id"])

    def _build(self, commit: str, command: str) -> int:
        # Were the commit not there, no builds would end, and the benchmark would say so.
        if self._run(self._git, "checkout", "--quiet", "--force", "--detach", commit):
            raise RuntimeError(f"no {commit} in {self._tree}")
        return self._run(self._shell, "-c", command)

    def _run(self, *words: str) -> int:
        nothing = subprocess.DEVNULL
        return subprocess.call(words, cwd=self._tree, stdin=nothing, stdout=nothing)


def _serve(folder: str) -> None:
    Listener(_Server(folder).acts).serve()


def _work(folder: str, port: int, trees: Sequence[str]) -> None:
    outbox = Outbox(folder)
    slots = [_Slot(outbox, port, number, tree) for number, tree in enumerate(trees)]
    for slot in slots:
        slot.start()

    def take(order: Data) -> Data:
        slots[order["slot"]].orders.put(order)
        return {}

    listener = Listener({"/build": (202, take)})
    server = Connection(port)
    server.post("/notify_agent", {"port": listener.server_port, "slots": len(slots)})
    server.close()
    listener.serve()


def main(words: Sequence[str]) -> None:
    role, folder, *rest = words
    if role == "server":
        _serve(folder)
    else:
        _work(folder, int(rest[0]), rest[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
