"""Counts of what builds have come to since the server's start, for monitoring. No I/O, no clock."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Optional

from minici.build import RUNNING, Build
from minici.timestamps import parse_time

BUCKET_SECONDS = (1, 5, 15, 60, 300, 900, 3600)


@dataclass
class Histogram:
    """Durations in seconds. `counts` has one for each of BUCKET_SECONDS, and one for the rest."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKET_SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BUCKET_SECONDS, seconds)] += 1
        self.total += seconds

    def copy(self) -> Histogram:
        return Histogram(list(self.counts), self.total)


class BuildCounters:
    """Counts each change of a build's status that it is told of. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._finished: Counter[tuple[str, str]] = Counter()
        self._durations: dict[str, Histogram] = {}
        self._waits: dict[str, Histogram] = {}

    def build_changed(self, build: Build) -> None:
        """Count a build that is new or has another status."""
        with self._lock:
            if build.status == RUNNING and build.last_attempt == 1:
                _add(self._waits, build.project, _seconds(build.queued_at, build.started_at))
            if build.final:
                self._finished[build.project, build.status] += 1
                _add(self._durations, build.project, _seconds(build.started_at, build.finished_at))

    def finished(self) -> dict[tuple[str, str], int]:
        """The finished builds by project and status."""
        with self._lock:
            return dict(self._finished)

    def durations(self) -> dict[str, Histogram]:
        """The seconds from start to end of finished builds, by project."""
        with self._lock:
            return {project: each.copy() for project, each in self._durations.items()}

    def waits(self) -> dict[str, Histogram]:
        """The seconds from the request to the first start of builds, by project."""
        with self._lock:
            return {project: each.copy() for project, each in self._waits.items()}


def _add(histograms: dict[str, Histogram], project: str, seconds: Optional[float]) -> None:
    if seconds is not None:
        histograms.setdefault(project, Histogram()).add(seconds)


def _seconds(begin: Optional[str], end: Optional[str]) -> Optional[float]:
    first, last = parse_time(begin), parse_time(end)
    return max(0.0, (last - first).total_seconds()) if first and last else None
