"""HTTP that can't be worn down: the traps of section 4 of the design, each with its test.

Those that faults 35 to 39 name stand in test_fault_35_39.py.
"""

from __future__ import annotations

import contextlib
import errno
import re
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from minici.web import admission
from minici.web.listener import Listener
from minici.web.routing import Application, HttpError, Request, Response, Route, json_response
from tests.support.fakes import FakeAgent, FakeServer
from tests.support.harness import (
    ROOT,
    AgentProcess,
    Minici,
    Place,
    ServerProcess,
    holds_for,
    wait_for,
)
from tests.support.http_client import fetch, raw, receive_all, status_of

TLS = ROOT / "tests" / "support" / "tls"
HOST = b"Host: localhost\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    return shared.server()


@pytest.fixture(scope="module")
def agent(shared: Place) -> AgentProcess:
    return shared.agent(shared.keep(FakeServer()))


@pytest.fixture(params=["server", "agent"])
def either(request: pytest.FixtureRequest, server: ServerProcess, agent: AgentProcess) -> Minici:
    return server if request.param == "server" else agent


def statuses(answer: bytes) -> list[int]:
    """The statuses of all answers on a connection."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


# One request is one request, and what stands behind it is the next.


def inner(process: Minici) -> bytes:
    """A request that would be seen to have been carried out."""
    path = "/api/builds?commit=HEAD&command=true"
    if isinstance(process, AgentProcess):
        path = "/build?id=66&repository=/x&commit=HEAD&command=true"
    return b"POST %s HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n" % (path.encode(), HOST)


def untouched(process: Minici) -> bool:
    if isinstance(process, AgentProcess):
        known = process.ping()
        return not known["running"] and not known["undelivered"]
    return bool(process.get("/api/builds").json()["builds"] == [])


HIDING = [
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\tchunked\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: identity, chunked\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding:\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n",
    b" Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: \x0bchunked\r\nContent-Length: %d\r\n",
    b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    b"X: y\x00\r\nContent-Length: %d\r\n",
    b"Content-Length: 0\r\nContent-Length: %d\r\n",
    b"Content-Length: 0, %d\r\n",
    b"Content-Length : %d\r\n",
    b"Content-Length\x00: %d\r\n",
    b"Content-Length: %d \x0b\r\n",
    b"Content-Length: +%d\r\n",
    b"Content-Length: %d;0\r\n",
    b"Content Length: %d\r\n",
    b"Content-Length; %d\r\n",
]


@pytest.mark.parametrize("lines", HIDING)
def test_a_body_whose_end_is_in_doubt_hides_no_request(either: Minici, lines: bytes) -> None:
    hidden = inner(either)
    lines = lines % len(hidden) if b"%d" in lines else lines
    answer = raw(either.port, b"POST /cancel HTTP/1.1\r\n" + HOST + lines + b"\r\n" + hidden + LAST)
    assert statuses(answer) in ([400], [411]), answer
    assert b"Connection: close" in answer
    assert untouched(either)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE"])
@pytest.mark.parametrize("path", [b"/healthz", b"/ping", b"/nothing", b"/static/style.css"])
def test_a_body_that_nobody_wants_hides_no_request(
    either: Minici, method: bytes, path: bytes
) -> None:
    hidden = inner(either)
    head = b"%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (method, path, HOST, len(hidden))
    answer = raw(either.port, head + hidden + LAST)
    assert len(statuses(answer)) == 2, "its own answer, and that of the last"
    assert untouched(either)


def test_a_large_body_that_nobody_wants_ends_the_connection(either: Minici) -> None:
    hidden = inner(either)
    body = b"x" * (600 * 1024) + hidden
    head = b"POST /nothing HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (HOST, len(body))
    answer = raw(either.port, head + body + LAST)
    assert statuses(answer) == [404] and b"Connection: close" in answer
    assert untouched(either)


def test_requests_in_one_piece_are_answered_in_turn(server: ServerProcess) -> None:
    body = b"commit=--bad&command="
    post = b"POST /api/builds HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (HOST, len(body), body)
    get = b"GET /build/9 HTTP/1.1\r\n" + HOST + b"\r\n"
    # An empty line behind a body is what some clients add: RFC 9112, 2.2.
    answer = raw(server.port, post + b"\r\n" + get + post + get + LAST)
    assert statuses(answer) == [400, 404, 400, 404, 200]


def test_a_connection_of_http_1_0_ends_with_its_answer(either: Minici) -> None:
    path = b"/ping" if isinstance(either, AgentProcess) else b"/healthz"
    for more in (b"", b"Connection: keep-alive\r\n"):
        answer = raw(either.port, b"GET %s HTTP/1.0\r\n%s\r\n" % (path, more))
        assert statuses(answer) == [200] and b"Connection: close" in answer


# Limits, and answers that can be read.


def test_head_is_get_without_its_body(server: ServerProcess, place: Place) -> None:
    own = place.server()
    number = own.start_build()
    paths = ["/", "/agents", "/healthz", "/api/builds", "/api/agents", "/static/style.css"]
    paths += [f"/build/{number}{more}" for more in ("", "/output", "/stdout", "/live")]
    for path in paths:
        head = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = raw(own.port, head.encode())
        assert statuses(answer) == [200] and answer.endswith(b"\r\n\r\n"), (path, answer)
        assert answer.count(b"\r\n\r\n") == 1


def test_the_head_has_its_limits(either: Minici) -> None:
    for request, status in (
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 15_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 150 + b"\r\n", 431),
    ):
        answer = raw(either.port, request)
        assert status_of(answer) == status and b'{"error": "' in answer, answer


@pytest.mark.parametrize("head_first", [True, False])
def test_who_asks_whether_to_go_on_is_told_so(server: ServerProcess, head_first: bool) -> None:
    body = b"commit=--bad&command="
    head = b"POST /api/builds HTTP/1.1\r\n%sExpect: 100-continue\r\nConnection: close\r\n" % HOST
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head if head_first else head + body)
        answer = connection.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"))
        assert answer == b"HTTP/1.1 100 Continue\r\n\r\n"
        if head_first:
            connection.sendall(body)
        assert status_of(receive_all(connection)) == 400


@pytest.mark.parametrize("sent_at_once", [True, False])
@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /nothing HTTP/1.1", 404),
        (b"DELETE / HTTP/1.1", 405),
        (b"POST /build HTTP/1.1\r\nOrigin: https://evil.example", 403),
        (b"POST /build HTTP/1.1\r\nContent-Length: 9000000", 413),
    ],
)
def test_who_is_refused_is_not_asked_to_go_on(
    server: ServerProcess, line: bytes, status: int, sent_at_once: bool
) -> None:
    length = b"" if status == 413 else b"Content-Length: 100000\r\n"
    head = line + b"\r\n" + HOST + length + b"Expect: 100-continue\r\n\r\n"
    answer = raw(server.port, head + b"x" * 100_000 if sent_at_once else head)
    assert statuses(answer) == [status] and b"Connection: close" in answer


@pytest.mark.parametrize("size", [300 * 1024, 3 * 2**20, 90 * 2**20])
def test_a_refusal_can_be_read_by_who_sends_everything_first(either: Minici, size: int) -> None:
    head = b"POST /cancel HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (HOST, 2**40)
    with socket.create_connection(("127.0.0.1", either.port), timeout=30) as connection:
        connection.sendall(head)
        block = b"x" * 65536
        for _ in range(size // len(block)):
            connection.sendall(block)  # a reset would be an error here
        connection.shutdown(socket.SHUT_WR)
        assert statuses(receive_all(connection)) in ([413], [404])


# Many at once.


def asked(port: int, request: bytes, window: int = 4096) -> socket.socket:
    """A connection on which a request was sent; of its answer little fits on the way."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", port))
    connection.sendall(request)
    return connection


