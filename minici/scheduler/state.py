"""The builds that are not final, their queue, and who gets the next one.

One lock guards the queue and the roster; it is never held across a call to an agent or a write
to disk. Each unfinished build has a lock of its own, which is taken first and held while its
next state goes to disk: so two events for one build never cross, and nobody learns of a state
before it is durable. Section 5 of the contract.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Callable, Optional

from minici import build as builds
from minici.build import AttemptId, Build
from minici.config import ProjectConfig, ServerConfig
from minici.reasons import Reason
from minici.scheduler.agent_registry import AgentRegistry
from minici.scheduler.agents_file import AgentsFile
from minici.scheduler.branch_history import BranchHistory
from minici.scheduler.build_queue import BuildQueue
from minici.scheduler.choosing import QueuedBuild
from minici.scheduler.roster import KnownAgent, Roster
from minici.scheduler.typical_durations import TypicalDurations
from minici.scheduler.unfinished_build import Dispatch, UnfinishedBuild
from minici.scheduler.waiting import WaitingReasons, agent_state
from minici.store import BuildUnusable, DamagedBuild, Record, Store
from minici.timestamps import utc_now

log = logging.getLogger("minici.scheduler.state")

_CANCEL_SECONDS = 11.5  # an agent has 10 s to end a command, and a moment to say so
_OVERDUE_SECONDS = 60.0  # beyond `build_timeout`
_POSTPONED_SECONDS = 1.0  # before a build is dispatched again for want of disk or threads here


class QueueFull(Exception):
    """There are as many queued builds as there may be; the text says how many."""


class NoSuchAttempt(LookupError):
    """The build was never handed over under this number."""


class State:
    """All builds that are not final; `registry` has the agents. Any thread may call it.

    `clock` is monotonic, in seconds; `now` is the present time for records. `watched` is called
    with the id of a build whenever its viewers could see something new, `changed` with a build
    that is new or has another status, once that is durable.
    """

    def __init__(
        self,
        store: Store,
        config: ServerConfig,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = utc_now,
        watched: Callable[[int], None] = lambda _: None,
        changed: Callable[[Build], None] = lambda _: None,
    ) -> None:
        self.store = store
        self.config = config
        self.clock = clock
        self.now = now
        self.typical_durations = TypicalDurations()
        self.branch_history = BranchHistory()
        self._watched = watched
        self._changed = changed
        # Guards what follows and the roster; notified when a build may have become ready to go.
        self._lock = threading.Condition()
        self._roster = Roster(config.ping_interval, config.agent_timeout)
        self._queue = BuildQueue()
        self._unfinished: dict[int, UnfinishedBuild] = {}
        self._starting = 0
        self._postponed_until = 0.0
        self._stopping = False
        self.registry = AgentRegistry(
            self._lock, self._roster, AgentsFile(store), clock, now, self._agent_ready
        )

    # Starting and ending.

    def restore(self, unfinished: Iterable[Build]) -> None:
        """Go on with what a server before this one left. Once, before any other call."""
        self.registry.restore()
        now = self.clock()
        for build in unfinished:
            self._unfinished[build.id] = restored = UnfinishedBuild(build, now, self._watched)
            attempt = build.current
            if attempt is None:
                self._queue.add(self._queued(build))
                continue
            if build.cancel_requested:
                restored.cancel_by = now + _CANCEL_SECONDS
            overdue_after = self._overdue_after(build)
            self.registry.restore_attempt(build.id, attempt, overdue_after, self._alone(build))
        log.info(
            "%d builds queued, %d running, %d agents known",
            len(self._queue),
            len(self._unfinished) - len(self._queue),
            len(self._roster),
        )

    @property
    def stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Dispatch no more builds. What runs goes on, and is found by the next server."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        self.registry.wake_watchdog()

    # Builds.

    def enqueue(
        self,
        commit: str,
        command: str,
        by: Optional[str] = None,
        *,
        project: Optional[ProjectConfig] = None,
        ref: Optional[str] = None,
        event: str = builds.MANUAL,
        revision: Optional[str] = None,
        labels: Iterable[str] = (),
    ) -> Build:
        """Start a build: when this returns, it is acknowledged and would survive a power cut.

        `project` is the default one if left out; `ref` is a full name; `labels` are asked for
        besides the project's. Raises QueueFull or StoreUnavailable.
        """
        project = project or self.config.default_project

        def make(number: int) -> Build:
            return Build(
                id=number,
                commit=commit,
                command=command,
                repository=project.repository,
                queued_at=self.now(),
                project=project.name,
                event=event,
                ref=ref,
                started_by=by,
                revision=revision,
                labels=tuple(dict.fromkeys((*project.labels, *labels))),
            )

        return self._enqueue(make)

    def rebuild(self, old: Build, by: Optional[str] = None) -> Build:
        """Start a repeat of a build, of the same revision. Raises as `enqueue` does."""

        def make(number: int) -> Build:
            return Build(
                id=number,
                commit=old.commit,
                command=old.command,
                repository=old.repository,
                queued_at=self.now(),
                project=old.project,
                event=builds.REBUILD,
                ref=old.ref,
                started_by=by,
                rebuild_of=old.id,
                revision=old.revision,
                labels=old.labels,
            )

        return self._enqueue(make)

    def _enqueue(self, make: Callable[[int], Build]) -> Build:
        with self._lock:
            if len(self._queue) + self._starting >= self.config.max_queue:
                raise QueueFull(Reason("queue_full", count=self.config.max_queue))
            self._starting += 1
        build: Optional[Build] = None
        try:
            build = self.store.create(make)
            self.branch_history.note(build)
            self._changed(build)
            return build
        finally:
            with self._lock:
                self._starting -= 1
                if build is not None:
                    unfinished = UnfinishedBuild(build, self.clock(), self._watched)
                    self._unfinished[build.id] = unfinished
                    self._queue.add(self._queued(build))
                    if self._queue.is_head(build.id):  # else it waits behind another
                        self._lock.notify_all()

    def has_room(self) -> bool:
        """Return whether the queue takes one more build now."""
        with self._lock:
            return len(self._queue) + self._starting < self.config.max_queue

    def load(self, number: int) -> Record:
        """Return a build as it is now. Raises NoSuchBuild."""
        unfinished = self.unfinished_build(number)
        return unfinished.build if unfinished else self.store.load(number)

    def unfinished_build(self, number: int) -> Optional[UnfinishedBuild]:
        """The build if it is not final; None if it is, or never was."""
        with self._lock:
            return self._unfinished.get(number)

    def is_next(self, number: int) -> bool:
        """Return whether this build is dispatched next, and now, however many agents there are."""
        with self._lock:
            chosen = self._choose()
        return chosen is not None and chosen[0] == number

    def waiting_reasons(self) -> WaitingReasons:
        """The reasons for which the builds wait that are queued now."""
        now, usual = self.clock(), self.typical_durations.lookup()

        def ends(number: int) -> Optional[float]:
            running = self._unfinished.get(number)
            seconds = usual(running.build.command) if running else None
            if running is None or seconds is None:
                return None
            return max(0.0, seconds - (now - running.began_at))

        def usual_time(number: int) -> Optional[float]:
            return usual(commands[number])

        with self._lock:
            lanes = self._queue.lanes()
            commands = {number: self._unfinished[number].build.command for number in self._queue}
            agents = [agent_state(agent, now, ends) for agent in self._roster]
            postponed = now < self._postponed_until
        return WaitingReasons(lanes, agents, usual_time, postponed)

    def queued(self) -> list[Build]:
        """The builds that wait, oldest first."""
        with self._lock:
            return [self._unfinished[number].build for number in self._queue]

    def unfinished_builds(self) -> list[Build]:
        """The builds that are not final, in no order."""
        with self._lock:
            return [each.build for each in self._unfinished.values()]

    def unfinished(self) -> list[int]:
        """The ids of the builds that are not final, in no order."""
        with self._lock:
            return list(self._unfinished)

    def count(self) -> int:
        """The number of builds that are not final, those included that are being started."""
        with self._lock:
            return len(self._unfinished) + self._starting

    def agents(self) -> list[KnownAgent]:
        """The agents as they are now, by name: copies."""
        return self.registry.agents()

    def overdue_cancels(self) -> list[UnfinishedBuild]:
        """The cancelled builds whose agents have not ended them in time."""
        now = self.clock()
        with self._lock:
            return [e for e in self._unfinished.values() if e.cancel_by and now >= e.cancel_by]

    def check_known(self, number: int, attempt: Optional[int] = None) -> None:
        """Raise NoSuchBuild or NoSuchAttempt for what never was."""
        record = self.store.load(number)
        if isinstance(record, DamagedBuild):
            raise BuildUnusable(Reason("damaged", build=number, reason=record.reason))
        if attempt is not None:
            check_attempt(record, attempt)

    # Dispatching.

    def wait_for_dispatch(self) -> bool:
        """Wait until a build can be dispatched; False when the server stops."""
        with self._lock:
            while not self._stopping and self._choose() is None:
                self._lock.wait(self._pause())
            return not self._stopping

    def take_dispatch(self) -> Optional[Dispatch]:
        """Take the next build from the queue for the agent that is to have it, if there is one.

        The caller dispatches it, or calls `postpone`.
        """
        with self._lock:
            chosen = self._choose()
            if chosen is None:
                return None
            number, agent = chosen
            unfinished = self._unfinished[number]
            attempt = AttemptId(number, unfinished.build.last_attempt + 1)
            self._queue.discard(number)
            build = unfinished.build
            overdue_after, alone = self._overdue_after(build), self._alone(build)
            self._roster.assign(agent, attempt, self.clock(), overdue_after, alone)
            return Dispatch(unfinished, agent, attempt)

    def postpone(self, dispatch: Dispatch) -> None:
        """Put a build back at its old place that could not be dispatched, unless it has ended
        meanwhile; nothing is dispatched for a moment."""
        build = dispatch.unfinished.build
        with self._lock:
            self._roster.release(dispatch.agent.address, dispatch.attempt)
            self._postponed_until = self.clock() + _POSTPONED_SECONDS
            if build.id in self._unfinished:
                self._queue.add(self._queued(build))
            self._lock.notify_all()

    def begin_attempt(self, dispatch: Dispatch) -> Build:
        """Make the attempt durable, before its agent is called; the build's lock is held.

        Raises StoreUnavailable or BuildUnusable.
        """
        unfinished, agent = dispatch.unfinished, dispatch.agent
        build = builds.assign(unfinished.build, agent.name, agent.address, self.now())
        try:
            self.store.prepare_attempt(build)
        except BuildUnusable as error:
            self.drop(unfinished, error)
            raise
        unfinished.began_at = self.clock()
        unfinished.cancel_told = False
        return self.record(unfinished, build)

    def _choose(self) -> Optional[tuple[int, KnownAgent]]:
        now = self.clock()
        if self._stopping or now < self._postponed_until or not self._queue:
            return None
        return self._roster.choose(self._queue, now)

    def _pause(self) -> Optional[float]:
        """Seconds after which a build may go though nothing has happened; None: never."""
        if not self._queue:
            return None
        now = self.clock()
        moments = (self._postponed_until, self._roster.next_return() or 0.0)
        return min((moment - now for moment in moments if moment > now), default=None)

    def project_of(self, build: Build) -> ProjectConfig:
        """The project of a build; the default one where the configuration has it no longer."""
        return self.config.project(build.project) or self.config.default_project

    def _overdue_after(self, build: Build) -> float:
        """Seconds after which an accepted attempt has lost its time: rule 5."""
        return self.project_of(build).build_timeout + _OVERDUE_SECONDS

    def _alone(self, build: Build) -> bool:
        return build.runs_alone(self.config.max_attempts)

    def _queued(self, build: Build) -> QueuedBuild:
        return QueuedBuild(build.id, frozenset(build.labels), self._alone(build))

    def _agent_ready(self) -> None:
        """An agent may have become ready for a build. The lock is held by the caller.

        A thousand agents are heard hundreds of times a second: where no build waits, nobody is
        woken for that.
        """
        if self._queue:
            self._lock.notify_all()

    # Changing a build. Its lock is held by the caller.

    def record(self, unfinished: UnfinishedBuild, build: Build) -> Build:
        """Make a build's next state durable, then known; return it.

        Raises StoreUnavailable, or BuildUnusable, and then the build is dropped.
        """
        before = unfinished.build
        if build is before:
            return build
        if build.final and build.exit_status is None and build.attempt:  # it has no result
            kept = self.store.kept_output(build.id, build.attempt)
            build = builds.with_kept(build, kept)
        try:
            self.store.save(build)
        except BuildUnusable as error:
            self.drop(unfinished, error)
            raise
        with self._lock:
            unfinished.build = build
            self._requeue_or_remove(build, before)
            self._free_slots(before, build)
            if build.status != builds.RUNNING:  # it waits again, or has left a slot
                self._agent_ready()
        unfinished.touch()
        if build.status != before.status:
            self._changed(build)
        self.typical_durations.note(build)
        self.branch_history.note(build)
        if build.final:
            log_end(build)
        return build

    def requeue(self, unfinished: UnfinishedBuild, ending: str, reason: str) -> None:
        """End the current attempt, and put the build back or end it: rules 5 and 6.

        Raises as `record` does.
        """
        build = unfinished.build
        build = builds.requeue(build, ending, reason, self.now(), self.config.max_attempts)
        self.record(unfinished, build)
        if not build.final:
            log.warning("build %d: %s; back in the queue", build.id, reason)

    def request_cancel(
        self,
        unfinished: UnfinishedBuild,
        by: Optional[str],
        superseded_by: Optional[int] = None,
    ) -> bool:
        """Cancel a build for a person or a newer build; return whether an agent has to be told.

        Raises as `record` does.
        """
        before = unfinished.build
        requested = builds.request_cancel(before, by, self.now(), superseded_by)
        build = self.record(unfinished, requested)
        if build is before or build.final:
            return False
        unfinished.cancel_by = self.clock() + _CANCEL_SECONDS
        return True

    def drop(self, unfinished: UnfinishedBuild, error: BuildUnusable) -> None:
        """Let go of a build whose folder can't be used any more: all others go on."""
        build, attempt = unfinished.build, unfinished.build.current
        with self._lock:
            self._unfinished.pop(build.id, None)
            self._queue.discard(build.id)
            if attempt is not None:
                self._roster.release(attempt.address, AttemptId(build.id, attempt.number))
            self._lock.notify_all()
        unfinished.touch()
        log.error("build %d: %s: it is given up, all others go on", build.id, error)

    def _requeue_or_remove(self, build: Build, before: Build) -> None:
        if build.status == builds.QUEUED and before.status != builds.QUEUED:
            self._queue.add(self._queued(build))
        elif before.status == builds.QUEUED:
            self._queue.discard(build.id)
        if build.final:
            self._unfinished.pop(build.id, None)

    def _free_slots(self, before: Build, build: Build) -> None:
        """Free the slot of an attempt that has ended."""
        attempt = before.current
        if attempt is None or (build.current and build.current.number == attempt.number):
            return
        ended = next((a.ending for a in build.attempts if a.number == attempt.number), None)
        still_there = ended in (builds.SUPERSEDED, builds.OVERDUE, builds.STOPPED)
        left = AttemptId(build.id, attempt.number)
        self._roster.release(attempt.address, left, still_there=still_there)
        if build.final and build.attempt != attempt.number:
            winner = next((a for a in build.attempts if a.number == build.attempt), None)
            if winner is not None:
                self._roster.release(winner.address, AttemptId(build.id, winner.number))


def check_attempt(build: Build, attempt: int) -> None:
    """Raise NoSuchAttempt where the build was never handed over under this number."""
    if not build.knows_attempt(attempt):
        raise NoSuchAttempt(Reason("no_attempt", build=build.id, attempt=attempt))


def log_end(build: Build) -> None:
    reason = f" ({build.reason})" if build.reason else ""
    log.info("build %d: %s%s", build.id, build.status, reason)
