"""Section 3 of the contract, its head: parameters, errors, secrets, hosts and origins."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Optional
from urllib.parse import urlencode

import pytest

from tests.support.fakes import FakeAgent, FakeServer
from tests.support.harness import AgentProcess, Minici, Place, ServerProcess, holds_for
from tests.support.http_client import Reply, encode_form, fetch, raw, status_of

FORMS = ("form", "json", "query")


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    return shared.server()


@pytest.fixture(scope="module")
def alone(shared: Place) -> FakeServer:
    """The server of the module's real agent."""
    return shared.keep(FakeServer())


@pytest.fixture(scope="module")
def agent(shared: Place, alone: FakeServer) -> AgentProcess:
    return shared.agent(alone)


def send(process: Minici, path: str, params: Mapping[str, Any], form: str) -> Reply:
    """A POST with its parameters in one of the three ways."""
    if form == "query":
        return process.request("POST", f"{path}?{urlencode(params)}")
    if form == "json":
        body, kind = json.dumps(params).encode(), "application/json"
    else:
        body, kind = encode_form(params)
    return process.request("POST", path, body, {"Content-Type": kind})


# Parameters.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", ["/build", "/api/builds"])
def test_a_build_is_started_by_form_json_or_query(
    server: ServerProcess, form: str, path: str
) -> None:
    params = {"commit": "main", "command": "echo a&b=c%+ ü"}
    reply = send(server, path, params, form)
    assert reply.status == (303 if path == "/build" else 201), reply
    number = int(reply.header("Location").rsplit("/", 1)[1])
    build = server.build(number)
    assert (build["commit"], build["command"]) == ("main", "echo a&b=c%+ ü")
    server.post(f"/build/{number}/cancel")


@pytest.mark.parametrize("form", FORMS)
def test_an_agent_registers_by_form_json_or_query(server: ServerProcess, form: str) -> None:
    params = {"host": "127.0.0.1", "port": 9, "name": f"by-{form}", "slots": 2, "odd": "x"}
    assert send(server, "/notify_agent", params, form).status == 200
    assert f"by-{form}" in [agent["name"] for agent in server.agents()]


@pytest.mark.parametrize("form", FORMS)
def test_a_result_comes_by_form_json_or_query(place: Place, form: str) -> None:
    server = place.server()
    fake = place.keep(FakeAgent(server))
    server.start_build()
    fake.wait_build()
    params = {"id": 1, "status": 3, "stdout": "a\nü", "stderr": "e&=", "more": ""}
    assert send(server, "/notify_build_result", params, form).status == 200
    build = server.build(1)
    assert (build["status"], build["exit_status"]) == ("failure", 3)
    assert server.output(1, "stdout").decode() == "a\nü"
    assert server.output(1, "stderr").decode() == "e&="


@pytest.mark.parametrize("form", FORMS)
def test_an_agent_takes_a_build_by_form_json_or_query(
    place: Place, alone: FakeServer, form: str
) -> None:
    server = place.keep(FakeServer())
    agent = place.agent(server)
    params = {
        "id": 1,
        "repository": str(place.repository.path),
        "commit": "HEAD",
        "command": "echo 'a&b=c%+ ü'",
        "unknown": "ignored",
    }
    assert send(agent, "/build", params, form).status == 202
    assert server.wait_result(1)["status"] == "0"
    assert server.stream(1, "stdout").decode() == "a&b=c%+ ü\n"


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b'"text"', b"\xff\xfe", b"null", b""])
def test_a_body_that_is_no_json_object_is_400(server: ServerProcess, body: bytes) -> None:
    reply = server.request("POST", "/api/builds", body, {"Content-Type": "application/json"})
    assert reply.status == 400
    reply.error()


@pytest.mark.parametrize("value", [{}, [], None, True, 1.5])
def test_a_json_parameter_of_the_wrong_kind_is_400(server: ServerProcess, value: Any) -> None:
    body = json.dumps({"commit": value, "command": "true"}).encode()
    reply = server.request("POST", "/api/builds", body, {"Content-Type": "application/json"})
    assert reply.status == 400
    reply.error()


