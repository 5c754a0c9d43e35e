"""The runner: a small process that stands between a slot of an agent and what the slot runs.

It sees to rules 12 and 13 of section 5 of the contract: when a command has ended, when it is
told to end it, and when its agent is gone, it ends everything below it. On Linux it is a
subreaper, so that nothing gets out from below it, a double fork behind a `setsid` included;
elsewhere it ends the command's process group.

Its standard input is a socket to the agent, which sends lines of JSON:

    {"start": [ARGV, ...], "cwd": FOLDER, "env": {...}, "account": [UID, GID, GROUPS] or null}
    {"end": SECONDS}       SIGTERM for all of it now, SIGKILL after so many seconds

`start` brings the two descriptors that become the command's stdout and stderr. Of several
commands, each begins when the one before it has ended well. The answers:

    {"started": PID}
    {"failed": ERRNO, "error": "one sentence"}
    {"exited": STATUS, "left": NUMBER}

STATUS is negative for a signal. `started` is sent for each command, `exited` for the last one that
ran, when nothing of it is left, or only a NUMBER of processes that can't be killed. The agent's
side of all this is `process.Runner`.

It signals none but its own children, and the groups that they lead, before it collects them: so
an id can't have become another's meanwhile. What is further below comes up when its parent dies.

There is one for each slot, so it imports little, and nothing of minici.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Optional

GIVE_UP = 5.0  # seconds: what SIGKILL has not ended by then is not ours, or hangs in the kernel
_LOOKS = 100  # at the children, as long as some die meanwhile: some hundredths of a second
_PAUSE = 0.01  # seconds: what is handed up to a subreaper comes without a signal
_PR_SET_CHILD_SUBREAPER = 36
DEAD = ("Z", "X")  # states of a process that only waits to be collected
HAS_PROC = os.path.exists("/proc/self/stat")


def main() -> None:
    """Serve the agent at the other end of standard input; the argument is commands' soft limit
    of open files. A command finds its signals as after a login, however the agent was started."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), most))
    become_subreaper()
    _Runner(socket.socket(fileno=0)).serve()


