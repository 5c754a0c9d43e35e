"""The usual durations of commands: the median of each one's last successes. No I/O, no clock."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from typing import Callable, Optional

from minici.build import SUCCESS, Build
from minici.timestamps import parse_time

_MOST_COMMANDS = 500
_LAST = 9  # successes of a command
_LONG = 200  # characters of a command that is kept by its hash


class TypicalDurations:
    """Remembers what it is told of, within bounds. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _seconds
        self._seconds: OrderedDict[str, dict[int, float]] = OrderedDict()  # by command, by id

    def note(self, build: Build) -> None:
        """Take in a build; one that was no success, or is known, changes nothing."""
        begun, ended = parse_time(build.started_at), parse_time(build.finished_at)
        if build.status != SUCCESS or begun is None or ended is None:
            return
        with self._lock:
            times = self._seconds.setdefault(_key(build.command), {})
            times[build.id] = max(0.0, (ended - begun).total_seconds())
            for oldest in sorted(times)[:-_LAST]:
                del times[oldest]
            self._seconds.move_to_end(_key(build.command))
            if len(self._seconds) > _MOST_COMMANDS:
                self._seconds.popitem(last=False)

    def of(self, command: str) -> Optional[float]:
        """The usual time of a command in seconds; None where none of its successes is known."""
        with self._lock:
            times = sorted(self._seconds.get(_key(command), {}).values())
        middle = len(times) // 2
        return (times[middle] + times[~middle]) / 2 if times else None

    def lookup(self) -> Callable[[str], Optional[float]]:
        """Return `of` for many calls in a row: it works out each command once."""
        return functools.cache(self.of)


def _key(command: str) -> str:
    if len(command) <= _LONG:
        return command
    return hashlib.sha256(command.encode("utf-8", "surrogatepass")).hexdigest()
