"""The last builds of each branch, for the start page, and how long those of a project took.

Kept in memory: what happens is noted as it does, and the newest builds of an earlier server are
read once, in the background.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from minici.build import CANCELLED, FAILURE, FINAL, LOST, SUCCESS, Build
from minici.store import NoSuchBuild, Store
from minici.timestamps import parse_time

_BRANCH_PREFIX = "refs/heads/"
_MOST_BRANCHES = 300
_LAST_BUILDS = 20  # of a branch
_LAST_SUCCESSES = 60  # of a project
_MOST_READ = 5000  # of the builds of an earlier server


class PastBuild(NamedTuple):
    """The part of a build that the start page shows of it."""

    id: int
    status: str
    revision: Optional[str]
    subject: Optional[str]
    author: Optional[str]
    started_at: Optional[str]
    finished_at: Optional[str]


@dataclass(frozen=True)
class Branch:
    """A branch of a project, by its short name, and its last builds, oldest first."""

    project: str
    name: str
    builds: Sequence[PastBuild]

    @property
    def newest(self) -> PastBuild:
        """The newest build that says how the branch is: one that has ended by itself, if any."""
        told = [each for each in self.builds if each.status in FINAL and each.status != CANCELLED]
        return (told or self.builds)[-1]

    @property
    def broken_since(self) -> Optional[PastBuild]:
        """The first build of those that have failed without a success since; None if sound."""
        first = None
        for build in self.builds:
            if build.status in (FAILURE, LOST):
                first = first or build
            elif build.status == SUCCESS:
                first = None
        return first


class BranchHistory:
    """Remembers builds of branches, within bounds. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._branches: dict[tuple[str, str], dict[int, PastBuild]] = {}
        self._seconds: dict[str, dict[int, float]] = {}  # by project, by id

    def note(self, build: Build) -> None:
        """Take in a build as it is now; one that is of no branch changes nothing."""
        if build.ref is not None and build.ref.startswith(_BRANCH_PREFIX):
            with self._lock:
                self._add(build)

    def fill(self, store: Store, stopping: Callable[[], bool]) -> None:
        """Read the newest builds of an earlier server, until `stopping`."""
        for number in range(store.newest, max(store.oldest - 1, store.newest - _MOST_READ), -1):
            if stopping():
                return
            with contextlib.suppress(NoSuchBuild):
                build = store.load(number)
                if isinstance(build, Build) and not self._knows(build):
                    self.note(build)

    def branches(self, oldest: int = 1) -> list[Branch]:
        """The branches with their builds that are kept, from the id `oldest` on; by name."""
        with self._lock:
            known = {key: sorted(builds.items()) for key, builds in self._branches.items()}
        found = (
            Branch(project, ref[len(_BRANCH_PREFIX) :], [each for n, each in builds if n >= oldest])
            for (project, ref), builds in sorted(known.items())
        )
        return [branch for branch in found if branch.builds]

    def seconds(self, project: str) -> list[float]:
        """The durations of the last successes of a project's branches, oldest first."""
        with self._lock:
            return [seconds for _, seconds in sorted(self._seconds.get(project, {}).items())]

    def _knows(self, build: Build) -> bool:
        with self._lock:
            return build.id in self._branches.get((build.project, build.ref or ""), ())

    def _add(self, build: Build) -> None:
        key = (build.project, build.ref or "")
        if key not in self._branches and len(self._branches) >= _MOST_BRANCHES:
            stalest = min(self._branches, key=lambda each: max(self._branches[each]))
            if max(self._branches[stalest]) > build.id:
                return
            del self._branches[stalest]
        builds = self._branches.setdefault(key, {})
        builds[build.id] = PastBuild(
            build.id,
            build.status,
            build.revision,
            build.subject,
            build.author,
            build.started_at,
            build.finished_at,
        )
        if len(builds) > _LAST_BUILDS:
            del builds[min(builds)]
        begun, ended = parse_time(build.started_at), parse_time(build.finished_at)
        if build.status == SUCCESS and begun is not None and ended is not None:
            seconds = self._seconds.setdefault(build.project, {})
            seconds[build.id] = max(0.0, (ended - begun).total_seconds())
            if len(seconds) > _LAST_SUCCESSES:
                del seconds[min(seconds)]