def test_json_numbers_do_for_numbers(server: ServerProcess) -> None:
    body = json.dumps({"host": "127.0.0.1", "port": 9, "slots": 1}).encode()
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert server.request("POST", "/notify_agent", body, headers).status == 200


@pytest.mark.parametrize("running", [[], [1, 2], ["1", "2"], "1,2", "", None, 1])
def test_a_json_list_does_for_commas(server: ServerProcess, running: Any) -> None:
    body = json.dumps({"host": "127.0.0.1", "port": 9, "running": running}).encode()
    headers = {"Content-Type": "application/json"}
    assert server.request("POST", "/notify_agent", body, headers).status == 200


def test_half_a_character_in_json_is_no_text(server: ServerProcess) -> None:
    body = b'{"commit": "HEAD", "command": "echo \\ud83d"}'
    reply = server.request("POST", "/api/builds", body, {"Content-Type": "application/json"})
    assert reply.status == 400 and "command" in reply.error()


def test_a_deeply_nested_json_body_is_400(server: ServerProcess) -> None:
    body = b"[" * 50_000
    reply = server.request("POST", "/api/builds", body, {"Content-Type": "application/json"})
    assert reply.status == 400


# Errors.

AGENT_CALLS = (
    "/notify_agent",
    "/notify_build_result",
    "/notify_build_returned",
    "/notify_build_output",
)


@pytest.mark.parametrize("path", AGENT_CALLS)
def test_errors_to_agents_are_json(server: ServerProcess, path: str) -> None:
    reply = server.post(path)
    assert reply.status == 400
    reply.error()


def test_errors_to_programs_are_json(server: ServerProcess) -> None:
    for reply in (
        server.get("/api/builds/99999"),
        server.get("/api/nothing"),
        server.post("/api/builds", {"commit": ""}),
    ):
        assert reply.status in (400, 404)
        reply.error()


def test_an_error_to_a_json_call_of_a_page_is_json(server: ServerProcess) -> None:
    headers = {"Accept": "application/json"}
    server.get("/build/99999", headers).error()


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("POST", "/webhook/nope", 404),
        ("GET", "/webhook/nope", 405),
        ("GET", "/badge.json?colour=red", 400),
        ("GET", "/build/999999/find?text=x", 404),
        ("GET", "/api/poll", 405),
    ],
)
def test_errors_where_programs_get_json_are_json(
    server: ServerProcess, method: str, path: str, status: int
) -> None:
    reply = server.request(method, path)
    assert reply.status == status and reply.error(), reply


def test_errors_to_people_are_pages(server: ServerProcess) -> None:
    for path in ("/build/99999", "/nothing"):
        reply = server.get(path, {"Accept": "text/html"})
        assert reply.status == 404 and "<html" in reply.text


def test_errors_of_an_agent_are_json(agent: AgentProcess) -> None:
    assert agent.get("/nothing").status == 404
    agent.get("/nothing").error()
    assert agent.post("/build", {}).status == 400
    agent.post("/build", {}).error()


ALLOWED = {
    "/": "GET",
    "/build": "POST",
    "/build/1": "GET",
    "/build/1/output": "GET",
    "/build/1/stdout": "GET",
    "/build/1/stderr": "GET",
    "/build/1/find": "GET",
    "/build/1/live": "GET",
    "/build/1/cancel": "POST",
    "/build/1/rebuild": "POST",
    "/agents": "GET",
    "/api/builds": "GET POST",
    "/api/builds/1": "GET",
    "/api/agents": "GET",
    "/healthz": "GET",
    **dict.fromkeys(AGENT_CALLS, "POST"),
}


@pytest.mark.parametrize("path", ALLOWED)
def test_a_path_with_another_method_is_405_with_allow(server: ServerProcess, path: str) -> None:
    allowed = set(ALLOWED[path].split())
    for method in {"GET", "POST", "PUT", "DELETE"} - allowed:
        reply = server.request(method, path, b"" if method != "GET" else None)
        assert reply.status == 405, (method, reply)
        named = {word.strip() for word in reply.header("Allow").split(",")}
        assert named - {"HEAD", "OPTIONS"} == allowed


