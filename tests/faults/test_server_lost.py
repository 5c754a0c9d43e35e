"""Faults 12 to 18, and 65: a server lost, partition, late results, a copy of a server."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import Call, FakeAgent
from tests.support.harness import (
    AgentProcess,
    Place,
    ServerProcess,
    commands_left,
    holds_for,
    wait_for,
)
from tests.support.proxy import DEAF, HANG, PASS


def until(gate: Path) -> str:
    return f"while [ ! -e {gate} ]; do sleep 0.05; done"


def test_fault_12_a_server_killed_with_five_queued_and_three_running(place: Place) -> None:
    server = place.server()
    place.agent(server, slots=3)
    ran, gate = place.folder / "ran", place.folder / "gate"
    command = f"echo $MINICI_BUILD_ID >> {ran}; {until(gate)}; echo done $MINICI_BUILD_ID"
    numbers = [server.start_build(command=command) for _ in range(8)]
    wait_for(lambda: ran.exists() and len(ran.read_text().split()) == 3, what="three running")
    server.kill()
    time.sleep(1)
    server.restart()
    statuses = [server.build(number)["status"] for number in numbers]
    assert statuses == ["running"] * 3 + ["queued"] * 5
    gate.touch()
    for number in numbers:
        known = server.wait_final(number)
        assert known["status"] == "success" and known["attempt"] == 1
        assert server.output(number) == f"done {number}\n".encode()
    assert sorted(ran.read_text().split(), key=int) == [str(number) for number in numbers]


@pytest.mark.parametrize("killed", [False, True], ids=["agent-lives", "agent-killed"])
def test_fault_13_three_builds_finish_while_the_server_is_away(place: Place, killed: bool) -> None:
    server = place.server()
    agent = place.agent(server, slots=3)
    chance = random.Random(13)
    data = {number: chance.randbytes(200_000) for number in (1, 2, 3)}
    for number, content in data.items():
        (place.folder / f"data{number}").write_bytes(content)
        source, gate = place.folder / f"data{number}", place.folder / f"gate{number}"
        assert number == server.start_build(
            command=f"head -c 90000 {source}; {until(gate)}; tail -c +90001 {source}; echo e >&2"
        )
    for number in data:
        wait_for(lambda: len(server.output(number, "stdout")) == 90_000, what="the first part")
    server.kill()
    for number in (2, 3, 1):
        (place.folder / f"gate{number}").touch()
        ids = [2, 3, 1][: [2, 3, 1].index(number) + 1]
        wait_for(lambda: [u["id"] for u in agent.ping()["undelivered"]] == ids, what="finished")
    if killed:
        agent.kill()
        agent.restart()
        assert [u["id"] for u in agent.ping()["undelivered"]] == [2, 3, 1]
    server.restart()
    returned = time.monotonic()
    known = [server.wait_final(number, within=40) for number in (2, 3, 1)]
    assert time.monotonic() - returned < 30
    assert [build["status"] for build in known] == ["success"] * 3
    finished = [build["finished_at"] for build in known]
    assert finished == sorted(finished), "in the order of finishing"
    for number, content in data.items():
        assert server.output(number, "stdout") == content
        assert server.output(number, "stderr") == b"e\n"
        assert server.build(number)["attempt"] == 1


def proxied(place: Place, server: ServerProcess) -> tuple[Any, AgentProcess]:
    """An agent that reaches the server through a proxy."""
    proxy = place.proxy(server.port)
    agent = place.configure_agent(proxy).start()
    server.wait_agents(1)
    return proxy, agent


def test_fault_15_the_200_to_a_result_is_cut_off(place: Place) -> None:
    server = place.server()
    proxy, agent = proxied(place, server)
    gate = place.folder / "gate"
    number = server.start_build(command=f"echo before; {until(gate)}; echo after")
    wait_for(lambda: server.output(number) == b"before\n", what="begun")
    proxy.mode = DEAF
    gate.touch()
    before = server.wait_final(number)
    assert [each["id"] for each in agent.ping()["undelivered"]] == [number]
    count = proxy.counts["connections"]
    wait_for(lambda: proxy.counts["connections"] >= count + 3, what="more tries")
    proxy.mode = PASS
    wait_for(lambda: agent.ping()["undelivered"] == [], 60, "delivered")
    assert server.build(number) == before
    assert server.output(number) == b"before\nafter\n"


@pytest.mark.parametrize("at", [1, 12, 40])
def test_fault_15_the_answer_is_cut_in_the_middle(place: Place, at: int) -> None:
    server = place.server()
    proxy, agent = proxied(place, server)
    go = place.folder / "go"
    number = server.start_build(
        command=f"echo go; until [ -e {go} ]; do sleep 0.1; done; echo text"
    )
    wait_for(lambda: server.output(number) == b"go\n", 60, "the command, after all of git's text")
    proxy.cut_after = at
    go.touch()
    known = server.wait_final(number)
    time.sleep(0.5)
    proxy.cut_after = None
    wait_for(lambda: agent.ping()["undelivered"] == [], 60, "delivered")
    assert server.build(number) == known and server.output(number) == b"go\ntext\n"


def test_fault_16_attempt_1_fails_after_attempt_2_succeeded(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    first = agent.wait_build()
    agent.output(first, "stdout", 0, b"one")
    agent.close()
    server.wait_status(1, "queued")
    place.agent(server)
    known = server.wait_final(1)
    assert known["status"] == "success" and known["attempt"] == 2
    assert agent.result(first, 1, "one and only").status == 200
    assert server.build(1) == known
    assert agent.output(first, "stdout", 3, b"more").status == 410


def test_fault_17_attempt_1_comes_back_while_attempt_2_runs(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build(command="echo second; sleep 999")
    first = agent.wait_build()
    agent.output(first, "stdout", 0, b"first ")
    agent.close()
    real = place.configure_agent(server).start()
    wait_for(lambda: server.output(number) == b"second\n", what="attempt 2 running")
    assert agent.result(first, 4, "come back", stdout_offset=6).status == 200
    known = server.build(number)
    assert (known["status"], known["exit_status"], known["attempt"]) == ("failure", 4, 1)
    wait_for(lambda: not commands_left(place.marker), 15, "attempt 2 stopped")
    wait_for(lambda: real.ping()["running"] == [] and real.ping()["undelivered"] == [], 15, "free")
    assert server.build(number) == known
    assert server.output(number) == b"first come back"


def test_fault_18_a_delayed_answer_to_a_ping_from_before(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server, slots=9))

    def stale(call: Call) -> Any:
        lists = {"running": list(agent.running), "undelivered": []}
        count = len(agent.builds)
        server.start_build()
        agent.wait_build(count + 1)
        time.sleep(0.4)
        return 200, {"name": agent.name, "slots": 9, **lists}

    for count in range(1, 6):
        agent.script("/ping", stale)
        agent.wait_build(count)
        agent.wait_pings(3)
    for number in range(1, 6):
        known = server.build(number)
        assert known["status"] == "running" and known["attempt"] == 1, known
    assert len(agent.builds) == 5


def test_fault_18_through_a_slow_line(place: Place) -> None:
    server = place.server(agent_timeout="5s")
    agent = place.configure_agent(server)
    port = place.keep(FakeAgent(server, register=False))  # a free port for the agent
    agent.sections["agent"]["port"] = port.port
    port.close()
    line = place.proxy(port.port)
    agent.sections["agent"]["advertise"] = line.address
    line.delay = 0.3
    agent.start()
    server.wait_agents(1)
    numbers = [server.start_build(command="sleep 0.3; echo ran") for _ in range(4)]
    for number in numbers:
        known = server.wait_final(number)
        assert known["status"] == "success" and known["attempt"] == 1


def test_a_partition_between_server_and_agent_heals(place: Place) -> None:
    """The server can't reach the agent, the agent can reach the server: the result counts once."""
    server = place.server(agent_timeout="1s")
    agent = place.configure_agent(server)
    free = place.keep(FakeAgent(server, register=False))
    agent.sections["agent"]["port"] = free.port
    free.close()
    line = place.proxy(free.port)
    agent.sections["agent"]["advertise"] = line.address
    agent.start()
    server.wait_agents(1)
    gate = place.folder / "gate"
    number = server.start_build(command=f"echo on; {until(gate)}")
    wait_for(lambda: server.output(number) == b"on\n", what="begun")
    line.mode = HANG
    wait_for(lambda: server.build(number)["attempts"][0]["ending"] == "silent", what="orphaned")
    gate.touch()
    holds_for(lambda: server.build(number)["status"] != "lost", 1, "it is not lost")
    line.mode = PASS
    known = server.wait_final(number)
    assert known["status"] == "success" and server.output(number) == b"on\n"


