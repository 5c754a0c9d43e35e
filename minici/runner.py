"""The runner: a small process that stands between a slot of an agent and what the slot runs.

It sees to rules 12 and 13 of section 5 of the contract: when a command has ended, when it is
told to end it, and when its agent is gone, it ends everything below it. On Linux it is a
subreaper, so that nothing gets out from below it, a double fork behind a `setsid` included;
elsewhere it ends the command's process group.

Its standard input is a socket to the agent, which sends lines of JSON:

    {"start": ARGV, "cwd": FOLDER, "env": {...}, "account": [UID, GID, GROUPS] or null}
    {"end": SECONDS}       SIGTERM for all of it now, SIGKILL after so many seconds

`start` brings the two descriptors that become the command's stdout and stderr. The answers:

    {"started": PID}
    {"failed": ERRNO, "error": "one sentence"}
    {"exited": STATUS, "left": NUMBER}

STATUS is negative for a signal. `exited` is sent when nothing of the command is left, or only
a NUMBER of groups that can't be killed. The agent's side of all this is `process.Runner`.

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
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Optional

GIVE_UP = 5.0  # seconds: what SIGKILL has not ended by then is not ours, or hangs in the kernel
_RESCAN = 0.01  # seconds: what is handed up to a subreaper comes without a signal
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
        self._command: Optional[subprocess.Popen[bytes]] = None
        self._status: Optional[int] = None
        self._deadline: Optional[float] = None  # monotonic: then the grace is over

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
        return grace if HAS_PROC else min(grace, 10 * _RESCAN)

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
            self._start(message)
        elif self._command and self._deadline is None:
            self._deadline = time.monotonic() + message["end"]
            groups = self._groups()
            signal_groups(groups, signal.SIGTERM)
            signal_groups(groups, signal.SIGCONT)  # a stopped process would not hear of it

    def _start(self, message: dict[str, Any]) -> None:
        stdout, stderr = self._descriptors
        self._descriptors = []
        user, group, groups = message["account"] or (None, None, None)
        try:
            self._command = subprocess.Popen(
                message["start"],
                cwd=message["cwd"],
                env=message["env"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=groups,
            )
            self._answer({"started": self._command.pid})
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._answer({"failed": getattr(error, "errno", None), "error": _sentence(error)})
        finally:
            os.close(stdout)
            os.close(stderr)

    def _answer(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the agent is gone: `_receive` learns of it
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def _settle(self) -> None:
        """Report the end of the command, once it has come, and see to the end of all the rest.

        When the agent asked for the end, the descendants have the grace too: a shell that dies
        of SIGTERM at once does not cost the program that it started its chance to clean up.
        """
        if not self._command:
            return
        some_live = self._some_live()
        if self._deadline is None:
            waiting = self._status is None
        else:
            waiting = some_live and time.monotonic() < self._deadline
        if waiting:
            return
        left = self._end_everything()
        status = -signal.SIGKILL if self._status is None else self._status
        self._command, self._status, self._deadline = None, None, None
        self._answer({"exited": status, "left": left})

    def _some_live(self) -> bool:
        """Collect the dead; say whether anything below lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not HAS_PROC and self._command is not None and _exists(self._command.pid)
            if pid == 0:
                return True
            if self._command and pid == self._command.pid:
                self._status = os.waitstatus_to_exitcode(status)
                self._command.returncode = self._status

    def _end_everything(self) -> int:
        """SIGKILL all that is below until nothing is; return how many groups would not go."""
        give_up = time.monotonic() + GIVE_UP
        while self._some_live():
            groups = self._groups()
            if time.monotonic() > give_up:
                return len(groups)
            signal_groups(groups, signal.SIGKILL)
            if select.select([self._deaths], [], [], _RESCAN)[0]:
                os.read(self._deaths, 4096)
        return 0

    def _groups(self) -> set[int]:
        """The process groups below. None of them is the runner's own: see `start_new_session`."""
        if HAS_PROC:
            return set(descendants(os.getpid()).values())
        return {self._command.pid} if self._command else set()


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


def descendants(root: int, spared: Collection[int] = ()) -> dict[int, int]:
    """What lives below `root`: the group of each process by its id.

    Zombies are left out, and so is what is in `spared`, with all that is below it.

    For Linux. A process that changes hands while this looks may be missed: look again.
    """
    children: dict[int, list[int]] = {}
    groups: dict[int, int] = {}
    for pid, fields in processes():
        children.setdefault(int(fields[1]), []).append(pid)
        if fields[0] not in DEAD:
            groups[pid] = int(fields[2])
    found, parents = {}, [root]
    while parents:
        for pid in set(children.get(parents.pop(), ())).difference(spared):
            parents.append(pid)
            if pid in groups:
                found[pid] = groups[pid]
    return found


def signal_groups(groups: Iterable[int], number: int) -> None:
    """Signal whole groups: nothing in a group can slip through by forking."""
    for group in groups:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            pass  # gone already, or a zombie's on macOS, or another user's by way of sudo


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
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().decode("latin-1").rpartition(")")[2].split()
    except OSError:
        return []


if __name__ == "__main__":
    main()