LARGE = 8 * 2**20
UNREAD = {
    "output": b"GET /build/1/output HTTP/1.1\r\n" + HOST + b"\r\n",
    "live": b"GET /build/2/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "errors": (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n") * 3000,
    "static": (b"GET /static/minici.js HTTP/1.1\r\n" + HOST + b"\r\n") * 3000,
    "refused body": b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\nx",
    "body": b"POST /build HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\nx",
    "idle": b"",
    "half a line": b"GET",
    "half a head": b"GET / HTTP/1.1\r\nHost: ",
}


@pytest.mark.parametrize("kind", UNREAD)
def test_people_who_take_nothing_leave_room_for_agents(place: Place, kind: str) -> None:
    """However people hold their connections, an agent gets through at once."""
    server = place.configure_server()
    server.descriptors = 128  # 29 connections
    server.start()
    fake = place.keep(FakeAgent(server, slots=9))
    server.start_build()
    fake.result(fake.wait_build(), 0, "x" * LARGE)
    server.start_build()
    build = fake.wait_build(2)
    held = [asked(server.port, UNREAD[kind]) for _ in range(90)]
    time.sleep(0.5)  # they are all at work
    begun = time.monotonic()
    for offset in range(20):
        assert fake.output(build, "stdout", offset, b"x").status == 200
        assert fake.register().status == 200
    assert fake.result(build, 0, "x" * 20).status == 200
    assert time.monotonic() - begun < 10
    for connection in held:
        connection.close()
    wait_for(lambda: server.get("/").status == 200, 10, "the pages are there again")


