"""Faults 7 to 11, 64, 66 and 69: agents that are lost or can't work."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from tests.support.fakes import FakeAgent
from tests.support.harness import (
    AgentProcess,
    Place,
    ServerProcess,
    commands_left,
    holds_for,
    wait_for,
)


def until(gate: Path) -> str:
    """A command that runs until the gate is there."""
    return f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"


def begun(server: ServerProcess, number: int, attempt: int = 1) -> None:
    """Wait until the command of this attempt has said so."""

    def seen() -> bool:
        known = server.build(number)
        return bool(known["attempt"] == attempt and server.output(number) == b"begun\n")

    wait_for(seen, what=f"build {number} begun as attempt {attempt}")


def test_fault_07_an_agent_killed_in_mid_build(place: Place) -> None:
    server = place.server(ping_interval="0.5s")
    dying = place.agent(server)
    number = server.start_build(command=until(place.folder / "gate"))
    begun(server, number)
    dying.kill()
    killed = time.monotonic()
    wait_for(lambda: server.build(number)["status"] == "queued", what="the build queued again")
    assert time.monotonic() - killed < 2 * 0.5 + 1 + 1  # two pings, a second, a busy machine
    wait_for(lambda: not commands_left(place.marker), 10, "what it ran is gone")
    place.agent(server)
    begun(server, number, 2)
    (place.folder / "gate").touch()
    known = server.wait_final(number)
    assert known["status"] == "success" and known["attempt"] == 2
    assert server.output(number) == b"begun\ndone\n"
    assert [each["ending"] for each in known["attempts"]] == ["silent", "finished"]
    assert known["attempts"][0]["agent"] != known["attempts"][1]["agent"] == known["agent"]


def test_fault_08_an_agent_stopped_and_continued(place: Place) -> None:
    server = place.server(agent_timeout="1s")
    frozen = place.agent(server)
    number = server.start_build(command=until(place.folder / "gate"))
    begun(server, number)
    old = set(commands_left(place.marker))
    frozen.pause()
    wait_for(lambda: server.build(number)["status"] == "queued", what="the build queued again")
    place.agent(server)
    begun(server, number, 2)
    frozen.resume()
    wait_for(lambda: not old & set(commands_left(place.marker)), 20, "its old processes end")
    assert server.build(number)["attempt"] == 2
    (place.folder / "gate").touch()
    known = server.wait_final(number)
    assert known["status"] == "success" and known["attempt"] == 2
    assert server.output(number) == b"begun\ndone\n"
    wait_for(lambda: frozen.ping()["running"] == [], what="the first agent is free")
    wait_for(lambda: frozen.ping()["undelivered"] == [], what="and owes nothing")


def test_fault_08_while_nobody_else_is_there(place: Place) -> None:
    """It comes back before another took the build: in the end it ran once or twice, counts once."""
    server = place.server(agent_timeout="1s")
    frozen = place.agent(server)
    number = server.start_build(command=until(place.folder / "gate"))
    begun(server, number)
    frozen.pause()
    wait_for(lambda: server.build(number)["status"] == "queued", what="the build queued again")
    frozen.resume()
    (place.folder / "gate").touch()
    known = server.wait_final(number)
    assert known["status"] == "success"
    assert server.output(number) == b"begun\ndone\n"


def test_fault_09_a_command_that_kills_its_agent(place: Place) -> None:
    server = place.server()
    agent = place.configure_agent(server)
    pid = place.folder / "pid"
    kill = f"while ! kill -9 $(cat {pid}); do sleep 0.1; done; sleep 30"
    number = server.start_build(command=kill)
    following = server.start_build(command="echo next")
    for life in range(3):
        agent.start() if life == 0 else agent.restart()
        pid.write_text(str(agent.pid))
        wait_for(lambda: not agent.alive, what="the agent killed")
        pid.unlink()
    known = server.wait_status(number, "lost")
    assert len(known["attempts"]) == 3
    assert known["attempts"][0]["agent"] in known["reason"]
    agent.restart()
    assert server.wait_final(following)["status"] == "success"
    assert agent.alive


def test_fault_10_an_agent_restarted_within_one_ping(place: Place) -> None:
    server = place.server(ping_interval="2s")
    agent = place.agent(server)
    number = server.start_build(command=until(place.folder / "gate"))
    begun(server, number)
    old = set(commands_left(place.marker))
    agent.kill()
    agent.restart()
    restarted = time.monotonic()
    wait_for(lambda: server.build(number)["attempt"] == 2, what="the build orphaned")
    assert time.monotonic() - restarted < 2 * 2 + 1 + 1
    assert not old & set(commands_left(place.marker)), "its old processes are gone"
    begun(server, number, 2)
    (place.folder / "gate").touch()
    assert server.wait_final(number)["status"] == "success"


def test_fault_11_sigterm_with_two_builds(place: Place) -> None:
    server = place.server(max_attempts=1)
    agent = place.agent(server, slots=2)
    order = place.folder / "order"
    gate = place.folder / "gate"
    numbers = [
        server.start_build(command=f"echo $MINICI_BUILD_ID >> {order}; {until(gate)}")
        for _ in range(3)
    ]
    for number in numbers[:2]:
        begun(server, number)
    order.unlink()
    stopped = time.monotonic()
    agent.send_signal(signal.SIGTERM)
    for number in numbers[:2]:
        server.wait_status(number, "queued")
    assert agent.wait_end(15) == 0 and time.monotonic() - stopped < 15
    assert not commands_left(place.marker)
    assert [server.build(n)["attempts"][0]["ending"] for n in numbers[:2]] == ["returned"] * 2
    gate.touch()
    place.agent(server)
    for number in numbers:
        assert server.wait_final(number)["status"] == "success"
    assert order.read_text().split() == [str(number) for number in numbers]


def test_fault_11_commands_that_ignore_sigterm(place: Place) -> None:
    server = place.server()
    agent = place.agent(server)
    number = server.start_build(command="trap '' TERM; echo begun; while :; do sleep 0.1; done")
    begun(server, number)
    assert agent.stop(15) == 0
    server.wait_status(number, "queued")
    assert not commands_left(place.marker)


def test_fault_11_without_a_server(place: Place) -> None:
    """Nobody takes the build back: the agent ends in time all the same."""
    server = place.server()
    agent: AgentProcess = place.agent(server)
    number = server.start_build(command="echo begun; sleep 999")
    begun(server, number)
    server.kill()
    assert agent.stop(15) == 0
    server.restart()
    agent.restart()
    wait_for(lambda: server.build(number)["attempt"] == 2, what="the build goes on")


def test_fault_66_rule_06_a_build_that_kills_its_agents_takes_no_other_with_it(
    place: Place,
) -> None:
    server = place.server()
    agent = place.configure_agent(server, slots=3)
    pid, gate = place.folder / "pid", place.folder / "gate"
    kill = f"{until(pid)}; sleep 0.2; kill -9 $(cat {pid}); sleep 30"
    killer = server.start_build(command=kill)
    innocent = server.start_build(command=until(gate))
    for life in (1, 2):
        agent.start() if life == 1 else agent.restart()
        begun(server, killer, life)
        begun(server, innocent, life)
        pid.write_text(str(agent.pid))
        wait_for(lambda: not agent.alive, what="the agent killed")
        pid.unlink()
        wait_for(lambda: server.build(innocent)["status"] == "queued", what="both queued again")
    other = server.start_build(command="echo other")
    agent.restart()
    begun(server, killer, 3)
    holds_for(
        lambda: server.build(innocent)["status"] == server.build(other)["status"] == "queued",
        1,
        "nothing is beside it",
    )
    pid.write_text(str(agent.pid))
    assert server.wait_final(killer)["status"] == "lost"
    agent.restart()
    begun(server, innocent, 3)
    assert server.build(other)["status"] == "queued", "it is on its last attempt, too"
    gate.touch()
    assert server.wait_final(innocent)["status"] == "success"
    assert server.wait_final(other)["status"] == "success"


def test_fault_66_others_go_on_elsewhere_meanwhile(place: Place) -> None:
    """The last attempt waits until an agent is idle, and that one is kept free for it."""
    server = place.server(max_attempts=2)
    first, second = (place.keep(FakeAgent(server, name, slots=4)) for name in ("first", "second"))
    unlucky, beside_first, beside_second, _ = (server.start_build() for _ in range(4))
    of_first = first.wait_build(2)
    second.wait_build(2)
    assert {int(each["id"]) for each in first.builds} == {unlucky, beside_second}
    first.forget(first.builds[0])
    wait_for(lambda: server.build(unlucky)["attempts"][0]["ending"] == "forgotten")
    other = server.start_build()
    assert int(second.wait_build(3)["id"]) == other
    assert server.build(unlucky)["status"] == "queued" and beside_first
    assert first.result(of_first).status == 200
    assert first.wait_build(3)["attempt"] == "2", "alone, on the agent that has become idle"
    more = server.start_build()
    assert int(second.wait_build(4)["id"]) == more and len(first.builds) == 3
    assert first.result(first.builds[2]).status == 200
    assert server.wait_final(unlucky)["status"] == "success"


def test_fault_64_rule_21_an_agent_in_trouble_loses_no_build(place: Place) -> None:
    """It gives builds back, is named as what it is, and gets none until it can work again."""
    server = place.server(max_attempts=1)
    agent = place.keep(FakeAgent(server, "poor"))
    number = server.start_build()
    agent.trouble = "no space left"
    build = agent.wait_build()
    agent.forget(build)
    returned = {"id": build["id"], "attempt": 1, "reason": "no space left"}
    assert agent.call("/notify_build_returned", returned).status == 200
    known = server.build(number)
    assert known["status"] == "queued" and known["attempts"][0]["ending"] == "unable"
    assert known["attempts"][0]["reason"] == "agent poor gave it back: no space left"
    assert known["attempts"][0]["reason_key"] == "gave_back"
    agent.wait_pings(5)
    assert len(agent.builds) == 1 and server.build(number)["status"] == "queued"
    agent.trouble = None
    assert agent.wait_build(2)["attempt"] == "2"
    assert agent.result(agent.builds[1]).status == 200
    assert server.wait_final(number)["status"] == "success"


def test_fault_69_what_is_kept_of_a_lost_builds_output_is_counted(place: Place) -> None:
    server = place.server(max_attempts=1)
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    build = agent.wait_build()
    assert agent.output(build, "stdout", 0, b"one\n").status == 200
    assert agent.output(build, "stderr", 0, b"two, \n").status == 200
    agent.forget(build)
    known = server.wait_status(number, "lost")
    assert (known["stdout_bytes"], known["stderr_bytes"]) == (4, 6)
    record = json.loads((server.data / "builds" / str(number) / "build.json").read_text())
    assert (record["stdout_bytes"], record["stderr_bytes"], record["dropped_bytes"]) == (4, 6, 0)
    assert server.output(number) == b"one\ntwo, \n"


def test_fault_69_what_is_kept_of_an_abandoned_builds_output_is_counted(place: Place) -> None:
    """The agent did not say in time that the cancelled command has ended."""
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    build = agent.wait_build()
    assert agent.output(build, "stdout", 0, b"one\n").status == 200
    server.post(f"/build/{number}/cancel")
    assert server.wait_status(number, "cancelled")["stdout_bytes"] == 4
    record = json.loads((server.data / "builds" / str(number) / "build.json").read_text())
    assert record["stdout_bytes"] == 4 and record["exit_status"] is None