def test_fault_65_rule_20_a_copy_of_the_data_folder_disturbs_nothing(place: Place) -> None:
    server = place.server()
    agent = place.agent(server, slots=2)
    gate, order = place.folder / "gate", place.folder / "order"
    command = f"echo $MINICI_BUILD_ID >> {order}; echo begun; {until(gate)}; echo done"
    running = [server.start_build(command=command) for _ in range(2)]
    waiting = server.start_build(command=command)
    for number in running:
        wait_for(lambda: server.output(number) == b"begun\n", what=f"build {number} begun")
    data = place.folder / "backup"
    shutil.copytree(server.data, data)
    drill = place.server(data=data, agent_timeout="1s", max_attempts=1)
    wait_for(lambda: "takes no builds: it works for another server" in drill.log())
    assert drill.post(f"/build/{running[0]}/cancel").status == 303
    more = drill.start_build(command=command)

    def undisturbed() -> bool:
        shown = {each["id"]: each for each in drill.api("/builds")["builds"]}
        assert not drill.agents()[0]["gone"]
        return (
            {shown[number]["status"] for number in running} == {"running"}
            and {shown[number]["status"] for number in (waiting, more)} == {"queued"}
            and {shown[number]["attempt"] for number in (waiting, more)} == {0}
            and all(server.build(number)["status"] == "running" for number in running)
        )

    holds_for(undisturbed, 3, "both show everything as it was")
    drill.kill()
    drill.restart()
    gate.touch()
    for number in (*running, waiting):
        known = server.wait_final(number)
        assert (known["status"], known["attempt"]) == ("success", 1)
        assert server.output(number) == b"begun\ndone\n"
    assert sorted(map(int, order.read_text().split())) == [*running, waiting], "each ran once"
    assert agent.alive and f"build {more}" not in agent.log()


