"""The queue, the agents, and who gets what: section 5 of the contract.

The Dispatcher owns all of this under one lock, which is never held across a call to an agent or
a write to disk. Each unfinished build has a lock of its own, which is taken first and held while
its next state goes to disk: so two events for one build never cross, and nobody learns of a
state before it is durable.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Callable, Optional

from minici import build as builds
from minici.build import Build, Result
from minici.calls import IMPOSSIBLE, TAKEN, UNANSWERED, AgentCalls
from minici.config import ServerConfig
from minici.output import OffsetGap, Rest
from minici.roster import Agent, Assignment, Held, Pinged, Roster
from minici.store import DamagedBuild, NoSuchBuild, Record, Store, StoreUnavailable

log = logging.getLogger("minici.dispatch")

CANCEL_SECONDS = 11.5  # an agent has 10 s to end a command, and a moment to say so
OVERDUE_SECONDS = 60.0
_DISK_PAUSE = 1.0  # seconds before the disk is tried again when it refused

Timeline = Iterable[tuple[int, int, int]]


class QueueFull(Exception):
    """There are as many queued builds as there may be; the text says how many."""


class NoSuchAttempt(LookupError):
    """The build was never handed over under this number."""


class Moved(Exception):
    """The build is no longer this attempt's."""


class Entry:
    """A build that is not final. `lock` is held to change it; `changed` wakes its viewers."""

    def __init__(self, build: Build, since: float) -> None:
        self.lock = threading.RLock()
        self.build = build
        self.since = since  # when the current attempt began, on the monotonic clock
        self.assigning = False
        self.cancel_by: Optional[float] = None
        self.cancel_told = False
        self.changed = threading.Condition()
        self.version = 0

    def touch(self) -> None:
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def wait(self, version: int, seconds: float) -> int:
        """Wait for something newer than `version`, and return what there is then."""
        with self.changed:
            self.changed.wait_for(lambda: self.version != version, seconds)
            return self.version


