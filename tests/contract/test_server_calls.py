"""Section 3 of the contract: the server's calls for agents, spoken by an agent that is a script."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, holds_for, wait_for
from tests.support.http_client import encode_form


@pytest.fixture
def server(place: Place) -> ServerProcess:
    return place.server()


@pytest.fixture
def agent(place: Place, server: ServerProcess) -> FakeAgent:
    return place.keep(FakeAgent(server))


def handed(server: ServerProcess, agent: FakeAgent, command: str = "true") -> dict[str, str]:
    """Start a build and return it as it came to the agent."""
    count = len(agent.builds)
    server.start_build(command=command)
    return agent.wait_build(count + 1)


# /notify_agent


def test_notify_agent_registers(server: ServerProcess, agent: FakeAgent) -> None:
    assert agent.register(name="built to last", slots=4).status == 200
    (known,) = server.agents()
    assert known["name"] == "built to last" and known["slots"] == 4


def test_an_agent_without_a_name_is_called_by_its_address(server: ServerProcess) -> None:
    reply = server.post("/notify_agent", {"host": "127.0.0.1", "port": 9})
    assert reply.status == 200
    (known,) = server.agents()
    assert known["name"] == "127.0.0.1:9" and known["slots"] == 1


def test_a_registration_is_renewed_not_doubled(server: ServerProcess, agent: FakeAgent) -> None:
    for _ in range(3):
        assert agent.register().status == 200
    assert len(server.agents()) == 1


@pytest.mark.parametrize("hosts", [["::1", "[::1]", "0:0:0:0:0:0:0:1"], ["localhost", "LocalHost"]])
def test_an_agent_is_one_however_its_host_is_written(
    server: ServerProcess, hosts: list[str]
) -> None:
    for host in hosts:
        assert server.post("/notify_agent", {"host": host, "port": 9}).status == 200
    assert len(server.agents()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": ""},
        {"host": "a b"},
        {"host": "-x"},
        {"host": "evil.example/path"},
        {"host": "user@evil"},
        {"host": "127.0.0.1:5"},
        {"host": ":::"},
        {"host": None},
        {"port": "0"},
        {"port": "65536"},
        {"port": "x"},
        {"port": "١٢"},
        {"port": None},
        {"slots": "0"},
        {"slots": "-1"},
        {"slots": "x"},
        {"running": "1,x"},
    ],
)
def test_a_bad_registration_is_400(server: ServerProcess, wrong: dict[str, Any]) -> None:
    params = {"host": "127.0.0.1", "port": 9, **wrong}
    reply = server.post("/notify_agent", {k: v for k, v in params.items() if v is not None})
    assert reply.status == 400
    reply.error()
    assert server.agents() == []


# The call to /build


def test_what_an_agent_is_handed(server: ServerProcess, agent: FakeAgent) -> None:
    number = server.start_build("main", "echo 'a&b'\nfalse")
    build = agent.wait_build()
    call = agent.made("/build")[0]
    assert call.method == "POST"
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"
    assert build["id"] == str(number) and build["attempt"] == "1"
    assert build["commit"] == "main" and build["command"] == "echo 'a&b'\nfalse"
    assert build["repository"] == str(server.place.repository.path)
    assert {"timeout", "output_limit"} <= set(build)
    assert "url" not in build, "the agent knows best how it reaches the server"


def test_an_agent_is_told_the_address_that_people_use(place: Place) -> None:
    server = place.server(url="https://ci.example/minici")
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    assert agent.wait_build()["url"] == f"https://ci.example/minici/build/{number}"
    assert "url has the path /minici" in server.log()


# /notify_build_result


def test_a_result_is_recorded(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    about = {"revision": "f" * 40, "subject": "Ünï <b>", "author": "A <a@b>", "author_email": "a@b"}
    assert agent.result(build, 0, "out\n", "err\n", **about).status == 200
    known = server.build(1)
    assert known["status"] == "success" and known["exit_status"] == 0
    assert {key: known[key] for key in about} == about
    assert (known["stdout_bytes"], known["stderr_bytes"], known["dropped_bytes"]) == (4, 4, 0)
    assert known["started_at"] and known["finished_at"] and known["agent"] == "fake"


@pytest.mark.parametrize(
    ("status", "word"), [(1, "failure"), (255, "failure"), (-9, "failure"), (0, "success")]
)
def test_status_is_the_exit_status(
    server: ServerProcess, agent: FakeAgent, status: int, word: str
) -> None:
    agent.result(handed(server, agent), status)
    known = server.build(1)
    assert (known["status"], known["exit_status"]) == (word, status)
    assert (known["reason"] is None) is (status == 0)


def test_what_an_agent_says_in_an_old_encoding_costs_no_result(
    server: ServerProcess, agent: FakeAgent
) -> None:
    handed(server, agent)
    body = b"id=1&status=0&stdout=%e4&subject=gr%fc%df&author=J%f6rg&reason=sch%f6n"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.request("POST", "/notify_build_result", body, headers).status == 200
    known = server.build(1)
    assert (known["subject"], known["author"]) == ("gr\ufffd\ufffd", "J\ufffdrg")
    assert (known["status"], known["reason"]) == ("success", "sch\ufffdn")
    assert server.output(1, "stdout") == b"\xe4"


def test_the_agents_reason_is_the_reason(server: ServerProcess, agent: FakeAgent) -> None:
    agent.result(handed(server, agent), 128, reason="no such commit: main")
    assert server.build(1)["reason"] == "no such commit: main"


@pytest.mark.parametrize("status", ["", "x", "1.0", "٣", "+1", "1_0", "9" * 400, None])
def test_a_result_without_a_whole_status_is_400(
    server: ServerProcess, agent: FakeAgent, status: Any
) -> None:
    build = handed(server, agent)
    assert agent.result(build, status).status == 400
    assert server.build(1)["status"] == "running"


def test_a_result_without_its_output_is_taken(server: ServerProcess, agent: FakeAgent) -> None:
    """Liberal with other people's agents: no `stdout` is an empty one."""
    build = handed(server, agent)
    reply = agent.call("/notify_build_result", {"id": build["id"], "status": 0})
    assert reply.status == 200
    assert server.build(1)["status"] == "success"