def test_rule_20_the_word_of_the_server_goes_along_with_every_call(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server, register=False))
    word = agent.register().json()["instance"]
    assert word and agent.register().json()["instance"] == word
    number = server.start_build()
    agent.wait_build()
    server.post(f"/build/{number}/cancel")
    agent.wait_call("/cancel")
    agent.wait_pings()
    called = {(call.path, call.headers.get("x-minici-instance")) for call in agent.calls}
    assert called == {("/build", word), ("/cancel", word), ("/ping", word)}
    server.kill()
    server.restart()
    assert agent.register().json()["instance"] != word


def test_rule_20_an_agent_of_another_server_gets_nothing_and_loses_nothing(place: Place) -> None:
    server = place.server(agent_timeout="1s")
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    build = agent.wait_build()
    for path in ("/ping", "/build", "/cancel"):
        agent.script_always(path, (409, {"error": "this agent works for another server"}))
    agent.running.clear()
    waiting = server.start_build()
    agent.wait_pings(15)
    assert server.build(number)["status"] == "running" and not server.agents()[0]["gone"]
    assert server.build(waiting)["status"] == "queued"
    for path in ("/ping", "/build", "/cancel"):
        agent.script_always(path, None)
    agent.running.append({"id": number, "attempt": 1})
    assert agent.result(build).status == 200
    assert agent.wait_build(2)["id"] == str(waiting)
