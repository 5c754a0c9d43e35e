"""Faults 7 to 11: agents lost, with real agents."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.support.harness import AgentProcess, Place, ServerProcess, commands_left, wait_for


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