def test_a_repeated_result_changes_nothing(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    assert agent.result(build, 0, "out").status == 200
    before = server.build(1)
    assert agent.result(build, 0, "out").status == 200
    assert agent.result(build, 5, "other", "text").status == 200
    assert server.build(1) == before
    assert server.output(1) == b"out"


@pytest.mark.parametrize("number", ["2", "0", "99999999999999999999"])
def test_a_result_for_an_id_that_never_was_is_404(
    server: ServerProcess, agent: FakeAgent, number: str
) -> None:
    build = handed(server, agent)
    reply = agent.result({**build, "id": number})
    assert reply.status == 404
    reply.error()


@pytest.mark.parametrize("number", ["x", "007", "-1", "1_0", "١", ""])
def test_a_result_for_what_is_no_id_is_400_or_404(
    server: ServerProcess, agent: FakeAgent, number: str
) -> None:
    build = handed(server, agent)
    assert agent.call("/notify_build_result", {**build, "id": number, "status": 0}).status in (
        400,
        404,
    )
    assert server.build(1)["status"] == "running"


def test_a_result_for_an_attempt_that_never_was_is_404(
    server: ServerProcess, agent: FakeAgent
) -> None:
    build = handed(server, agent)
    assert agent.result({**build, "attempt": "2"}).status == 404
    assert server.build(1)["status"] == "running"
    server.start_build()
    waiting = {"id": "2", "attempt": "1"}
    assert agent.result(waiting).status == 404
    assert server.build(2)["status"] == "queued"


def test_a_result_without_an_attempt_is_of_the_one_that_is_out(
    server: ServerProcess, agent: FakeAgent
) -> None:
    build = handed(server, agent)
    reply = agent.call(
        "/notify_build_result", {"id": build["id"], "status": 0, "stdout": "o", "stderr": "e"}
    )
    assert reply.status == 200
    assert server.build(1)["status"] == "success"


def test_an_offset_beyond_what_the_server_has_is_409(
    server: ServerProcess, agent: FakeAgent
) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"12345")
    reply = agent.result(build, 0, "9", "", stdout_offset=8)
    assert reply.status == 409
    assert {k: reply.json()[k] for k in ("stdout", "stderr")} == {"stdout": 5, "stderr": 0}
    reply = agent.result(build, 0, "", "x", stderr_offset=1, stdout_offset=5)
    assert reply.status == 409 and reply.json()["stderr"] == 0
    assert server.build(1)["status"] == "running"
    assert agent.result(build, 0, "678", "x", stdout_offset=5).status == 200
    assert server.output(1, "stdout") == b"12345678"
    assert server.output(1, "stderr") == b"x"


