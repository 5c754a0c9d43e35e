"""What an earlier life of the agent has left is ended, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from minici.process.command import SupervisorLost
from minici.process.leftovers import end_leftovers, identity
from tests.support.commands import Commands, in_thread, only_linux
from tests.support.harness import wait_for


def leave_behind(commands: Commands, command: str, victims: int) -> None:
    """Run a command, and kill so many of the processes of the record, the supervisor first."""
    thread = in_thread(lambda: pytest.raises(SupervisorLost, commands, command))
    wait_for((commands.folder / "begun").exists)
    for pid in commands.pids[::-1][:victims]:
        os.kill(pid, signal.SIGKILL)
    thread.join(20)
    assert commands.left


@only_linux
@pytest.mark.parametrize("victims", [1, 2], ids=["supervisor", "supervisor-and-command"])
def test_what_an_earlier_life_left_is_ended(commands: Commands, victims: int) -> None:
    leave_behind(commands, "sleep 998 & sleep 999 & touch begun; wait", victims)
    assert end_leftovers([commands.record]) == 1
    wait_for(lambda: not commands.left, 5)
    assert end_leftovers([commands.record]) == 0


@only_linux
def test_a_supervisor_that_hangs_is_ended_with_all_below_it(commands: Commands) -> None:
    commands("true")
    (supervisor,) = commands.pids[-1:]
    thread = in_thread(
        lambda: pytest.raises(SupervisorLost, commands, "setsid sleep 9 & touch begun; wait")
    )
    wait_for((commands.folder / "begun").exists)
    os.kill(supervisor, signal.SIGSTOP)
    assert end_leftovers([commands.record]) == 2
    thread.join(20)
    assert not commands.left


def test_a_process_with_the_same_id_but_another_start_lives_on(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    record = tmp_path / "record"
    since = identity(stranger.pid)
    assert since is not None
    record.write_text(json.dumps([[stranger.pid, since.replace(since[-3:], "000") + "9"]]))
    assert end_leftovers([record, tmp_path / "missing"]) == 0
    assert stranger.poll() is None
    record.write_text(json.dumps([[stranger.pid, since]]))
    assert end_leftovers([record]) == 1
    assert stranger.wait(5) == -signal.SIGKILL


def test_identity_of_the_dead() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert identity(gone.pid) is None
    assert identity(os.getpid()) == identity(os.getpid()) is not None


def test_a_record_that_was_cut_short_is_no_obstacle(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_text('[[1, "x')
    assert end_leftovers([record]) == 0 and not record.exists()
