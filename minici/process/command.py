"""Run one command at a time for a slot: its output, its time limit, and the end of all of it.

The processes themselves are in the care of the slot's runner; see `runner.py` and rules 12, 13
and 15 of section 5 of the contract.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import pwd
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
from minici.process.leftovers import family, identity
from minici.process.supervisor import GIVE_UP

# Takes a piece of output: the stream, the bytes, and the seconds since the command's start.
Sink = Callable[[str, bytes, float], None]

_PATIENCE = 3600.0  # seconds in one wait: the system takes some weeks and no more
GRACE = 10.0  # seconds from SIGTERM to SIGKILL: `POST /cancel` in the contract
_PIPE = 1024 * 1024  # bytes; Linux gives 64 KiB unless asked for more
_F_SETPIPE_SZ = 1031  # fcntl knows its name from Python 3.10 on
_READ = 256 * 1024
_RECORD_SIZE = 256  # bytes: a record covers the one before it, so that it need not be cut

log = logging.getLogger(__name__)


class RunnerLost(Exception):
    """The runner died or hung in the middle of a command; all that it ran has been ended."""


@dataclass(frozen=True)
class Account:
    """The user as whom commands run."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def named(cls, name: str) -> Account:
        """Look the user up. Raises KeyError if there is none of that name."""
        entry = pwd.getpwnam(name)
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return cls(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)

    @property
    def variables(self) -> dict[str, str]:
        """What tells programs whose home they are in."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


@dataclass(frozen=True)
class Exit:
    """How a command ended, `seconds` after its start. A negative status is a signal's number.

    `timed_out` and `stopped` say what ended it, where it did not end by itself. `error` says in
    words why it could not be started; the status is then the one that a shell gives for that.
    """

    status: int
    seconds: float
    timed_out: bool = False
    stopped: bool = False
    error: Optional[str] = None


class StopOrder:
    """A build's order to stop. Given once, from any thread; the first reason counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._reason: Optional[str] = None
        self._grace = GRACE
        self._wake: Optional[Callable[[], None]] = None

    @property
    def reason(self) -> Optional[str]:
        return self._reason

    @property
    def grace(self) -> float:
        return self._grace

    def give(self, reason: str, grace: float = GRACE) -> None:
        with self._lock:
            if self._reason is None:
                self._reason, self._grace = reason, grace
                if self._wake:
                    self._wake()

    @contextmanager
    def wakes(self, wake: Callable[[], None]) -> Iterator[None]:
        """Within the block an order calls `wake`, in whatever thread it is given."""
        with self._lock:
            self._wake = wake
        try:
            yield
        finally:
            with self._lock:
                self._wake = None


class Runner:
    """A slot's hold on its runner, which is started when it is needed, and again when it is lost.

    For the slot's thread alone; others stop a command by the StopOrder that it was given.
    `record` is the file in which a later life of the agent finds what this one has started.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._noted: list[list[object]] = []  # the runner's process id and what tells it apart
        self._control: socket.socket  # while there is a process
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)

    def start(self) -> None:
        """Have the runner ready, so that the first command need not wait for it."""
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it was killed while it had nothing to do
        if self._process is None:
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = family.start(theirs)
            self._noted = [[self._process.pid, identity(self._process.pid)]]
            self._note()

    def close(self) -> None:
        """End the runner and all below it."""
        if self._process is not None:
            self._control.close()
            family.end(self._process)
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
        """Run a command to its end, and all that it started to theirs.

        If it ends well, the commands in `then` follow, one after the other: that is quicker than a
        call for each. Returns how the last one ended that ran. All are ended after `seconds`, and
        when `stop` is ordered. Raises RunnerLost, and what `sink` raises; nothing of the commands
        is left then either.
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
            self.start()
            watch = _Watch(self._control, self._woken, sink, seconds, stop)
            with watch, stop.wakes(self._wake):
                watch.start(message)
                return watch.until_exit(started=self._note)
        except BaseException as error:
            if isinstance(error, RunnerLost) and self._process:
                self._process.kill()
            self.close()
            raise

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then it is about to wake up anyway
            os.write(self._waker, b"!")

    def _note(self, command: Optional[int] = None) -> None:
        """Write down what lives now, for `end_leftovers`: over what stood there, in one step."""
        known = [[command, identity(command)]] if command else []
        text = json.dumps([*known, *self._noted])
        try:
            descriptor = os.open(self._record, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, text.ljust(_RECORD_SIZE).encode())
            finally:
                os.close(descriptor)
        except OSError as error:  # needed only if the agent and its runner are both killed
            log.warning("what runs now is not written down: %s", error)


class _Watch:
    """One command: its output on the way from the pipes to the sink, and its time."""

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
        self._selector = selectors.PollSelector()  # for so few, cheaper than what scales
        self._selector.register(control, selectors.EVENT_READ, self._hear)
        self._selector.register(woken, selectors.EVENT_READ, self._wake_up)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for reader in self._streams:
            os.close(reader)

    def start(self, message: Mapping[str, Any]) -> None:
        """Send a start message, with the pipes for the output."""
        writers = []
        try:
            for stream in STREAMS:
                reader, writer = os.pipe()
                self._streams[reader] = stream
                writers.append(writer)
                fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
                _enlarge(reader)
                self._selector.register(reader, selectors.EVENT_READ, self._read)
            self._send(message, writers)
        finally:
            for writer in writers:
                os.close(writer)

    def until_exit(self, started: Callable[[int], None]) -> Exit:
        self._started = started
        while self._exit is None:
            patience = min(_PATIENCE, max(0.0, self._deadline - time.monotonic()))
            for key, _ in self._selector.select(patience):
                key.data(key.fd)
            self._enforce()
        # All who could write are dead, and this is what they left in the pipes. Where one is out
        # of reach (another system than Linux, another user) it does not hold up the build.
        for reader in list(self._streams):
            self._read(reader, _PIPE)
        return self._exit

    def _enforce(self) -> None:
        """See to the time limit and to an order to stop, and to it that they have an effect."""
        now = time.monotonic()
        if self._ending and now >= self._deadline:
            raise RunnerLost("the runner does not answer")
        stopped = self._stop.reason is not None
        if not self._ending and (stopped or now >= self._deadline):
            self._ending, self._timed_out = True, not stopped
            self._deadline = now + self._stop.grace + 1.5 * GIVE_UP
            self._send({"end": self._stop.grace})

    def _send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            sent = socket.send_fds(self._control, [data], descriptors)
            self._control.sendall(data[sent:])
        except ConnectionError:
            raise RunnerLost("the runner is gone") from None

    def _hear(self, _: int) -> None:
        try:
            data = self._control.recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            raise RunnerLost("the runner was killed")
        *lines, self._answers = (self._answers + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, answer: Mapping[str, Any]) -> None:
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
                log.error("%d process groups can't be killed and are left", answer["left"])

    def _wake_up(self, woken: int) -> None:
        os.read(woken, 4096)

    def _read(self, reader: int, size: int = _READ) -> None:
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


def _enlarge(pipe: int) -> None:
    """Give a flood of output room, so that it comes in few large pieces."""
    if sys.platform == "linux":
        with suppress(OSError):  # the user has too many such pipes: pipe(7)
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE)
