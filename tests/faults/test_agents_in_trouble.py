"""Fault 64, and rule 21: agents that can't work lose no build, and go on when they can."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.crashes import Hook
from tests.support.fakes import FakeServer
from tests.support.harness import AgentProcess, Place, holds_for, wait_for
from tests.support.http_client import Reply

only_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk"
)


@pytest.fixture
def server(place: Place) -> FakeServer:
    return place.keep(FakeServer())


def hand(agent: AgentProcess, number: int, command: str = "true") -> Reply:
    about = {"id": number, "attempt": 1, "repository": agent.place.repository.path}
    return agent.post("/build", {**about, "commit": "HEAD", "command": command})


def trouble(agent: AgentProcess) -> Any:
    return agent.ping()["trouble"]


def assert_goes_on(agent: AgentProcess, server: FakeServer, number: int) -> None:
    wait_for(lambda: trouble(agent) is None, 30, "no trouble any more")
    assert hand(agent, number, "echo fine").status == 202
    server.wait_result(number)
    assert server.stream(number, "stdout") == b"fine\n"
    assert "takes builds again" in agent.log()


def test_fault_64_a_full_disk_takes_no_builds(place: Place, server: FakeServer) -> None:
    data = place.folder / "data"
    hook = Hook(place, data)
    agent = place.agent(server, hook.env, data=data)
    assert trouble(agent) is None
    hook.no_space()
    for number in (1, 2):
        reply = hand(agent, number)
        assert reply.status == 503 and "No space left on device" in reply.error()
    assert trouble(agent) == "the agent's data folder can't be written: No space left on device"
    assert agent.ping()["running"] == []
    hook.space()
    assert_goes_on(agent, server, 1)


def test_fault_64_a_disk_that_fills_up_gives_the_build_back(
    place: Place, server: FakeServer
) -> None:
    """And not once the server is there again: until it has answered, pings name the build."""
    data, gate = place.folder / "data", place.folder / "gate"
    hook = Hook(place, data)
    agent = place.agent(server, hook.env, data=data)
    hand(agent, 1, f"echo on; while [ ! -e {gate} ]; do sleep 0.05; done; echo more")
    wait_for(lambda: server.stream(1, "stdout") == b"on\n")
    server.script("/notify_build_returned", (503, {"error": "later"}), (500, b"oops"))
    hook.no_space()
    gate.touch()
    server.wait_call("/notify_build_returned")
    assert agent.ping()["running"] == [{"id": 1, "attempt": 1}]
    told = server.wait_call("/notify_build_returned", 3).params
    sentence = "the agent's data folder can't be written: No space left on device"
    assert (told["id"], told["attempt"], told["reason"]) == ("1", "1", sentence)
    assert told["reason_key"] == "agent_disk"
    assert json.loads(told["reason_values"]) == {"error": "No space left on device"}
    wait_for(lambda: agent.ping()["running"] == [])
    assert trouble(agent) == sentence and hand(agent, 2).status == 503
    hook.space()
    assert_goes_on(agent, server, 2)
    assert [result["id"] for result in server.results] == ["2"]


def test_fault_64_a_result_that_is_here_is_no_new_build(place: Place, server: FakeServer) -> None:
    """Whoever asks again for a build that waits to be delivered is told that it is here."""
    data = place.folder / "data"
    hook = Hook(place, data)
    agent = place.agent(server, hook.env, data=data)
    server.script_always("/notify_build_result", (503, {"error": "later"}))
    hand(agent, 1)
    wait_for(lambda: agent.ping()["undelivered"])
    hook.no_space()
    assert hand(agent, 2).status == 503 and hand(agent, 1).status == 202
    server.script_always("/notify_build_result", None)
    hook.space()
    server.wait_result(1)


@pytest.fixture
def small_disk(place: Place) -> Iterator[Path]:
    folder = place.folder / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        for process in place.processes:
            process.kill()
        subprocess.run(["umount", str(folder)], check=True)


@only_root
def test_fault_64_a_disk_that_is_really_full(
    place: Place, server: FakeServer, small_disk: Path
) -> None:
    agent = place.agent(server, data=small_disk / "data")
    assert hand(agent, 1).status == 202
    server.wait_result(1)
    fill = small_disk / "fill"
    with pytest.raises(OSError), open(fill, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert hand(agent, 2).status == 503
    assert "No space left" in trouble(agent)
    agent.kill()
    agent.restart()
    assert "No space left" in trouble(agent), "it need not fail a build to know"
    fill.unlink()
    assert_goes_on(agent, server, 2)


@only_root
def test_fault_64_a_repository_for_which_there_is_no_space(
    place: Place, server: FakeServer, small_disk: Path
) -> None:
    """git says so: that is no failure of the build."""
    agent = place.agent(server, data=small_disk / "data")
    large = place.folder / "large"
    subprocess.run(["git", "init", "-q", str(large)], check=True)
    (large / "file").write_bytes(os.urandom(6_000_000))
    call = ["git", "-C", str(large), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*call, "add", "."], check=True)
    subprocess.run([*call, "commit", "-q", "-m", "large"], check=True)
    about = {"id": 1, "attempt": 1, "repository": f"file://{large}", "commit": "HEAD"}
    assert agent.post("/build", {**about, "command": "true"}).status == 202
    told = server.wait_call("/notify_build_returned", within=60).params
    assert "No space left" in told["reason"] and not server.results
    assert_goes_on(agent, server, 2)


@pytest.mark.parametrize(
    ("verb", "said", "reason"),
    [
        ("fetch", "fatal: write error: No space left on device", "No space left on device"),
        ("checkout", "error: unable to write file noise", "unable to write file noise"),
        ("checkout", "error: cannot update ref: couldn't write 'HEAD.lock'", "couldn't write"),
    ],
)
def test_fault_64_space_that_git_lacked_and_gave_back(
    place: Place, server: FakeServer, verb: str, said: str, reason: str
) -> None:
    """The disk has room again by the time at which the result would be kept."""
    full = place.folder / "full"
    full.touch()
    programs = place.folder / "programs"
    programs.mkdir()
    shim = programs / "git"
    fails = f'[ -e {full} ] && echo >&2 "{said}" && exit 128'
    script = f'case "$*" in *" {verb} "*) {fails};; esac'
    shim.write_text(f'#!/bin/sh\n{script}\nexec {shutil.which("git")} "$@"\n')
    shim.chmod(0o755)
    agent = place.agent(server, {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})
    assert hand(agent, 1).status == 202
    told = server.wait_call("/notify_build_returned").params
    assert reason in told["reason"] and not server.results
    full.unlink()
    assert_goes_on(agent, server, 2)


@only_root
def test_fault_64_a_build_that_fills_the_disk_with_files(
    place: Place, server: FakeServer, small_disk: Path
) -> None:
    """Nobody has to remove them by hand."""
    agent = place.agent(server, data=small_disk / "data")
    command = 'cat /dev/zero > big; cat /dev/zero > "$MINICI_ARTIFACTS/big"'
    assert hand(agent, 1, command).status == 202
    wait_for(lambda: trouble(agent) is not None or server.results)
    wait_for(lambda: not agent.ping()["running"])
    assert hand(agent, 2).status == 503
    assert_goes_on(agent, server, 2)


def test_fault_64_no_build_is_lost_for_a_full_disk(place: Place) -> None:
    """With a server that would give a build up for the first attempt that counts."""
    server = place.server(max_attempts=1)
    data, gate = place.folder / "data", place.folder / "gate"
    hook = Hook(place, data)
    sick = place.agent(server, hook.env, data=data, name="sick")
    command = f"echo on; while [ ! -e {gate} ]; do sleep 0.05; done; echo more"
    first = server.start_build(command=command)
    wait_for(lambda: server.output(first) == b"on\n")
    hook.no_space()
    gate.touch()
    wait_for(lambda: trouble(sick))
    others = [server.start_build() for _ in range(3)]
    holds_for(lambda: server.build(first)["status"] in ("queued", "running"), 2, "it waits")
    place.agent(server, name="well")
    for number in (first, *others):
        known = server.wait_final(number)
        assert (known["status"], known["agent"]) == ("success", "well")
    assert server.output(first) == b"on\nmore\n"
    hook.space()
    wait_for(lambda: trouble(sick) is None)


def test_rule_21_git_is_gone(place: Place, server: FakeServer) -> None:
    programs = place.folder / "programs"
    programs.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    found = shutil.which("git")
    assert found
    (programs / "git").unlink(missing_ok=True)
    (programs / "git").symlink_to(found)
    agent = place.agent(server, {"PATH": str(programs)})
    assert hand(agent, 1).status == 202
    server.wait_result(1)
    (programs / "git").unlink()
    assert hand(agent, 2).status == 202
    told = server.wait_call("/notify_build_returned").params
    assert told["id"] == "2" and "git" in told["reason"] and told["reason_key"] == "agent_git"
    assert trouble(agent) == told["reason"] and hand(agent, 3).status == 503
    holds_for(lambda: trouble(agent) is not None, 2, "still in trouble")
    (programs / "git").symlink_to(found)
    assert_goes_on(agent, server, 3)
    assert [result["id"] for result in server.results] == ["1", "3"]


def test_rule_21_a_build_that_fails_by_itself_is_no_trouble(
    place: Place, server: FakeServer
) -> None:
    agent = place.agent(server)
    about = {"id": 1, "attempt": 1, "repository": agent.place.repository.path, "command": "true"}
    agent.post("/build", {**about, "commit": "nope"})
    assert server.wait_result(1)["status"] == "128"
    assert trouble(agent) is None and not server.made("/notify_build_returned")


def test_fault_61_commands_can_not_be_started(place: Place, server: FakeServer) -> None:
    """The agent's Python is replaced while it runs: that is no failure of a build."""
    python = place.folder / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    agent = place.configure_agent(server)
    agent.prefix = ["/bin/sh", "-c", f'shift; exec {python} "$@"', "sh"]
    agent.start()
    hand(agent, 1, "kill -9 $PPID")
    assert int(server.wait_result(1)["status"]) != 0
    wait_for(lambda: not agent.ping()["undelivered"])
    python.unlink()
    assert hand(agent, 2).status == 202
    told = server.wait_call("/notify_build_returned").params
    assert told["id"] == "2" and told["reason_key"] == "agent_supervisor"
    assert trouble(agent) == told["reason"] and hand(agent, 3).status == 503
    python.symlink_to(os.path.realpath(sys.executable))
    assert_goes_on(agent, server, 3)
    assert [result["id"] for result in server.results] == ["1", "3"]
