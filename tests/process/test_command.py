"""Running a command: its output, its exit, its time, and the end of all that it started."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from minici.build import STDERR, STDOUT
from minici.process.account import Account
from minici.process.command import Exit, StopOrder, Supervisor
from tests.support.commands import LINUX, Commands, in_thread, only_linux, stopped_when_begun
from tests.support.harness import wait_for

# Exit and output.


@pytest.mark.parametrize("status", [0, 1, 2, 126, 127, 128, 255])
def test_exit_statuses_are_exact(commands: Commands, status: int) -> None:
    assert commands(f"exit {status}").status == status


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE])
def test_a_signal_is_a_negative_status(commands: Commands, number: int) -> None:
    ended = commands(f"kill -{int(number)} $$")
    assert (ended.status, ended.stopped, ended.timed_out) == (-number, False, False)


def test_the_streams_are_kept_apart_and_exact(commands: Commands) -> None:
    commands(r"printf 'a\0b\377'; printf 'x\ny' >&2; printf c")
    assert commands.stdout == b"a\0b\xffc"
    assert commands.stderr == b"x\ny"


def test_pieces_come_when_they_are_written(commands: Commands) -> None:
    commands("echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three")
    assert [(stream, data) for stream, data, _ in commands.pieces] == [
        (STDOUT, b"one\n"),
        (STDERR, b"two\n"),
        (STDOUT, b"three\n"),
    ]
    first, second, third = (seconds for _, _, seconds in commands.pieces)
    assert 0 < first < second < third and third > 1


def test_standard_input_is_empty(commands: Commands) -> None:
    assert commands("cat; read line; echo $?").status == 0
    assert commands.stdout == b"1\n"


def test_streams_that_are_closed_early(commands: Commands) -> None:
    ended = commands("echo before; exec >&-; echo err >&2; exec 2>&-; sleep 0.2; exit 7")
    assert ended.status == 7
    assert (commands.stdout, commands.stderr) == (b"before\n", b"err\n")


def test_nobody_reads_behind_a_closed_pipe(commands: Commands) -> None:
    assert commands("yes | head -n 1").status == 0
    assert commands.stdout == b"y\n"


@pytest.mark.skipif(not LINUX, reason="elsewhere a pipe has no room for so many")
def test_the_last_words_are_read_even_if_there_are_many(commands: Commands) -> None:
    """Here the command has ended before its first piece is dealt with."""
    pieces: list[bytes] = []

    def slow(stream: str, data: bytes, _: float) -> None:
        pieces.append(data)
        if len(pieces) == 1:
            wait_for(lambda: not commands.left)

    commands("printf x; head -c 700000 /dev/zero; head -c 200000 /dev/zero >&2", sink=slow)
    assert sum(map(len, pieces)) == 900_001


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_memory_does_not_grow_with_output(commands: Commands) -> None:
    def resident() -> int:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    sizes = {STDOUT: 0, STDERR: 0}

    def count(stream: str, data: bytes, _: float) -> None:
        sizes[stream] += len(data)

    commands("true")
    before = resident()
    commands("head -c 300000000 /dev/zero & head -c 300000000 /dev/zero >&2; wait", sink=count)
    assert sizes == {STDOUT: 300_000_000, STDERR: 300_000_000}
    assert resident() - before < 20_000_000


def test_the_environment_is_what_was_given(commands: Commands) -> None:
    odd = os.fsdecode(b"caf\xc3\xa9 \xff")
    commands('printf %s "$ODD"; printf \'|%s\' "$PYTHONPATH"', env={"ODD": odd, "PYTHONPATH": ""})
    assert commands.stdout == b"caf\xc3\xa9 \xff|"


def test_a_command_of_100_kilobytes(commands: Commands) -> None:
    assert commands("true #" + "ü" * 50_000).status == 0


def test_what_can_not_be_started(commands: Commands) -> None:
    missing = commands("true", words=("/nowhere/shell",))
    assert missing.status == 127 and missing.error == "No such file or directory: /nowhere/shell"
    forbidden = commands("true", words=("/etc/passwd",))
    assert forbidden.status == 126 and forbidden.error == "Permission denied: /etc/passwd"
    assert commands("true").status == 0


def test_a_folder_that_is_not_there(commands: Commands) -> None:
    commands.folder = commands.folder / "gone"
    assert commands("true").error == f"No such file or directory: {commands.folder}"


# The end of everything.


@pytest.mark.parametrize(
    "command",
    [
        "sleep 999 & echo ok",
        "(sleep 999 &) & echo ok",
        "nohup sleep 999 & echo ok",
        "trap '' TERM; (trap '' TERM HUP; sleep 999; sleep 999) & echo ok",
        pytest.param("setsid sleep 999 & sleep 0.1; echo ok", marks=only_linux),
        pytest.param(
            "(setsid sh -c 'sleep 999 & sleep 999' &) ; sleep 0.1; echo ok", marks=only_linux
        ),
    ],
)
def test_the_end_of_the_command_is_the_end_of_all(commands: Commands, command: str) -> None:
    begun = time.monotonic()
    ended = commands(command)
    assert (ended.status, commands.stdout) == (0, b"ok\n")
    assert time.monotonic() - begun < 5
    assert not commands.left


@only_linux
def test_what_forks_as_fast_as_it_can_is_ended(commands: Commands) -> None:
    # It ends by itself in the end: a test that fails must not cost the machine.
    relay = "import os\nfor _ in range(3000):\n if os.fork(): os._exit(0)\n os.setsid()"
    (commands.folder / "fork.py").write_text(relay)
    assert commands(f"{sys.executable} -S fork.py & sleep 0.3; echo ok").status == 0
    assert not commands.left


def test_the_time_limit_ends_all_descendants(commands: Commands) -> None:
    ended = commands("for i in $(seq 50); do sleep 999 & done; echo begun; wait", seconds=3)
    assert ended.timed_out and not ended.stopped and ended.status == -signal.SIGTERM
    assert 3 <= ended.seconds < 10
    assert commands.stdout == b"begun\n" and not commands.left


def test_an_order_to_stop_lets_a_command_tidy_up(commands: Commands) -> None:
    tidy = "trap 'echo tidy; exit 3' TERM; echo begun; while :; do sleep 0.05; done"
    ended = stopped_when_begun(commands, tidy, 30)
    assert (ended.status, ended.stopped, ended.timed_out) == (3, True, False)
    assert commands.stdout == b"begun\ntidy\n"


def test_what_a_dying_shell_has_started_may_tidy_up_too(commands: Commands) -> None:
    child = "trap 'sleep 0.3; echo tidy; exit' TERM; echo begun; while :; do sleep 0.05; done"
    ended = stopped_when_begun(commands, f'sh -c "{child}"; echo not here', 30)
    assert ended.status == -signal.SIGTERM
    assert commands.stdout == b"begun\ntidy\n"


def test_what_ignores_sigterm_is_killed_after_the_grace(commands: Commands) -> None:
    ended = stopped_when_begun(commands, "trap '' TERM; echo begun; while :; do sleep 1; done", 0.5)
    assert ended.status == -signal.SIGKILL and 0.5 <= ended.seconds < 10


@only_linux
def test_a_stopped_process_hears_sigterm(commands: Commands) -> None:
    ended = stopped_when_begun(commands, "echo begun; kill -STOP $$", 30)
    assert ended.status == -signal.SIGTERM and ended.seconds < 10


def test_an_order_may_come_before_the_command(commands: Commands) -> None:
    stop = StopOrder()
    stop.give("because")
    stop.give("again")
    assert commands("touch began", stop=stop).stopped and stop.reason == "because"
    assert not (commands.folder / "began").exists()


def test_an_order_from_another_thread_is_heard_at_once(commands: Commands) -> None:
    stop = StopOrder()
    ends: list[Exit] = []
    thread = in_thread(lambda: ends.append(commands("sleep 999", stop=stop)))
    wait_for(lambda: any("sleep" in line for line in commands.left.values()))
    stop.give("because")
    thread.join(10)
    assert ends and ends[0].stopped


def test_a_sink_that_fails_ends_the_command(commands: Commands) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        commands("echo x; sleep 999 & sleep 999", sink=full)
    assert not commands.left
    assert commands("exit 4").status == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another user")
def test_commands_run_as_the_user(tmp_path: Path) -> None:
    account = Account.named("nobody")
    said: list[bytes] = []
    supervisor = Supervisor(tmp_path / "record")
    supervisor.execute(
        ["/bin/sh", "-c", "id -u; id -g; id -G; sleep 999 &"],
        folder=Path("/"),
        env=os.environ,
        sink=lambda _, data, __: said.append(data),
        seconds=30,
        stop=StopOrder(),
        account=account,
    )
    supervisor.close()
    lines = b"".join(said).decode().splitlines()
    assert lines[:2] == [str(account.uid), str(account.gid)]
    assert {int(group) for group in lines[2].split()} == {account.gid, *account.groups}


# Several commands, one after the other.


def test_commands_follow_one_another_as_long_as_they_end_well(commands: Commands) -> None:
    assert commands("echo one", then=("echo two >&2", "echo three; exit 3")).status == 3
    assert (commands.stdout, commands.stderr) == (b"one\nthree\n", b"two\n")
    assert commands("echo one", then=("exit 4", "echo three")).status == 4
    assert commands.stdout == b"one\n"
    assert commands("exit 5", then=("echo two",)).status == 5
    assert commands("echo after").status == 0 and commands.stdout == b"after\n"


def test_a_command_that_follows_and_can_not_be_started(commands: Commands) -> None:
    gone = commands.folder / "gone"
    gone.mkdir()
    words = ["/bin/sh", "-c", "echo one"]
    ended = commands.supervisor.execute(
        words,
        folder=commands.folder,
        env=os.environ,
        sink=lambda *piece: None,
        seconds=30,
        stop=StopOrder(),
        then=[[str(commands.folder / "nothing")], ["/bin/sh", "-c", f"rmdir {gone}"]],
    )
    assert ended.status == 127 and "nothing" in (ended.error or "") and gone.exists()
    assert commands("echo after").status == 0 and commands.stdout == b"after\n"


@pytest.mark.skipif(not LINUX, reason="elsewhere only the process group is ended")
def test_what_one_of_several_leaves_is_ended_before_the_next(commands: Commands) -> None:
    left = "ps -o pid= -p $(cat left) || echo gone"
    ended = commands("setsid sleep 1000 & echo $! >left", then=(left,))
    assert ended.status == 0 and commands.stdout == b"gone\n"


def test_nothing_follows_a_command_that_was_stopped(commands: Commands) -> None:
    """Not even where it takes the order to end for a good end."""
    stop = StopOrder()
    trap = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"

    def order(*piece: object) -> None:
        stop.give("cancelled")

    ended = commands(trap, stop=stop, sink=order, then=("touch followed",))
    assert ended.stopped and not (commands.folder / "followed").exists()