@pytest.mark.parametrize(
    ("path", "allow"), [("/build", "POST"), ("/ping", "GET"), ("/cancel", "POST")]
)
def test_an_agent_answers_405_with_allow(agent: AgentProcess, path: str, allow: str) -> None:
    for method in {"GET", "POST", "PUT"} - {allow}:
        reply = agent.request(method, path, b"" if method != "GET" else None)
        assert reply.status == 405
        assert {w.strip() for w in reply.header("Allow").split(",")} - {"HEAD"} == {allow}


def test_head_is_answered_like_get_without_a_body(server: ServerProcess) -> None:
    answer = raw(server.port, b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status_of(answer) in (200, 405)
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/build", "/api/builds", "/notify_agent"])
def test_a_body_over_the_limit_is_413(server: ServerProcess, path: str) -> None:
    body = b"command=" + b"x" * (80 * 2**20)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    for name, value in headers.items():
        head += f"{name}: {value}\r\n"
    answer = raw(server.port, head.encode() + b"\r\n" + body[: 2**20], half_close=True)
    assert status_of(answer) == 413


def test_an_agent_answers_413(agent: AgentProcess) -> None:
    head = b"POST /build HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    assert status_of(raw(agent.port, head + kind + b"x" * 1000, half_close=True)) == 413


def test_answers_are_http_1_1_and_connections_are_kept(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok") and not answer.endswith(b"ok\n"):
                piece = connection.recv(4096)
                assert piece, answer
                answer += piece
            assert status_of(answer) == 200


# The secret.

SECRET = "a shared word"


@pytest.fixture(scope="module")
def guarded(shared: Place) -> ServerProcess:
    return shared.server(secret=SECRET)


CALLS: dict[str, dict[str, Any]] = {
    "/notify_agent": {"host": "127.0.0.1", "port": 9, "name": "intruder"},
    "/notify_build_result": {"id": 1, "status": 0, "stdout": "", "stderr": ""},
    "/notify_build_returned": {"id": 1, "attempt": 1},
    "/notify_build_output?id=1&attempt=1&stream=stdout&offset=0": {},
}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer ", f"Basic {SECRET}", SECRET, f"Bearer {SECRET}x"]
)
def test_without_the_secret_nothing_happens(
    guarded: ServerProcess, path: str, given: Optional[str]
) -> None:
    if guarded.get("/api/builds/1").status == 404:
        guarded.start_build()
    before = guarded.build(1)
    headers = {"Authorization": given} if given else {}
    reply = guarded.post(path, CALLS[path], **headers)
    assert reply.status == 401
    reply.error()
    assert guarded.build(1) == before
    assert "intruder" not in [agent["name"] for agent in guarded.agents()]


def test_with_the_secret_both_sides_talk(place: Place) -> None:
    server = place.server(secret=SECRET)
    fake = place.keep(FakeAgent(server, secret=SECRET))
    server.start_build()
    fake.wait_pings(1)
    build = fake.wait_build()
    server.post("/build/1/cancel")
    fake.wait_call("/cancel")
    assert {call.headers.get("authorization") for call in fake.calls} == {f"Bearer {SECRET}"}
    assert SECRET not in str(build)
    assert fake.result(build).status == 200


def test_an_agent_needs_and_sends_the_secret(place: Place) -> None:
    server = place.keep(FakeServer())
    agent = place.agent(server, secret=SECRET)
    build = {"id": 1, "repository": str(place.repository.path), "commit": "HEAD"}
    params = {**build, "command": "echo ran"}
    for given in ({}, {"Authorization": "Bearer wrong"}):
        for reply in (
            agent.request("POST", "/build?" + urlencode(params), None, given),
            agent.get("/ping", given),
            agent.request("POST", "/cancel?id=1", None, given),
        ):
            assert reply.status == 401
            reply.error()
    assert agent.ping(SECRET)["running"] == []
    given = {"Authorization": f"Bearer {SECRET}"}
    assert agent.request("POST", "/build?" + urlencode(params), None, given).status == 202
    server.wait_result(1)
    assert {call.headers.get("authorization") for call in server.calls} == {f"Bearer {SECRET}"}


def test_the_secret_may_stand_in_a_file(place: Place) -> None:
    (place.folder / "word").write_text(f"{SECRET}\n")
    server = place.server(secret_file=place.folder / "word")
    place.agent(server, secret=SECRET)
    assert server.wait_final(server.start_build())["status"] == "success"


def test_pages_need_no_secret(guarded: ServerProcess) -> None:
    assert guarded.get("/").status == 200
    assert guarded.get("/api/builds").status == 200


# Host and Origin.

FOREIGN = [
    "ci.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "192.0.2.1",
    "",
    "127.0.0.1:x",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost/evil.example",
    "localhost evil.example",
    "localhost,evil.example",
    "[::1].evil.example",
    "[2001:db8::1]",
    "2130706433",
    "0x7f.1",
]
LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1",
    "127.8.9.10",
    "[::1]",
    "[0:0:0:0:0:0:0:1]:80",
    "localhost:1234",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_421(server: ServerProcess, agent: AgentProcess, host: str) -> None:
    before = len(server.api("/builds")["builds"])
    for process, path in ((server, "/"), (server, "/api/builds"), (agent, "/ping")):
        status = process.get(path, {"Host": host}).status
        assert status == 421 or (status == 400 and host in ("", "127.0.0.1:x")), (path, status)
    reply = server.post("/api/builds", {"commit": "HEAD", "command": "true"}, Host=host)
    assert reply.status in (421, 400)
    assert len(server.api("/builds")["builds"]) == before


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_are_served(server: ServerProcess, agent: AgentProcess, host: str) -> None:
    assert server.get("/", {"Host": host}).status == 200
    assert agent.get("/ping", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "target",
    ["http://evil.example/", "https://evil.example/", "http://localhost@evil.example/", "http:///"],
)
def test_the_name_in_the_target_counts_and_not_the_host(server: ServerProcess, target: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert status_of(raw(server.port, head.encode())) in (400, 421)


def test_a_target_may_name_this_server(server: ServerProcess) -> None:
    head = b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert status_of(raw(server.port, head)) == 200
    named = head.replace(b"Host: localhost", b"Host: evil.example")
    assert status_of(raw(server.port, named)) == 200, "RFC 9112, 3.2.2: the Host does not count"


@pytest.mark.parametrize("target", ["*", "evil.example:80", "healthz", "?", "ftp://localhost/"])
def test_a_target_of_another_form_is_400(server: ServerProcess, target: str) -> None:
    for method in ("GET", "OPTIONS", "CONNECT"):
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert status_of(raw(server.port, head.encode())) == 400


def test_no_host_at_all_is_400(server: ServerProcess) -> None:
    assert status_of(raw(server.port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")) == 400
    double = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n"
    assert status_of(raw(server.port, double)) == 400


def test_the_configured_url_is_served(place: Place) -> None:
    server = place.server(url="https://ci.example")
    assert server.get("/", {"Host": "ci.example"}).status == 200
    assert server.get("/", {"Host": "other.example"}).status == 421
    assert server.get("/", {"Host": "localhost"}).status == 200


def test_the_advertised_name_is_served_by_an_agent(place: Place) -> None:
    agent = place.agent(place.keep(FakeServer()), advertise="builder.example:8001")
    assert agent.get("/ping", {"Host": "builder.example:8001"}).status == 200
    assert agent.get("/ping", {"Host": "other.example"}).status == 421


def test_who_listens_on_all_is_reached_by_any_address_and_its_own_name(place: Place) -> None:
    server = place.server(host="0.0.0.0", open="yes")
    for host in ("192.0.2.1", "10.0.0.7:8000", socket.gethostname(), "localhost"):
        assert server.get("/", {"Host": host}).status == 200, host
    assert server.get("/", {"Host": "evil.example"}).status == 421


PAGES_POSTS = ("/build", "/api/builds", "/build/1/cancel", "/build/1/rebuild")


@pytest.mark.parametrize("path", PAGES_POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "chrome-extension://abcdefgh"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "Cross-Site"},
    ],
)
def test_a_post_from_another_site_is_403(
    server: ServerProcess, path: str, headers: dict[str, str]
) -> None:
    if server.get("/api/builds/1").status == 404:
        server.start_build()
    before = server.api("/builds")
    body, kind = encode_form({"commit": "HEAD", "command": "true"})
    reply = server.request("POST", path, body, {"Content-Type": kind, **headers})
    assert reply.status == 403
    assert server.api("/builds") == before


@pytest.mark.parametrize("path", CALLS)
def test_an_agents_call_from_another_site_is_403(server: ServerProcess, path: str) -> None:
    reply = server.post(path, CALLS[path], Origin="https://evil.example")
    assert reply.status == 403
    assert "intruder" not in [agent["name"] for agent in server.agents()]


def test_without_a_host_no_origin_is_the_own_one(server: ServerProcess) -> None:
    before = server.api("/builds")
    for origin in (b"null", b"", b"http://", b"http://localhost"):
        head = b"POST /api/builds?commit=HEAD&command=true HTTP/1.0\r\nOrigin: %s\r\n\r\n" % origin
        assert status_of(raw(server.port, head)) == 403, origin
    assert server.api("/builds") == before


def test_an_agent_takes_no_post_from_another_site(agent: AgentProcess, alone: FakeServer) -> None:
    params = {"id": 78, "repository": "/x", "commit": "HEAD", "command": "true"}
    for path in ("/build", "/cancel"):
        assert agent.post(path, params, Sec_Fetch_Site="cross-site").status == 403
    assert agent.post("/build", params, Origin="").status == 403
    holds_for(lambda: not agent.ping()["running"], 0.2, "nothing runs")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "image/png"])
