"""What agents report: that they are there, what a command writes, and how it ended.

Rules 7, 10 and 11 of section 5: a result is recorded exactly once, whatever is sent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from minici import build as builds
from minici.build import AttemptId, Result
from minici.output.checkout_log import CHECKOUT
from minici.output.format import OffsetGap, StreamTail
from minici.output.writer import OutputWriter
from minici.reasons import Reason
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.roster import KnownAgent
from minici.scheduler.state import State, UnfinishedBuild, check_attempt, log_end
from minici.store import BuildUnusable, StoreUnavailable

log = logging.getLogger("minici.scheduler.agent_updates")

Timeline = Iterable[tuple[int, int, int]]


class StaleAttempt(Exception):
    """The build is no longer this attempt's."""


class AgentUpdates:
    """Takes in what agents report. Any thread may call it."""

    def __init__(self, state: State, dispatcher: Dispatcher) -> None:
        self._state = state
        self._dispatcher = dispatcher

    def register(
        self,
        host: str,
        port: int,
        name: Optional[str] = None,
        slots: Optional[int] = None,
        running: Optional[frozenset[int]] = None,
        scheme: str = "http",
    ) -> None:
        """An agent announces itself, or says that it is still there. Raises StoreUnavailable.

        Without `slots` it has what its pings say, and one until then.
        """
        now, at = self._state.clock(), self._state.now()
        fresh = KnownAgent(host, port, name or "", slots or 1, now, scheme=scheme, registered=at)
        fresh.name = name or fresh.address
        with self._state.lock:
            agent = self._state.roster.get(fresh.address)
            known = agent is not None
            if agent is None:
                agent = fresh
                self._state.roster.add(agent)
            if slots is None:
                fresh.slots = agent.slots
            changed = not known or _identity(agent) != _identity(fresh)
            agent.name, agent.slots, agent.scheme = fresh.name, fresh.slots, scheme
            agent.slots_registered, agent.closing = slots is not None, False
            back = self._state.roster.heard(agent, now, at)
            if running is not None and any(build not in running for build in agent.assignments):
                agent.next_ping = now
                self._state.attention.set()
            self._state.agents_changed()
        if not known:
            log.info("agent %s at %s is new", agent.name, agent.address)
        elif back:
            log.info("agent %s at %s is back", agent.name, agent.address)
        if changed:
            self._state.attention.set()
            self._state.save_agents()
        elif back:  # nobody waits for that to be durable
            with contextlib.suppress(StoreUnavailable):
                self._state.save_agents()

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

        Raises NoSuchBuild, NoSuchAttempt, StaleAttempt, OffsetGap, StoreUnavailable.
        """
        entry = self._state.unfinished_build(number)
        if entry is None:
            self._state.check_known(number, attempt)
            raise StaleAttempt
        with entry.lock:
            current = entry.build.current
            if current is None or current.number != attempt:
                check_attempt(entry.build, attempt)
                raise StaleAttempt
            if stream == CHECKOUT:
                with self._folder_of(entry), self._state.store.checkout_log(number, attempt) as log:
                    log.append(offset, data)
                    total = log.total
            else:
                passed = self._state.clock() - entry.since
                with self._output(entry, attempt) as output:
                    if output.total(stream) != offset:
                        raise OffsetGap(output.totals)
                    output.append(stream, data, passed if seconds is None else seconds)
                    total = output.total(stream)
        entry.touch()
        return total

    def finish(
        self,
        number: int,
        attempt: Optional[int],
        result: Result,
        rests: Mapping[str, StreamTail],
        timeline: Optional[Timeline] = None,
    ) -> None:
        """Record a result; when this returns, it would survive a power cut. A repeat, and a
        result that comes after another one, changes nothing.

        Raises NoSuchBuild, NoSuchAttempt, OffsetGap, StoreUnavailable.
        """
        entry = self._state.unfinished_build(number)
        if entry is None:
            self._state.check_known(number, attempt)
            log.info("build %d: a result came after its end: nothing changes", number)
            return
        with entry.lock:
            build = entry.build
            source = attempt if attempt is not None else build.last_attempt
            check_attempt(build, source)
            if build.final:
                return
            if self._of_our_own_making(entry, source, result):
                log.info("build %d: attempt %d has been stopped", number, source)
                return
            losers = [a for a in build.attempts if a.ending is None and a.number != source]
            with self._output(entry, source) as output:
                kept = output.finish(rests, self._state.clock() - entry.since, timeline)
            build = self._state.change(
                entry, builds.finish(build, source, result, kept, self._state.now())
            )
        log_end(build)
        for loser in losers:
            log.info("build %d: attempt %d is told to stop", number, loser.number)
            self._dispatcher.tell_superseded(loser.address, AttemptId(number, loser.number))

    @contextlib.contextmanager
    def _output(self, entry: UnfinishedBuild, attempt: int) -> Iterator[OutputWriter]:
        with self._folder_of(entry), self._state.store.output(entry.build.id, attempt) as output:
            yield output

    @contextlib.contextmanager
    def _folder_of(self, entry: UnfinishedBuild) -> Iterator[None]:
        """Give up a build whose folder can't be used any more."""
        try:
            yield
        except BuildUnusable as error:
            self._state.drop(entry, error)
            raise

    def _of_our_own_making(self, entry: UnfinishedBuild, attempt: int, result: Result) -> bool:
        """Whether the result only says that an attempt was ended which the server had given up:
        to be killed for having been superseded is no result of the build."""
        current = entry.build.current
        superseded = current is None or current.number != attempt
        return superseded and result.exit_status in (-15, -9) and not entry.build.cancel_requested

    def give_back(self, number: int, attempt: int) -> None:
        """An agent that stops hands back a build unfinished: it is requeued at once.

        Raises NoSuchBuild, NoSuchAttempt, StoreUnavailable.
        """
        entry = self._state.unfinished_build(number)
        if entry is None:
            self._state.check_known(number, attempt)
            return
        with entry.lock:
            check_attempt(entry.build, attempt)
            current = entry.build.current
            if current is None or current.number != attempt:
                return
            with self._state.lock:
                agent = self._state.roster.get(current.address)
                if agent is not None:
                    self._state.roster.refused(agent, self._state.clock())
            self._state.requeue(entry, builds.RETURNED, Reason("returned", agent=current.agent))


def _identity(agent: KnownAgent) -> tuple[str, int, str]:
    return agent.name, agent.slots, agent.scheme
