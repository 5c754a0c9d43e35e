"""The builds of an agent: those that run, and the results that wait to be delivered.

Everything that an agent does with a build goes through here, so that at each moment the build is
in one of the two lists, until the server has its result. `GET /ping` in the contract.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from minici.build import AttemptId
from minici.executor.order import Order
from minici.executor.outbox import Outbox, PendingResult
from minici.process.command import GRACE_SECONDS, StopOrder
from minici.reasons import Reason

DELIVER = "deliver"
DROP = "drop"  # the build goes on elsewhere, or has its result
GIVE_BACK = "give back"  # the agent stops

_LAST_GRACE_SECONDS = 8.0  # for commands when the agent stops, which has 15 for all of it
_BEGIN_SECONDS = 5.0  # that an order to stop waits for a build which is being accepted

log = logging.getLogger(__name__)


class NoSlot(Exception):
    """The agent takes no build now; the text says why."""


@dataclass
class RunningBuild:
    """A build that has a slot. `accepted_at` is on the monotonic clock.

    `if_stopped` is DELIVER, DROP or GIVE_BACK, for a build that `stop` has ended; `Inventory`
    alone sets it.
    """

    order: Order
    folder: Path
    accepted_at: float
    stop: StopOrder = field(default_factory=StopOrder)
    if_stopped: str = DELIVER


class Inventory:
    """For any thread."""

    def __init__(self, outbox: Outbox, slots: int) -> None:
        self._outbox = outbox
        self._slots = slots
        self._changed = threading.Condition()  # guards all that follows
        self._beginning: set[AttemptId] = set()  # those that are being accepted
        self._running: dict[AttemptId, RunningBuild] = {}
        self._untaken: deque[RunningBuild] = deque()  # of the running ones, those no slot has begun
        self._undelivered: deque[PendingResult] = deque()
        self._closing = False

    def restore(self, results: Sequence[PendingResult]) -> None:
        """Take over the results that an earlier life has left."""
        with self._changed:
            self._undelivered.extend(results)
            self._changed.notify_all()

    def has(self, attempt_id: AttemptId) -> bool:
        """Return whether the attempt runs here, or its result waits."""
        with self._changed:
            return attempt_id in self._all()

    def accept(self, order: Order) -> bool:
        """Give a build a slot; False if the build is here already. Raises NoSlot, OSError."""
        with self._changed:
            self._changed.wait_for(lambda: order.attempt_id not in self._beginning)
            if order.attempt_id in self._all():
                return False
            self._check_room()
            self._beginning.add(order.attempt_id)
        try:
            folder = self._outbox.begin(order.attempt_id)  # may take its time: no lock is held
            with self._changed:
                if self._closing:
                    self._outbox.discard(folder)
                    raise NoSlot(Reason("agent_stops"))
                running = RunningBuild(order, folder, time.monotonic())
                self._running[order.attempt_id] = running
                self._untaken.append(running)
        finally:
            with self._changed:
                self._beginning.discard(order.attempt_id)
                self._changed.notify_all()
        return True

    def _check_room(self) -> None:
        if self._closing:
            raise NoSlot(Reason("agent_stops"))
        if len(self._running) + len(self._beginning) >= self._slots:
            raise NoSlot(Reason("slots_taken"))

    def take(self) -> Optional[RunningBuild]:
        """Wait for a build that no slot has begun; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._untaken or self._closing)
            return self._untaken.popleft() if self._untaken else None

    def finish(self, running: RunningBuild, pending: PendingResult) -> None:
        """Have a result, which is safe, wait to be delivered; the slot of its build is free."""
        with self._changed:
            self._undelivered.append(pending)
            del self._running[running.order.attempt_id]
            self._changed.notify_all()

    def drop(self, running: RunningBuild) -> None:
        """Forget a build that has no result; its slot is free."""
        self._outbox.discard(running.folder)
        with self._changed:
            self._running.pop(running.order.attempt_id, None)

    def next_undelivered(self) -> PendingResult:
        """Wait for the result that is to be delivered next."""
        with self._changed:
            self._changed.wait_for(lambda: self._undelivered)
            return self._undelivered[0]

    def settle(self, pending: PendingResult) -> None:
        """Forget a result: the server has answered."""
        with self._changed:
            self._undelivered.remove(pending)

    def stop(self, number: int, attempt: Optional[int], reason: str, if_stopped: str) -> bool:
        """Have a build stopped, whatever it is doing; False if it is not here.

        Without `attempt`, all attempts of it. A build that has ended already is let be.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: all(each.build != number for each in self._beginning), _BEGIN_SECONDS
            )
            found = [
                each
                for each in self._all()
                if each.build == number and attempt in (None, each.attempt)
            ]
            for each in found:
                if each in self._running:
                    self._stop(self._running[each], reason, if_stopped, GRACE_SECONDS)
        return bool(found)

    def close(self) -> None:
        """Accept nothing more, and have everything stopped and given back."""
        with self._changed:
            self._closing = True
            for running in self._running.values():
                self._stop(running, Reason("agent_stopping"), GIVE_BACK, _LAST_GRACE_SECONDS)
            self._changed.notify_all()

    @property
    def slots(self) -> int:
        """The number of builds that the agent takes at a time: none when it stops."""
        return 0 if self._closing else self._slots

    def running(self) -> list[AttemptId]:
        with self._changed:
            return list(self._running)

    def snapshot(self) -> tuple[list[AttemptId], list[AttemptId]]:
        """The attempts that run, and those whose results wait, at one moment."""
        with self._changed:
            return list(self._running), [pending.attempt_id for pending in self._undelivered]

    def _all(self) -> set[AttemptId]:
        return {*self._running, *(pending.attempt_id for pending in self._undelivered)}

    def _stop(self, running: RunningBuild, reason: str, if_stopped: str, grace: float) -> None:
        if running.stop.reason is None:
            log.info("%s is stopped: %s", running.order.title, reason)
            running.if_stopped = if_stopped
            running.stop.give(reason, grace)
