"""The counter of a data folder: no id is given out twice, whatever was lost."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from minici.durable import forget_spare, write_recycling

log = logging.getLogger("minici.id_counter")

_ID = re.compile(r"[1-9][0-9]{0,17}")
_MOST_ID = 10**15  # beyond it a counter is taken for damaged
_PROBED_IDS = 1000  # ids behind the counter that are looked for when a server starts


class IdCounter:
    """The file `counter`, which has the last id given out. Any thread may call it.

    The names in `folders` that are ids are in use, whatever the counter says; the first of them
    has a folder for each build.
    """

    def __init__(self, path: Path, folders: Sequence[Path]) -> None:
        self._path = path
        self._folders = folders
        self._lock = threading.Lock()  # guards the file and _last
        self._last = 0

    def recover(self) -> int:
        """Return the last id that can have been given out. Before `next`; raises OSError."""
        forget_spare(self._path)
        counted = self._read()
        if counted is not None and not self._any_behind(counted):
            self._last = counted
            return counted
        highest = max(self._highest(), counted or 0)
        if counted is not None or highest:
            log.warning("the counter was lost or too low: going on after build %d", highest)
        if self._path.is_dir():
            os.replace(self._path, self._path.with_name(f"counter.damaged-{os.getpid()}"))
        write_recycling(self._path, b"%d\n" % highest)
        self._last = highest
        return highest

    def next(self) -> int:
        """Give out the next id, durably. Raises OSError."""
        with self._lock:
            number = self._last + 1
            if self._in_use(number):
                number = self._highest() + 1
            write_recycling(self._path, b"%d\n" % number)
            self._last = number
            return number

    def _read(self) -> Optional[int]:
        try:
            text = self._path.read_bytes().strip()
        except (FileNotFoundError, IsADirectoryError):
            return None
        if not re.fullmatch(rb"[0-9]{1,18}", text) or int(text) > _MOST_ID:
            return None
        return int(text)

    def _in_use(self, number: int) -> bool:
        return (self._folders[0] / str(number)).exists()

    def _any_behind(self, counted: int) -> bool:
        """Return whether ids near above the counter are in use. To list all of them takes long."""
        near = range(counted + 1, counted + _PROBED_IDS)
        far = (counted + _PROBED_IDS * 2**power for power in range(20))
        return any(self._in_use(number) for number in (*near, *far))

    def _highest(self) -> int:
        used = [0]
        for folder in self._folders:
            with os.scandir(folder) as entries:
                used.append(max((id_of(entry.name) for entry in entries), default=0))
        return max(used)


def id_of(name: str) -> int:
    """The id that a file's name is; 0 if it is none."""
    return int(name) if _ID.fullmatch(name) else 0
