"""Faults 25 to 28: processes, with a real server and a real agent."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

import pytest

from tests.support.harness import Place, ServerProcess, commands_left, marked, wait_for


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    server = shared.server()
    shared.agent(server)
    return server


def duration(build: dict[str, Any]) -> float:
    begun, ended = (
        datetime.strptime(build[key], "%Y-%m-%dT%H:%M:%S.%fZ")
        for key in ("started_at", "finished_at")
    )
    return (ended - begun).total_seconds()


DOUBLE_FORK = (
    "import os, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        time.sleep(999)\n"
    "    os._exit(0)\n"
)


@pytest.mark.parametrize(
    "command",
    [
        "sleep 999 & echo ok",
        "setsid sleep 999 & echo ok",
        "(setsid sleep 999 &) ; echo ok",
        "nohup sleep 999 & echo ok",
        f"{sys.executable} -c '{DOUBLE_FORK}'; echo ok",
        "(trap '' TERM HUP INT; while :; do sleep 1; done) & echo ok",
        "setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" & echo ok",
    ],
    ids=["group", "setsid", "setsid-orphan", "nohup", "double-fork", "ignores", "setsid-ignores"],
)
def test_fault_25_what_is_left_in_the_background(server: ServerProcess, command: str) -> None:
    number = server.start_build(command=command)
    known = server.wait_final(number)
    assert known["status"] == "success" and server.output(number) == b"ok\n"
    assert duration(known) < 2 + 1  # 2 s, and a busy machine
    wait_for(lambda: not commands_left(server.place.marker), 3, "no sleep is left")


def test_fault_25_processes_without_number(server: ServerProcess) -> None:
    """A command that goes on making processes while they are ended."""
    loop = "while :; do setsid sleep 999 & sleep 0.01; done"
    number = server.start_build(command=f"setsid sh -c '{loop}' & sleep 0.5; echo ok")
    assert server.wait_final(number)["status"] == "success"
    wait_for(lambda: not commands_left(server.place.marker), 5, "none is left")


@pytest.mark.parametrize("how", ["setsid sleep 999 & sleep 999", "sleep 999 | cat"])
def test_fault_25_nothing_outlives_a_killed_agent(place: Place, how: str) -> None:
    server = place.server()
    agent = place.agent(server)
    server.start_build(command=how)
    wait_for(lambda: len(commands_left(place.marker)) >= 2, what="begun")
    agent.kill()
    wait_for(lambda: not marked_without(place, server), 5, "everything gone")


def marked_without(place: Place, server: ServerProcess) -> dict[int, str]:
    return {pid: line for pid, line in marked(place.marker).items() if pid != server.pid}


@pytest.mark.parametrize(
    "command",
    ["trap '' TERM; echo on; while :; do sleep 0.1; done", "trap '' TERM; echo on; sleep 999"],
)
def test_fault_26_a_cancelled_command_that_ignores_sigterm(
    server: ServerProcess, command: str
) -> None:
    number = server.start_build(command=command)
    wait_for(lambda: server.output(number) == b"on\n", what="begun")
    begun = time.monotonic()
    server.post(f"/build/{number}/cancel")
    assert server.wait_final(number)["status"] == "cancelled"
    assert time.monotonic() - begun < 12 + 1
    wait_for(lambda: not commands_left(server.place.marker), 3, "none is left")


def test_rule_14_a_cancelled_build_ends_and_keeps_its_output(server: ServerProcess) -> None:
    number = server.start_build(command="echo on; sleep 999")
    wait_for(lambda: server.output(number) == b"on\n", what="begun")
    begun = time.monotonic()
    server.post(f"/build/{number}/cancel")
    known = server.wait_final(number)
    assert known["status"] == "cancelled" and time.monotonic() - begun < 5
    assert server.output(number) == b"on\n"
    assert server.wait_final(server.start_build())["status"] == "success"


def test_rule_14_cancelled_in_the_checkout(server: ServerProcess) -> None:
    """At the earliest moments, again and again: it ends, and the slot is free."""
    for _ in range(5):
        number = server.start_build(command="sleep 999")
        server.post(f"/build/{number}/cancel")
        assert server.wait_final(number, within=15)["status"] == "cancelled"
    assert server.wait_final(server.start_build())["status"] == "success"


def test_fault_27_a_timeout_with_fifty_descendants(place: Place) -> None:
    server = place.server(build_timeout="2s")
    place.agent(server)
    command = (
        "i=0; while [ $i -lt 50 ]; do (setsid sleep 999 &); i=$((i+1)); done; echo on; sleep 999"
    )
    number = server.start_build(command=command)
    wait_for(lambda: len(commands_left(place.marker)) >= 50, what="fifty descendants")
    known = server.wait_final(number)
    assert known["status"] == "failure" and duration(known) < 10
    assert "2" in known["reason"] and "time" in known["reason"].lower(), known["reason"]
    assert not commands_left(place.marker)
    assert server.output(number) == b"on\n"


@pytest.mark.parametrize(
    ("command", "status", "output"),
    [
        ("exit 0", 0, b""),
        ("exit 1", 1, b""),
        ("exit 126", 126, b""),
        ("exit 127", 127, b""),
        ("exit 255", 255, b""),
        ("./file.txt 2>/dev/null", 126, b""),
        ("no-such-command 2>/dev/null", 127, b""),
        ("kill -SEGV $$", -11, b""),
        ("kill -KILL $$", -9, b""),
        ("kill -TERM $$", -15, b""),
        ('read line || echo "$? <$line>"', 0, b"1 <>\n"),
        ("cat; echo end", 0, b"end\n"),
        ("echo first; exec >&- 2>&-; sleep 0.3; exit 7", 7, b"first\n"),
        ("printf 'no newline'", 0, b"no newline"),
        ("printf '\\000\\377'", 0, b"\0\xff"),
        ("yes | head -1", 0, b"y\n"),
        ("echo a\necho b\nfalse\necho c", 1, b"a\nb\n"),
        ("# only a comment", 0, b""),
    ],
)
def test_fault_28_exit_statuses_and_streams(
    server: ServerProcess, command: str, status: int, output: bytes
) -> None:
    number = server.start_build(command=command)
    known = server.wait_final(number)
    assert known["exit_status"] == status
    assert known["status"] == ("success" if status == 0 else "failure")
    assert server.output(number, "stdout") == output
    assert server.output(number, "stderr") == b""


def test_fault_28_a_segmentation_fault_of_a_child_is_its_shells_status(
    server: ServerProcess,
) -> None:
    number = server.start_build(command="sh -c 'kill -SEGV $$' 2>/dev/null; exit $?")
    assert server.wait_final(number)["exit_status"] == 139
