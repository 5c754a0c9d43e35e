"""Section 5 of the contract, rules 9 to 15: the agent's side, with a server that is a script."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import DROP, HANG, FakeServer
from tests.support.harness import (
    CRASH_HOOK,
    ROOT,
    AgentProcess,
    Place,
    commands_left,
    holds_for,
    wait_for,
)
from tests.support.http_client import Reply


@pytest.fixture
def server(place: Place) -> FakeServer:
    return place.keep(FakeServer())


@pytest.fixture
def agent(place: Place, server: FakeServer) -> AgentProcess:
    return place.agent(server)


def hand(agent: AgentProcess, number: int = 1, command: str = "true", **more: Any) -> Reply:
    """Hand a build to the agent, as soon as it has a slot for it."""
    about = {"id": number, "attempt": 1, "repository": agent.place.repository.path}
    params = {**about, "commit": "HEAD", "command": command, **more}

    def accepted() -> Any:
        reply = agent.post("/build", params)
        return reply if reply.status == 202 else None

    reply: Reply = wait_for(accepted, 30, f"build {number} accepted")
    return reply


def undelivered(agent: AgentProcess) -> list[int]:
    return [each["id"] for each in agent.ping()["undelivered"]]


# Rule 9.


def test_rule_9_an_agent_may_be_started_first(place: Place) -> None:
    silent = FakeServer()
    silent.close()
    agent = place.agent(silent)
    wait_for(lambda: silent.address in agent.log(), what="a word of the server in the log")
    place.keep(silent).open()
    silent.wait_agent(within=30)


def test_rule_9_after_a_failure_it_tries_again(server: FakeServer, agent: AgentProcess) -> None:
    server.script("/notify_agent", (503, {"error": "later"}), DROP, (500, b"oops"))
    count = len(server.made("/notify_agent"))
    server.wait_call("/notify_agent", count + 5, within=60)


# Rule 10.


def test_rule_10_a_result_is_on_disk_before_it_is_sent(place: Place, server: FakeServer) -> None:
    """Killed while the server has the result in hand, the agent still has it afterwards."""
    agent = place.agent(server)
    server.script("/notify_build_result", HANG)
    hand(agent, 1, "echo kept")
    server.wait_call("/notify_build_result")
    agent.kill()
    agent.restart()
    result = server.wait_result(1)
    assert result["status"] == "0" and server.stream(1, "stdout") == b"kept\n"


@pytest.mark.parametrize("status", [200, 404, 410])
def test_rule_10_what_ends_a_delivery(server: FakeServer, agent: AgentProcess, status: int) -> None:
    server.script_always("/notify_build_result", (status, {}))
    hand(agent, 1)
    server.wait_call("/notify_build_result")
    wait_for(lambda: not undelivered(agent), what="no more undelivered")
    holds_for(lambda: len(server.made("/notify_build_result")) == 1, 1.5, "sent once")


@pytest.mark.parametrize("answer", [401, 408, 429, 500, 502, 503, DROP])
def test_rule_10_what_is_tried_again(server: FakeServer, agent: AgentProcess, answer: Any) -> None:
    script = answer if answer == DROP else (answer, {"error": "later"})
    server.script("/notify_build_result", script, script, script)
    hand(agent, 1, "echo text")
    server.wait_result(1, within=60)
    assert len(server.made("/notify_build_result")) == 4
    assert server.stream(1, "stdout") == b"text\n"


@pytest.mark.parametrize("status", [400, 403, 405, 413, 421])
def test_rule_10_another_refusal_sets_the_result_aside(
    place: Place, server: FakeServer, agent: AgentProcess, status: int
) -> None:
    server.script("/notify_build_result", (status, {"error": "I do not like it"}))
    hand(agent, 1, "echo precious")
    server.wait_call("/notify_build_result")
    hand(agent, 2, "echo next")
    assert server.wait_result(2)["status"] == "0"
    wait_for(lambda: not undelivered(agent), what="nothing undelivered")
    wait_for(lambda: str(agent.data) in agent.log(), what="the folder named in the log")
    found = [p for p in agent.data.rglob("*") if p.is_file() and b"precious" in p.read_bytes()]
    assert found and any(
        str(folder) in agent.log()
        for folder in found[0].parents
        if folder != agent.data and agent.data in folder.parents
    )


def test_rule_10_in_the_order_of_finishing_across_restarts(
    place: Place, server: FakeServer
) -> None:
    agent = place.agent(server)
    server.script_always("/notify_build_result", (503, {"error": "later"}))
    server.script_always("/notify_build_output", (503, {"error": "later"}))
    order = [3, 1, 2]
    for number in order:
        hand(agent, number, f"echo text of {number}; echo err {number} >&2")
        wait_for(lambda: number in undelivered(agent), what=f"{number} undelivered")
    agent.kill()
    agent.restart()
    assert undelivered(agent) == order
    server.script_always("/notify_build_result", None)
    server.script_always("/notify_build_output", None)
    wait_for(lambda: len(server.results) == 3, 60, "three results")
    assert [int(result["id"]) for result in server.results] == order
    for number in order:
        assert server.stream(number, "stdout") == f"text of {number}\n".encode()
        assert server.stream(number, "stderr") == f"err {number}\n".encode()


def test_rule_10_delivery_does_not_hold_up_the_next_build(
    place: Place, server: FakeServer, agent: AgentProcess
) -> None:
    server.script_always("/notify_build_result", HANG)
    hand(agent, 1)
    server.wait_call("/notify_build_result")
    ran = place.folder / "ran"
    hand(agent, 2, f"touch {ran}")
    wait_for(ran.exists, what="the next build")


# Rule 11.


def test_rule_11_sigterm_hands_builds_back(place: Place, server: FakeServer) -> None:
    agent = place.agent(server, slots=2)
    hand(agent, 1, "echo on; sleep 994")
    hand(agent, 2, "echo on; sleep 995")
    for number in (1, 2):
        wait_for(lambda: server.stream(number, "stdout") == b"on\n", what="begun")
    assert agent.stop(15) == 0
    returned = server.made("/notify_build_returned")
    assert sorted(call.params["id"] for call in returned) == ["1", "2"]
    assert {call.params["attempt"] for call in returned} == {"1"}
    assert not server.results and not commands_left(place.marker)


def test_rule_11_it_takes_no_more_builds(place: Place, server: FakeServer) -> None:
    agent = place.agent(server, slots=2)
    hand(agent, 1, "trap '' TERM; echo on; while :; do sleep 0.1; done")
    wait_for(lambda: server.stream(1, "stdout") == b"on\n", what="begun")
    agent.send_signal(signal.SIGTERM)
    refused = False
    while agent.alive and not refused:
        try:
            params = {"id": 2, "repository": "/x", "commit": "HEAD", "command": "true"}
            refused = agent.post("/build", params).status == 503
        except OSError:
            refused = True
    assert agent.wait_end(15) == 0 and refused


# Rule 12.


def test_rule_12_an_agent_that_starts_ends_what_its_earlier_life_left(
    place: Place, server: FakeServer
) -> None:
    agent = place.agent(server)
    hand(agent, 1, "setsid sleep 996 & sleep 997")
    wait_for(lambda: len(commands_left(place.marker)) >= 2, what="begun")
    agent.kill()
    agent.restart()
    wait_for(lambda: not commands_left(place.marker), 5, "all ended")


def test_rule_12_a_fetch_ends_with_its_agent(place: Place, server: FakeServer) -> None:
    """However long the repository would not have answered."""
    agent = place.agent(server)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        hand(agent, 1, repository=f"git://127.0.0.1:{silent.getsockname()[1]}/x")
        connection, _ = silent.accept()
        with connection, connection.makefile("rb") as asked:
            connection.settimeout(10)
            asked.read(4)
            agent.kill()
            assert b"git-upload-pack" in asked.read(), "and its end"


def test_rule_12_it_ends_nobody_elses_processes(place: Place, server: FakeServer) -> None:
    """A process that looks like its own, but that it did not start, lives on."""
    other = place.keep(FakeServer())
    stranger = place.agent(other)
    hand(stranger, 1, "echo on; sleep 998")
    wait_for(lambda: other.stream(1, "stdout") == b"on\n", what="begun")
    agent = place.agent(server)
    hand(agent, 1, "sleep 998 & true")
    server.wait_result(1)
    agent.kill()
    agent.restart()
    time.sleep(0.5)
    assert [each["id"] for each in stranger.ping()["running"]] == [1]


# Rule 13.


def test_rule_13_the_end_of_the_command_is_the_end(place: Place, server: FakeServer) -> None:
    agent = place.agent(server)
    begun = time.monotonic()
    hand(agent, 1, "(sleep 5; echo late) & echo early")
    result = server.wait_result(1)
    assert time.monotonic() - begun < 4
    assert result["status"] == "0" and server.stream(1, "stdout") == b"early\n"


def test_rule_13_all_that_was_written_before_the_end_is_there(
    server: FakeServer, agent: AgentProcess
) -> None:
    hand(agent, 1, "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2")
    server.wait_result(1)
    assert server.stream(1, "stdout") == b"x" * 3_000_000
    assert server.stream(1, "stderr") == b"end\n"


# Rule 15.


def clocked(place: Place, clock: Path) -> dict[str, str]:
    """An environment in which the wall clock is off by the seconds written in `clock`."""
    clock.write_text("0")
    return {"PYTHONPATH": f"{CRASH_HOOK}:{ROOT}", "TEST_CLOCK": str(clock)}


@pytest.mark.parametrize("jump", [100_000, -100_000])
def test_rule_15_clocks_may_jump(place: Place, jump: int) -> None:
    clock = place.folder / "clock"
    server = place.server(clocked(place, clock), build_timeout="60s", agent_timeout="10s")
    place.agent(server, clocked(place, clock))
    gate = place.folder / "gate"
    number = server.start_build(command=f"while [ ! -e {gate} ]; do sleep 0.05; done; echo end")
    server.wait_status(number, "running")
    clock.write_text(str(jump))
    holds_for(lambda: server.build(number)["attempt"] == 1, 1.5, "nothing is orphaned")
    gate.touch()
    known = server.wait_final(number)
    assert known["status"] == "success" and known["attempt"] == 1
    for event in server.live(number).all()[:-1]:
        assert 0 <= event.data["seconds"] < 60
    later = server.start_build()
    assert server.wait_final(later)["status"] == "success"


# Rule 20.


def test_rule_20_it_works_for_the_server_that_it_registers_with(
    place: Place, server: FakeServer
) -> None:
    server.script_always("/notify_agent", (200, {"instance": "one"}))
    agent = place.agent(server)
    server.wait_agent()
    wait_for(lambda: "registered with" in agent.log())

    def call(method: str, path: str, word: str, **params: Any) -> int:
        if method == "GET":
            return agent.get(path, {"X-Minici-Instance": word}).status
        return agent.post(path, params, X_Minici_Instance=word).status

    order = {"repository": place.repository.path, "commit": "HEAD", "attempt": 1}
    build = {**order, "id": 1, "command": "echo on; sleep 994"}
    made = len(server.made("/notify_agent"))
    assert call("POST", "/build", "copy", **build) == 409
    assert len(server.made("/notify_agent")) == made + 1, "it has asked its own server first"
    assert agent.ping()["running"] == []
    assert call("POST", "/build", "one", **build) == 202
    wait_for(lambda: server.stream(1, "stdout") == b"on\n")
    assert call("GET", "/ping", "copy") == call("POST", "/cancel", "copy", id=1) == 409
    assert call("GET", "/ping", "one") == 200
    assert [each["id"] for each in agent.ping()["running"]] == [1], "no header: as before"
    server.script_always("/notify_agent", (200, {"instance": "two"}))
    made = len(server.made("/notify_agent"))
    assert call("POST", "/cancel", "two", id=1) == 200, "its server was started again"
    assert len(server.made("/notify_agent")) == made + 1
    assert server.wait_result(1)["reason"] == "cancelled"
    assert call("GET", "/ping", "one") == 409
    refusals = "refused the calls of a server"
    wait_for(lambda: agent.log().count(refusals) == 2, what="a line for each word")


def test_rule_20_a_copy_finds_no_agent_while_the_server_is_away(
    place: Place, server: FakeServer
) -> None:
    server.script_always("/notify_agent", (200, {"instance": "one"}))
    agent = place.agent(server)
    wait_for(lambda: "registered with" in agent.log())
    server.close()
    assert agent.get("/ping", {"X-Minici-Instance": "copy"}).status == 409
    assert agent.get("/ping", {"X-Minici-Instance": "one"}).status == 200


def test_rule_20_an_agent_that_has_not_registered_yet_serves_no_copy(place: Place) -> None:
    """It was started while its own server was away, and a copy of that one knows its address."""
    server = place.keep(FakeServer())
    server.close()
    agent = place.agent(server)
    order = {"id": 1, "attempt": 1, "repository": place.repository.path, "commit": "HEAD"}
    reply = agent.post("/build", {**order, "command": "true"}, X_Minici_Instance="copy")
    assert reply.status == agent.get("/ping", {"X-Minici-Instance": "copy"}).status == 409
    assert agent.ping()["running"] == [], "no header: as before"
    server.script_always("/notify_agent", (200, {"instance": "one"}))
    server.open()
    assert agent.get("/ping", {"X-Minici-Instance": "one"}).status == 200
    assert agent.get("/ping", {"X-Minici-Instance": "copy"}).status == 409


def test_rule_20_servers_and_agents_that_know_nothing_of_it(agent: AgentProcess) -> None:
    wait_for(lambda: "registered with" in agent.log())
    assert agent.get("/ping", {"X-Minici-Instance": "any"}).status == 200
