"""The watchdog: pings every agent, and settles what became of agents and builds.

Rule 5 of section 5. What is to be concluded is worked out by the Roster, from what it knows and
the time; here it is carried out.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Sequence
from typing import Callable

from minici import build as builds
from minici.build import AttemptId
from minici.reasons import Reason
from minici.scheduler.agent_client import AgentClient
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.roster import Assignment, KnownAgent, PingResult
from minici.scheduler.state import State, UnfinishedBuild
from minici.store import BuildUnusable, StoreUnavailable

log = logging.getLogger("minici.scheduler.watchdog")

_LEAST_PAUSE = 0.1  # seconds: a thousand agents are pinged in groups, not one by one
_DAYS_KEPT = 900.0  # seconds from one writing of the agents' last 24 hours to the next
_MOST_PAUSE = 0.25  # seconds: what is not a ping falls due by itself


class Watchdog:
    """One thread that watches; each ping runs beside it, so that a slow agent delays none."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        calls: AgentClient,
        beside: Callable[[str, Callable[[], object]], None],
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._calls = calls
        self._beside = beside
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _watch(self) -> None:
        while not self._state.stopping:
            self._state.attention.clear()
            try:
                self._ping_all(self.due_pings())
                self.settle()
                self._remember_days()
            except Exception:
                log.exception("the watchdog stumbled, and goes on")
            self._rest()

    def _rest(self) -> None:
        with self._state.lock:
            pause = min(_MOST_PAUSE, self._state.roster.next_moment(self._state.clock()))
        if not self._state.attention.wait(_LEAST_PAUSE):
            self._state.attention.wait(max(0.0, pause - _LEAST_PAUSE))

    # Pings.

    def _ping_all(self, due: Sequence[KnownAgent]) -> None:
        """Ping these agents. Where no thread can be started now, nothing is known of an agent
        before its next turn; all others have theirs, and what can be concluded is."""
        unpinged = 0
        for agent in due:
            try:
                self._beside(f"ping-{agent.address}", functools.partial(self._ping, agent))
            except RuntimeError:
                unpinged += 1
                self.pinged(agent, PingResult(self._state.clock(), answered=False))
        if unpinged:
            log.error("no thread can be started: %d agents are not pinged this time", unpinged)

    def _ping(self, agent: KnownAgent) -> None:
        ping = PingResult(self._state.clock(), answered=False)
        try:
            ping = self._calls.ping(agent)
        except Exception:
            log.exception("the ping of %s stumbled", agent.address)
        self.pinged(agent, ping)

    def due_pings(self) -> list[KnownAgent]:
        """The agents to ping now; each is due again only after `pinged`."""
        with self._state.lock:
            due = self._state.roster.due_pings(self._state.clock())
            for agent in due:
                agent.pinging = True
            return due

    def pinged(self, agent: KnownAgent, ping: PingResult) -> None:
        """Take in what came of a ping, and tell the agent to stop what it should not run."""
        with self._state.lock:
            back = agent.gone and ping.answered
            self._state.roster.pinged(agent, ping, self._state.clock(), self._state.now())
            strays = self._state.roster.strays(agent) if ping.running is not None else []
            if agent.next_ping <= self._state.clock():
                self._state.attention.set()
            self._state.agents_changed()
        if back:
            log.info("agent %s at %s is back", agent.name, agent.address)
            self._remember_agents()
        for number, attempt in strays:
            if (number, attempt) not in agent.told:
                log.info(
                    "build %d: %s still runs attempt %d: told to stop", number, agent.name, attempt
                )
            self._calls.cancel(agent, AttemptId(number, attempt), superseded=True)
        agent.told = tuple(strays)
        if ping.running is not None:
            self._cancel_untold(agent)

    def _cancel_untold(self, agent: KnownAgent) -> None:
        """Say it again to an agent that could not be told that a person cancelled a build."""
        with self._state.lock:
            numbers = list(agent.assignments)
        entries = [self._state.unfinished_build(number) for number in numbers]
        for entry in entries:
            if entry and entry.build.cancel_requested and not entry.cancel_told:
                self._dispatcher.tell(entry)

    # Conclusions.

    def settle(self) -> None:
        """Conclude what can be concluded now: agents that are gone, builds that are orphaned."""
        with self._state.lock:
            now = self._state.clock()
            gone = self._state.roster.newly_gone(now)
            for agent, reason in gone:
                self._state.roster.lost(agent, reason, now, self._state.now())
            orphans = self._state.roster.orphans(now)
            late = self._state.late_cancels()
        for agent, reason in gone:
            count = len(agent.assignments)
            log.warning("agent %s is gone (%s); it had %d builds", agent.name, reason, count)
        for agent, assignment, ending in orphans:
            self._orphan(agent, assignment, ending)
        for entry in late:
            self._abandon(entry)
        if gone:
            self._remember_agents()

    def _remember_agents(self) -> None:
        """For the pages of the next server; while nothing can be written, this one goes on."""
        with contextlib.suppress(StoreUnavailable):
            self._state.save_agents()

    def _remember_days(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            self._state.save_days(least=_DAYS_KEPT)

    def _orphan(self, agent: KnownAgent, assignment: Assignment, ending: str) -> None:
        entry = self._state.unfinished_build(assignment.build)
        if entry is None:
            self._state.release(agent.address, assignment.held)
            return
        words = {
            builds.SILENT: Reason("agent_gone", agent=agent.name, reason=agent.gone_reason),
            builds.FORGOTTEN: Reason("forgotten", agent=agent.name),
            builds.OVERDUE: Reason("overdue", agent=agent.name),
        }
        with entry.lock:
            current = entry.build.current
            if current is None or (entry.build.id, current.number) != assignment.held:
                self._state.release(agent.address, assignment.held)
                return
            try:
                self._state.requeue(entry, ending, words[ending])
            except (StoreUnavailable, BuildUnusable):
                return  # tried again at the next look, or given up; the log has it
        if ending == builds.OVERDUE:
            self._dispatcher.tell_superseded(agent.address, assignment.held)

    def _abandon(self, entry: UnfinishedBuild) -> None:
        with entry.lock:
            if entry.build.current is None:
                entry.cancel_by = None
                return
            with contextlib.suppress(StoreUnavailable, BuildUnusable):
                self._state.change(entry, builds.abandon(entry.build, self._state.now()))
                log.warning(
                    "build %d: cancelled (%s did not say in time that it has ended)",
                    entry.build.id,
                    entry.build.agent,
                )
