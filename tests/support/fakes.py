"""An agent and a server that do exactly what a test tells them to.

Both sides of the protocol have to be brought into states that the real counterpart never
shows when asked: a refusal, an answer that never comes, a result from long ago. So each side is
tested against a counterpart that is a script, over real sockets, and in other tests against
the real one.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Optional, Union
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.support.http_client import Reply, encode_form, fetch

Answer = tuple[int, Any]


@dataclass
class Call:
    """A request that a fake was sent."""

    method: str
    path: str
    query: dict[str, str]
    params: dict[str, str]  # query and form
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float = field(default_factory=time.monotonic)


Script = Union[Answer, str, Callable[[Call], Any]]
HANG = "hang"  # take the request, and never answer
DROP = "drop"  # take the request, and close the connection


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener
    timeout = 120

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        params = dict(query)
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("application/x-www-form-urlencoded"):
            text = body.decode("ascii")
            params.update(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, split.path, query, params, headers, body)
        self._answer(self.server.owner.handle(call))

    do_GET = do_POST = _serve

    def _answer(self, answer: Any) -> None:
        if answer in (HANG, DROP):
            if answer == HANG:
                self.server.released.wait(120)
            self.close_connection = True
            return
        status, content = answer
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    owner: Fake

    def __init__(self, port: int, owner: Fake) -> None:
        self.owner = owner
        self.released = threading.Event()
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the caller went away: its own matter

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self.released.set()
        for each in list(self.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Fake:
    """What both fakes share: a port, the calls that came, and scripted answers."""

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Call] = []
        self.changed = threading.Condition()  # guards calls, scripts and what subclasses keep
        self.once: dict[str, deque[Script]] = defaultdict(deque)
        self.always: dict[str, Script] = {}
        self._listener: Optional[_Listener] = None
        self.port = port
        self.open()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen (again, on the same port, after `close`)."""
        self._listener = _Listener(self.port, self)
        self.port = self._listener.server_port
        serve = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        serve.start()

    def close(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.end()

    def script(self, path: str, *answers: Script) -> None:
        """The next calls of this path are answered so, each answer once."""
        with self.changed:
            self.once[path].extend(answers)

    def script_always(self, path: str, answer: Optional[Script]) -> None:
        """All calls of this path are answered so; None takes it back."""
        with self.changed:
            self.always.pop(path, None)
            if answer is not None:
                self.always[path] = answer

    def handle(self, call: Call) -> Any:
        with self.changed:
            self.calls.append(call)
            self.changed.notify_all()
            queue = self.once[call.path]
            script = queue.popleft() if queue else self.always.get(call.path)
        if callable(script):
            script = script(call)
        if script is not None:
            return script
        with self.changed:
            answer = self.answer(call)
            self.changed.notify_all()
        return answer

    def answer(self, call: Call) -> Any:
        """The answer of a well-behaved counterpart. Called with `changed` held."""
        raise NotImplementedError

    def made(self, path: str) -> list[Call]:
        """The calls of this path up to now."""
        with self.changed:
            return [call for call in self.calls if call.path == path]

    def wait_until(self, condition: Callable[[], Any], within: float, what: str) -> Any:
        """Wait for something that a call changes."""
        with self.changed:
            found = self.changed.wait_for(condition, within)
            assert found, f"{what}: not within {within} s; calls: {self.calls[-5:]}"
            return found

    def wait_call(self, path: str, count: int = 1, within: float = 30.0) -> Call:
        """Wait for the `count`th call of this path."""

        def found() -> Optional[Call]:
            made = [call for call in self.calls if call.path == path]
            return made[count - 1] if len(made) >= count else None

        call = self.wait_until(found, within, f"call {count} of {path}")
        assert isinstance(call, Call)
        return call


class FakeAgent(Fake):
    """An agent in the test's own process.

    It accepts every build that is handed to it (`builds`), names it in `/ping` as running, and
    does nothing until the test calls `result`, `output` or `returned`.
    """

    def __init__(
        self,
        server: Any,
        name: str = "fake",
        slots: int = 1,
        secret: Optional[str] = None,
        register: bool = True,
    ) -> None:
        self.server = server
        self.name = name
        self.slots = slots
        self.secret = secret
        self.trouble: Optional[str] = None
        self.lists = True  # False: `/ping` answers 200, and nothing that minici knows
        self.builds: list[dict[str, str]] = []
        self.running: list[dict[str, int]] = []
        self.undelivered: list[dict[str, int]] = []
        super().__init__()
        if register:
            reply = self.register()
            assert reply.status == 200, reply

    def answer(self, call: Call) -> Any:
        if call.path == "/ping":
            if not self.lists:
                return 200, b"pong"
            state = {"name": self.name, "slots": self.slots, "trouble": self.trouble}
            return 200, {**state, "running": self.running, "undelivered": self.undelivered}
        if call.path == "/build":
            self.builds.append(call.params)
            self.running.append(_key(call.params))
            return 202, {}
        if call.path == "/cancel":
            return self._cancel(int(call.params["id"]))
        return 404, {"error": "no such path"}

    def _cancel(self, number: int) -> Answer:
        known = [each for each in self.running if each["id"] == number]
        return (200, {}) if known else (404, {"error": "no such build"})

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"} if self.secret else {}

    def call(self, path: str, params: dict[str, Any]) -> Reply:
        """A POST to the server, with a form."""
        body, kind = encode_form(params)
        headers = {"Content-Type": kind, **self.headers()}
        return fetch(("127.0.0.1", self.server.port), "POST", path, body, headers)

    def register(self, **more: Any) -> Reply:
        """Tell the server that this agent is here; `name` and `slots` stay what they are set to."""
        self.name = more.get("name", self.name)
        self.slots = more.get("slots", self.slots)
        about = {"host": "127.0.0.1", "port": self.port, "name": self.name, "slots": self.slots}
        return self.call("/notify_agent", {**about, **more})

    def wait_build(self, count: int = 1, within: float = 30.0) -> dict[str, str]:
        """The `count`th build that was accepted here."""
        self.wait_until(lambda: len(self.builds) >= count, within, f"build {count} handed over")
        return self.builds[count - 1]

    def wait_pings(self, count: int = 2, within: float = 30.0) -> None:
        """Wait for so many pings from now on, each answered before the next."""
        before = len(self.made("/ping"))
        self.wait_call("/ping", before + count, within)

    def forget(self, build: dict[str, str]) -> None:
        """No longer say that this build runs here."""
        with self.changed:
            self.running = [each for each in self.running if each != _key(build)]

    def result(
        self,
        build: dict[str, str],
        status: Any = 0,
        stdout: str = "",
        stderr: str = "",
        **more: Any,
    ) -> Reply:
        """Send a result; once it was answered 200, the build is no longer named as running."""
        params = {"id": build["id"], "attempt": build["attempt"], "status": status}
        sent = {**params, "stdout": stdout, "stderr": stderr, **more}
        reply = self.call("/notify_build_result", {k: v for k, v in sent.items() if v is not None})
        if reply.status == 200:
            self.forget(build)
        return reply

    def output(self, build: dict[str, str], stream: str, offset: int, data: bytes) -> Reply:
        """Send a piece of output."""
        place = {"id": build["id"], "attempt": build["attempt"], "stream": stream}
        query = urlencode({**place, "offset": offset})
        headers = {"Content-Type": "application/octet-stream", **self.headers()}
        path = f"/notify_build_output?{query}"
        return fetch(("127.0.0.1", self.server.port), "POST", path, data, headers)

    def file(
        self, build: dict[str, str], path: str, offset: int, data: bytes, last: bool = False
    ) -> Reply:
        """Send a piece of a file."""
        place = {"id": build["id"], "attempt": build["attempt"], "path": path, "offset": offset}
        query = urlencode({**place, **({"last": 1} if last else {})}, errors="surrogateescape")
        headers = {"Content-Type": "application/octet-stream", **self.headers()}
        where = f"/notify_build_file?{query}"
        return fetch(("127.0.0.1", self.server.port), "POST", where, data, headers)

    def returned(self, build: dict[str, str]) -> Reply:
        """Give a build back."""
        self.forget(build)
        params = {"id": build["id"], "attempt": build["attempt"]}
        return self.call("/notify_build_returned", params)


class FakeServer(Fake):
    """A server in the test's own process: it knows one agent and says what the test wants.

    It takes pieces of output in order, and keeps results as they came.
    """

    def __init__(self, port: int = 0) -> None:
        self.streams: dict[tuple[int, int, str], bytes] = defaultdict(bytes)
        self.results: list[dict[str, str]] = []
        super().__init__(port)

    def answer(self, call: Call) -> Any:
        if call.path == "/notify_build_output":
            return self._take_output(call)
        if call.path == "/notify_build_result":
            return self._take_result(call)
        return 200, {}

    def _take_output(self, call: Call) -> Answer:
        key = (int(call.query["id"]), int(call.query["attempt"]), call.query["stream"])
        if int(call.query["offset"]) != len(self.streams[key]):
            return 409, {"next": len(self.streams[key])}
        self.streams[key] += call.body
        return 200, {"next": len(self.streams[key])}

    def _take_result(self, call: Call) -> Answer:
        number, attempt = int(call.params["id"]), int(call.params.get("attempt", 1))
        for stream in ("stdout", "stderr"):
            key = (number, attempt, stream)
            offset = int(call.params.get(f"{stream}_offset", 0))
            assert offset <= len(self.streams[key]), call
            rest = call.params[stream].encode("utf-8", "surrogateescape")
            self.streams[key] = self.streams[key][:offset] + rest
        self.results.append(call.params)
        return 200, {}

    def wait_agent(self, within: float = 30.0) -> Call:
        """The first registration of the agent."""
        return self.wait_call("/notify_agent", 1, within)

    def wait_result(self, number: int = 1, within: float = 60.0) -> dict[str, str]:
        """The first result for this id."""

        def found() -> Optional[dict[str, str]]:
            return next((r for r in self.results if int(r["id"]) == number), None)

        result = self.wait_until(found, within, f"a result of build {number}")
        assert isinstance(result, dict)
        return result

    def stream(self, number: int, stream: str, attempt: int = 1) -> bytes:
        """What came of a stream, pieces and result together."""
        return self.streams[(number, attempt, stream)]


def _key(build: dict[str, str]) -> dict[str, int]:
    return {"id": int(build["id"]), "attempt": int(build["attempt"])}
