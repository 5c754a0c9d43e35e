"""The builds that wait for an agent, oldest first. The State's lock guards it."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator

from minici.scheduler.choosing import Labels, QueuedBuild

Kind = tuple[Labels, bool]


class BuildQueue:
    """Queued builds by id, in one lane for each kind: those with the same labels, and of these
    the ones that have to run alone apart from the others."""

    def __init__(self) -> None:
        self._lanes: dict[Kind, list[int]] = {}
        self._kinds: dict[int, Kind] = {}  # by build

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[int]:
        """From the oldest on."""
        return heapq.merge(*self._lanes.values())

    def heads(self) -> list[QueuedBuild]:
        """The oldest build of each lane, in no order."""
        return [
            QueuedBuild(lane[0], labels, alone) for (labels, alone), lane in self._lanes.items()
        ]

    def lanes(self) -> dict[Kind, list[int]]:
        """The builds of each kind, oldest first: a copy."""
        return {kind: list(lane) for kind, lane in self._lanes.items()}

    def is_head(self, number: int) -> bool:
        """Return whether no older build of its kind waits before this one."""
        kind = self._kinds.get(number)
        return kind is not None and self._lanes[kind][0] == number

    def add(self, build: QueuedBuild) -> None:
        """Put a build at its place, unless it is in the queue already."""
        if build.id not in self._kinds:
            kind = self._kinds[build.id] = (build.labels, build.alone)
            bisect.insort(self._lanes.setdefault(kind, []), build.id)

    def discard(self, number: int) -> None:
        """Take a build out, if it is in the queue."""
        kind = self._kinds.pop(number, None)
        if kind is None:
            return
        lane = self._lanes[kind]
        del lane[bisect.bisect_left(lane, number)]
        if not lane:
            del self._lanes[kind]
