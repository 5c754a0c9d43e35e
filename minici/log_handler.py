"""The log: lines on stderr that nobody has to wait for.

A pipe that nobody reads fills up, and whoever writes to it then waits for ever. So a thread of its
own writes the lines, from a queue of limited size: a line may be lost, which is counted and said.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
import traceback
from collections import deque

_QUEUE_BYTES = 1024 * 1024
_BATCH_SECONDS = 0.02  # lines that come together cost one change of threads
_FLUSH_SECONDS = 1.0  # at the process's end


class BackgroundHandler(logging.Handler):
    """Writes records to a descriptor in a thread of its own; `emit` never waits.

    `flush`, which `logging` calls at the process's end, waits for a second at most.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
        self._descriptor = descriptor
        self._changed = threading.Condition()  # guards the fields below
        # Texts to be written, each with the number of lines that are lost if it can't be.
        self._queue: deque[tuple[bytes, int]] = deque()
        self._queued_bytes = 0  # those that are being written included
        self._lost_lines = 0  # since the last line that said so
        self._failed = False  # the last write: lost lines are reported with the next one
        threading.Thread(target=self._write_queue, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        except Exception:  # arguments that do not fit the text
            self.handleError(record)
            return
        with self._changed:
            if self._queued_bytes + len(line) > _QUEUE_BYTES:
                self._lost_lines += 1
                return
            if not self._queue:  # else the thread is awake
                self._changed.notify_all()
            self._report_lost_lines()
            self._enqueue(line, 1)

    def flush(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._queued_bytes, _FLUSH_SECONDS)

    def _enqueue(self, line: bytes, count: int) -> None:
        """Queue a line. The lock is held by the caller."""
        self._queue.append((line, count))
        self._queued_bytes += len(line)

    def _report_lost_lines(self) -> None:
        """Queue a line that says how many are missing here. The lock is held by the caller."""
        if self._lost_lines:
            text = "%d lines of this log are lost: they came faster than they could be written"
            record = logging.LogRecord(
                "minici", logging.WARNING, "", 0, text, (self._lost_lines,), None
            )
            self._enqueue((self.format(record) + "\n").encode(), self._lost_lines)
            self._lost_lines = 0

    def _write_queue(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._queue or (self._lost_lines and not self._failed)
                )
                if not self._queue:
                    self._report_lost_lines()
                data = b"".join(line for line, _ in self._queue)
                count = sum(count for _, count in self._queue)
                self._queue.clear()
            try:
                write_waiting(self._descriptor, data)
                failed = False
            except OSError:  # the reader is gone, or the disk is full
                failed = True
            with self._changed:
                self._failed = failed
                self._lost_lines += count if failed else 0
                self._queued_bytes -= len(data)
                self._changed.notify_all()
            time.sleep(_BATCH_SECONDS)


def write_waiting(descriptor: int, data: bytes) -> None:
    """Write all bytes, however long it takes, even to a non-blocking descriptor. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


class _OneLine(logging.Formatter):
    """Text from outside can't begin a line of its own; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

    def formatException(self, ei: object) -> str:
        """Format a traceback, without its lines if the source has been replaced meanwhile."""
        try:
            return super().formatException(ei)  # type: ignore[arg-type]
        except Exception:
            assert isinstance(ei, tuple)
            return "".join(traceback.format_exception_only(*ei[:2])).rstrip()
