"""The reports of agents: registrations, output and results.

Rules 7, 10 and 11 of section 5: a result is recorded exactly once, whatever is sent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from minici import build as builds
from minici.build import AttemptId, Result
from minici.durable import Data
from minici.files.incoming import Closed, IncomingFiles
from minici.files.shelf import LeftOut
from minici.output.checkout_log import CHECKOUT
from minici.output.format import OffsetGap, StreamTail
from minici.output.writer import OutputWriter
from minici.reasons import Reason
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.roster import Registration
from minici.scheduler.state import State, check_attempt
from minici.scheduler.unfinished_build import UnfinishedBuild
from minici.store import BuildUnusable

log = logging.getLogger("minici.scheduler.agent_updates")

Timeline = Iterable[tuple[int, int, int]]


class StaleAttempt(Exception):
    """The build is no longer this attempt's."""


@dataclass(frozen=True)
class LeftOutFiles:
    """The files of a build that an agent has left out: the first by name, and their number."""

    named: Sequence[LeftOut] = ()
    count: int = 0


class AgentUpdates:
    """Takes in what agents report. Any thread may call it.

    `instance` is the word of this start of the server.
    """

    def __init__(self, state: State, dispatcher: Dispatcher, instance: str) -> None:
        self._state = state
        self._instance = instance
        self._dispatcher = dispatcher

    def register(self, registration: Registration) -> str:
        """Register an agent, or renew it; return the word of this start of the server: rule 20.

        Raises StoreUnavailable.
        """
        self._state.registry.register(registration)
        return self._instance

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
        with self._current(number, attempt) as unfinished:
            if stream == CHECKOUT:
                store = self._state.store
                with self._folder_of(unfinished), store.checkout_log(number, attempt) as checkout:
                    checkout.append(offset, data)
                    total = checkout.total
            else:
                passed = self._state.clock() - unfinished.began_at
                with self._output(unfinished, attempt) as output:
                    if output.total(stream) != offset:
                        raise OffsetGap(output.totals)
                    output.append(stream, data, passed if seconds is None else seconds)
                    total = output.total(stream)
        unfinished.touch()
        return total

    def add_file(
        self, number: int, attempt: int, path: str, offset: int, data: Data, last: bool
    ) -> int:
        """Add a piece of a running attempt's file; returns where the next one begins.

        Raises NoSuchBuild, NoSuchAttempt, StaleAttempt, FileGap, FileLeftOut, StoreUnavailable.
        """
        with self._current(number, attempt) as unfinished:
            files = self._files(unfinished, attempt)
        try:
            return self._state.store.add_file(number, files, path, offset, data, last)
        except Closed:
            raise StaleAttempt from None

    @contextlib.contextmanager
    def _current(self, number: int, attempt: int) -> Iterator[UnfinishedBuild]:
        """A build whose current attempt this is, with its lock held.

        Raises NoSuchBuild, NoSuchAttempt, StaleAttempt.
        """
        unfinished = self._state.unfinished_build(number)
        if unfinished is None:
            self._state.check_known(number, attempt)
            raise StaleAttempt
        with unfinished.lock:
            current = unfinished.build.current
            if current is None or current.number != attempt:
                check_attempt(unfinished.build, attempt)
                raise StaleAttempt
            yield unfinished

    def _files(self, unfinished: UnfinishedBuild, attempt: int) -> IncomingFiles:
        """The files of an attempt of a build, whose lock is held. Raises StoreUnavailable."""
        if unfinished.files is None or unfinished.files[0] != attempt:
            limit = self._state.project_of(unfinished.build).files_limit
            files = self._state.store.incoming_files(unfinished.build.id, attempt, limit)
            unfinished.files = (attempt, files)
        return unfinished.files[1]

    def _close_files(
        self, unfinished: UnfinishedBuild, attempt: int, left_out: LeftOutFiles
    ) -> tuple[int, int]:
        """The number of files that an attempt has brought, and of those that were left out."""
        store, number = self._state.store, unfinished.build.id
        if not left_out.count and not store.has_files(number, attempt):
            return 0, 0
        files = self._files(unfinished, attempt)
        return store.close_files(number, files, left_out.named, left_out.count)

    def finish(
        self,
        number: int,
        attempt: Optional[int],
        result: Result,
        rests: Mapping[str, StreamTail],
        timeline: Optional[Timeline] = None,
        left_out: LeftOutFiles = LeftOutFiles(),
    ) -> None:
        """Record a result; when this returns, it would survive a power cut. A repeat, and a
        result that comes after another one, changes nothing.

        Raises NoSuchBuild, NoSuchAttempt, OffsetGap, StoreUnavailable.
        """
        unfinished = self._state.unfinished_build(number)
        if unfinished is None:
            self._state.check_known(number, attempt)
            log.info("build %d: a result came after its end: nothing changes", number)
            return
        with unfinished.lock:
            build = unfinished.build
            source = attempt if attempt is not None else build.last_attempt
            check_attempt(build, source)
            if build.final:
                return
            if self._stopped_by_server(unfinished, source, result):
                log.info("build %d: attempt %d has been stopped", number, source)
                return
            losers = [a for a in build.attempts if a.ending is None and a.number != source]
            with self._output(unfinished, source) as output:
                kept = output.finish(rests, self._state.clock() - unfinished.began_at, timeline)
            files = self._close_files(unfinished, source, left_out)
            self._state.record(
                unfinished, builds.finish(build, source, result, kept, self._state.now(), files)
            )
        for loser in losers:
            log.info("build %d: attempt %d is told to stop", number, loser.number)
            self._dispatcher.tell_superseded(loser.address, AttemptId(number, loser.number))

    @contextlib.contextmanager
    def _output(self, unfinished: UnfinishedBuild, attempt: int) -> Iterator[OutputWriter]:
        store, number = self._state.store, unfinished.build.id
        with self._folder_of(unfinished), store.output(number, attempt) as output:
            yield output

    @contextlib.contextmanager
    def _folder_of(self, unfinished: UnfinishedBuild) -> Iterator[None]:
        """Give up a build whose folder can't be used any more."""
        try:
            yield
        except BuildUnusable as error:
            self._state.drop(unfinished, error)
            raise

    def _stopped_by_server(self, unfinished: UnfinishedBuild, attempt: int, result: Result) -> bool:
        """Return whether the result is of a superseded attempt that was told to stop.

        To be killed for having been superseded is no result of the build.
        """
        current = unfinished.build.current
        superseded = current is None or current.number != attempt
        return (
            superseded and result.exit_status in (-15, -9) and not unfinished.build.cancel_requested
        )

    def give_back(self, number: int, attempt: int, trouble: Optional[str] = None) -> None:
        """An agent hands back a build unfinished: it is requeued at once.

        `trouble` is why the agent can't work; without it the agent stops, rules 11 and 21.
        Raises NoSuchBuild, NoSuchAttempt, StoreUnavailable.
        """
        unfinished = self._state.unfinished_build(number)
        if unfinished is None:
            self._state.check_known(number, attempt)
            return
        with unfinished.lock:
            check_attempt(unfinished.build, attempt)
            current = unfinished.build.current
            if current is None or current.number != attempt:
                return
            self._state.registry.gave_back(current.address, trouble)
            agent = self._state.registry.name_of(current.agent, current.address)
            if trouble:
                reason = Reason("gave_back", agent=agent, reason=trouble)
                self._state.requeue(unfinished, builds.UNABLE, reason)
            else:
                reason = Reason("returned", agent=agent)
                self._state.requeue(unfinished, builds.RETURNED, reason)
