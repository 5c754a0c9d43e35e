"""Faults 35 to 39: HTTP at its worst."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from pathlib import Path

import pytest

from tests.support.fakes import FakeAgent, FakeServer
from tests.support.harness import Minici, Place, ServerProcess, wait_for
from tests.support.http_client import fetch, raw, receive_all, status_of

HEAD = b"POST /api/builds HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


def answer_time(process: Minici, path: str) -> float:
    begun = time.monotonic()
    assert process.get(path).status == 200
    return time.monotonic() - begun


def drip(port: int, count: int) -> list[tuple[socket.socket, float]]:
    """Connections with a first piece of a request sent, and when."""
    dripping = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.sendall(HEAD)
        dripping.append((connection, time.monotonic()))
    return dripping


def test_fault_35_connections_that_drip(place: Place) -> None:
    """300 to the server and 50 to the agent, a byte every 5 s: each is closed within 30 s."""
    server = place.server()
    agent = place.agent(place.keep(FakeServer()))
    selector = selectors.DefaultSelector()
    for process, count in ((server, 300), (agent, 50)):
        for connection, begun in drip(process.port, count):
            selector.register(connection, selectors.EVENT_READ, begun)
    slowest, fed = 0.0, time.monotonic()
    while selector.get_map():
        for key, _ in selector.select(0.1):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            with contextlib.suppress(OSError):
                if sock.recv(65536):
                    continue
            assert time.monotonic() - key.data < 30 + 2
            selector.unregister(sock)
            sock.close()
        if time.monotonic() - fed > 5:
            fed = time.monotonic()
            for key in list(selector.get_map().values()):
                assert time.monotonic() - key.data < 30 + 2, "it is still open"
                assert isinstance(key.fileobj, socket.socket)
                with contextlib.suppress(OSError):
                    key.fileobj.send(b"x")
        slowest = max(slowest, answer_time(server, "/healthz"), answer_time(agent, "/ping"))
    assert slowest < 1 + 1  # a second, and a busy machine


def test_fault_35_a_body_that_drips(place: Place) -> None:
    server = place.server()
    head = b"POST /api/builds HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as connection:
        connection.sendall(head)
        closed = False
        while not closed and time.monotonic() - begun < 40:
            try:
                connection.sendall(b"x")
                closed = connection.recv(65536) == b"" or closed
            except socket.timeout:
                continue
            except OSError:
                closed = True
    assert closed and time.monotonic() - begun < 32


BODY = b'{"commit": "HEAD", "command": "true"}'


def post(lines: list[bytes], body: bytes = BODY) -> bytes:
    head = [b"POST /api/builds HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"]
    return b"\r\n".join([*head, *lines, b"Connection: close", b"", body])


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    return shared.server()


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: -1"],
        [b"Content-Length: -37"],
        [b"Content-Length: +37"],
        [b"Content-Length: 3_7"],
        [b"Content-Length: 0x25"],
        [b"Content-Length: 37.0"],
        [b"Content-Length: "],
        [b"Content-Length: x"],
        [b"Content-Length: 37, 37"],
        [b"Content-Length: 37", b"Content-Length: 37"],
        [b"Content-Length: 37", b"Content-Length: 5"],
        [b"Content-Length: 37", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: identity"],
        [b"Content-Length: " + "٣٧".encode()],
        [],
    ],
)
def test_fault_36_lengths_that_are_none(server: ServerProcess, lines: list[bytes]) -> None:
    before = server.api("/builds")
    answer = raw(server.port, post(lines), half_close=True)
    assert status_of(answer) in ((400, 411, 413, 501) if lines else (400, 411)), answer[:200]
    assert server.api("/builds") == before


def test_fault_36_the_right_length_is_taken(place: Place) -> None:
    server = place.server()
    assert status_of(raw(server.port, post([b"Content-Length: 37"]))) == 201


def test_fault_36_too_large_is_413_which_the_client_can_read(server: ServerProcess) -> None:
    """The client sends all of its 90 MB before it reads: it must not see a broken pipe."""
    size = 90 * 2**20
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(post([b"Content-Length: %d" % size], b""))
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 2**20:
                sent += connection.send(b"x" * 65536)
        answer = receive_all(connection)
    assert status_of(answer) == 413 and b"Connection: close" in answer


def test_fault_36_too_short_is_closed_and_changes_nothing(server: ServerProcess) -> None:
    before = server.api("/builds")
    answer = raw(server.port, post([b"Content-Length: 100"]), half_close=True)
    assert answer == b"" or status_of(answer) == 400
    assert server.api("/builds") == before


def test_fault_36_a_refused_body_is_not_the_next_request(server: ServerProcess) -> None:
    inner = b"POST /api/builds HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    outer = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(inner)
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = raw(server.port, outer + inner + last)
    assert status_of(answer) == 404
    assert answer.count(b"HTTP/1.1 ") == (2 if b"200 OK" in answer else 1)


@pytest.mark.parametrize(
    "data",
    [
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_fault_36_requests_that_are_none(server: ServerProcess, data: bytes) -> None:
    answer = raw(server.port, data, half_close=True)
    assert answer == b"" or status_of(answer) in (400, 404, 414, 421, 431, 505), answer[:200]
    assert server.get("/healthz").status == 200


PATHS = [
    "/build/007",
    "/build/%D9%A1",
    "/build/1_0",
    "/build/" + "9" * 5000,
    "/build/..%2f",
    "/build/%00",
    "/build/+1",
    "/build/1%0a",
    "/build/1/",
    "/build/%31x",
]


@pytest.mark.parametrize("path", PATHS)
def test_fault_37_paths_that_are_none(server: ServerProcess, path: str) -> None:
    if server.get("/api/builds/1").status == 404:
        server.start_build()
    for suffix in ("", "/output", "/live", "/stdout?attempt=1"):
        reply = fetch(("127.0.0.1", server.port), "GET", path + suffix)
        assert reply.status == 404, (path, reply)


def test_fault_37_raw_digits_of_another_alphabet(server: ServerProcess) -> None:
    data = "GET /build/١ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    assert status_of(raw(server.port, data)) in (400, 404)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("which", ["server", "agent"])
def test_fault_38_64_descriptors_and_200_connections(place: Place, which: str) -> None:
    server = place.configure_server()
    agent = place.configure_agent(server)
    bounded: Minici = server if which == "server" else agent
    bounded.descriptors = 64
    server.start()
    if which == "agent":
        agent.sections["agent"]["server"] = server.address
        agent.start()
        server.wait_agents(1)
    path = "/healthz" if which == "server" else "/ping"
    connections = []
    for _ in range(200):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", bounded.port))
        connections.append(connection)
    time.sleep(1)
    before = cpu_seconds(bounded.pid)
    time.sleep(2)
    assert cpu_seconds(bounded.pid) - before < 1, "it spins"
    assert bounded.alive
    for connection in connections:
        connection.close()
    closed = time.monotonic()

    def recovered() -> bool:
        try:
            return bounded.request("GET", path, timeout=1).status == 200
        except OSError:
            return False

    wait_for(recovered, 10, "it answers again")
    assert time.monotonic() - closed < 5 + 1
    fake = place.keep(FakeAgent(server, "after"))
    server.start_build()
    if which == "server":
        assert fake.result(fake.wait_build()).status == 200
    else:
        fake.close()
        assert server.wait_final(1)["status"] == "success"


def deaf_viewer(port: int, number: int) -> socket.socket:
    """Somebody who asks for the live stream and never reads it."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(("127.0.0.1", port))
    viewer.sendall(f"GET /build/{number}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return viewer


def flood(server: ServerProcess, viewers: int) -> float:
    """The seconds that 30 MB of output take while so many viewers don't read."""
    gate = server.place.folder / f"gate{viewers}"
    wait = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    number = server.start_build(command=f"{wait}; head -c 30000000 /dev/zero | tr '\\0' '\\n'")
    server.wait_status(number, "running")
    deaf = [deaf_viewer(server.port, number) for _ in range(viewers)]
    time.sleep(0.5)
    gate.touch()
    begun = time.monotonic()
    known = server.wait_final(number)
    took = time.monotonic() - begun
    assert known["status"] == "success" and known["stdout_bytes"] == 30_000_000
    for viewer in deaf:
        viewer.close()
    return took


def test_fault_39_a_viewer_that_stops_reading(place: Place) -> None:
    server = place.server()
    place.agent(server)
    alone = flood(server, 0)
    watched = flood(server, 5)
    assert watched < 3 * alone + 5
    assert answer_time(server, "/") < 2


def test_fault_39_many_viewers_leave_room_for_agents(place: Place) -> None:
    """People's streams have a bound of their own; agents get through."""
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    viewers = []
    for _ in range(300):
        viewer = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        viewer.sendall(b"GET /build/1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        viewers.append(viewer)
    begun = time.monotonic()
    assert agent.output(build, "stdout", 0, b"text").status == 200
    assert agent.result(build, 0, "text").status == 200
    assert server.get("/").status == 200
    assert time.monotonic() - begun < 5
    for viewer in viewers:
        viewer.close()
