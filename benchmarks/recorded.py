"""When a build is recorded: the moment at which its mark goes from the folder `unfinished`.

Section 4 of the contract: what has no mark there any more has its final record on disk. Waiting
for that costs the server nothing, where a stream of events would cost it a connection and a
thread for each build.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Callable, Optional

from benchmarks.ground import Process

_IN_DELETE = 0x200  # inotify(7)
_PAUSE = 0.0005  # seconds between two looks, where nothing tells us


class Recorded:
    """Waits for the ends of builds, in whatever order they come.

    `patience` is how many seconds may go by without one before something must be wrong.
    """

    def __init__(self, server: Process, patience: float = 60.0) -> None:
        self._patience = patience
        self._folder = server.data / "unfinished"
        self._notices: Optional[int] = None
        self._poll = select.poll()  # no select: a thousand agents have more descriptors than fit
        if sys.platform == "linux":
            self._notices = _watch(self._folder)
            self._poll.register(self._notices, select.POLLIN)

    def __enter__(self) -> Recorded:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._notices is not None:
            os.close(self._notices)

    def wait(self, number: int) -> None:
        """Until this build, which was started, is recorded."""
        mark = self._folder / str(number)
        self._until(lambda: not mark.exists(), f"the end of build {number}")

    def wait_all(self) -> None:
        """Until no build is unfinished."""
        self._until(lambda: not os.listdir(self._folder), "the end of all builds")

    def _until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + self._patience
        while not condition():
            if self._notices is None:
                time.sleep(_PAUSE)
            elif self._poll.poll(self._patience * 1000):
                os.read(self._notices, 65536)
                deadline = time.monotonic() + self._patience
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come")


def _watch(folder: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_DELETE) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return int(descriptor)
