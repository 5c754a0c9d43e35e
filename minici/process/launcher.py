"""Starting and ending the supervisors of an agent.

The source of the supervisor is read when this module is imported, and each supervisor gets it on
its standard input: the package may be replaced or removed while the agent runs.
"""

from __future__ import annotations

import os
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

from minici.durable import write_all
from minici.process import supervisor
from minici.reasons import Reason

_SOURCE = pkgutil.get_data("minici.process", "supervisor.py") or b""
# The soft limit of open files with which the agent was started: the agent raises its own, and
# commands that use select(2) would break with a higher one.
_FILE_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
# Variables that the interpreter needs to find its own libraries. No other setting of the agent's
# environment applies to supervisors.
_KEPT_VARIABLES = ("PYTHONHOME", "LD_", "DYLD_")

_TITLE = "minici-supervisor"  # an unused argument, for whoever reads a list of processes


class SupervisorUnavailable(Exception):
    """No supervisor can be started, so this agent can't run commands: rule 21 of the contract."""

    def __init__(self, error: str) -> None:
        super().__init__(Reason("supervisor_unavailable", error=error))


class _Launcher:
    """The supervisors of this process, and the orphans of those that were killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the fields below; held while a supervisor starts
        self._supervisors: set[int] = set()
        self._other_children: set[int] = set()
        self._adopts_orphans = False

    def adopt_orphans(self) -> None:
        """Make the processes that a killed supervisor leaves children of this one, to end them.

        From then on each new child of this process that is no supervisor counts as such an orphan.
        """
        if supervisor.HAS_PROC:
            self._other_children = supervisor.children()
        supervisor.become_subreaper()
        self._adopts_orphans = supervisor.HAS_PROC

    def start(self, control: socket.socket) -> subprocess.Popen[bytes]:
        """Start a supervisor that serves the agent at the other end of `control`.

        Raises SupervisorUnavailable. A supervisor that works answers `ready`.
        """
        descriptor = str(control.fileno())
        options = ("-S", "-s", "-X", "utf8")  # UTF-8 mode: bytes are passed on whatever the locale
        environ = {k: v for k, v in os.environ.items() if k.startswith(_KEPT_VARIABLES)}
        try:
            with self._lock:
                process = subprocess.Popen(
                    [sys.executable, *options, "-", descriptor, str(_FILE_LIMIT), _TITLE],
                    cwd="/",
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[control.fileno()],
                    start_new_session=True,
                )
                self._supervisors.add(process.pid)
        except (OSError, ValueError) as error:
            raise SupervisorUnavailable(str(error)) from None
        assert process.stdin is not None
        with process.stdin, suppress(BrokenPipeError):  # it ended at once: no `ready` will come
            write_all(process.stdin.fileno(), _SOURCE)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until a supervisor whose socket is closed has ended, for a limited time, and end
        the processes that it leaves."""
        try:
            process.wait(supervisor.KILL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with self._lock:
            self._supervisors.discard(process.pid)
            if self._adopts_orphans and process.returncode != 0:
                self._end_orphans()

    def _end_orphans(self) -> None:
        """Kill orphans until there are none: the children of each become orphans as it dies."""
        give_up = time.monotonic() + supervisor.KILL_SECONDS
        while time.monotonic() < give_up:
            orphans = supervisor.children() - self._supervisors - self._other_children
            if not orphans:  # those that are dead by now may have left others: look again
                return
            for pid in orphans:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    supervisor.kill(pid, signal.SIGKILL)
            time.sleep(0.001)


launcher = _Launcher()
