"""The supervisor: a small process between a slot of an agent and the commands of the slot.

It implements rules 12 and 13 of section 5 of the contract: when a command has ended, when it is
told to end it, and when its agent is gone, it ends everything below it. On Linux it is a
subreaper, so that no descendant escapes, not even by a double fork after `setsid`; elsewhere it
ends the command's process group.

It is given the descriptor of a socket to the agent, which sends lines of JSON:

    {"start": [ARGV, ...], "cwd": FOLDER, "env": {...}, "account": [UID, GID, GROUPS] or null}
    {"end": SECONDS}       SIGTERM for everything now, SIGKILL after so many seconds

`start` brings the two descriptors that become the command's stdout and stderr. Of several
commands, each begins when the one before it has succeeded. The answers:

    {"ready": PID}
    {"started": PID}
    {"failed": ERRNO, "error": "one sentence"}
    {"exited": STATUS, "left": NUMBER}

STATUS is negative for a signal. `ready` is sent once, `started` for each command, and `exited` for
the last one that ran, when no process of it is left, or only NUMBER processes that can't be
killed. The agent's side of the protocol is `command.Supervisor`.

It signals only its own children, and the groups that they lead, before it collects them, so that
an id can't belong to another process meanwhile. Deeper descendants become children when their
parent dies.

There is one supervisor for each slot, so it imports little. It imports nothing of minici, because
its source is read when the agent starts and passed to the interpreter: see `launcher.py`.
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

KILL_SECONDS = 5.0  # what SIGKILL has not ended by then is not ours, or hangs in the kernel
_MAX_SCANS = 100  # scans of the children while some of them die: some hundredths of a second
_POLL_SECONDS = 0.01  # a subreaper gets no signal when it inherits a process
_PR_SET_CHILD_SUBREAPER = 36
DEAD = ("Z", "X")  # states of a process that only waits to be collected
HAS_PROC = os.path.exists("/proc/self/stat")


def main() -> None:
    """Serve an agent. Arguments: the descriptor of its socket, the soft limit of open files that
    commands get."""
    control = socket.socket(fileno=int(sys.argv[1]))
    reset_signals()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), hard_limit))
    become_subreaper()
    _Supervisor(control).serve()


def reset_signals() -> None:
    """Restore the default action of each signal, and block none, however this was started.

    Commands inherit it. SIGPIPE and SIGXFSZ stay as they are: Python ignores them in its own
    process, and `subprocess` restores them in its children.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL, SIGSTOP and the C library's own
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class _Supervisor:
    """Serves one agent, from its first command to its end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._received = b""
        self._descriptors: list[int] = []
        self._deaths = _watch_deaths()
        self._order: dict[str, Any] = {}  # the start message, without the commands that have begun
        self._outputs: tuple[int, ...] = ()
        self._command: Optional[subprocess.Popen[bytes]] = None
        self._deadline: Optional[float] = None  # monotonic: the end of the grace period
        self._terminated: set[int] = set()  # children that were sent SIGTERM
        self._unkillable: set[int] = set()  # children that are no longer waited for

    def serve(self) -> None:
        self._answer({"ready": os.getpid()})
        try:
            while True:
                watched: list[Any] = [self._control, self._deaths]
                ready, _, _ = select.select(watched, [], [], self._seconds_to_wait())
                if self._deaths in ready:
                    os.read(self._deaths, 4096)
                if self._control in ready and not self._receive():
                    break
                self._settle()
        finally:
            self._end_everything()

    def _seconds_to_wait(self) -> Optional[float]:
        """Return the time until the children must be looked at again; None if no end is due."""
        if self._deadline is None:
            return None
        grace = max(0.0, self._deadline - time.monotonic())
        return grace if HAS_PROC else min(grace, 10 * _POLL_SECONDS)

    def _receive(self) -> bool:
        """Carry out what the agent has sent; return False if the agent is gone."""
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
        """Close the command's output, once there is no further command to start."""
        for descriptor in self._outputs:
            os.close(descriptor)
        self._outputs = ()

    def _answer(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the agent is gone: `_receive` notices it
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def _settle(self) -> None:
        """Once the command has ended, end its descendants and report its status.

        When the agent asked for the end, the descendants get the grace period too: if a shell dies
        of SIGTERM at once, the program that it started can still clean up.
        """
        living = self._living()
        if not self._command:
            return
        if self._deadline is None:
            waiting = not self._has_ended()
        else:
            self._terminate(living - self._terminated)
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
        self._terminated.clear()

    def _terminate(self, pids: set[int]) -> None:
        """Send SIGTERM to children, and SIGCONT, for a stopped process would not act on it."""
        for pid in pids:
            kill(pid, signal.SIGTERM)
            kill(pid, signal.SIGCONT)
        self._terminated |= pids

    def _end_everything(self) -> int:
        """Send SIGKILL to all descendants until none is left; return how many can't be killed."""
        give_up = time.monotonic() + KILL_SECONDS
        if self._command:
            kill(self._command.pid, signal.SIGKILL)
        while True:
            living = self._living()
            if not living:
                return 0
            if time.monotonic() > give_up:
                self._unkillable |= living
                return len(living)
            for pid in living:
                kill(pid, signal.SIGKILL)
            if select.select([self._deaths], [], [], _POLL_SECONDS)[0]:
                os.read(self._deaths, 4096)

    def _living(self) -> set[int]:
        """Return the children that live, without unkillable ones, and collect the dead ones.

        The command itself is not collected: until it is, the id of its group can't be reused.
        The children of a process that dies become children of this one, perhaps after they were
        listed, so the scan is repeated until nothing died during it, with a limit.
        """
        if not HAS_PROC:
            return self._group()
        dead: set[int] = set()
        for _ in range(_MAX_SCANS):
            found, before = children(), dead
            dead = {pid for pid in found if self._has_died(pid)}
            if dead <= before:
                break
        self._unkillable &= found
        return found - dead - self._unkillable

    def _group(self) -> set[int]:
        """Return the command, as long as its group has members: for systems without /proc."""
        if self._command is None:
            return set()
        gone = self._has_ended() and not _exists(self._command.pid)
        return set() if gone else {self._command.pid}

    def _has_died(self, pid: int) -> bool:
        if self._command and pid == self._command.pid:
            return self._has_ended()
        return os.waitpid(pid, os.WNOHANG)[0] != 0

    def _has_ended(self) -> bool:
        """Return True if the command's own process has ended."""
        assert self._command is not None
        if not HAS_PROC:
            return self._command.poll() is not None
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._command.pid, look) is not None