class _Runner:
    """Serves one agent, from its first command to its end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._received = b""
        self._descriptors: list[int] = []
        self._deaths = _watch_deaths()
        self._order: dict[str, Any] = {}  # as it came, less the commands that have begun
        self._outputs: tuple[int, ...] = ()
        self._command: Optional[subprocess.Popen[bytes]] = None
        self._deadline: Optional[float] = None  # monotonic: then the grace is over
        self._told: set[int] = set()  # children that were sent SIGTERM
        self._lost: set[int] = set()  # children that could not be killed, and are not waited for

    def serve(self) -> None:
        try:
            while True:
                watched: list[Any] = [self._control, self._deaths]
                ready, _, _ = select.select(watched, [], [], self._patience())
                if self._deaths in ready:
                    os.read(self._deaths, 4096)
                if self._control in ready and not self._receive():
                    break
                self._settle()
        finally:
            self._end_everything()

    def _patience(self) -> Optional[float]:
        """Seconds until the next look at what is to end; None if nothing is."""
        if self._deadline is None:
            return None
        grace = max(0.0, self._deadline - time.monotonic())
        return grace if HAS_PROC else min(grace, 10 * _PAUSE)

    def _receive(self) -> bool:
        """Obey what the agent has sent; False if the agent is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65536, 2)
        except ConnectionError:
            return False
        self._descriptors += descriptors
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(data)

    def _obey(self, message: dict[str, Any]) -> None:
        if "start" in message:
            self._order, self._outputs = message, tuple(self._descriptors)
            self._descriptors = []
            self._start_next()
        elif self._command and self._deadline is None:
            self._deadline = time.monotonic() + message["end"]

    def _start_next(self) -> None:
        order = self._order
        words = order["start"].pop(0)
        user, group, groups = order["account"] or (None, None, None)
        try:
            self._command = subprocess.Popen(
                words,
                cwd=order["cwd"],
                env=order["env"],
                stdin=subprocess.DEVNULL,
                stdout=self._outputs[0],
                stderr=self._outputs[1],
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=groups,
            )
            self._answer({"started": self._command.pid})
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._command = None
            self._answer({"failed": getattr(error, "errno", None), "error": _sentence(error)})
            order["start"] = []
        if not order["start"]:
            self._close_outputs()

    def _close_outputs(self) -> None:
        """Hold the command's output open no longer than there is a command to begin."""
        for descriptor in self._outputs:
            os.close(descriptor)
        self._outputs = ()

    def _answer(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the agent is gone: `_receive` learns of it
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def _settle(self) -> None:
        """Report the end of the command, once it has come, and see to the end of all the rest.

        When the agent asked for the end, the descendants have the grace too: a shell that dies
        of SIGTERM at once does not cost the program that it started its chance to clean up.
        """
        living = self._living()
        if not self._command:
            return
        if self._deadline is None:
            waiting = not self._has_ended()
        else:
            self._tell(living - self._told)
            waiting = bool(living) and time.monotonic() < self._deadline
        if waiting:
            return
        left = self._end_everything()
        status = self._command.poll()
        if status == 0 and not left and self._deadline is None and self._order["start"]:
            self._start_next()
            return
        self._close_outputs()
        self._answer({"exited": -signal.SIGKILL if status is None else status, "left": left})
        self._command, self._deadline = None, None
        self._told.clear()

    def _tell(self, pids: set[int]) -> None:
        """Ask the children to end. What is stopped would not hear of it."""
        for pid in pids:
            kill(pid, signal.SIGTERM)
            kill(pid, signal.SIGCONT)
        self._told |= pids

    def _end_everything(self) -> int:
        """SIGKILL all that is below until nothing is; return how many would not go."""
        give_up = time.monotonic() + GIVE_UP
        if self._command:
            kill(self._command.pid, signal.SIGKILL)
        while True:
            living = self._living()
            if not living:
                return 0
            if time.monotonic() > give_up:
                self._lost |= living
                return len(living)
            for pid in living:
                kill(pid, signal.SIGKILL)
            if select.select([self._deaths], [], [], _PAUSE)[0]:
                os.read(self._deaths, 4096)

    def _living(self) -> set[int]:
        """The children that live, but for lost ones. Collects the dead, but for the command: as
        long as it is not collected, the id of its group is its own.

        What is below a process comes up when it dies, perhaps after the children were listed: so
        this looks until nothing dies under its eyes, but not for ever at what does without end.
        """
        if not HAS_PROC:
            return self._group()
        dead: set[int] = set()
        for _ in range(_LOOKS):
            found, before = children(), dead
            dead = {pid for pid in found if self._has_died(pid)}
            if dead <= before:
                break
        self._lost &= found
        return found - dead - self._lost

    def _group(self) -> set[int]:
        """Where nothing else can be seen: the command, as long as anybody is in its group."""
        if self._command is None:
            return set()
        gone = self._has_ended() and not _exists(self._command.pid)
        return set() if gone else {self._command.pid}

    def _has_died(self, pid: int) -> bool:
        if self._command and pid == self._command.pid:
            return self._has_ended()
        return os.waitpid(pid, os.WNOHANG)[0] != 0

    def _has_ended(self) -> bool:
        """Whether the command's own process has ended."""
        assert self._command is not None
        if not HAS_PROC:
            return self._command.poll() is not None
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._command.pid, look) is not None


def _watch_deaths() -> int:
    """A descriptor that can be read after a SIGCHLD."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reader


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
        return True
    except (ProcessLookupError, PermissionError):
        return False


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {os.fsdecode(error.filename or '')}".rstrip(": ")
    return str(error)


# What both sides of the socket know about processes.


def become_subreaper() -> None:
    """Let orphans among the descendants become this process's children. Only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill(pid: int, number: int) -> None:
    """Signal a child, and its whole group if it leads one: no fork slips through that."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) != pid:
            os.kill(pid, number)


def children() -> set[int]:
    """The children of this process, dead ones included until they are collected. For Linux."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            found.update(map(int, _read(f"/proc/self/task/{thread}/children").split()))
    except (
        FileNotFoundError,
        ProcessLookupError,
    ):  # a kernel without these lists, or a thread that has just ended
        own = str(os.getpid())
        found.update(pid for pid, fields in processes() if fields[1] == own)
    return found


def processes() -> Iterator[tuple[int, list[str]]]:
    """All processes of the system with their `stat_fields`. For Linux."""
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        fields = stat_fields(pid)
        if fields:
            yield pid, fields


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from its third field on: state, parent, group, session; [19] is the start
    in ticks since the boot, see proc(5). Empty if there is no such process."""
    try:
        return _read(f"/proc/{pid}/stat").decode("latin-1").rpartition(")")[2].split()
    except OSError:
        return []


def _read(path: str) -> bytes:
    """A file of /proc, in as few system calls as it takes: each command needs several."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        pieces: list[bytes] = []
        while pieces[-1:] != [b""]:
            pieces.append(os.read(descriptor, 65536))
        return b"".join(pieces)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
