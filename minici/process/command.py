"""Running one command at a time for a slot: its output, its time limit, and its end.

The slot's supervisor starts and ends the processes; see `supervisor.py` and rules 12, 13 and 15 of
section 5 of the contract.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from minici.build import STREAMS
from minici.process.account import Account
from minici.process.launcher import SupervisorUnavailable, launcher
from minici.process.leftovers import identity
from minici.process.supervisor import KILL_SECONDS
from minici.reasons import Reason

# Receives a piece of output: the stream, the bytes, and the seconds since the command's start.
Sink = Callable[[str, bytes, float], None]

GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL: `POST /cancel` in the contract
_START_SECONDS = 30.0  # for the interpreter of a supervisor, on a busy machine
_MAX_WAIT_SECONDS = 3600.0  # poll(2) accepts some weeks and no more
_PIPE_BYTES = 1024 * 1024  # Linux gives 64 KiB unless asked for more
_F_SETPIPE_SZ = 1031  # fcntl has the name from Python 3.10 on
_READ_BYTES = 256 * 1024
_ANSWER_BYTES = 4096
_RECORD_BYTES = 256  # fixed, so that a record covers the one before it and need not be truncated

log = logging.getLogger(__name__)


class SupervisorLost(Exception):
    """The supervisor died or hung during a command; the processes of the command are ended."""


@dataclass(frozen=True)
class Exit:
    """The end of a command, `seconds` after its start. A negative status is a signal's number.

    `timed_out` or `stopped` is set if it did not end by itself. `error` is a sentence if it could
    not be started; the status is then the one that a shell gives for that.
    """

    status: int
    seconds: float
    timed_out: bool = False
    stopped: bool = False
    error: Optional[str] = None


class StopOrder:
    """The order to stop a build. Any thread may give it, and only the first one counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the fields below
        self._reason: Optional[str] = None
        self._grace = GRACE_SECONDS
        self._wake: Optional[Callable[[], None]] = None

    @property
    def reason(self) -> Optional[str]:
        return self._reason

    @property
    def grace(self) -> float:
        return self._grace

    def give(self, reason: str, grace: float = GRACE_SECONDS) -> None:
        with self._lock:
            if self._reason is None:
                self._reason, self._grace = reason, grace
                if self._wake:
                    self._wake()

    @contextmanager
    def wakes(self, wake: Callable[[], None]) -> Iterator[None]:
        """Within the block an order calls `wake`, in the thread that gives the order."""
        with self._lock:
            self._wake = wake
        try:
            yield
        finally:
            with self._lock:
                self._wake = None