def test_a_result_from_an_offset_is_what_is_left(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"12345")
    agent.output(build, "stderr", 0, b"abc")
    assert agent.result(build, 0, "xy", "", stdout_offset=5, stderr_offset=3).status == 200
    assert server.output(1, "stdout") == b"12345xy"
    assert server.output(1, "stderr") == b"abc"


def test_a_whole_result_after_pieces_is_whole(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"123")
    assert agent.result(build, 0, "12345", "").status == 200
    assert server.output(1, "stdout") == b"12345"
    assert server.build(1)["stdout_bytes"] == 5


def test_a_result_may_overlap_what_is_there(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"123456")
    assert agent.result(build, 0, "3456789", "", stdout_offset=2).status == 200
    assert server.output(1, "stdout") == b"123456789"


@pytest.mark.parametrize("offset", ["-1", "x", "1.5", "٣"])
def test_an_offset_that_is_no_number_is_400(
    server: ServerProcess, agent: FakeAgent, offset: str
) -> None:
    build = handed(server, agent)
    assert agent.result(build, 0, "", "", stdout_offset=offset).status == 400
    assert agent.output(build, "stdout", offset, b"x").status == 400  # type: ignore[arg-type]
    assert server.build(1)["status"] == "running"


def test_a_result_of_megabytes_is_taken(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    text = "line é\n" * 1_000_000
    assert agent.result(build, 0, text, "").status == 200
    assert server.output(1, "stdout") == text.encode()


def test_carriage_returns_and_bytes_come_back_as_they_were(
    server: ServerProcess, agent: FakeAgent
) -> None:
    build = handed(server, agent)
    data = b"a\r\nb\rc\n\x00\x1b[31m\xff\xfe end"
    assert agent.result(build, 0, data.decode("utf-8", "surrogateescape")).status == 200
    assert server.output(1, "stdout") == data


# /notify_build_returned


def test_a_returned_build_is_requeued_at_once(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    assert agent.returned(build).status == 200
    again = agent.wait_build(2)
    assert again["id"] == "1" and again["attempt"] == "2"
    first = server.build(1)["attempts"][0]
    assert first["ending"] == "returned" and first["finished_at"]


def test_a_doubled_return_changes_nothing(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.returned(build)
    agent.wait_build(2)
    before = server.build(1)["attempts"]
    assert agent.returned(build).status == 200
    holds_for(lambda: server.build(1)["attempt"] == 2, 0.5, "it is still attempt 2")
    assert server.build(1)["attempts"] == before


def test_returning_what_is_final_changes_nothing(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.result(build)
    before = server.build(1)
    assert agent.returned(build).status == 200
    assert server.build(1) == before


def test_returning_what_never_was_is_404(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    assert agent.returned({**build, "id": "7"}).status == 404
    assert agent.returned({**build, "attempt": "7"}).status == 404


@pytest.mark.parametrize(
    ("sent", "russian"),
    [
        ({"reason_key": "timed_out", "reason_values": '{"seconds": "5"}'}, True),
        ({"reason_key": "timed_out", "reason_values": '{"seconds": "6"}'}, False),
        ({"reason_key": "timed_out", "reason_values": "[" * 9000}, False),
        ({"reason_key": "timed_out", "reason_values": '["5"]'}, False),
        ({"reason_key": "no_such_key", "reason_values": "{}"}, False),
        ({"reason_key": "timed_out"}, False),
        ({}, False),
    ],
)
def test_a_reason_may_bring_its_key_and_values(
    server: ServerProcess, agent: FakeAgent, sent: dict[str, str], russian: bool
) -> None:
    sentence = "ran out of time after 5 s (build_timeout)"
    assert agent.result(handed(server, agent), 1, reason=sentence, **sent).status == 200
    assert server.build(1)["reason"] == sentence
    record = json.loads((server.data / "builds" / "1" / "build.json").read_bytes())
    assert record["reason_key"] == ("timed_out" if russian else None)


# /notify_build_output


def test_pieces_are_put_together(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    reply = agent.output(build, "stdout", 0, b"one\n")
    assert reply.status == 200 and reply.json()["next"] == 4
    reply = agent.output(build, "stderr", 0, b"\xff\x00")
    assert reply.status == 200 and reply.json()["next"] == 2
    reply = agent.output(build, "stdout", 4, b"two")
    assert reply.status == 200 and reply.json()["next"] == 7
    assert server.output(1, "stdout") == b"one\ntwo"
    assert server.output(1, "stderr") == b"\xff\x00"
    assert server.output(1) == b"one\n\xff\x00two"


@pytest.mark.parametrize("offset", [0, 3, 8, 10**15])
def test_a_piece_elsewhere_is_409_with_the_place(
    server: ServerProcess, agent: FakeAgent, offset: int
) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"1234567")
    reply = agent.output(build, "stdout", offset, b"xyz")
    assert reply.status == 409 and reply.json()["next"] == 7
    assert server.output(1, "stdout") == b"1234567"


def test_an_empty_piece_asks_for_the_place(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"123")
    assert agent.output(build, "stdout", 3, b"").json()["next"] == 3


def test_output_of_an_attempt_that_is_over_is_410(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"first")
    agent.returned(build)
    again = agent.wait_build(2)
    assert agent.output(build, "stdout", 5, b"more").status == 410
    assert agent.output(again, "stdout", 0, b"new").status == 200
    assert server.output(1, "stdout") == b"new"
    assert server.output(1, "stdout", attempt=1) == b"first"
    agent.result(again, 0, "new")
    assert agent.output(again, "stdout", 3, b"late").status == 410
    assert server.output(1, "stdout") == b"new"


@pytest.mark.parametrize("wrong", [{"id": "9"}, {"attempt": "9"}])
def test_output_for_what_never_was_is_404_or_410(
    server: ServerProcess, agent: FakeAgent, wrong: dict[str, str]
) -> None:
    build = handed(server, agent)
    assert agent.output({**build, **wrong}, "stdout", 0, b"x").status in (404, 410)


def test_output_of_no_such_stream_is_400(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    assert agent.output(build, "stdin", 0, b"x").status == 400
    assert agent.output(build, "../stdout", 0, b"x").status == 400


def test_a_form_like_body_of_output_is_bytes(server: ServerProcess, agent: FakeAgent) -> None:
    """The parameters stand in the query; whatever the body looks like, it is output."""
    build = handed(server, agent)
    query = f"id={build['id']}&attempt=1&stream=stdout&offset=0"
    kind = "application/x-www-form-urlencoded"
    body = b"id=9&offset=77"
    reply = server.request("POST", f"/notify_build_output?{query}", body, {"Content-Type": kind})
    assert reply.status == 200
    assert server.output(1, "stdout") == body


def test_output_is_visible_while_the_build_runs(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    agent.output(build, "stdout", 0, b"visible\n")
    assert server.output(1) == b"visible\n"
    assert "visible" in server.get("/build/1").text


def test_the_stream_checkout_is_apart_from_the_output(
    server: ServerProcess, agent: FakeAgent
) -> None:
    build = handed(server, agent)
    assert agent.output(build, "checkout", 0, b"Receiving: 1%\r").json() == {"next": 14}
    gap = agent.output(build, "checkout", 3, b"x")
    assert (gap.status, gap.json()["next"]) == (409, 14)
    assert server.get("/build/1/checkout").body == b"Receiving: 1%\r"
    agent.output(build, "checkout", 14, b"done\n")
    agent.output(build, "stdout", 0, b"out\n")
    assert agent.result(build, 0, "", stdout_offset=4).status == 200
    assert server.get("/build/1/checkout").body == b"Receiving: 1%\rdone\n"
    assert server.output(1) == b"out\n" and server.build(1)["stdout_bytes"] == 4
    assert agent.output(build, "checkout", 19, b"late").status == 410
    part = server.request("GET", "/build/1/checkout", headers={"Range": "bytes=14-"})
    assert (part.status, part.body) == (206, b"done\n")


def test_the_checkout_of_an_earlier_attempt_is_kept(
    server: ServerProcess, agent: FakeAgent
) -> None:
    build = handed(server, agent)
    agent.output(build, "checkout", 0, b"first\n")
    agent.returned(build)
    again = agent.wait_build(2)
    assert server.get("/build/1/checkout").body == b""
    agent.output(again, "checkout", 0, b"second\n")
    assert server.get("/build/1/checkout?attempt=1").body == b"first\n"
    assert server.get("/build/1/checkout?attempt=3").status == 404
    assert server.get("/build/2/checkout").status == 404


def test_a_checkout_that_says_very_much_is_bounded(server: ServerProcess, agent: FakeAgent) -> None:
    build = handed(server, agent)
    said = b"".join(b"%07d\r" % each for each in range(400_000))
    for offset in range(0, len(said), 640_000):
        reply = agent.output(build, "checkout", offset, said[offset : offset + 640_000])
        assert reply.status == 200
    half, dropped = 512 * 1024, len(said) - 1024 * 1024
    line = b"\n[minici: %d bytes dropped]\n" % dropped
    assert server.get("/build/1/checkout").body == said[:half] + line + said[-half:]
    kept = server.data / "builds" / "1" / "1" / "checkout"
    assert kept.stat().st_size < 2 * 1024 * 1024


@pytest.mark.parametrize("lines", [1000, 2_000_000])
def test_the_server_keeps_the_limit_where_an_agent_does_not(place: Place, lines: int) -> None:
    server = place.server(output_limit=1000)
    agent = place.keep(FakeAgent(server))
    build = handed(server, agent)
    text = "".join(f"{line:07d}\n" for line in range(lines))
    assert agent.result(build, 0, text, "short").status == 200
    kept = server.output(1, "stdout").decode()
    known = server.build(1)
    assert known["stdout_bytes"] == 1000 and known["dropped_bytes"] == 8 * lines - 1000
    marker = f"[minici: {8 * lines - 1000} bytes dropped]"
    assert kept == text[:500] + "\n" * (text[499] != "\n") + marker + "\n" + text[-500:]
    assert server.output(1, "stderr") == b"short"


def test_the_server_keeps_the_limit_of_pieces(place: Place) -> None:
    server = place.server(output_limit=1000)
    agent = place.keep(FakeAgent(server))
    build = handed(server, agent)
    text = "".join(f"{line:07d}\n" for line in range(1000)).encode()
    for offset in range(0, 8000, 400):
        assert agent.output(build, "stdout", offset, text[offset : offset + 400]).status == 200
    assert agent.result(build, 0, "", "", stdout_offset=8000).status == 200
    known = server.build(1)
    assert known["stdout_bytes"] == 1000 and known["dropped_bytes"] == 7000
    lines = server.output(1, "stdout").split(b"\n")
    assert b"[minici: 7000 bytes dropped]" in lines
    assert server.output(1, "stdout").startswith(text[:500])
    assert server.output(1, "stdout").endswith(text[-500:])


@pytest.mark.parametrize("sent", [0, 200, 500, 700, 1000, 1500, 5000, 19_990])
def test_the_cut_of_an_agent_that_was_faster_than_its_pieces(place: Place, sent: int) -> None:
    """The agent kept its first and last half, and dropped what it had not yet sent."""
    server = place.server(output_limit=1000)
    agent = place.keep(FakeAgent(server))
    build = handed(server, agent)
    text = "".join(f"{line:09d}\n" for line in range(2000))
    step = max(150, sent // 6)
    for offset in range(0, sent, step):
        piece = text[offset : min(offset + step, sent)].encode()
        assert agent.output(build, "stdout", offset, piece).status == 200
        time.sleep(0.03)  # so that each piece has a time of its own
    marker = "[minici: 19000 bytes dropped]\n"
    offset = min(sent, 500)
    end = text[offset:500] + marker + text[-500:]
    about = {"stdout_offset": offset, "stderr_offset": 0}
    assert agent.result(build, 0, end, "short", **about).status == 200
    assert server.output(1, "stdout").decode() == text[:500] + marker + text[-500:]
    known = server.build(1)
    assert (known["stdout_bytes"], known["dropped_bytes"]) == (1000, 19_000)
    assert server.output(1, "stderr") == b"short"
    assert len(server.output(1)) == 1000 + len(marker) + 5


def test_exactly_the_limit_is_kept_whole(place: Place) -> None:
    server = place.server(output_limit=1000)
    agent = place.keep(FakeAgent(server))
    agent.result(handed(server, agent), 0, "x" * 1000)
    assert server.output(1, "stdout") == b"x" * 1000
    agent.result(handed(server, agent), 0, "y" * 1001)
    assert b"\n[minici: 1 bytes dropped]\n" in server.output(2, "stdout")
    assert server.build(2)["dropped_bytes"] == 1


# An agent that knows nothing but the least.


def test_the_least_of_agents_works(server: ServerProcess, place: Place) -> None:
    """`notify_agent` once, `/build`, and a result of four parameters; it does not know /ping."""
    agent = place.keep(FakeAgent(server, register=False))
    agent.script_always("/ping", (404, b"not found"))
    agent.script_always("/cancel", (404, b"not found"))
    reply = server.post("/notify_agent", {"host": "127.0.0.1", "port": agent.port})
    assert reply.status == 200
    for number in (1, 2):
        assert server.start_build() == number
        agent.wait_build(number)
        agent.wait_call("/ping", len(agent.made("/ping")) + 4)
        assert server.build(number)["status"] == "running"
        body, kind = encode_form({"id": number, "status": 0, "stdout": "hi\n", "stderr": ""})
        reply = server.request("POST", "/notify_build_result", body, {"Content-Type": kind})
        assert reply.status == 200
        assert server.build(number)["status"] == "success"
        assert server.output(number) == b"hi\n"


def test_only_an_agent_that_answers_with_lists_is_believed(place: Place) -> None:
    server = place.server(agent_timeout="1s")
    agent = place.keep(FakeAgent(server))
    build = handed(server, agent)
    agent.lists = False
    agent.forget(build)
    agent.wait_pings(6)
    known = server.build(1)
    assert known["status"] == "running" and known["attempt"] == 1


def test_an_agent_that_answers_500_to_pings_is_alive(place: Place) -> None:
    server = place.server(agent_timeout="1s")
    agent = place.keep(FakeAgent(server))
    handed(server, agent)
    agent.script_always("/ping", (500, {"error": "oops"}))
    agent.wait_pings(8)
    assert server.build(1)["attempt"] == 1 and server.build(1)["status"] == "running"


def test_a_build_named_as_undelivered_is_waited_for(
    server: ServerProcess, agent: FakeAgent
) -> None:
    build = handed(server, agent)
    agent.forget(build)
    agent.undelivered = [{"id": 1, "attempt": 1}]
    agent.wait_pings(5)
    assert server.build(1)["attempt"] == 1
    assert agent.result(build).status == 200


def test_the_servers_memory_of_agents_outlives_it(server: ServerProcess, agent: FakeAgent) -> None:
    wait_for((server.data / "agents.json").exists, what="agents.json")
    server.kill()
    server.restart()
    wait_for(lambda: [a["name"] for a in server.agents()] == ["fake"], what="the agent known")
    server.start_build()
    agent.wait_build()


def test_slots_are_what_was_registered_and_else_what_a_ping_says(
    server: ServerProcess, agent: FakeAgent
) -> None:
    agent.register(slots=3)
    agent.slots = 5  # from now on its pings say so
    agent.wait_pings(2)
    assert server.agents()[0]["slots"] == 3
    agent.call("/notify_agent", {"host": "127.0.0.1", "port": agent.port, "name": agent.name})
    wait_for(lambda: server.agents()[0]["slots"] == 5, what="the slots of its ping")


def test_an_agent_that_answers_that_it_has_no_slots_gets_no_build(
    server: ServerProcess, agent: FakeAgent
) -> None:
    agent.slots = 0
    agent.wait_pings(2)
    number = server.start_build()
    agent.wait_pings(2)
    assert not agent.builds and server.build(number)["status"] == "queued"
    agent.slots = 2
    assert agent.wait_build()["id"] == str(number)