def test_what_a_form_of_another_site_can_send_starts_nothing(
    server: ServerProcess, kind: str
) -> None:
    """A form without scripts can send JSON as text/plain; an old browser names no Origin."""
    before = server.api("/builds")
    for body in (b'{"commit": "HEAD", "command": "true", "x": "="}', b"commit=HEAD&command=true"):
        for path in ("/build", "/api/builds"):
            reply = server.request("POST", path, body, {"Content-Type": kind})
            assert reply.status == 415, reply
    assert server.api("/builds") == before


def test_a_post_from_the_pages_themselves_is_taken(server: ServerProcess) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    params = {"commit": "HEAD", "command": "true"}
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert server.post("/build", params, **headers).status == 303


def test_a_post_from_the_configured_url_is_taken(place: Place) -> None:
    server = place.server(url="https://ci.example")
    params = {"commit": "HEAD", "command": "true"}
    near = {"Host": "ci.example", "Origin": "https://ci.example"}
    assert server.post("/build", params, **near).status == 303
    within = {"Host": f"127.0.0.1:{server.port}", "Origin": "https://ci.example"}
    assert server.post("/build", params, **within).status == 303
    for origin in ("https://evil.example", "http://ci.example", "https://ci.example:8443"):
        for host in ("ci.example", "ci.example:443", f"127.0.0.1:{server.port}"):
            far = {"Host": host, "Origin": origin}
            assert server.post("/build", params, **far).status == 403, far


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_agent_answers_403_to_any_request_with_an_origin(
    agent: AgentProcess, alone: FakeServer, method: str
) -> None:
    path = (
        "/ping"
        if method == "GET"
        else "/build?"
        + urlencode({"id": 77, "repository": "/x", "commit": "HEAD", "command": "true"})
    )
    for origin in ("https://evil.example", f"http://127.0.0.1:{agent.port}"):
        reply = agent.request(method, path, None, {"Origin": origin})
        assert reply.status == 403
        reply.error()
    holds_for(lambda: not agent.ping()["running"], 0.2, "nothing runs")


# Ids.


@pytest.mark.parametrize("number", ["007", "0", "-1", "1_0", "%D9%A1", "9" * 5000, "..%2f", "%00"])
def test_an_id_is_written_in_one_way(server: ServerProcess, number: str) -> None:
    for path in (f"/build/{number}", f"/api/builds/{number}", f"/build/{number}/output"):
        reply = fetch(("127.0.0.1", server.port), "GET", path)
        assert reply.status in (404, 414) and reply.status != 500, reply