def test_a_viewer_too_many_is_told_so_and_the_pages_go_on(place: Place) -> None:
    server = place.server()
    number = server.start_build()
    live = f"GET /build/{number}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as viewers:
        answers = []
        for _ in range(405):
            viewer = viewers.enter_context(asked(server.port, live))
            answers.append(viewer.recv(4096))
        refused = [answer for answer in answers if status_of(answer) == 503]
        assert len(refused) == 5 and all(b"Retry-After: " in answer for answer in refused)
        assert server.get("/").status == 200
    wait_for(lambda: len(server.live(number).response.read1(9)) > 0, 30, "a place is free again")


# Time.


def drips(connection: socket.socket, data: bytes, most: float) -> float:
    """Send a byte a second until the other side closes; the seconds that it took."""
    begun = time.monotonic()
    connection.settimeout(1.0)
    for place in range(len(data)):
        if time.monotonic() - begun > most:
            break
        try:
            connection.sendall(data[place : place + 1])
            if connection.recv(65536) == b"":
                return time.monotonic() - begun
        except socket.timeout:
            continue
        except OSError:
            return time.monotonic() - begun
    raise AssertionError(f"it is still open after {most} s")


def test_a_handshake_that_drips_is_ended(place: Place) -> None:
    """So is a request that drips within TLS, and neither hinders anybody."""
    pair: dict[str, Any] = {name: TLS / f"{name}.pem" for name in ("certificate", "private_key")}
    server = place.configure_server(**pair)
    server.start()
    context = ssl.create_default_context(cafile=str(TLS / "certificate.pem"))
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500
    taken: list[float] = []

    def handshake() -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            taken.append(drips(connection, hello, 32))

    def request() -> None:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            taken.append(drips(connection, b"GET /" + b"a" * 500, 32))

    threads = [threading.Thread(target=each) for each in [handshake, request] * 3]
    for thread in threads:
        thread.start()
    for _ in range(5):
        address = ("127.0.0.1", server.port)
        begun = time.monotonic()
        assert fetch(address, "GET", "/healthz", context=context).status == 200
        assert time.monotonic() - begun < 2
    for thread in threads:
        thread.join(60)
    assert len(taken) == 6 and max(taken) < 32


def test_what_is_no_tls_is_closed_and_said_in_one_line(place: Place) -> None:
    pair: dict[str, Any] = {name: TLS / f"{name}.pem" for name in ("certificate", "private_key")}
    server = place.configure_server(**pair)
    server.start()
    for data in (LAST, b"\x16\x03\x01\x00\x02\xff\xff", b"\0" * 100):
        assert not raw(server.port, data, half_close=True).startswith(b"HTTP")
    wait_for(lambda: server.log().count("does not speak TLS") == 3, 10, "a line for each")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's own limit is 128")
def test_a_crowd_at_the_door_waits_and_is_not_turned_away(place: Place) -> None:
    """200 connections at a moment when nobody accepts: the queue is longer than five."""
    server = place.server()
    server.pause()
    waiting = [socket.socket() for _ in range(200)]
    for connection in waiting:
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", server.port))
    _, ready, _ = select.select([], waiting, [], 0)
    server.resume()
    assert len(ready) == len(waiting)
    for connection in waiting:
        connection.close()


