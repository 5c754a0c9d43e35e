"""Faults 35 to 39: HTTP at its worst."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from pathlib import Path
from typing import Optional

import pytest

from tests.support.fakes import FakeAgent, FakeServer
from tests.support.harness import Minici, Place, ServerProcess, wait_for
from tests.support.http_client import fetch, raw, receive_all, status_of

HEAD = b"POST /api/builds HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


@pytest.fixture(scope="module")
def at_rest(shared: Place) -> ServerProcess:
    """A server without builds and agents."""
    return shared.server()


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


# Commands that are cut, and parameters that nobody reads.

CUT = [
    b"commit=main&command=true && false",
    b"commit=main&command=true & false",
    b"commit=main&command=true &",
    b"commit=main&command=true&",
    b"&commit=main&command=true",
    b"commit=main&command=true&=x",
    b"commit=main&command=a%26b&&x=y",
]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("form", CUT)
@pytest.mark.parametrize("path", ["/build", "/api/builds"])
@pytest.mark.parametrize("place", ["body", "query"])
def test_fault_45_a_command_that_an_ampersand_cuts_starts_nothing(
    at_rest: ServerProcess, form: bytes, path: str, place: str
) -> None:
    if place == "body":
        reply = at_rest.request("POST", path, form, FORM)
    else:
        query = form.decode().replace(" ", "%20")
        reply = at_rest.request("POST", f"{path}?{query}", headers={"Accept": "application/json"})
    assert reply.status == 400, reply
    assert "--data-urlencode" in reply.text
    assert at_rest.get("/api/builds").json()["builds"] == []


@pytest.mark.parametrize(
    "path", ["/notify_agent", "/notify_build_result", "/notify_build_returned"]
)
def test_fault_45_between_server_and_agent_too(at_rest: ServerProcess, path: str) -> None:
    reply = at_rest.request("POST", path, b"host=127.0.0.1&port=9&&id=1&status=0&attempt=1", FORM)
    assert reply.status == 400 and "--data-urlencode" in reply.error()
    assert at_rest.agents() == []


def test_fault_45_an_agent_takes_no_command_that_was_cut(place: Place) -> None:
    agent = place.agent(place.keep(FakeServer()))
    form = f"id=1&repository={place.repository.path}&commit=main&command=true && false"
    reply = agent.request("POST", "/build", form.encode(), FORM)
    assert reply.status == 400 and "--data-urlencode" in reply.error()
    assert agent.get("/ping").json()["running"] == []


def test_fault_45_a_command_that_is_there_twice_starts_nothing(at_rest: ServerProcess) -> None:
    for body, kind in (
        (b"commit=main&command=true&command=false", FORM),
        (b'{"commit": "main", "command": "a", "command": "b"}', {"Content-Type": JSON}),
    ):
        reply = at_rest.request("POST", "/api/builds", body, kind)
        assert reply.status == 400 and "command is there twice" in reply.error()
    assert at_rest.get("/api/builds").json()["builds"] == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"commit=main&command=false", "application/x-www-form-urlencoded"),
        (b'{"commit": "main", "command": "true"}', "application/json"),
        (b'{"commit": "main", "command": null}', "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/build", "/api/builds"])
def test_fault_45_a_command_in_the_query_and_in_the_body_starts_nothing(
    at_rest: ServerProcess, path: str, body: bytes, kind: str
) -> None:
    headers = {"Content-Type": kind, "Accept": "application/json"}
    reply = at_rest.request("POST", f"{path}?command=true", body, headers)
    assert reply.status == 400 and "command is there twice" in reply.error()
    assert at_rest.get("/api/builds").json()["builds"] == []


JSON = "application/json"
FOR_PEOPLE = {
    "GET": {
        "/": "before, status, text, project, branch, commit, command",
        "/agents": None,
        "/api/builds": "limit, before, status, text, project, branch",
        "/api/agents": None,
        "/badge.svg": "commit, project, branch, label, language",
        "/badge.json": "commit, project, branch, label, language",
        "/feed.atom": "status, text, project, branch, language",
        "/cc.xml": None,
        "/healthz": None,
        "/build/1": "attempt, at, to, line, log, find",
        "/build/1/output": "attempt",
        "/build/1/checkout": "attempt",
        "/build/1/find": "attempt, text",
        "/build/1/live": "place, changes",
        "/api/builds/1": None,
    },
    "POST": {
        "/build": "commit, command, project, labels, ref",
        "/api/builds": "commit, command, project, labels, ref",
        "/api/poll": "project",
        "/build/1/cancel": None,
        "/build/1/rebuild": None,
        "/agents/forget": "address",
    },
}


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [(method, path, known) for method in FOR_PEOPLE for path, known in FOR_PEOPLE[method].items()],
)
def test_fault_47_an_unknown_parameter_is_named_with_those_that_are_known(
    at_rest: ServerProcess, method: str, path: str, known: Optional[str]
) -> None:
    accept = {"Accept": JSON}
    asked = {"query": at_rest.request(method, f"{path}?timeout=2&BUILD_TYPE=", headers=accept)}
    if method == "POST":
        asked["form"] = at_rest.request(method, path, b"timeout=2&BUILD_TYPE=", {**FORM, **accept})
        body = b'{"timeout": null, "BUILD_TYPE": [1]}'
        asked["json"] = at_rest.request(method, path, body, {"Content-Type": JSON})
    for way, reply in asked.items():
        assert reply.status == 400, (way, reply)
        assert "unknown parameter timeout, BUILD_TYPE" in reply.error(), way
        assert (known or "takes none") in reply.error(), way
    assert at_rest.get("/api/builds").json()["builds"] == []


def test_fault_47_a_name_that_is_empty_is_unknown(at_rest: ServerProcess) -> None:
    body = b'{"commit": "main", "command": "true", "": "x"}'
    reply = at_rest.request("POST", "/api/builds", body, {"Content-Type": JSON})
    assert reply.status == 400 and 'unknown parameter ""; known are commit' in reply.error()
    assert at_rest.get("/api/builds").json()["builds"] == []


def test_fault_47_people_are_told_on_a_page(at_rest: ServerProcess) -> None:
    reply = at_rest.request("POST", "/build", b"commit=main&command=true&timeout=2", FORM)
    assert reply.status == 400 and "timeout" in reply.text and "<html" in reply.text


def test_fault_47_between_server_and_agent_the_unknown_is_ignored(at_rest: ServerProcess) -> None:
    reply = at_rest.post("/notify_build_returned", {"id": 9, "attempt": 1, "later": "x"})
    assert reply.status == 404


# What asks for no password.

HASH = "scrypt:14:00112233445566778899aabbccddeeff:" + "00" * 32


def guarded(place: Place, **settings: str) -> ServerProcess:
    server = place.configure_server(secret="word", **settings)
    server.sections["users"] = {"ada": HASH}
    server.start()
    return server


PUBLIC = {
    "healthz": ["/healthz"],
    "badge": ["/badge.svg", "/badge.json"],
    "feeds": ["/feed.atom", "/cc.xml"],
    "metrics": ["/metrics"],
}


@pytest.mark.parametrize("named", [None, "badge", "feeds healthz", "healthz badge feeds metrics"])
def test_fault_68_what_is_named_public_asks_for_no_password(
    place: Place, named: Optional[str]
) -> None:
    server = guarded(place, **({} if named is None else {"public": named}))
    for word, paths in PUBLIC.items():
        opened = word in ("healthz" if named is None else named).split()
        for path in paths:
            assert server.get(path).status == (200 if opened else 401), path
            assert server.get(path, {"Host": "evil.example"}).status == 421, path
    assert server.get("/").status == server.get("/api/builds").status == 401


def test_fault_68_the_health_of_a_server_says_nothing_of_its_builds(place: Place) -> None:
    server = guarded(place)
    for path, status in (("/healthz", 200), ("/healthz?x=1", 400)):
        for accept in ("*/*", "text/html", "application/json"):
            reply = server.get(path, {"Accept": accept})
            assert reply.status == status
            assert str(place.repository.path) not in reply.text
