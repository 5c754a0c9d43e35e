"""What server and agent have in common as processes: logs, signals, the ready line, the exit."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Callable, Optional

from minici import __version__
from minici.config import ConfigError
from minici.durable import FolderLocked

log = logging.getLogger("minici")

BAD_CONFIG = 2
CAN_NOT_START = 1
LIFELINE = "MINICI_LIFELINE"
OWN_PATH = "MINICI_PYTHONPATH"  # PYTHONPATH as it was before minici had itself found by it


class CanNotStart(Exception):
    """Why the process can't do its work here, in one line that says what to do."""


class Stop:
    """Set once, by a signal or by whoever ends the process. The main thread waits for it.

    A pipe wakes the main thread, and no lock: the kernel may give a signal to any thread, and
    one that waits for a lock is then not woken.
    """

    def __init__(self) -> None:
        self._set = False
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def set(self) -> None:
        """Have the process stop. For any thread."""
        self._set = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b"!")

    def __bool__(self) -> bool:
        return self._set

    def wait(self, seconds: Optional[float] = None) -> bool:
        """Wait until it is set, at most `seconds`; whether it is. For the main thread."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._set:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            if select.select([self._reading], [], [], left)[0]:
                os.read(self._reading, 100)
        return self._set

    def on_signals(self) -> None:
        """Let SIGTERM and SIGINT set it, and SIGHUP, unless it is ignored, as by nohup. For the
        main thread."""
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: Optional[FrameType]) -> None:
        self._set = True

    def on_lifeline(self) -> None:
        """Stop as well when the process that started this one ends, if it left a pipe for that."""
        descriptor = os.environ.pop(LIFELINE, "")
        if descriptor.isdigit():
            threading.Thread(
                target=self._watch, args=(int(descriptor),), name="lifeline", daemon=True
            ).start()

    def _watch(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        try:
            while os.read(descriptor, 1):
                continue
        except OSError:
            pass
        self.set()


def run(
    main: Callable[[Path, Stop], None], arguments: Sequence[str], usage: str, summary: str
) -> int:
    """Call `main(config path, stop)` and turn how it ends into an exit status."""
    set_up_log()
    asked = arguments[0] if arguments else ""
    if asked in ("-h", "--help"):  # what was asked for is output, what is complained of is not
        print(f"usage: {usage}\n\n{summary}")
        return 0
    if asked == "--version":
        print(f"minici {__version__}")
        return 0
    if len(arguments) != 1 or asked.startswith("-"):
        print(f"usage: {usage}", file=sys.stderr)
        return BAD_CONFIG
    stop = Stop()
    stop.on_signals()
    stop.on_lifeline()
    _restore_path()
    try:
        main(Path(arguments[0]), stop)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    except (CanNotStart, FolderLocked) as error:
        print(error, file=sys.stderr)
        return CAN_NOT_START
    return 0


def _restore_path() -> None:
    """Builds inherit this process's environment, and their Python may be another one."""
    own = os.environ.pop(OWN_PATH, None)
    if own:
        os.environ["PYTHONPATH"] = own
    elif own is not None:
        os.environ.pop("PYTHONPATH", None)


def set_up_log() -> None:
    """Send the log to stderr, one line a happening."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.logThreads = logging.logProcesses = False  # which nobody asks for in `_OneLine`
    logging.raiseExceptions = False  # a log that nobody reads any more ends no build


class _OneLine(logging.Formatter):
    """What comes from outside can't begin a line of its own; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def announce(text: str) -> None:
    """Print the line that says that the process answers now."""
    try:
        print(text, flush=True)
    except OSError:
        log.info("%s", text)


def shown_url(host: str, port: int, secure: bool) -> str:
    """The address of a listener as a URL, by which this host reaches it."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{name}:{port}"


def warn_if_readable(path: Optional[Path]) -> None:
    """Say so when others on this host can read the file in which the secret stands."""
    try:
        readable = path is not None and path.stat().st_mode & 0o044
    except OSError:
        return
    if readable:
        log.warning("%s holds a secret and others can read it: chmod 600 %s", path, path)
