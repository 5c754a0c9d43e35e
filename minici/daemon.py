"""Server and agent as processes: locale, signals, log, ready line, exit status."""

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
from typing import Callable, Optional, TextIO

from minici import __version__
from minici.config import ConfigError
from minici.durable import FolderLocked
from minici.log_handler import BackgroundHandler, write_waiting

log = logging.getLogger("minici")

EXIT_BAD_CONFIG = 2
EXIT_CAN_NOT_START = 1
LIFELINE_VARIABLE = "MINICI_LIFELINE"
_STDOUT, _STDERR = 1, 2
_PRINT_SECONDS = 1.0  # a line on a pipe that nobody reads is given up then


class CanNotStart(Exception):
    """The process can't do its work here. The text is one line that says what to do."""


class Stop:
    """The request to end the process, made once, by a signal or by a thread.

    The main thread waits for it. A pipe wakes it, not a lock: the kernel may deliver a signal to
    any thread, and does not wake a main thread that waits for a lock.
    """

    def __init__(self) -> None:
        self._set = False
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def set(self) -> None:
        """Request the end. For any thread."""
        self._set = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b"!")

    def __bool__(self) -> bool:
        return self._set

    def wait(self, seconds: Optional[float] = None) -> bool:
        """Wait until it is set, at most `seconds`; return True if it is. For the main thread."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._set:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            if select.select([self._reading], [], [], left)[0]:
                os.read(self._reading, 100)
        return self._set

    def on_signals(self) -> None:
        """Let SIGTERM, SIGINT and, unless nohup ignores it, SIGHUP set it. For the main thread."""
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: Optional[FrameType]) -> None:
        self._set = True

    def on_lifeline(self) -> None:
        """Set it also when the process that started this one ends, if it passed a pipe for that."""
        descriptor = os.environ.pop(LIFELINE_VARIABLE, "")
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
    main: Callable[[Path, Stop], None],
    arguments: Optional[Sequence[str]],
    usage: str,
    summary: str,
) -> int:
    """Call `main(config path, stop)` and return the exit status that its end means.

    Without `arguments`, this is the program itself: its own arguments count, and it is started
    again if its locale is not UTF-8.
    """
    if arguments is None:
        use_utf8()
        arguments = sys.argv[1:]
    take_over_process()
    set_up_log()
    asked = arguments[0] if arguments else ""
    if asked in ("-h", "--help"):
        print(f"usage: {usage}\n\n{summary}")
        return 0
    if asked == "--version":
        print(f"minici {__version__}")
        return 0
    if len(arguments) != 1 or asked.startswith("-"):
        complain(f"usage: {usage}")
        return EXIT_BAD_CONFIG
    return _run_until_stopped(main, Path(arguments[0]))


def _run_until_stopped(main: Callable[[Path, Stop], None], config: Path) -> int:
    stop = Stop()
    stop.on_signals()
    stop.on_lifeline()
    try:
        main(config, stop)
    except ConfigError as error:
        complain(str(error))
        return EXIT_BAD_CONFIG
    except (CanNotStart, FolderLocked) as error:
        complain(str(error))
        return EXIT_CAN_NOT_START
    except Exception:
        log.critical("internal error: the process ends", exc_info=True)
        return EXIT_CAN_NOT_START
    return 0


# Locale and signals that the process was started with.


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, if the locale has another encoding.

    Names of files, arguments and variables are then the bytes that they were, and text is UTF-8,
    whatever LC_ALL says; commands find the locale as it is. For the beginning of a program.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not sys.executable:
        return
    with contextlib.suppress(OSError):  # the interpreter has been replaced: go on as it is
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *_interpreter_arguments()])


def _interpreter_arguments() -> list[str]:
    """The words after the interpreter's name that started this program."""
    words: Optional[list[str]] = getattr(sys, "orig_argv", None)  # Python 3.10
    if words is not None:
        return words[1:]
    spec = sys.modules["__main__"].__spec__
    if spec is None or spec.name == "__main__":  # a script or an archive
        return sys.argv
    return ["-m", spec.name, *sys.argv[1:]]


def take_over_process() -> None:
    """Unblock all signals, restore SIGCHLD, and open standard streams that are closed.

    Whoever started this process may have left them so. For the main thread.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STDERR:  # it was closed, and a socket would get its number
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(_STDOUT, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", encoding="utf-8", closefd=False)


# Log and standard streams.


def set_up_log() -> None:
    """Send the log to stderr, one line per event, and what ends a thread to the log."""
    logging.basicConfig(level=logging.INFO, handlers=[BackgroundHandler(_STDERR)])
    logging.logThreads = logging.logProcesses = False  # the format does not show them
    logging.raiseExceptions = False  # a line that can't be formatted ends no build
    threading.excepthook = _log_exception


def _log_exception(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread else "?"
    exc_info = (error.exc_type, error.exc_value or error.exc_type(), error.exc_traceback)
    log.critical("internal error: the thread %s ends", name, exc_info=exc_info)


def announce(text: str) -> None:
    """Print a line on stdout: the process answers now."""
    _print(_STDOUT, text, sys.stdout)


def complain(text: str) -> None:
    """Print a line on stderr: the process ends for this reason."""
    _print(_STDERR, text, sys.stderr)


def _print(descriptor: int, text: str, stream: Optional[TextIO]) -> None:
    """Write a line, but do not wait for long until somebody reads it."""
    data = (text + "\n").encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace")
    thread = threading.Thread(target=_write, args=(descriptor, data), name="print", daemon=True)
    thread.start()
    thread.join(_PRINT_SECONDS)


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the reader is gone
        write_waiting(descriptor, data)


def shown_url(host: str, port: int, secure: bool) -> str:
    """Return the URL by which this host reaches a listener."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{name}:{port}"


def warn_if_readable(path: Optional[Path]) -> None:
    """Log a warning if other users of this host can read the file that holds the secret."""
    try:
        readable = path is not None and path.stat().st_mode & 0o044
    except OSError:
        return
    if readable:
        log.warning("%s holds a secret and others can read it: chmod 600 %s", path, path)
