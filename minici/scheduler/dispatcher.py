"""The dispatcher: builds go to agents, oldest first, the moment there is a free slot.

Rules 3, 4 and 14 of section 5. One thread waits and decides; agents are called in the background.
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
    REFUSED,
    UNANSWERED,
    AgentClient,
    DispatchResult,
)
from minici.scheduler.roster import KnownAgent
from minici.scheduler.state import State
from minici.scheduler.unfinished_build import Dispatch, UnfinishedBuild
from minici.store import BuildUnusable, StoreUnavailable

log = logging.getLogger("minici.scheduler.dispatcher")

_FAULT_PAUSE_SECONDS = 1.0  # after an error in the dispatcher itself

InBackground = Callable[[str, Callable[[], object]], None]


class Dispatcher:
    """Hands builds to agents, and tells agents to stop them. Any thread may call it.

    `in_background` calls a function, by a name for the log, without waiting for it. `page_url`
    gives the address of a build's page, where the configuration has one; an agent without it
    takes the address by which it reaches the server.
    """

    def __init__(
        self,
        state: State,
        client: AgentClient,
        in_background: InBackground,
        page_url: Optional[Callable[[int], str]] = None,
    ) -> None:
        self._state = state
        self._client = client
        self._page_url = page_url
        self._in_background = in_background
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread, once the state is stopping."""
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    # Dispatching.

    def _run(self) -> None:
        while self._state.wait_for_dispatch():
            try:
                self.dispatch()
            except Exception:
                log.exception("internal error in the dispatcher; it goes on")
                time.sleep(_FAULT_PAUSE_SECONDS)

    def dispatch(self) -> bool:
        """Dispatch the oldest build for which there is an agent; return whether there was one.

        Raises RuntimeError where no thread can be started; the build is then back in the queue.
        """
        dispatch = self._state.take_dispatch()
        if dispatch is None:
            return False
        name = f"dispatch-{dispatch.attempt.build}"
        try:
            self._in_background(name, lambda: self._dispatch_safely(dispatch))
        except RuntimeError:
            self._state.postpone(dispatch)
            raise
        return True

    def _dispatch_safely(self, dispatch: Dispatch) -> None:
        """Dispatch a build; whatever goes wrong, it is not left out of the queue."""
        try:
            self._dispatch(dispatch)
        except Exception:
            number = dispatch.attempt.build
            log.exception("build %d: dispatch failed", number)
            if dispatch.unfinished.build.status == builds.QUEUED:
                self._state.postpone(dispatch)
            else:  # pings tell whether the agent has it
                self._state.registry.accepted(dispatch.agent, number)

    def _dispatch(self, dispatch: Dispatch) -> None:
        agent, attempt = dispatch.agent, dispatch.attempt
        with dispatch.unfinished.lock:
            if dispatch.unfinished.build.status != builds.QUEUED:
                self._state.registry.release(agent.address, attempt)
                return
            try:
                build = self._state.begin_attempt(dispatch)
            except StoreUnavailable:
                self._state.postpone(dispatch)
                return
            except BuildUnusable:
                self._state.registry.release(agent.address, attempt)
                return
        self._settle(dispatch, self._call(agent, build))

    def _call(self, agent: KnownAgent, build: Build) -> DispatchResult:
        if agent.paused:  # while the attempt was written: who has paused it expects no call
            return DispatchResult(REFUSED, Reason("paused"))
        try:
            return self._client.dispatch(agent, _at_its_revision(build), self._params(build))
        except Exception:
            log.exception("build %d: the call to %s failed", build.id, agent.name)
            return DispatchResult(UNANSWERED, Reason("internal_error"))

    def _params(self, build: Build) -> Mapping[str, object]:
        project = self._state.project_of(build)
        params: dict[str, object] = {
            "timeout": f"{project.build_timeout:.3f}",
            "output_limit": self._state.config.output_limit,
            "files_limit": project.files_limit,
            "project": build.project,
            "event": build.event,
        }
        if build.ref:
            params["ref"] = build.ref
        if project.submodules:
            params["submodules"] = 1
        if self._page_url is not None:
            params["url"] = self._page_url(build.id)
        return params

    def _settle(self, dispatch: Dispatch, result: DispatchResult) -> None:
        """Draw the consequence of an agent's answer to a build: rule 4."""
        unfinished, agent, attempt = dispatch.unfinished, dispatch.agent, dispatch.attempt
        registry = self._state.registry
        if result.outcome == ACCEPTED:
            log.info("build %d: attempt %d on %s", *attempt, agent.name)
            registry.accepted(agent, attempt.build)
            if unfinished.build.cancel_requested and not unfinished.build.final:
                self.tell_cancelled(unfinished)
            return
        # Before the build goes back: it must not come here again at once.
        if result.outcome == UNANSWERED:
            registry.distrust(agent)
        elif not agent.paused:
            registry.refused(agent)
        with unfinished.lock:
            current = unfinished.build.current
            if current is not None and current.number == attempt.attempt:
                self._end_unaccepted(unfinished, agent, result)
        if result.outcome == UNANSWERED:
            self.tell_superseded(agent.address, attempt)

    def _end_unaccepted(
        self, unfinished: UnfinishedBuild, agent: KnownAgent, result: DispatchResult
    ) -> None:
        build, reason = unfinished.build, result.reason
        name = self._state.registry.name_of(agent.name, agent.address)
        try:
            if result.outcome == IMPOSSIBLE:
                log.info("build %d: %s will not run it: %s", build.id, agent.name, reason)
                self._state.record(unfinished, builds.reject(build, reason, self._state.now()))
            elif result.outcome == UNANSWERED:
                reason = Reason("no_answer_from", agent=name, reason=reason)
                self._state.requeue(unfinished, builds.UNANSWERED, reason)
            else:
                reason = Reason("refused_by", agent=name, reason=reason)
                self._state.requeue(unfinished, builds.REFUSED, reason)
        except StoreUnavailable as error:
            # Left as it is: the agent will not have the build, and its pings will tell.
            log.error(
                "build %d: the refusal of %s can't be recorded (%s): queued again once it can be",
                build.id,
                agent.name,
                error,
            )
            self._state.registry.accepted(agent, build.id)
        except BuildUnusable:
            return  # it has been dropped, and the log says so

    # Telling agents to stop.

    def cancel(self, number: int, by: Optional[str] = None) -> None:
        """Stop a build; a final one stays as it is. Raises NoSuchBuild or StoreUnavailable."""
        unfinished = self._state.unfinished_build(number)
        if unfinished is None:
            self._state.check_known(number)
            return
        with unfinished.lock:
            if not self._state.request_cancel(unfinished, by):
                return
        log.info("build %d: to be cancelled on %s", number, unfinished.build.agent)
        self.tell_cancelled(unfinished)

    def supersede(self, number: int, newer: int, running_too: bool) -> None:
        """End a build whose place a newer one of its branch takes: rule 17.

        One that runs goes on unless `running_too`. Raises StoreUnavailable.
        """
        unfinished = self._state.unfinished_build(number)
        if unfinished is None:
            return
        with unfinished.lock:
            if unfinished.build.status != builds.QUEUED and not running_too:
                return
            told = self._state.request_cancel(unfinished, None, superseded_by=newer)
        log.info("build %d: superseded by build %d", number, newer)
        if told:
            self.tell_cancelled(unfinished)

    def tell_cancelled(self, unfinished: UnfinishedBuild) -> None:
        """Tell the agent of a running build that a person has cancelled it."""
        current = unfinished.build.current
        agent = self._state.registry.get(current.address) if current else None
        if agent is None or current is None:
            return
        attempt = AttemptId(unfinished.build.id, current.number)

        def call() -> None:
            unfinished.cancel_told = self._client.cancel(agent, attempt, superseded=False)

        unfinished.cancel_told = True
        try:
            self._in_background(f"cancel-{attempt.build}", call)
        except RuntimeError:  # no thread can be started now: its next ping is another chance
            unfinished.cancel_told = False

    def tell_superseded(self, address: str, attempt: AttemptId) -> None:
        """Tell an agent that nobody waits for this attempt any more.

        Where that fails, the next ping shows that the agent still has it.
        """
        agent = self._state.registry.get(address)
        if agent is not None:
            with contextlib.suppress(RuntimeError):
                self._in_background(
                    f"stop-{attempt.build}", lambda: self._client.cancel(agent, attempt, True)
                )


def _at_its_revision(build: Build) -> Build:
    """A build whose revision was known from the beginning is of that, wherever the branch is."""
    if (build.rebuild_of or build.event != builds.MANUAL) and build.revision:
        return dataclasses.replace(build, commit=build.revision)
    return build