class Supervisor:
    """The supervisor process of a slot, started when it is needed, and again when it is lost.

    Only the slot's thread may use it; other threads stop a command by its StopOrder. `record` is
    the file in which the next life of the agent finds the processes that this one has started.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._ready = False  # it has answered
        self._recorded: list[list[object]] = []  # the supervisor's process id and its identity
        self._control: socket.socket  # while there is a process
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)

    def start(self) -> None:
        """Start the process ahead of the first command. Raises SupervisorUnavailable."""
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it was killed between two commands
        if self._process is not None:
            return
        try:
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = launcher.start(theirs)
        except OSError as error:
            raise SupervisorUnavailable(str(error)) from None
        self._ready = False
        self._recorded = [[self._process.pid, identity(self._process.pid)]]
        self._write_record()

    def close(self) -> None:
        """End the process and everything below it."""
        if self._process is not None:
            self._control.close()
            launcher.end(self._process)
            self._process = None

    def execute(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        sink: Sink,
        seconds: float,
        stop: StopOrder,
        account: Optional[Account] = None,
        then: Sequence[Sequence[str]] = (),
    ) -> Exit:
        """Run a command; when this returns or raises, no process of it is left.

        If it succeeds, the commands in `then` follow, one after the other, which is quicker than a
        call for each. Returns the end of the last command that ran. All are ended after `seconds`,
        and when `stop` is given. Raises SupervisorUnavailable, which is never the command's fault,
        SupervisorLost, and what `sink` raises.
        """
        if stop.reason is not None:
            return Exit(-signal.SIGTERM, 0.0, stopped=True)
        message = {
            "start": [list(words), *map(list, then)],
            "cwd": str(folder),
            "env": dict(env),
            "account": account and (account.uid, account.gid, account.groups),
        }
        try:
            self._make_ready()
            watch = _Watch(self._control, self._woken, sink, seconds, stop)
            with watch, stop.wakes(self._wake):
                watch.start(message)
                return watch.until_exit(started=self._write_record)
        except BaseException as error:
            if isinstance(error, (SupervisorLost, SupervisorUnavailable)) and self._process:
                self._process.kill()
            self.close()
            raise

    def _make_ready(self) -> None:
        """Start the process if there is none, and wait until it has answered."""
        self.start()
        if self._ready:
            return
        self._control.settimeout(_START_SECONDS)
        try:
            answer = self._control.recv(_ANSWER_BYTES)
        except OSError as error:
            raise SupervisorUnavailable(str(error)) from None
        if not answer.startswith(b'{"ready"'):
            raise SupervisorUnavailable(Reason("supervisor_ended"))
        self._control.settimeout(None)
        self._ready = True

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then it is about to wake up anyway
            os.write(self._waker, b"!")

    def _write_record(self, command: Optional[int] = None) -> None:
        """Record the living processes for `end_leftovers`, in one write over the old record."""
        known = [[command, identity(command)]] if command else []
        text = json.dumps([*known, *self._recorded])
        try:
            descriptor = os.open(self._record, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, text.ljust(_RECORD_BYTES).encode())
            finally:
                os.close(descriptor)
        except OSError as error:  # needed only if the agent and its supervisor are both killed
            log.warning("%s: the running processes can't be recorded: %s", self._record, error)


class _Watch:
    """One command: passes its output from the pipes to the sink, and enforces its time limit."""

    def __init__(
        self, control: socket.socket, woken: int, sink: Sink, seconds: float, stop: StopOrder
    ) -> None:
        self._control = control
        self._sink = sink
        self._stop = stop
        self._began = time.monotonic()
        self._deadline = self._began + seconds
        self._ending = False
        self._timed_out = False
        self._answers = b""
        self._started: Callable[[int], None]
        self._exit: Optional[Exit] = None
        self._streams: dict[int, str] = {}  # by the descriptor at which the agent reads
        self._selector = selectors.PollSelector()  # cheapest for few descriptors
        self._selector.register(control, selectors.EVENT_READ, self._receive)
        self._selector.register(woken, selectors.EVENT_READ, self._drain)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for reader in self._streams:
            os.close(reader)

    def start(self, message: Mapping[str, Any]) -> None:
        """Send a start message together with the pipes for the output."""
        writers = []
        try:
            for stream in STREAMS:
                reader, writer = os.pipe()
                self._streams[reader] = stream
                writers.append(writer)
                fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
                _enlarge_pipe(reader)
                self._selector.register(reader, selectors.EVENT_READ, self._read)
            self._send(message, writers)
        finally:
            for writer in writers:
                os.close(writer)

    def until_exit(self, started: Callable[[int], None]) -> Exit:
        """Wait for the end; `started` is called with the process id of each command."""
        self._started = started
        while self._exit is None:
            wait = min(_MAX_WAIT_SECONDS, max(0.0, self._deadline - time.monotonic()))
            for key, _ in self._selector.select(wait):
                key.data(key.fd)
            self._enforce()
        # The writers are dead; the pipes may still hold output. A writer that can't be killed
        # (on other systems than Linux, or another user's) does not hold up the build.
        for reader in list(self._streams):
            self._read(reader, _PIPE_BYTES)
        return self._exit

    def _enforce(self) -> None:
        """Ask for the end of a command that is over its time or stopped, and check the effect."""
        now = time.monotonic()
        if self._ending and now >= self._deadline:
            raise SupervisorLost(Reason("supervisor_hangs"))
        stopped = self._stop.reason is not None
        if not self._ending and (stopped or now >= self._deadline):
            self._ending, self._timed_out = True, not stopped
            self._deadline = now + self._stop.grace + 1.5 * KILL_SECONDS
            self._send({"end": self._stop.grace})

    def _send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            sent = socket.send_fds(self._control, [data], descriptors)
            self._control.sendall(data[sent:])
        except ConnectionError:
            raise SupervisorLost(Reason("supervisor_lost")) from None

    def _receive(self, _: int) -> None:
        try:
            data = self._control.recv(_ANSWER_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            raise SupervisorLost(Reason("supervisor_lost"))
        *lines, self._answers = (self._answers + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, answer: Mapping[str, Any]) -> None:
        seconds = time.monotonic() - self._began
        if "started" in answer:
            self._started(answer["started"])
        elif "failed" in answer:
            status = 127 if answer["failed"] == errno.ENOENT else 126
            self._exit = Exit(status, seconds, error=answer["error"])
        else:
            stopped = self._ending and not self._timed_out
            self._exit = Exit(answer["exited"], seconds, self._timed_out, stopped)
            if answer["left"]:
                log.error("%d processes can't be killed and are left running", answer["left"])

    def _drain(self, woken: int) -> None:
        os.read(woken, 4096)

    def _read(self, reader: int, size: int = _READ_BYTES) -> None:
        try:
            data = os.read(reader, size)
        except BlockingIOError:
            return
        if data:
            self._sink(self._streams[reader], data, time.monotonic() - self._began)
        else:
            self._selector.unregister(reader)
            del self._streams[reader]
            os.close(reader)


def _enlarge_pipe(pipe: int) -> None:
    """Let a pipe hold more, so that much output comes in few large pieces."""
    if sys.platform == "linux":
        with suppress(OSError):  # the user has too many such pipes: pipe(7)
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
