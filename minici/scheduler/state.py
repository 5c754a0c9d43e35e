"""What the server knows at this moment: the builds that are not final, and the agents.

One lock guards the queue and the roster; it is never held across a call to an agent or a write
to disk. Each unfinished build has a lock of its own, which is taken first and held while its
next state goes to disk: so two events for one build never cross, and nobody learns of a state
before it is durable. Section 5 of the contract.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Callable, Optional

from minici import build as builds
from minici.build import AttemptId, Build
from minici.config import ServerConfig
from minici.reasons import Reason
from minici.scheduler.agent_history import Quarter
from minici.scheduler.roster import KnownAgent, Roster
from minici.scheduler.typical_durations import TypicalDurations
from minici.store import BuildUnusable, DamagedBuild, Record, Store
from minici.timestamps import parse_time, utc_now

log = logging.getLogger("minici.scheduler.state")

CANCEL_SECONDS = 11.5  # an agent has 10 s to end a command, and a moment to say so
OVERDUE_SECONDS = 60.0


class QueueFull(Exception):
    """There are as many queued builds as there may be; the text says how many."""


class NoSuchAttempt(LookupError):
    """The build was never handed over under this number."""


class UnfinishedBuild:
    """A build that is not final. `lock` is held to change it; `touch` tells who watches it."""

    def __init__(self, build: Build, since: float, watched: Callable[[int], None]) -> None:
        self.lock = threading.RLock()
        self.build = build
        self.since = since  # when the current attempt began, on the monotonic clock
        self.cancel_by: Optional[float] = None
        self.cancel_told = False
        self.version = object()  # another one with whatever a viewer could see
        self._watched = watched

    def touch(self) -> None:
        """There is more output, or another state: after it can be read."""
        self.version = object()
        self._watched(self.build.id)


class State:
    """All builds that are not final and all agents. Any thread may call it.

    `clock` is monotonic, in seconds; `now` is the moment as people write it. `lock` guards the
    queue and `roster`; it is notified whenever a build or an agent may have become ready.
    """

    def __init__(
        self,
        store: Store,
        config: ServerConfig,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self.store = store
        self.config = config
        self.clock = clock
        self.now = now
        self.lock = threading.Condition()  # guards everything below
        self.roster = Roster(
            config.ping_interval, config.agent_timeout, config.build_timeout + OVERDUE_SECONDS
        )
        self.typical_durations = TypicalDurations()
        self.attention = threading.Event()  # the watchdog has something to look at now
        # Told of news of a build. Set before `restore`.
        self.watched: Callable[[int], None] = lambda _: None
        self.stopping = False
        self._entries: dict[int, UnfinishedBuild] = {}
        self._queue: list[int] = []  # ids of queued builds, oldest first
        self._starting = 0
        self._saving = threading.Lock()  # held while agents.json is written; guards _saves_done
        self._saves_wanted = self._saves_done = 0
        self._days_saved = self.clock()

    # Starting and ending.

    def restore(self, unfinished: Iterable[Build]) -> None:
        """Go on with what a server before this one left. Before `start`, once."""
        now = self.clock()
        for record in self.store.load_agents():
            self._restore_agent(record, now)
        for build in unfinished:
            self._entries[build.id] = entry = self._entry(build, now)
            attempt = build.current
            if attempt is None:
                bisect.insort(self._queue, build.id)
                continue
            if build.cancel_requested:
                entry.cancel_by = now + CANCEL_SECONDS
            self._restore_assignment(build, attempt, now)
        self._restore_days(now)
        log.info(
            "%d builds queued, %d running, %d agents known",
            len(self._queue),
            len(self._entries) - len(self._queue),
            len(self.roster),
        )

    def _restore_agent(self, record: Mapping[str, object], now: float) -> None:
        try:
            agent = KnownAgent(
                host=str(record["host"]),
                port=int(str(record["port"])),
                name=str(record["name"]),
                slots=int(str(record["slots"])),
                heard_at=now,
                heard=str(record.get("heard") or ""),
                registered=str(record.get("registered") or ""),
                scheme="https" if record.get("scheme") == "https" else "http",
            )
            if record.get("gone_since"):
                agent.gone, agent.gone_since = True, str(record["gone_since"])
                agent.gone_reason = str(record.get("gone_reason") or "")
        except (KeyError, ValueError):
            log.warning("agents.json: an agent can't be read; it will announce itself")
            return
        self.roster.add(agent)
        self.roster.distrust(agent, now)  # it may have gone while nobody looked

    def _restore_assignment(self, build: Build, attempt: builds.Attempt, now: float) -> None:
        agent = self.roster.get(attempt.address)
        if agent is None:
            host, _, port = attempt.address.rpartition(":")
            agent = KnownAgent(host.strip("[]"), int(port or 0), attempt.agent, 1, now)
            self.roster.add(agent)
        agent.gone, agent.gone_since = False, None  # it has a build: it may have come back
        self.roster.assign(agent, build.id, attempt.number, now)
        self.roster.accepted(agent, build.id, now)

    def _entry(self, build: Build, since: float) -> UnfinishedBuild:
        return UnfinishedBuild(build, since, self.watched)

    def stop(self) -> None:
        """Hand over no more builds. What runs goes on, and is found by the next server."""
        with self.lock:
            self.stopping = True
            self.lock.notify_all()
        self.attention.set()

    # Builds.

    def enqueue(
        self,
        commit: str,
        command: str,
        by: Optional[str] = None,
        repeats: Optional[Build] = None,
    ) -> Build:
        """Start a build: when this returns, it is acknowledged and would survive a power cut.

        `repeats` is the build that it is a repeat of. Raises QueueFull or StoreUnavailable.
        """
        with self.lock:
            if len(self._queue) + self._starting >= self.config.max_queue:
                raise QueueFull(Reason("queue_full", count=self.config.max_queue))
            self._starting += 1

        def make(number: int) -> Build:
            return Build(
                id=number,
                commit=commit,
                command=command,
                repository=self.config.repository,
                queued_at=self.now(),
                started_by=by,
                rebuild_of=repeats.id if repeats else None,
                revision=repeats.revision if repeats else None,
            )

        build: Optional[Build] = None
        try:
            build = self.store.create(make)
            return build
        finally:
            with self.lock:
                self._starting -= 1
                if build is not None:
                    self._entries[build.id] = self._entry(build, self.clock())
                    bisect.insort(self._queue, build.id)
                    if self._queue[0] == build.id:  # others wait behind one that waits already
                        self.lock.notify_all()

    def load(self, number: int) -> Record:
        """A build as it is now. Raises NoSuchBuild."""
        entry = self.unfinished_build(number)
        return entry.build if entry else self.store.load(number)

    def unfinished_build(self, number: int) -> Optional[UnfinishedBuild]:
        """The unfinished build to wait on, or None when it is final or never was."""
        with self.lock:
            return self._entries.get(number)

    def position(self, number: int) -> int:
        """The place of a queued build, 1 for the next; 0 if it does not wait."""
        with self.lock:
            index = bisect.bisect_left(self._queue, number)
            found = index < len(self._queue) and self._queue[index] == number
            return index + 1 if found else 0

    def queued(self) -> list[Build]:
        """The builds that wait, oldest first."""
        with self.lock:
            return [self._entries[number].build for number in self._queue]

    def unfinished(self) -> list[int]:
        """The ids of the builds that are not final, in no order."""
        with self.lock:
            return list(self._entries)

    def count(self) -> int:
        """How many builds are not final, those included that are being started."""
        with self.lock:
            return len(self._entries) + self._starting

    def first_queued(self) -> Optional[UnfinishedBuild]:
        """The oldest queued build. The lock is held by the caller."""
        return self._entries[self._queue[0]] if self._queue else None

    def take(self, entry: UnfinishedBuild) -> None:
        """Take a build from the queue, to hand it over. The lock is held by the caller."""
        self._queue.remove(entry.build.id)

    def put_back(self, entry: UnfinishedBuild) -> None:
        """Put a build that could not be handed over at its old place, unless it has ended
        meanwhile. The lock is held."""
        if entry.build.id in self._entries and entry.build.id not in self._queue:
            bisect.insort(self._queue, entry.build.id)
        self.lock.notify_all()

    def late_cancels(self) -> list[UnfinishedBuild]:
        """The cancelled builds whose agents have had their time. The lock is held."""
        now = self.clock()
        return [e for e in self._entries.values() if e.cancel_by and now >= e.cancel_by]

    def check_known(self, number: int, attempt: Optional[int] = None) -> None:
        """Raise NoSuchBuild or NoSuchAttempt for what never was."""
        record = self.store.load(number)
        if isinstance(record, DamagedBuild):
            raise BuildUnusable(Reason("damaged", build=number, reason=record.reason))
        if attempt is not None:
            check_attempt(record, attempt)

    # Changing a build.

    def drop(self, entry: UnfinishedBuild, error: BuildUnusable) -> None:
        """Let go of a build whose folder somebody has removed: all others go on."""
        build, attempt = entry.build, entry.build.current
        with self.lock:
            self._entries.pop(build.id, None)
            if build.id in self._queue:
                self._queue.remove(build.id)
            if attempt is not None:
                self.roster.release(attempt.address, AttemptId(build.id, attempt.number))
            self.lock.notify_all()
        entry.touch()
        log.error("build %d: %s: it is given up, all others go on", build.id, error)

    def change(self, entry: UnfinishedBuild, build: Build) -> Build:
        """Make a build's next state durable, then known. Its lock is held by the caller."""
        before = entry.build
        if build is before:
            return build
        try:
            self.store.save(build)
        except BuildUnusable as error:
            self.drop(entry, error)
            raise
        with self.lock:
            entry.build = build
            self._requeue_or_remove(build, before)
            self._free(before, build)
            if build.status != builds.RUNNING:  # it waits again, or has left a slot
                self.agents_changed()
        entry.touch()
        self.typical_durations.note(build)
        return build

    def _requeue_or_remove(self, build: Build, before: Build) -> None:
        if build.status == builds.QUEUED and before.status != builds.QUEUED:
            bisect.insort(self._queue, build.id)
        elif before.status == builds.QUEUED:
            index = bisect.bisect_left(self._queue, build.id)
            if index < len(self._queue) and self._queue[index] == build.id:
                del self._queue[index]
        if build.final:
            self._entries.pop(build.id, None)

    def _free(self, before: Build, build: Build) -> None:
        """Free the slot of an attempt that has ended."""
        attempt = before.current
        if attempt is None or (build.current and build.current.number == attempt.number):
            return
        ended = next((a.ending for a in build.attempts if a.number == attempt.number), None)
        still_there = ended in (builds.SUPERSEDED, builds.OVERDUE, builds.STOPPED)
        held = AttemptId(build.id, attempt.number)
        self.roster.release(attempt.address, held, still_there=still_there)
        if build.final and build.attempt != attempt.number:
            winner = next((a for a in build.attempts if a.number == build.attempt), None)
            if winner is not None:
                self.roster.release(winner.address, AttemptId(build.id, winner.number))

    def requeue(self, entry: UnfinishedBuild, ending: str, reason: str) -> None:
        build = builds.requeue(entry.build, ending, reason, self.now(), self.config.max_attempts)
        self.change(entry, build)
        if build.final:
            log_end(build)
        else:
            log.warning("build %d: %s; back in the queue", build.id, reason)

    # Agents.

    def agents_changed(self) -> None:
        """An agent may have become ready for a build. The lock is held by the caller.

        A thousand agents are heard hundreds of times a second: where no build waits, nobody is
        woken for that.
        """
        if self._queue:
            self.lock.notify_all()

    def agents(self) -> list[KnownAgent]:
        """The agents as they are now, copied but for their days, by name."""
        with self.lock:
            copies = [
                dataclasses.replace(agent, assignments=dict(agent.assignments))
                for agent in self.roster
            ]
        return sorted(copies, key=lambda agent: (agent.name, agent.address))

    def histories(self) -> dict[str, list[Quarter]]:
        """The last 24 hours of each agent, by its address."""
        with self.lock:
            days = {agent.address: agent.history.copy() for agent in self.roster}
        now = self.clock()
        return {address: day.quarters(now) for address, day in days.items()}

    def agent(self, address: str) -> Optional[KnownAgent]:
        with self.lock:
            return self.roster.get(address)

    def forget(self, address: str) -> bool:
        """Take an agent that is gone from the list; whether it was there and gone."""
        with self.lock:
            agent = self.roster.get(address)
            if agent is None or not agent.gone:
                return False
            self.roster.forget(address)
        self.save_agents()
        return True

    def save_agents(self) -> None:
        """Make durable which agents there are, and which are gone. Raises StoreUnavailable.

        Who had to wait while another wrote may find that this was written too: a thousand
        agents that register at once are some dozen files.
        """
        with self.lock:
            self._saves_wanted += 1
            wanted = self._saves_wanted
        with self._saving:
            if self._saves_done >= wanted:
                return
            with self.lock:
                done = self._saves_wanted
                records = [_agent_record(agent) for agent in self.roster]
            self.store.save_agents(records)
            self._saves_done = done

    def save_days(self, least: float = 0.0) -> None:
        """Keep the agents' last 24 hours for the next server, unless that was done less than
        `least` seconds ago. Raises StoreUnavailable."""
        now = self.clock()
        if now - self._days_saved < least:
            return
        self._days_saved = now
        with self.lock:
            days = {agent.address: agent.history.copy() for agent in self.roster}
        written = {address: day.written(now) for address, day in days.items()}
        self.store.save_days(self.now(), written)

    def _restore_days(self, now: float) -> None:
        saved_at, written = self.store.load_days()
        begun, ended = parse_time(saved_at), parse_time(self.now())
        if begun is None or ended is None:
            return
        ago = max(0.0, (ended - begun).total_seconds())
        for agent in self.roster:
            with contextlib.suppress(ValueError, TypeError):
                agent.history.read(written.get(agent.address, ()), ago)

    def release(self, address: str, held: AttemptId) -> None:
        with self.lock:
            self.roster.release(address, held)
            self.lock.notify_all()


def _agent_record(agent: KnownAgent) -> dict[str, object]:
    gone = {"gone_since": agent.gone_since, "gone_reason": agent.gone_reason}
    return {
        "host": agent.host,
        "port": agent.port,
        "name": agent.name,
        "slots": agent.slots,
        "scheme": agent.scheme,
        "registered": agent.registered,
        "heard": agent.heard,
        **(gone if agent.gone else {}),
    }


def check_attempt(build: Build, attempt: int) -> None:
    """Raise NoSuchAttempt where the build was never handed over under this number."""
    if not build.knows_attempt(attempt):
        raise NoSuchAttempt(Reason("no_attempt", build=build.id, attempt=attempt))


def log_end(build: Build) -> None:
    reason = f" ({build.reason})" if build.reason else ""
    log.info("build %d: %s%s", build.id, build.status, reason)