def _watch_deaths() -> int:
    """Return a descriptor that becomes readable when a child dies."""
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


# Functions about processes that the agent uses as well.


def become_subreaper() -> None:
    """Make orphaned descendants children of this process. No effect except on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill(pid: int, number: int) -> None:
    """Signal a child and, in one step, the whole group that it leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) != pid:
            os.kill(pid, number)


def children() -> set[int]:
    """Return the children of this process, also dead ones that are not collected. Linux only."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            found.update(map(int, _read(f"/proc/self/task/{thread}/children").split()))
    # A kernel without these lists, or a thread that has just ended.
    except (FileNotFoundError, ProcessLookupError):
        own = str(os.getpid())
        found.update(pid for pid, fields in processes() if fields[1] == own)
    return found


def processes() -> Iterator[tuple[int, list[str]]]:
    """Yield all processes of the system with their `stat_fields`. Linux only."""
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        fields = stat_fields(pid)
        if fields:
            yield pid, fields


def stat_fields(pid: int) -> list[str]:
    """Return /proc/PID/stat from its third field on: state, parent, group, session; [19] is the
    start in ticks since the boot, see proc(5). Empty if there is no such process."""
    try:
        return _read(f"/proc/{pid}/stat").decode("latin-1").rpartition(")")[2].split()
    except OSError:
        return []


def _read(path: str) -> bytes:
    """Return the content of a file of /proc, with the fewest system calls."""
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
