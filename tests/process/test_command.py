"""Running a command: its output, its exit, its time, and the end of all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from minici.build import STDERR, STDOUT
from minici.process.account import Account
from minici.process.command import Exit, StopOrder, Supervisor, SupervisorLost
from minici.process.launcher import SupervisorUnavailable
from minici.process.leftovers import end_leftovers, identity
from tests.support.harness import marked, wait_for

LINUX = sys.platform == "linux"
only_linux = pytest.mark.skipif(not LINUX, reason="elsewhere only the process group is ended")


class Commands:
    """A supervisor, and what came of the last command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "record"
        self.supervisor = Supervisor(self.record)
        self.marker = uuid.uuid4().hex
        self.stdout = b""
        self.stderr = b""
        self.pieces: list[tuple[str, bytes, float]] = []

    def __call__(
        self,
        command: str,
        seconds: float = 30.0,
        stop: Optional[StopOrder] = None,
        sink: Optional[Callable[[str, bytes, float], None]] = None,
        env: Optional[Mapping[str, str]] = None,
        words: tuple[str, ...] = ("/bin/sh", "-c"),
        then: tuple[str, ...] = (),
    ) -> Exit:
        self.pieces = []
        try:
            return self.supervisor.execute(
                [*words, command],
                folder=self.folder,
                env={**os.environ, "TEST_MARKER": self.marker, **(env or {})},
                sink=sink or (lambda *piece: self.pieces.append(piece)),
                seconds=seconds,
                stop=stop or StopOrder(),
                then=[[*words, each] for each in then],
            )
        finally:
            self.stdout = b"".join(data for stream, data, _ in self.pieces if stream == STDOUT)
            self.stderr = b"".join(data for stream, data, _ in self.pieces if stream == STDERR)

    @property
    def left(self) -> dict[int, str]:
        return marked(self.marker)

    @property
    def pids(self) -> list[int]:
        """What the record names: the command, while there is one, and the supervisor."""
        return [pid for pid, _ in json.loads(self.record.read_text())]


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.supervisor.close()
    wait_for(lambda: not commands.left, 5, "the end of what a test has killed itself")


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


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


def stopped_when_begun(commands: Commands, command: str, grace: float) -> Exit:
    """Run a command, and order its stop after its first output."""
    stop = StopOrder()
    pieces: list[tuple[str, bytes, float]] = []

    def stop_it(*piece: Any) -> None:
        pieces.append(piece)
        stop.give("because", grace)

    ended = commands(command, stop=stop, sink=stop_it)
    commands.stdout = b"".join(data for stream, data, _ in pieces if stream == STDOUT)
    return ended


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


# The supervisor itself.


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
