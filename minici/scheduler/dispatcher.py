"""Who gets what: builds go to agents, oldest first, the moment there is a free slot.

Rules 3, 4 and 14 of section 5. One thread waits and assigns; the calls run beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Mapping
from typing import Callable, Optional

from minici import build as builds
from minici.build import AttemptId, Build
from minici.reasons import Reason
from minici.scheduler.agent_client import (
    ACCEPTED,
    IMPOSSIBLE,
    UNANSWERED,
    AgentClient,
    DispatchResult,
)
from minici.scheduler.roster import KnownAgent
from minici.scheduler.state import CANCEL_SECONDS, State, UnfinishedBuild
from minici.store import BuildUnusable, StoreUnavailable

log = logging.getLogger("minici.scheduler.dispatcher")

_DISK_PAUSE = 1.0  # seconds before the disk is tried again when it refused


class Dispatcher:
    """Hands builds to agents, and tells agents to stop them. Any thread may call it.

    `beside` is how agents are called without waiting for them. `page_url` gives the address of a
    build's page, where the configuration has one; an agent without it takes the address by which
    it reaches the server.
    """

    def __init__(
        self,
        state: State,
        calls: AgentClient,
        beside: Callable[[str, Callable[[], object]], None],
        page_url: Optional[Callable[[int], str]] = None,
    ) -> None:
        self._state = state
        self._calls = calls
        self._page_url = page_url
        self._beside = beside
        self._not_before = 0.0  # guarded by the state's lock
        self._thread = threading.Thread(target=self._dispatch, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread, once the state is stopping."""
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    # Handing over.

    def _dispatch(self) -> None:
        while self._await_choice():
            try:
                self.dispatch()
            except Exception:
                log.exception("the dispatcher stumbled, and goes on")
                time.sleep(_DISK_PAUSE)

    def _await_choice(self) -> bool:
        """Wait until a build can be handed over; False when the server stops."""
        with self._state.lock:
            while not self._state.stopping and self._ready() is None:
                self._state.lock.wait(self._pause())
            return not self._state.stopping

    def dispatch(self) -> bool:
        """Hand the oldest queued build over, if there is an agent for it; whether there was."""
        with self._state.lock:
            agent, entry = self._ready(), self._state.first_queued()
            if agent is None or entry is None:
                return False
            self._state.take(entry)
            number, attempt = entry.build.id, entry.build.last_attempt + 1
            self._state.roster.assign(agent, number, attempt, self._state.clock())
        try:
            self._beside(f"hand-over-{number}", lambda: self._try_to_hand_over(entry, agent))
        except RuntimeError:  # no thread can be started now
            self._postpone(entry, agent, AttemptId(number, attempt))
            raise
        return True

    def _pause(self) -> Optional[float]:
        """Seconds after which a build might go out though nothing happened; None: never."""
        if not self._state.first_queued():
            return None
        now = self._state.clock()
        moments = [agent.not_before for agent in self._state.roster if agent.not_before > now]
        moments = [moment - now for moment in (*moments, self._not_before) if moment > now]
        return min(moments, default=None)

    def _ready(self) -> Optional[KnownAgent]:
        """The agent for the oldest queued build, if both are there."""
        now = self._state.clock()
        if self._state.stopping or now < self._not_before or not self._state.first_queued():
            return None
        return self._state.roster.choose(now)

    def _try_to_hand_over(self, entry: UnfinishedBuild, agent: KnownAgent) -> None:
        """Whatever goes wrong here, no build is left out of the queue for it."""
        held = AttemptId(entry.build.id, entry.build.last_attempt + 1)
        try:
            self._hand_over(entry, agent)
        except Exception:
            log.exception("build %d: its hand-over stumbled", held[0])
            if entry.build.status == builds.QUEUED:
                self._postpone(entry, agent, held)
                return
            with self._state.lock:  # the watchdog finds out whether the agent has it
                self._state.roster.accepted(agent, held[0], self._state.clock())

    def _hand_over(self, entry: UnfinishedBuild, agent: KnownAgent) -> None:
        held = AttemptId(entry.build.id, entry.build.last_attempt + 1)
        with entry.lock:
            if entry.build.status != builds.QUEUED:
                self._state.release(agent.address, held)
                return
            build = builds.assign(entry.build, agent.name, agent.address, self._state.now())
            try:
                self._state.store.prepare_attempt(build)
                entry.since = self._state.clock()
                entry.cancel_told = False
                self._state.change(entry, build)
            except StoreUnavailable:
                self._postpone(entry, agent, held)
                return
            except BuildUnusable as error:
                self._state.drop(entry, error)
                self._state.release(agent.address, held)
                return
        offered = self._offer(agent, build)
        self._settle(entry, agent, held, offered.outcome, offered.sentence)

    def _offer(self, agent: KnownAgent, build: Build) -> DispatchResult:
        try:
            return self._calls.offer(agent, _ordered(build), self._limits(build))
        except Exception:
            log.exception("build %d: the call to %s stumbled", build.id, agent.name)
            return DispatchResult(UNANSWERED, Reason("internal_error"))

    def _limits(self, build: Build) -> Mapping[str, object]:
        limits: dict[str, object] = {
            "timeout": f"{self._state.config.build_timeout:.3f}",
            "output_limit": self._state.config.output_limit,
        }
        if self._page_url is not None:
            limits["url"] = self._page_url(build.id)
        return limits

    def _postpone(self, entry: UnfinishedBuild, agent: KnownAgent, held: AttemptId) -> None:
        """Put a build back that could not be handed over, for want of disk or threads here."""
        with self._state.lock:
            self._state.roster.release(agent.address, held)
            self._not_before = self._state.clock() + _DISK_PAUSE
            self._state.put_back(entry)

    def _settle(
        self,
        entry: UnfinishedBuild,
        agent: KnownAgent,
        held: AttemptId,
        outcome: str,
        sentence: str,
    ) -> None:
        """Draw the consequence of what an agent said to a build: rule 4."""
        number, attempt = held
        if outcome == ACCEPTED:
            log.info("build %d: attempt %d on %s", number, attempt, agent.name)
            with self._state.lock:
                self._state.roster.accepted(agent, number, self._state.clock())
            if entry.build.cancel_requested and not entry.build.final:
                self.tell(entry)
            return
        with self._state.lock:  # before the build goes back: it must not come here again at once
            if outcome == UNANSWERED:
                self._state.roster.distrust(agent, self._state.clock())
            else:
                self._state.roster.refused(agent, self._state.clock())
        with entry.lock:
            current = entry.build.current
            if current is not None and current.number == attempt:
                self._end_unaccepted(entry, agent, outcome, sentence)
        if outcome == UNANSWERED:
            self.tell_superseded(agent.address, held)

    def _end_unaccepted(
        self, entry: UnfinishedBuild, agent: KnownAgent, outcome: str, sentence: str
    ) -> None:
        number = entry.build.id
        try:
            if outcome == IMPOSSIBLE:
                self._state.change(entry, builds.reject(entry.build, sentence, self._state.now()))
                log.info("build %d: %s will not run it: %s", number, agent.name, sentence)
            elif outcome == UNANSWERED:
                reason = Reason("no_answer_from", agent=agent.name, reason=sentence)
                self._state.requeue(entry, builds.UNANSWERED, reason)
            else:
                reason = Reason("refused_by", agent=agent.name, reason=sentence)
                self._state.requeue(entry, builds.REFUSED, reason)
        except StoreUnavailable as error:
            # Left as it is: the agent will not have the build, and the watchdog finds that out.
            log.error(
                "build %d: %s did not take it, which can't be written (%s): put back when it can",
                number,
                agent.name,
                error,
            )
            with self._state.lock:
                self._state.roster.accepted(agent, number, self._state.clock())
        except BuildUnusable:
            return  # given up, and said so

    # Telling agents to stop.

    def cancel(self, number: int, by: Optional[str] = None) -> None:
        """Stop a build; a final one stays as it is. Raises NoSuchBuild or StoreUnavailable."""
        entry = self._state.unfinished_build(number)
        if entry is None:
            self._state.check_known(number)
            return
        with entry.lock:
            before = entry.build
            build = self._state.change(entry, builds.request_cancel(before, by, self._state.now()))
            if build is before or build.final:
                return
            entry.cancel_by = self._state.clock() + CANCEL_SECONDS
        log.info("build %d: to be cancelled on %s", number, build.agent)
        self.tell(entry)

    def tell(self, entry: UnfinishedBuild) -> None:
        """Tell the agent of a running build that a person has cancelled it."""
        current = entry.build.current
        agent = self._state.agent(current.address) if current else None
        if agent is None or current is None:
            return
        held = AttemptId(entry.build.id, current.number)

        def call() -> None:
            entry.cancel_told = self._calls.cancel(agent, held, superseded=False)

        entry.cancel_told = True
        try:
            self._beside(f"cancel-{held[0]}", call)
        except RuntimeError:  # no thread can be started now: its next ping is another chance
            entry.cancel_told = False

    def tell_superseded(self, address: str, held: AttemptId) -> None:
        """Tell an agent that nobody waits for this attempt any more. Where it is not heard, or
        no thread can be started, the next ping shows that the agent still has it."""
        agent = self._state.agent(address)
        if agent is not None:
            with contextlib.suppress(RuntimeError):
                self._beside(f"stop-{held[0]}", lambda: self._calls.cancel(agent, held, True))


def _ordered(build: Build) -> Build:
    """What the agent is asked for: a repeat is of the revision, wherever the branch is now."""
    if build.rebuild_of and build.revision:
        return dataclasses.replace(build, commit=build.revision)
    return build