def utc_now() -> str:
    """This moment as the contract writes it."""
    now = datetime.now(timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"


class Dispatcher:
    """All builds that are not final and all agents. Any thread may call it.

    `clock` is monotonic, in seconds; `now` is the moment as people write it.
    """

    def __init__(
        self,
        store: Store,
        calls: AgentCalls,
        config: ServerConfig,
        page_url: Callable[[int], str] = str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self._store = store
        self._calls = calls
        self._config = config
        self._page_url = page_url
        self._clock = clock
        self._now = now
        self._lock = threading.Condition()  # guards everything below
        self._entries: dict[int, Entry] = {}
        self._queue: list[int] = []  # ids of queued builds, oldest first
        self._starting = 0
        self._roster = Roster(
            config.ping_interval, config.agent_timeout, config.build_timeout + OVERDUE_SECONDS
        )
        self._not_before = 0.0
        self._stopping = False
        self.attention = threading.Event()  # the watchdog has something to look at now
        self._thread = threading.Thread(target=self._dispatch, name="dispatcher", daemon=True)

    # Starting and ending.

    def restore(self, unfinished: Iterable[Build]) -> None:
        """Go on with what a server before this one left. Before `start`, once."""
        now = self._clock()
        for record in self._store.load_agents():
            self._restore_agent(record, now)
        for build in unfinished:
            self._entries[build.id] = entry = Entry(build, now)
            attempt = build.current
            if attempt is None:
                bisect.insort(self._queue, build.id)
                continue
            if build.cancel_requested:
                entry.cancel_by = now + CANCEL_SECONDS
            self._restore_assignment(build, attempt, now)
        log.info(
            "%d builds queued, %d running, %d agents known",
            len(self._queue),
            len(self._entries) - len(self._queue),
            len(self._roster),
        )

    def _restore_agent(self, record: Mapping[str, object], now: float) -> None:
        try:
            agent = Agent(
                host=str(record["host"]),
                port=int(str(record["port"])),
                name=str(record["name"]),
                slots=int(str(record["slots"])),
                heard_at=now,
                heard=str(record.get("heard") or ""),
                registered=str(record.get("registered") or ""),
                scheme="https" if record.get("scheme") == "https" else "http",
            )
        except (KeyError, ValueError):
            log.warning("agents.json: an agent can't be read; it will announce itself")
            return
        self._roster.add(agent)

    def _restore_assignment(self, build: Build, attempt: builds.Attempt, now: float) -> None:
        agent = self._roster.get(attempt.address)
        if agent is None:
            host, _, port = attempt.address.rpartition(":")
            agent = Agent(host.strip("[]"), int(port or 0), attempt.agent, 1, now)
            self._roster.add(agent)
        self._roster.assign(agent, build.id, attempt.number, now)
        self._roster.accepted(agent, build.id, now)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Hand over no more builds. What runs goes on, and is found by the next server."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
            entries = list(self._entries.values())
        self.attention.set()
        for entry in entries:
            entry.touch()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    # For people.

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
        with self._lock:
            if len(self._queue) + self._starting >= self._config.max_queue:
                raise QueueFull(f"{self._config.max_queue} builds are waiting already")
            self._starting += 1

        def make(number: int) -> Build:
            return Build(
                id=number,
                commit=commit,
                command=command,
                repository=self._config.repository,
                queued_at=self._now(),
                started_by=by,
                rebuild_of=repeats.id if repeats else None,
                revision=repeats.revision if repeats else None,
            )

        build: Optional[Build] = None
        try:
            build = self._store.create(make)
            return build
        finally:
            with self._lock:
                self._starting -= 1
                if build is not None:
                    self._entries[build.id] = Entry(build, self._clock())
                    bisect.insort(self._queue, build.id)
                    self._lock.notify_all()

    def cancel(self, number: int, by: Optional[str] = None) -> None:
        """Stop a build; a final one stays as it is. Raises NoSuchBuild or StoreUnavailable."""
        entry = self._entry(number)
        if entry is None:
            self._known(number)
            return
        with entry.lock:
            before = entry.build
            build = self._change(entry, builds.request_cancel(before, by, self._now()))
            if build is before or build.final:
                return
            entry.cancel_by = self._clock() + CANCEL_SECONDS
        log.info("build %d: to be cancelled on %s", number, build.agent)
        self._tell(entry)

    def load(self, number: int) -> Record:
        """A build as it is now. Raises NoSuchBuild."""
        entry = self._entry(number)
        return entry.build if entry else self._store.load(number)

    def entry(self, number: int) -> Optional[Entry]:
        """The unfinished build to wait on, or None when it is final or never was."""
        return self._entry(number)

    def position(self, number: int) -> int:
        """The place of a queued build, 1 for the next; 0 if it does not wait."""
        with self._lock:
            index = bisect.bisect_left(self._queue, number)
            found = index < len(self._queue) and self._queue[index] == number
            return index + 1 if found else 0

    def queued(self) -> list[Build]:
        """The builds that wait, oldest first."""
        with self._lock:
            return [self._entries[number].build for number in self._queue]

    def unfinished(self) -> list[Build]:
        """All builds that are not final, oldest first."""
        with self._lock:
            return [entry.build for _, entry in sorted(self._entries.items())]

    def agents(self) -> list[Agent]:
        """The agents as they are now, copied, by name."""
        with self._lock:
            copies = [
                dataclasses.replace(agent, assignments=dict(agent.assignments))
                for agent in self._roster
            ]
        return sorted(copies, key=lambda agent: (agent.name, agent.address))

    # For agents.

    def register(
        self,
        host: str,
        port: int,
        name: Optional[str] = None,
        slots: int = 1,
        running: Optional[frozenset[int]] = None,
        scheme: str = "http",
    ) -> None:
        """An agent announces itself, or says that it is still there. Raises StoreUnavailable."""
        now, at = self._clock(), self._now()
        fresh = Agent(host, port, name or "", slots, now, scheme=scheme, registered=at)
        fresh.name = name or fresh.address
        with self._lock:
            agent = self._roster.get(fresh.address)
            known = agent is not None
            if agent is None:
                agent = fresh
                self._roster.add(agent)
            changed = not known or _identity(agent) != _identity(fresh)
            agent.name, agent.slots, agent.scheme = fresh.name, slots, scheme
            back = self._roster.heard(agent, now, at)
            if running is not None and any(build not in running for build in agent.assignments):
                agent.next_ping = now
                self.attention.set()
            self._lock.notify_all()
        if not known or back:
            log.info("agent %s at %s: %s", agent.name, agent.address, "here" if known else "new")
        if changed:
            self.attention.set()
            self._save_agents()

    def _save_agents(self) -> None:
        with self._lock:
            records = [
                {
                    "host": agent.host,
                    "port": agent.port,
                    "name": agent.name,
                    "slots": agent.slots,
                    "scheme": agent.scheme,
                    "registered": agent.registered,
                    "heard": agent.heard,
                }
                for agent in self._roster
            ]
        self._store.save_agents(records)

    def forget(self, address: str) -> bool:
        """Take an agent that is gone from the list; whether it was there and gone."""
        with self._lock:
            agent = self._roster.get(address)
            if agent is None or not agent.gone:
                return False
            self._roster.forget(address)
        self._save_agents()
        return True

    def add_output(
        self,
        number: int,
        attempt: int,
        stream: str,
        offset: int,
        data: bytes,
        seconds: Optional[float] = None,
    ) -> int:
        """Add a piece of a running attempt's output; returns where the next one begins.

        Raises NoSuchBuild, NoSuchAttempt, Moved, OffsetGap, StoreUnavailable.
        """
        entry = self._entry(number)
        if entry is None:
            self._known(number, attempt)
            raise Moved
        with entry.lock:
            current = entry.build.current
            if current is None or current.number != attempt:
                self._check_attempt(entry.build, attempt)
                raise Moved
            passed = self._clock() - entry.since
            try:
                with self._store.output(number, attempt) as output:
                    if output.total(stream) != offset:
                        raise OffsetGap(output.totals)
                    output.append(stream, data, passed if seconds is None else seconds)
                    total = output.total(stream)
            except OSError as error:
                raise StoreUnavailable(f"the output can't be written: {error.strerror}") from None
        entry.touch()
        return total

    def finish(
        self,
        number: int,
        attempt: Optional[int],
        result: Result,
        rests: Mapping[str, Rest],
        timeline: Optional[Timeline] = None,
    ) -> None:
        """Record a result; when this returns, it would survive a power cut. A repeat, and a
        result that comes after another one, changes nothing.

        Raises NoSuchBuild, NoSuchAttempt, OffsetGap, StoreUnavailable.
        """
        entry = self._entry(number)
        if entry is None:
            self._known(number, attempt)
            return
        with entry.lock:
            build = entry.build
            source = attempt if attempt is not None else build.last_attempt
            self._check_attempt(build, source)
            if build.final:
                return
            if self._of_our_own_making(entry, source, result):
                log.info("build %d: attempt %d has been stopped", number, source)
                return
            losers = [a for a in build.attempts if a.ending is None and a.number != source]
            try:
                with self._store.output(number, source) as output:
                    seconds = self._clock() - entry.since
                    kept = output.finish(rests, seconds, timeline)
            except OSError as error:
                raise StoreUnavailable(f"the output can't be written: {error.strerror}") from None
            build = self._change(entry, builds.finish(build, source, result, kept, self._now()))
        self._log_end(build)
        for loser in losers:
            log.info("build %d: attempt %d is told to stop", number, loser.number)
            self._tell_superseded(loser.address, (number, loser.number))

    def _of_our_own_making(self, entry: Entry, attempt: int, result: Result) -> bool:
        """Whether the result only says that an attempt was ended which the server had given up:
        to be killed for having been superseded is no result of the build."""
        current = entry.build.current
        superseded = current is None or current.number != attempt
        return superseded and result.exit_status in (-15, -9) and not entry.build.cancel_requested

    def give_back(self, number: int, attempt: int) -> None:
        """An agent that stops hands back a build unfinished: it is requeued at once.

        Raises NoSuchBuild, NoSuchAttempt, StoreUnavailable.
        """
        entry = self._entry(number)
        if entry is None:
            self._known(number, attempt)
            return
        with entry.lock:
            self._check_attempt(entry.build, attempt)
            current = entry.build.current
            if current is None or current.number != attempt:
                return
            with self._lock:
                agent = self._roster.get(current.address)
                if agent is not None:
                    self._roster.refused(agent, self._clock())
            self._requeue(entry, builds.RETURNED, f"agent {current.agent} stopped")

    # Dispatching.

    def _dispatch(self) -> None:
        try:
            chosen = self._await_choice()
            while chosen is not None:
                self._beside(f"hand-over-{chosen[0].build.id}", self._hand_over, *chosen)
                chosen = self._await_choice()
        except Exception:
            log.exception("the dispatcher stopped: start the server again")

    def _await_choice(self) -> Optional[tuple[Entry, Agent]]:
        """Wait until a build can be handed over; None when the server stops."""
        with self._lock:
            chosen = self._choose()
            while chosen is None and not self._stopping:
                self._lock.wait(self._pause())
                chosen = self._choose()
            return chosen

    def _pause(self) -> Optional[float]:
        """Seconds after which a build might go out though nothing happened; None: never."""
        now = self._clock()
        moments = [agent.not_before for agent in self._roster if agent.free_slots]
        moments = [moment - now for moment in (*moments, self._not_before) if moment > now]
        return min(moments, default=None) if self._queue else None

    def _choose(self) -> Optional[tuple[Entry, Agent]]:
        """The oldest queued build, and a live agent with a free slot; both are then taken."""
        now = self._clock()
        if self._stopping or not self._queue or now < self._not_before:
            return None
        agent = self._roster.choose(now)
        if agent is None:
            return None
        entry = self._entries[self._queue.pop(0)]
        entry.assigning = True
        self._roster.assign(agent, entry.build.id, entry.build.last_attempt + 1, now)
        return entry, agent

    def _hand_over(self, entry: Entry, agent: Agent) -> None:
        held = (entry.build.id, entry.build.last_attempt + 1)
        with entry.lock:
            entry.assigning = False
            if entry.build.status != builds.QUEUED:
                self._release(agent.address, held)
                return
            build = builds.assign(entry.build, agent.name, agent.address, self._now())
            try:
                self._store.prepare_attempt(build)
                entry.since = self._clock()
                entry.cancel_told = False
                self._change(entry, build)
            except StoreUnavailable as error:
                self._wait_for_disk(entry, agent, held, str(error))
                return
        offered = self._calls.offer(agent, _ordered(build), self._limits(build))
        self._settle(entry, agent, held, offered.outcome, offered.sentence)

    def _limits(self, build: Build) -> Mapping[str, object]:
        return {
            "timeout": f"{self._config.build_timeout:g}",
            "output_limit": self._config.output_limit,
            "url": self._page_url(build.id),
        }

    def _wait_for_disk(self, entry: Entry, agent: Agent, held: Held, sentence: str) -> None:
        log.error("build %d can't be handed over: %s; trying again", held[0], sentence)
        with self._lock:
            self._roster.release(agent.address, held)
            self._not_before = self._clock() + _DISK_PAUSE
            bisect.insort(self._queue, held[0])
            self._lock.notify_all()

    def _settle(self, entry: Entry, agent: Agent, held: Held, outcome: str, sentence: str) -> None:
        """Draw the consequence of what an agent said to a build: rule 4."""
        number, attempt = held
        if outcome == TAKEN:
            log.info("build %d: attempt %d on %s", number, attempt, agent.name)
            with self._lock:
                self._roster.accepted(agent, number, self._clock())
            if entry.build.cancel_requested and not entry.build.final:
                self._tell(entry)
            return
        with self._lock:  # before the build goes back: it must not come here again at once
            if outcome == UNANSWERED:
                agent.needs_ping = True
            else:
                self._roster.refused(agent, self._clock())
        with entry.lock:
            current = entry.build.current
            if current is not None and current.number == attempt:
                self._end_unaccepted(entry, agent, outcome, sentence)
        if outcome == UNANSWERED:
            self._tell_superseded(agent.address, held)

    def _end_unaccepted(self, entry: Entry, agent: Agent, outcome: str, sentence: str) -> None:
        number = entry.build.id
        try:
            if outcome == IMPOSSIBLE:
                self._change(entry, builds.reject(entry.build, sentence, self._now()))
                log.info("build %d: %s will not run it: %s", number, agent.name, sentence)
            elif outcome == UNANSWERED:
                self._requeue(entry, builds.UNANSWERED, f"no answer from {agent.name}: {sentence}")
            else:
                self._requeue(entry, builds.REFUSED, f"{agent.name} refused: {sentence}")
        except StoreUnavailable as error:
            # Left as it is: the agent will not have the build, and the watchdog finds that out.
            log.error("build %d: %s", number, error)
            with self._lock:
                self._roster.accepted(agent, number, self._clock())

    # For the watchdog.

    def due_pings(self) -> list[Agent]:
        """The agents to ping now; each is due again only after `pinged`."""
        with self._lock:
            due = self._roster.due_pings(self._clock())
            for agent in due:
                agent.pinging = True
            return due

    def pause(self) -> float:
        """Seconds until the next ping is due."""
        with self._lock:
            return self._roster.next_moment(self._clock())

    def pinged(self, agent: Agent, ping: Pinged) -> None:
        """Take in what came of a ping, and tell the agent to stop what it should not run."""
        with self._lock:
            back = agent.gone and ping.answered
            self._roster.pinged(agent, ping, self._clock(), self._now())
            strays = self._roster.strays(agent) if ping.running is not None else []
            if agent.next_ping <= self._clock():
                self.attention.set()
            self._lock.notify_all()
        if back:
            log.info("agent %s is back", agent.name)
        for held in strays:
            log.info(
                "build %d: %s still runs attempt %d: told to stop", held[0], agent.name, held[1]
            )
            self._calls.cancel(agent, held, superseded=True)
        if ping.running is not None:
            self._cancel_untold(agent)

    def _cancel_untold(self, agent: Agent) -> None:
        """Say it again to an agent that could not be told that a person cancelled a build."""
        with self._lock:
            entries = [self._entries.get(number) for number in agent.assignments]
        for entry in entries:
            if entry and entry.build.cancel_requested and not entry.cancel_told:
                self._tell(entry)

    def settle(self) -> None:
        """Conclude what can be concluded now: agents that are gone, builds that are orphaned."""
        with self._lock:
            now = self._clock()
            gone = self._roster.newly_gone(now)
            for agent, _ in gone:
                agent.gone, agent.gone_since = True, self._now()
            orphans = self._roster.orphans(now)
            reasons = {agent.address: reason for agent, reason in gone}
            late = [e for e in self._entries.values() if e.cancel_by and now >= e.cancel_by]
        for agent, reason in gone:
            count = len(agent.assignments)
            log.warning("agent %s is gone (%s); it had %d builds", agent.name, reason, count)
        for agent, assignment, ending in orphans:
            self._orphan(agent, assignment, ending, reasons.get(agent.address))
        for entry in late:
            self._abandon(entry)

    def _orphan(
        self, agent: Agent, assignment: Assignment, ending: str, reason: Optional[str]
    ) -> None:
        entry = self._entry(assignment.build)
        if entry is None:
            self._release(agent.address, assignment.held)
            return
        words = {
            builds.SILENT: f"agent {agent.name} is gone: {reason or 'no answer'}",
            builds.FORGOTTEN: f"agent {agent.name} no longer has it",
            builds.OVERDUE: f"agent {agent.name} did not finish it in time",
        }
        with entry.lock:
            current = entry.build.current
            if current is None or (entry.build.id, current.number) != assignment.held:
                self._release(agent.address, assignment.held)
                return
            try:
                self._requeue(entry, ending, words[ending])
            except StoreUnavailable as error:
                log.error("build %d: %s; trying again", entry.build.id, error)
                return
        if ending == builds.OVERDUE:
            self._tell_superseded(agent.address, assignment.held)

    def _abandon(self, entry: Entry) -> None:
        with entry.lock:
            if entry.build.current is None:
                entry.cancel_by = None
                return
            with contextlib.suppress(StoreUnavailable):
                self._change(entry, builds.abandon(entry.build, self._now()))
                self._log_end(entry.build)

    # Changing a build.

    def _change(self, entry: Entry, build: Build) -> Build:
        """Make a build's next state durable, then known. Its lock is held by the caller."""
        before = entry.build
        if build is before:
            return build
        self._store.save(build)
        with self._lock:
            entry.build = build
            self._requeue_or_remove(build, before)
            self._free(before, build)
            self._lock.notify_all()
        entry.touch()
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
        held = (build.id, attempt.number)
        self._roster.release(attempt.address, held, still_there=still_there)
        if build.final and build.attempt != attempt.number:
            winner = next((a for a in build.attempts if a.number == build.attempt), None)
            if winner is not None:
                self._roster.release(winner.address, (build.id, winner.number))

    def _requeue(self, entry: Entry, ending: str, reason: str) -> None:
        build = builds.requeue(entry.build, ending, reason, self._now(), self._config.max_attempts)
        self._change(entry, build)
        if build.final:
            self._log_end(build)
        else:
            log.warning("build %d: %s; back in the queue", build.id, reason)

    def _release(self, address: str, held: Held) -> None:
        with self._lock:
            self._roster.release(address, held)
            self._lock.notify_all()

    # Telling agents.

    def _tell(self, entry: Entry) -> None:
        """Tell the agent of a running build that a person has cancelled it."""
        current = entry.build.current
        agent = self._agent(current.address) if current else None
        if agent is None or current is None:
            return
        entry.cancel_told = True
        held = (entry.build.id, current.number)

        def call() -> None:
            entry.cancel_told = self._calls.cancel(agent, held, superseded=False)

        self._beside(f"cancel-{held[0]}", call)

    def _tell_superseded(self, address: str, held: Held) -> None:
        agent = self._agent(address)
        if agent is not None:
            self._beside(f"stop-{held[0]}", self._calls.cancel, agent, held, True)

    @staticmethod
    def _beside(name: str, function: Callable[..., object], *arguments: object) -> None:
        """Call in a thread of its own: a slow agent delays nobody."""

        def call() -> None:
            try:
                function(*arguments)
            except Exception:
                log.exception("%s failed", name)

        threading.Thread(target=call, name=name, daemon=True).start()

    # Finding.

    def _entry(self, number: int) -> Optional[Entry]:
        with self._lock:
            return self._entries.get(number)

    def _agent(self, address: str) -> Optional[Agent]:
        with self._lock:
            return self._roster.get(address)

    def _known(self, number: int, attempt: Optional[int] = None) -> None:
        """Raise NoSuchBuild or NoSuchAttempt for what never was."""
        record = self._store.load(number)
        if isinstance(record, DamagedBuild):
            raise NoSuchBuild(f"build {number} is damaged: {record.reason}")
        if attempt is not None:
            self._check_attempt(record, attempt)

    @staticmethod
    def _check_attempt(build: Build, attempt: int) -> None:
        if not build.knows_attempt(attempt):
            raise NoSuchAttempt(f"build {build.id} never had an attempt {attempt}")

    @staticmethod
    def _log_end(build: Build) -> None:
        reason = f" ({build.reason})" if build.reason else ""
        log.info("build %d: %s%s", build.id, build.status, reason)


def _identity(agent: Agent) -> tuple[str, int, str]:
    return agent.name, agent.slots, agent.scheme


def _ordered(build: Build) -> Build:
    """What the agent is asked for: a repeat is of the revision, wherever the branch is now."""
    if build.rebuild_of and build.revision:
        return dataclasses.replace(build, commit=build.revision)
    return build
