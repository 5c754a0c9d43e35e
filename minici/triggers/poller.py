"""Builds that start by themselves: a project's refs are looked at, and what has moved is built.

Contract, section 5, rules 16 and 17. Each project that has patterns has a thread of its own, so
that a repository that hangs delays no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from minici.config import ProjectConfig
from minici.reasons import sentence_of
from minici.scheduler.state import QueueFull
from minici.store import StoreUnavailable
from minici.timestamps import utc_now
from minici.triggers.ls_remote import LookFailed, list_refs
from minici.triggers.pushes import Pushes
from minici.triggers.refs import IncompleteListing, MovedRef, moved_refs, parse_listing

log = logging.getLogger("minici.triggers")

_RETRY_SECONDS = 60.0  # where `poll` is 0, after a look that failed
_MOST_BACKOFF = 10  # times `poll`
_ROOM_CHECK_SECONDS = 0.5  # while the queue is full, or the disk


@dataclass(frozen=True)
class LookStatus:
    """The outcome of the last look at a project's refs. `failure` is None if it succeeded."""

    project: str
    at: Optional[str] = None  # ISO 8601
    failure: Optional[str] = None
    refs: int = 0


class ProjectPoller:
    """Looks at the refs of one project, and starts builds of what has moved."""

    def __init__(
        self,
        project: ProjectConfig,
        pushes: Pushes,
        listing: Callable[[str, threading.Event], bytes] = list_refs,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self._project = project
        self._pushes = pushes
        self._list = listing
        self._clock = clock
        self._now = now
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        self._listing: Optional[bytes] = None  # of the last look that left nothing to start
        self._remembered: Optional[Mapping[str, str]] = pushes.remembered(project.name)
        self.status = LookStatus(project.name)
        name = f"poller-{project.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look_now(self) -> None:
        """Have the next look begin now; one that is under way is followed by another."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                pause = self.look()
            except Exception:
                log.exception("project %s: internal error in a look", self._project.name)
                pause = _RETRY_SECONDS
            self._wake.wait(pause)

    def look(self) -> Optional[float]:
        """Look once; return the seconds until the next look, None for never."""
        try:
            listing = self._list(self._project.repository, self._stopping)
            if listing != self._listing:
                found = parse_listing(listing)
                if not self._take_in(found):
                    return _ROOM_CHECK_SECONDS
                self._listing = listing
        except (LookFailed, IncompleteListing, StoreUnavailable) as error:
            return self._failed(sentence_of(error))
        self._succeeded()
        return self._project.poll or None

    def _take_in(self, found: Mapping[str, str]) -> bool:
        """Start what has moved; False if some of it has to wait for room in the queue."""
        moved = moved_refs(self._remembered, found, self._project.branches, self._project.tags)
        left = self._start(moved)
        remembered = dict(found)
        for each in left:  # not started, so not remembered at its new place
            before = (self._remembered or {}).get(each.ref)
            if before is None:
                del remembered[each.ref]
            else:
                remembered[each.ref] = before
        if remembered != self._remembered:
            self._pushes.remember(self._project.name, remembered)
            self._remembered = remembered
        return not left

    def _start(self, moved: Sequence[MovedRef]) -> Sequence[MovedRef]:
        """Start a build of each; return those for which the queue has no room."""
        for index, each in enumerate(moved):
            try:
                self._pushes.start(self._project, each.ref, each.revision, each.event)
            except QueueFull:
                return moved[index:]
        return []

    def _failed(self, failure: str) -> float:
        if self._stopping.is_set():
            return 0.0
        if self.status.failure is None:
            log.warning("project %s: its refs can't be listed: %s", self._project.name, failure)
        self.status = LookStatus(self._project.name, self._now(), failure, self.status.refs)
        pause = (self._project.poll or _RETRY_SECONDS) * 2.0 ** min(self._failures, 10)
        self._failures += 1
        return min(pause, (self._project.poll or _RETRY_SECONDS) * _MOST_BACKOFF)

    def _succeeded(self) -> None:
        if self.status.failure is not None:
            log.info("project %s: its refs are listed again", self._project.name)
        self._failures = 0
        count = len(self._remembered or ())
        self.status = LookStatus(self._project.name, self._now(), None, count)


class Poller:
    """The pollers of all projects that start builds by themselves. For any thread."""

    def __init__(self, projects: Iterable[ProjectConfig], pushes: Pushes) -> None:
        self._pollers = {
            project.name: ProjectPoller(project, pushes)
            for project in projects
            if project.branches or project.tags
        }

    def start(self) -> None:
        for poller in self._pollers.values():
            poller.start()

    def stop(self, seconds: float = 2.0) -> None:
        """End the looks that are under way; wait at most `seconds` for them."""
        for poller in self._pollers.values():
            poller.ask_to_stop()
        deadline = time.monotonic() + seconds
        for poller in self._pollers.values():
            poller.join(max(0.0, deadline - time.monotonic()))

    def look_now(self, project: Optional[str] = None) -> None:
        """Have a project's refs looked at now; those of all without `project`."""
        for name, poller in self._pollers.items():
            if project is None or name == project:
                poller.look_now()

    def statuses(self) -> list[LookStatus]:
        """Return the outcome of the last look at each project's refs."""
        return [poller.status for poller in self._pollers.values()]
