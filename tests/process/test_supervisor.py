"""The supervisor: how it starts, and what becomes of it, of its agent and of its commands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from minici.process.command import SupervisorLost
from minici.process.launcher import SupervisorUnavailable
from tests.support.commands import LINUX, Commands, only_linux, stopped_when_begun
from tests.support.harness import marked, wait_for


def test_signals_and_limits_are_as_after_a_login(tmp_path: Path) -> None:
    """Whoever started the agent with nohup, or under a supervisor, has not started commands."""
    script = f"""
import os, resource, signal, sys
from pathlib import Path
from minici.process.command import StopOrder, Supervisor
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
supervisor = Supervisor(Path({str(tmp_path / "record")!r}))
def show(stream, data, seconds):
    print(data.decode(), end="")
options = dict(folder=Path("/"), env=os.environ, sink=show, seconds=10, stop=StopOrder())
def run(command):
    return supervisor.execute(["/bin/sh", "-c", command], **options).status
print(soft)
print(run("ulimit -Sn; kill -HUP $$; kill -INT $$; echo ignored"))
for name in sys.argv[1].split():
    print(name, run(f"kill -{{name}} $$; echo ignored"))
supervisor.close()
"""
    names = "HUP INT QUIT ALRM TERM USR1 USR2 PIPE VTALRM PROF XFSZ"
    ignoring = ["/bin/sh", "-c", f'ulimit -Sn 64; trap "" CHLD TSTP {names}; exec "$@"', "sh"]
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(
        [*ignoring, sys.executable, "-c", script, names],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    ends = [f"{name} -{int(getattr(signal, 'SIG' + name))}" for name in names.split()]
    assert done.stdout.splitlines() == ["64", "64", "-1", *ends]


def test_a_supervisor_that_can_not_be_started(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python is being upgraded, or there are no processes left: the command is not to blame."""
    hangs = commands.folder / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr("minici.process.command._START_SECONDS", 0.3)
    for interpreter in ("/nowhere/python", "/etc/passwd", "/bin/false", "", str(hangs)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", interpreter)
            with pytest.raises(SupervisorUnavailable, match="can't be started: "):
                commands("touch began")
    assert not commands.left and not (commands.folder / "began").exists()
    monkeypatch.undo()
    assert commands("exit 6").status == 6


def test_a_command_that_kills_its_supervisor(commands: Commands) -> None:
    with pytest.raises(SupervisorLost):
        commands("kill -9 $PPID; sleep 5")
    for pid in commands.left:
        os.kill(pid, signal.SIGKILL)  # only an agent adopts them: see test_agent.py
    assert commands("exit 5").status == 5


UNABLE = """
from minici.process import supervisor
supervisor.kill = lambda *_: None  # as for what another user owns, or hangs in the kernel
supervisor.KILL_SECONDS = 0.3
supervisor.main()
"""


# Something is always found dead, as where processes fork and exit without end.
ENDLESS = """
import itertools
from minici.process import supervisor
children, has_died = supervisor.children, supervisor._Supervisor._has_died
dead = itertools.count(10**7)
supervisor.children = lambda: children() | {next(dead)}
supervisor._Supervisor._has_died = lambda self, pid: pid >= 10**7 or has_died(self, pid)
supervisor.main()
"""


@contextlib.contextmanager
def changed_supervisor(source: str) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A supervisor that `source` has changed; called with a command it gives the last answer."""
    ours, theirs = socket.socketpair()
    root = Path(__file__).resolve().parent.parent.parent
    env = {**os.environ, "PYTHONPATH": str(root)}
    with theirs:
        words = [sys.executable, "-c", source, "0", "256"]
        process = subprocess.Popen(words, stdin=theirs.fileno(), env=env)
    answers = ours.makefile("r")

    def execute(command: str) -> dict[str, Any]:
        start = {"start": [["sh", "-c", command]], "cwd": "/", "env": env, "account": None}
        with open(os.devnull, "w") as out:
            socket.send_fds(ours, [json.dumps(start).encode() + b"\n"], [out.fileno()] * 2)
        assert "started" in json.loads(answers.readline())
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    ours.settimeout(30)
    try:
        assert json.loads(answers.readline()) == {"ready": process.pid}
        yield execute
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        ours.close()


@only_linux
def test_what_can_not_be_killed_is_waited_for_once() -> None:
    with changed_supervisor(UNABLE) as execute:
        assert execute("exit 3") == {"exited": 3, "left": 0}
        assert execute("setsid sleep 5 & sleep 0.1; exit 4") == {"exited": 4, "left": 1}
        begun = time.monotonic()
        assert execute("exit 5") == {"exited": 5, "left": 0}
        assert time.monotonic() - begun < 0.3


@only_linux
def test_what_dies_without_end_is_not_looked_at_for_ever() -> None:
    with changed_supervisor(ENDLESS) as execute:
        assert execute("exit 3") == {"exited": 3, "left": 0}
        assert execute("setsid sleep 5 & exit 4") == {"exited": 4, "left": 0}


def test_a_record_that_can_not_be_written_stops_nothing(commands: Commands) -> None:
    commands.record.with_suffix(".tmp").mkdir()
    assert commands("exit 3").status == 3


def test_a_supervisor_that_was_stopped_is_replaced(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minici.process.command.KILL_SECONDS", 0.2)
    with pytest.raises(SupervisorLost):
        stopped_when_begun(commands, "kill -STOP $PPID; echo x; exec sleep 3", 0.1)
    assert commands("exit 6").status == 6
    for pid in commands.left:
        os.kill(pid, signal.SIGKILL)


def test_the_end_of_the_agent_is_the_end_of_all(tmp_path: Path) -> None:
    marker = uuid.uuid4().hex
    command = "setsid sleep 999 & sleep 999" if LINUX else "sleep 999 & sleep 999"
    script = f"""
import os
from pathlib import Path
from minici.process.command import Supervisor, StopOrder
supervisor = Supervisor(Path({str(tmp_path / "record")!r}))
supervisor.execute(["/bin/sh", "-c", {command!r}], folder=Path("/"),
    env=os.environ, sink=print, seconds=100, stop=StopOrder())
"""
    root = Path(__file__).resolve().parent.parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "TEST_MARKER": marker}
    agent = subprocess.Popen([sys.executable, "-c", script], env=env)

    def sleeping() -> bool:
        return sum("sleep" in line for line in marked(marker).values()) >= 2

    wait_for(sleeping)
    agent.kill()
    agent.wait()
    wait_for(lambda: not marked(marker), 10)
