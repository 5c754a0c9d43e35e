"""Old builds go: `keep_builds` and `keep_days` in section 2 of the contract.

A few at a time, oldest first, in a thread of its own; never one that is not final, and never one
whose record can't be read. Ids of builds that are gone are not given out again.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Callable

from minici.build import Build
from minici.scheduler.state import State
from minici.store import NoSuchBuild, Store, StoreUnavailable
from minici.timestamps import parse_time

log = logging.getLogger("minici.scheduler.retention")

_PAUSE_SECONDS = 1.0  # between two looks
_MOST_REMOVED = 20  # builds that one look removes
_MOST_LOOKED_AT = 1000  # ids that one look passes
_STARTING_IDS = 1000  # newest ids that may have no build yet, because it is being made

# A build after a look: deleted or of no concern, not final yet, or kept.
_GONE, _WAITS, _STAYS = range(3)


class Retention:
    """Removes the builds that are too many or too old. Its thread alone calls `sweep`.

    It goes from the oldest build on to the first one that may stay, and remembers of those behind
    it only the ones that were not final: its memory does not grow with the builds that are kept.
    """

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
        self._listed = 0  # builds that were there when the server started
        self._uncounted = 0  # builds that were removed since, or that are damaged
        self._next = 1  # the lowest id that was not passed yet
        self._waiting: list[int] = []  # ids below it whose builds are not final, or not made yet
        self._first_damaged = sys.maxsize
        self._surplus = 0  # final builds that are still too many
        self._quota = 0  # builds that this look may still delete
        self._thread = threading.Thread(target=self._watch, name="retention", daemon=True)

    def start(self) -> None:
        """Begin, if anything is ever to go."""
        if self._most or self._age:
            self._thread.start()

    def _watch(self) -> None:
        try:
            self.list_builds()
        except OSError as error:
            log.error("the builds can't be listed (%s): none is removed until a restart", error)
            return
        while not self._state.stopping:
            try:
                removed = self.sweep()
            except StoreUnavailable as error:
                log.error("a build can't be removed: %s; trying again", error)
                removed = 0
            except Exception:
                log.exception("internal error in retention; it goes on")
                removed = 0
            if not removed:
                time.sleep(_PAUSE_SECONDS)

    def list_builds(self) -> None:
        """Count the builds of earlier servers and find the oldest. Before `sweep`; OSError."""
        self._listed = sum(number <= self._store.first_newest for number in self._store.ids())
        self._next = self._oldest_from(1)

    def _oldest_from(self, first: int) -> int:
        ids = (number for number in self._store.ids() if number >= first)
        return min(ids, default=max(first, self._store.newest))

    def sweep(self) -> int:
        """Delete up to 20 expired builds; return how many that were. Raises StoreUnavailable."""
        created = self._store.created
        final = self._listed + created - self._uncounted - self._state.count()
        self._surplus = final - self._most if self._most else 0
        self._quota = _MOST_REMOVED
        self._waiting = [number for number in self._waiting if self._settle(number) != _GONE]
        passed = self._go_on()
        if passed == _MOST_LOOKED_AT and self._quota == _MOST_REMOVED:  # a gap
            self._next = self._oldest_from(self._next)
        removed = _MOST_REMOVED - self._quota
        if removed:
            log.info("%d builds removed, up to build %d", removed, self._next - 1)
            self._store.oldest = min(self._next, self._first_damaged, *self._waiting)
        return removed

    def _go_on(self) -> int:
        """Go from `_next` on, up to the first build that stays; return how many were passed."""
        for passed in range(_MOST_LOOKED_AT):
            if self._next > self._store.newest:
                return passed
            found = self._settle(self._next)
            if found == _STAYS:
                return passed
            if found == _WAITS:
                self._waiting.append(self._next)
            self._next += 1
        return _MOST_LOOKED_AT

    def _settle(self, number: int) -> int:
        """Delete a build if it has expired; return what became of it."""
        try:
            build = self._state.load(number)
        except NoSuchBuild:
            return _WAITS if number > self._store.newest - _STARTING_IDS else _GONE
        if not isinstance(build, Build):
            self._first_damaged = min(self._first_damaged, number)
            self._uncounted += 1
            self._surplus -= 1
            return _GONE
        if not build.final:
            return _WAITS
        if not self._quota or not (self._surplus > 0 or self._is_old(build)):
            return _STAYS
        self._store.remove(number)
        self._uncounted += 1
        self._quota -= 1
        self._surplus -= 1
        return _GONE

    def _is_old(self, build: Build) -> bool:
        finished = parse_time(build.finished_at)
        return self._age is not None and finished is not None and self._now() - finished > self._age
