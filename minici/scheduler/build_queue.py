"""The ids of the builds that wait for an agent, oldest first. The State's lock guards it."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator
from typing import Optional


class BuildQueue:
    """Queued builds by id, those that have to run alone apart from the ordinary ones."""

    def __init__(self) -> None:
        self._ordinary: list[int] = []
        self._alone: list[int] = []

    def __len__(self) -> int:
        return len(self._ordinary) + len(self._alone)

    def __iter__(self) -> Iterator[int]:
        """From the oldest on."""
        return heapq.merge(self._ordinary, self._alone)

    @property
    def first_ordinary(self) -> Optional[int]:
        return self._ordinary[0] if self._ordinary else None

    @property
    def first_alone(self) -> Optional[int]:
        return self._alone[0] if self._alone else None

    def add(self, number: int, alone: bool) -> None:
        """Put a build at its place, unless it is in the queue already."""
        if not self.position(number):
            bisect.insort(self._alone if alone else self._ordinary, number)

    def discard(self, number: int) -> None:
        """Take a build out, if it is in the queue."""
        for lane in (self._ordinary, self._alone):
            index = bisect.bisect_left(lane, number)
            if lane[index : index + 1] == [number]:
                del lane[index]

    def position(self, number: int) -> int:
        """The place of a build, 1 for the oldest; 0 if it is not in the queue."""
        before, found = 0, False
        for lane in (self._ordinary, self._alone):
            index = bisect.bisect_left(lane, number)
            before += index
            found = found or lane[index : index + 1] == [number]
        return before + 1 if found else 0
