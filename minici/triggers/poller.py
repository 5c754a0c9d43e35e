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

from minici.build import Build
from minici.config import ProjectConfig
from minici.reasons import sentence_of
from minici.scheduler.state import QueueFull
from minici.store import StoreUnavailable
from minici.timestamps import utc_now
from minici.triggers.local_refs import LocalRefs, Stamp
from minici.triggers.ls_remote import LookFailed, list_refs
from minici.triggers.pushes import Pushes
from minici.triggers.refs import IncompleteListing, MovedRef, moved_refs, parse_listing

log = logging.getLogger("minici.triggers")

_RETRY_SECONDS = 60.0  # where `poll` is 0, after a look that failed
_MOST_BACKOFF = 10  # times `poll`
_TRUST_SECONDS = 60.0  # how long times of folders stand for a look
_ROOM_CHECK_SECONDS = 0.5  # while the queue is full


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
        self._refs: Optional[dict[str, str]] = None  # where they were last; None: never looked at
        self._saved: Optional[Mapping[str, str]] = None  # what of it is durable
        self._begun = False  # whether a look that starts builds is announced on the disk
        self._settling: list[Build] = []  # started, and what they supersede is not ended yet
        self._waiting = 0  # refs for which the queue had no room
        self._restored = False
        self._local = LocalRefs(project.repository)
        self._stamp: Optional[Stamp] = None  # before the last look that left nothing to start
        self._trusted_until = 0.0  # until then the same stamp means that nothing has moved
        self.status = LookStatus(project.name)
        name = f"poller-{project.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look_now(self) -> None:
        """Have the next look begin now; one that is under way is followed by another."""
        self._trusted_until = 0.0
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
        if not self._restored:
            self._restore()
        if self._waiting and not self._pushes.has_room():
            return _ROOM_CHECK_SECONDS
        stamp = self._local.stamp()
        if stamp is not None and stamp == self._stamp and self._clock() < self._trusted_until:
            return self._succeeded()
        self._stamp, self._trusted_until = None, self._clock() + _TRUST_SECONDS
        try:
            self._supersede()
            listing = self._list(self._project.repository, self._stopping)
            if listing != self._listing:
                self._take_in(parse_listing(listing))
                self._listing = None if self._waiting else listing
        except (LookFailed, IncompleteListing, StoreUnavailable) as error:
            return self._failed(sentence_of(error))
        if not self._waiting:
            self._stamp = stamp
        return self._succeeded()

    def _restore(self) -> None:
        """Go on where a server before this one was: the folder belongs to this one by now."""
        restored = self._pushes.restore(self._project)
        self._refs = None if restored.refs is None else dict(restored.refs)
        self._saved, self._begun = restored.refs, not restored.complete
        self._settling = list(restored.builds)
        self._restored = True

    def _take_in(self, found: Mapping[str, str]) -> None:
        """Start what has moved, and remember where the refs are."""
        moved = moved_refs(self._refs, found, self._project.branches, self._project.tags)
        before = {} if self._refs is None else self._refs
        left = self._start(moved, before)
        refs = dict(found)
        for each in left:  # not started, so not remembered at its new place
            refs.pop(each.ref)
            if each.ref in before:
                refs[each.ref] = before[each.ref]
        if refs != self._saved or (self._begun and not left):
            self._pushes.remember(self._project, refs)
            self._saved, self._begun = refs, False
        self._refs = dict(refs)
        self._note_waiting(len(left))

    def _start(self, moved: Sequence[MovedRef], refs: dict[str, str]) -> Sequence[MovedRef]:
        """Start a build of each, and note its place in `refs`.

        Returns those for which there is no room in the queue, or no time before the server stops.
        """
        if moved and not self._begun:
            self._pushes.begin(self._project, refs)
            self._begun = True
        for index, each in enumerate(moved):
            if self._stopping.is_set():
                return moved[index:]
            try:
                build = self._pushes.start(self._project, each)
            except QueueFull:
                return moved[index:]
            refs[each.ref] = each.revision
            self._settling.append(build)
            self._supersede()
        return []

    def _supersede(self) -> None:
        """End the builds that those started last supersede."""
        while self._settling:
            self._pushes.supersede(self._project, self._settling[0])
            del self._settling[0]

    def _note_waiting(self, count: int) -> None:
        if count and not self._waiting and not self._stopping.is_set():
            words = "project %s: the queue is full; %d branches and tags are built when it has room"
            log.warning(words, self._project.name, count)
        self._waiting = count

    def _failed(self, failure: str) -> float:
        if self._stopping.is_set():
            return 0.0
        if self.status.failure is None:
            log.warning("project %s: its refs can't be listed: %s", self._project.name, failure)
        self.status = LookStatus(self._project.name, self._now(), failure, self.status.refs)
        pause = (self._project.poll or _RETRY_SECONDS) * 2.0 ** min(self._failures, 10)
        self._failures += 1
        return min(pause, (self._project.poll or _RETRY_SECONDS) * _MOST_BACKOFF)

    def _succeeded(self) -> Optional[float]:
        if self.status.failure is not None:
            log.info("project %s: its refs are listed again", self._project.name)
        self._failures = 0
        count = len(self._refs or ())
        self.status = LookStatus(self._project.name, self._now(), None, count)
        return _ROOM_CHECK_SECONDS if self._waiting else self._project.poll or None


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
