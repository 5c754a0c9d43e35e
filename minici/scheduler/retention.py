"""Old builds go: `keep_builds` and `keep_days` in section 2 of the contract.

A few at a time, oldest first, in a thread of its own; never one that is not final, and never one
whose record can't be read. Numbers of builds that are gone are not given out again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Callable, Optional

from minici.build import Build
from minici.scheduler.state import State
from minici.store import NoSuchBuild, Store, StoreUnavailable

log = logging.getLogger("minici.scheduler.retention")

_PAUSE = 1.0  # seconds between two looks
_AT_A_TIME = 20  # builds that one look removes
_LATE = 1000  # ids: a build that is not there after so many later ones never was
_BLOCK = 4096  # bits in one piece of the set of ids
_AHEAD = 200  # builds from the oldest on that are looked at for their age


class Numbers:
    """A set of whole numbers that stand close together mostly: a bit for each.

    A million ids are 8 MB as an array, and some 100 MB on the way to being sorted.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}  # bits by the number of the first, over _BLOCK
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        """From the lowest on."""
        for block in sorted(self._blocks):
            bits = self._blocks[block]
            while bits:
                lowest = bits & -bits
                yield block * _BLOCK + lowest.bit_length() - 1
                bits ^= lowest

    def add(self, number: int) -> None:
        block, bit = number // _BLOCK, 1 << number % _BLOCK
        bits = self._blocks.get(block, 0)
        self._count += not bits & bit
        self._blocks[block] = bits | bit

    def discard(self, number: int) -> None:
        block, bit = number // _BLOCK, 1 << number % _BLOCK
        bits = self._blocks.get(block, 0)
        if bits & bit:
            self._count -= 1
            self._blocks[block] = bits ^ bit
            if not self._blocks[block]:
                del self._blocks[block]


class Retention:
    """Removes the builds that are too many or too old. Its thread alone calls `sweep`."""

    def __init__(
        self,
        store: Store,
        state: State,
        keep_builds: int,
        keep_days: float,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._store = store
        self._state = state
        self._most = keep_builds
        self._age = timedelta(days=keep_days) if keep_days else None
        self._now = now
        self._ids = Numbers()  # of the builds that are there
        self._known = 0
        self._missing: set[int] = set()  # given out, and not there, or not yet
        self._thread = threading.Thread(target=self._watch, name="retention", daemon=True)

    def start(self) -> None:
        """Begin, if anything is ever to go."""
        if self._most or self._age:
            self._thread.start()

    def _watch(self) -> None:
        try:
            for number in self._store.ids():
                self._ids.add(number)
                self._known = max(self._known, number)
        except OSError as error:
            log.error("the builds can't be listed (%s): none is removed until a restart", error)
            return
        while not self._state.stopping:
            try:
                removed = self.sweep()
            except Exception:
                log.exception("retention stumbled, and goes on")
                removed = 0
            if not removed:
                time.sleep(_PAUSE)

    def sweep(self) -> int:
        """Remove some of what is to go; return how many builds that were."""
        self._take_in_new()
        doomed = self._doomed()
        for number in doomed:
            try:
                self._store.remove(number)
            except StoreUnavailable as error:
                log.error("build %d can't be removed: %s; trying again", number, error)
                return 0
            self._ids.discard(number)
        if doomed:
            log.info("%d builds removed, up to build %d", len(doomed), doomed[-1])
            self._store.oldest = next(iter(self._ids), self._known + 1)
        return len(doomed)

    def _take_in_new(self) -> None:
        newest = self._store.newest
        for number in sorted({*self._missing, *range(self._known + 1, newest + 1)}):
            if self._store.exists(number):
                self._missing.discard(number)
                self._ids.add(number)
            elif number > newest - _LATE:
                self._missing.add(number)
            else:
                self._missing.discard(number)
        self._known = max(self._known, newest)

    def _doomed(self) -> list[int]:
        unfinished = self._state.count()
        too_many = len(self._ids) - unfinished - self._most if self._most else 0
        found: list[int] = []
        for number in islice(self._ids, max(_AHEAD, unfinished + _AT_A_TIME)):
            if len(found) == _AT_A_TIME:
                break
            if self._goes(number, len(found) < too_many):
                found.append(number)
        return found

    def _goes(self, number: int, too_many: bool) -> bool:
        if not too_many and self._age is None:
            return False
        build = self._final(number)
        return build is not None and (too_many or self._is_old(build))

    def _final(self, number: int) -> Optional[Build]:
        try:
            record = self._state.load(number)
        except NoSuchBuild:
            return None
        return record if isinstance(record, Build) and record.final else None

    def _is_old(self, build: Build) -> bool:
        if self._age is None or build.finished_at is None:
            return False
        finished = datetime.strptime(build.finished_at, "%Y-%m-%dT%H:%M:%S.%fZ")
        return self._now() - finished.replace(tzinfo=timezone.utc) > self._age
