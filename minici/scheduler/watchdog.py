"""The watchdog: pings every agent, and settles what became of agents and builds.

Rule 5 of section 5. The Roster draws the conclusions, from what it knows and the time; they are
carried out here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Sequence

from minici import build as builds
from minici.reasons import Reason
from minici.scheduler.agent_client import AgentClient
from minici.scheduler.dispatcher import Dispatcher, InBackground
from minici.scheduler.roster import Assignment, KnownAgent, PingResult
from minici.scheduler.state import State
from minici.scheduler.unfinished_build import UnfinishedBuild
from minici.store import BuildUnusable, StoreUnavailable

log = logging.getLogger("minici.scheduler.watchdog")

_LEAST_PAUSE_SECONDS = 0.1  # a thousand agents are looked through in rounds, not one by one
_MOST_SPREAD_SECONDS = 0.1  # the pings of a round
_MOST_STEP_SECONDS = 0.002  # between two of them
_MOST_PAUSE_SECONDS = 0.25  # builds fall due between pings, too
_SAVE_HISTORIES_SECONDS = 900.0


class Watchdog:
    """One thread that watches; pings run in the background, so that a slow agent delays none."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        client: AgentClient,
        in_background: InBackground,
    ) -> None:
        self._state = state
        self._registry = state.registry
        self._dispatcher = dispatcher
        self._client = client
        self._in_background = in_background
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _watch(self) -> None:
        while not self._state.stopping:
            try:
                self._ping_all(self._registry.due_pings())
                self.settle()
                with contextlib.suppress(StoreUnavailable):
                    self._registry.save_histories(_SAVE_HISTORIES_SECONDS)
            except Exception:
                log.exception("internal error in the watchdog; it goes on")
            self._registry.wait(_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS)

    # Pings.

    def _ping_all(self, due: Sequence[KnownAgent]) -> None:
        """Ping these agents. Where no thread can be started now, nothing is known of an agent
        before its next turn; all others have theirs.

        They are spread, unless an agent needs attention: many threads that want the interpreter
        at once cost half as much again as few that have it one after the other.
        """
        unpinged = 0
        step = min(_MOST_STEP_SECONDS, _MOST_SPREAD_SECONDS / max(1, len(due)))
        for agent in due:
            try:
                self._in_background(f"ping-{agent.address}", functools.partial(self._ping, agent))
            except RuntimeError:
                unpinged += 1
                self.pinged(agent, PingResult(self._state.clock(), answered=False))
            self._registry.rest(step)
        if unpinged:
            log.error("no thread can be started: %d agents are not pinged this time", unpinged)

    def _ping(self, agent: KnownAgent) -> None:
        ping = PingResult(self._state.clock(), answered=False)
        try:
            ping = self._client.ping(agent)
        except Exception:
            log.exception("the ping of %s failed", agent.address)
        self.pinged(agent, ping)

    def pinged(self, agent: KnownAgent, ping: PingResult) -> None:
        """Take in the result of a ping, and tell the agent to stop what it should not run."""
        strays = self._registry.pinged(agent, ping)
        for stray in strays:
            if stray not in agent.told:
                log.info(
                    "build %d: %s still runs attempt %d: told to stop",
                    stray.build,
                    agent.name,
                    stray.attempt,
                )
            self._client.cancel(agent, stray, superseded=True)
        agent.told = tuple(strays)
        if ping.running is not None:
            self._cancel_untold(agent)

    def _cancel_untold(self, agent: KnownAgent) -> None:
        """Repeat the cancellations of which the agent could not be told."""
        for number in self._registry.assigned(agent):
            unfinished = self._state.unfinished_build(number)
            if unfinished and unfinished.build.cancel_requested and not unfinished.cancel_told:
                self._dispatcher.tell_cancelled(unfinished)

    # Conclusions.

    def settle(self) -> None:
        """Conclude what can be concluded now: agents that are gone, builds that are orphaned."""
        for agent, assignment, ending in self._registry.conclude():
            self._orphan(agent, assignment, ending)
        for unfinished in self._state.overdue_cancels():
            self._abandon(unfinished)

    def _orphan(self, agent: KnownAgent, assignment: Assignment, ending: str) -> None:
        unfinished = self._state.unfinished_build(assignment.build)
        if unfinished is None:
            self._registry.release(agent.address, assignment.id)
            return
        with unfinished.lock:
            current = unfinished.build.current
            if current is None or current.number != assignment.attempt:
                self._registry.release(agent.address, assignment.id)
                return
            try:
                name = self._registry.name_of(agent.name, agent.address)
                self._state.requeue(unfinished, ending, _orphan_reason(agent, name, ending))
            except (StoreUnavailable, BuildUnusable):
                return  # tried again at the next look, or dropped; the log has it
        if ending == builds.OVERDUE:
            self._dispatcher.tell_superseded(agent.address, assignment.id)

    def _abandon(self, unfinished: UnfinishedBuild) -> None:
        with unfinished.lock:
            build = unfinished.build
            if build.current is None:
                unfinished.cancel_by = None
                return
            with contextlib.suppress(StoreUnavailable, BuildUnusable):
                self._state.record(unfinished, builds.abandon(build, self._state.now()))
                log.warning(
                    "build %d: cancelled (%s did not say in time that it has ended)",
                    build.id,
                    build.agent,
                )


def _orphan_reason(agent: KnownAgent, name: str, ending: str) -> Reason:
    if ending == builds.SILENT:
        return Reason("agent_gone", agent=name, reason=agent.gone_reason)
    return Reason(ending, agent=name)