def test_a_kept_connection_answers_at_once(server: ServerProcess) -> None:
    """Small writes that wait for an acknowledgement (Nagle's algorithm) would take 40 ms each."""
    taken = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for _ in range(40):
            begun = time.monotonic()
            connection.sendall(b"GET /api/builds HTTP/1.1\r\n" + HOST + b"\r\n")
            answer = b""
            while b'"next": ' not in answer:
                answer += connection.recv(65536)
            taken.append(time.monotonic() - begun)
    assert sorted(taken)[len(taken) // 2] < 0.03


# Whatever goes wrong is an answer.


class Serving:
    """A Listener in this process, with routes of a test."""

    def __init__(self) -> None:
        routes = [
            Route("GET", "/raises", self._raises, "people"),
            Route("GET", "/headers", self._headers, "people"),
            Route("GET", "/breaks", self._breaks, "people"),
            Route("GET", "/waits", self._waits, "agents"),
            Route("GET", "/short", self._short, "anybody"),
            Route("GET", "/long", self._long, "anybody"),
        ]
        self.waiting: list[str] = []
        self.go_on = threading.Event()
        self.listener = Listener("127.0.0.1", 0, Application(routes, lambda _: None, self._error))
        self.listener.start()
        self.port = self.listener.server_port

    def _raises(self, request: Request) -> Response:
        raise RuntimeError("pst-this-is-inside")

    def _headers(self, request: Request) -> Response:
        return Response(headers={"X-Said": "a\r\nX-Evil: 1\r\n\r\nHTTP/1.1 200 OK"})

    def _breaks(self, request: Request) -> Response:
        def body() -> Iterator[bytes]:
            yield b"so far"
            raise OSError(errno.EIO, "a disk that is broken")

        return Response(body=body(), length=100)

    def _short(self, request: Request) -> Response:
        return Response(body=iter([b"so", b"far"]), length=134_217_728)

    def _long(self, request: Request) -> Response:
        return Response(body=iter([b"so", b"far", b"and further"]), length=4)

    def _waits(self, request: Request) -> Response:
        self.waiting.append(request.client)
        self.go_on.wait(30)
        return Response()

    def _error(self, request: Request, error: HttpError) -> Response:
        return json_response({"error": error.sentence}, error.status)


@pytest.fixture
def serving() -> Iterator[Serving]:
    serving = Serving()
    yield serving
    serving.go_on.set()
    serving.listener.stop()


def test_a_fault_of_ours_in_mid_answer_is_in_the_log(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the other side's leaving is not."""
    with asked(serving.port, b"GET /breaks HTTP/1.1\r\n" + HOST + b"\r\n") as connection:
        while connection.recv(4096):
            pass
    wait_for(lambda: "a disk that is broken" in caplog.text, what="a traceback in the log")


def test_fault_62_an_answer_that_is_short_ends_its_connection(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    following = b"GET /headers HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = raw(serving.port, b"GET /short HTTP/1.1\r\n" + HOST + b"\r\n" + following)
    assert statuses(answer) == [200] and answer.endswith(b"\r\n\r\nsofar")
    assert "134217723 bytes short" in caplog.text


def test_fault_62_an_answer_is_not_longer_than_it_promises(serving: Serving) -> None:
    request = b"GET /long HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = raw(serving.port, request + request + LAST)
    assert statuses(answer)[:2] == [200, 200] and answer.count(b"\r\n\r\nsofaHTTP/1.1 ") == 2


def test_above_the_bound_there_is_a_plain_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_CONNECTIONS", 4)
    serving = Serving()
    waits = b"GET /waits HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    held = [asked(serving.port, waits) for _ in range(4)]
    wait_for(lambda: len(serving.waiting) == 4, what="as many as there may be are at work")
    for _ in range(3):
        answer = raw(serving.port, LAST)
        assert statuses(answer) == [503] and b"Retry-After: 1\r\n" in answer
    serving.go_on.set()
    for connection in held:
        with connection:
            assert statuses(receive_all(connection)) == [200]
    wait_for(lambda: statuses(raw(serving.port, waits)) == [200], what="room again")
    serving.listener.stop()


def test_no_name_is_looked_up_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """`http.server` asks the DNS for this host's name, which may take a minute."""

    def look_up(*_: object) -> str:
        raise AssertionError("asked the DNS")

    for name in ("getfqdn", "gethostbyaddr", "gethostbyname"):
        monkeypatch.setattr(socket, name, look_up)
    serving = Serving()
    assert fetch(("127.0.0.1", serving.port), "GET", "/headers").status == 200
    serving.listener.stop()


def test_a_fault_is_500_without_its_traceback(serving: Serving) -> None:
    for _ in range(3):
        reply = fetch(("127.0.0.1", serving.port), "GET", "/raises")
        assert reply.status == 500 and "log" in reply.error()
        assert "pst" not in reply.text and "Traceback" not in reply.text


def test_no_value_makes_a_header_of_its_own(serving: Serving) -> None:
    reply = fetch(("127.0.0.1", serving.port), "GET", "/headers")
    assert reply.status == 200 and "X-Evil" not in reply.headers
    assert reply.header("X-Said") == "a??X-Evil: 1????HTTP/1.1 200 OK"


def test_nothing_from_outside_begins_a_line_of_the_log(either: Minici) -> None:
    fake = "2026-11-25 09:00:00,000 INFO 127.0.0.1 all is well"
    target = f"/%0a{fake}%0d%0a%1b[2J%e2%80%a8%c2%85x".replace(" ", "%20")
    assert fetch(("127.0.0.1", either.port), "GET", target).status == 404
    holds_for(lambda: fake not in [line.strip() for line in either.log().splitlines()], 0.3, "log")
    wait_for(lambda: "all is well" in either.log(), 10, "it is said within its line")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", either.log())
