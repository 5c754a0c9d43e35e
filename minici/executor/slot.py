"""A slot takes a build, checks its commit out, runs its command, and puts the result in order.

One thread for each slot; it owns the slot's supervisor and its working trees.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.build import Result
from minici.checkout.git import Git, GitError, GitUnavailable, Interrupted
from minici.checkout.mirror import Commit
from minici.checkout.mirrors import Mirrors
from minici.checkout.workspace import Workspace
from minici.executor.artifacts import make_artifacts
from minici.executor.build_output import BuildOutput
from minici.executor.environment import build_variables, command_environment, passed_secrets
from minici.executor.inventory import DELIVER, DROP, GIVE_BACK, Inventory, RunningBuild
from minici.executor.kept_files import keep_files
from minici.executor.masking import Masker
from minici.executor.outbox import Outbox
from minici.executor.result_delivery import reason_params
from minici.executor.retry_loop import RetryLoop
from minici.executor.self_check import SelfCheck
from minici.process.account import Account
from minici.process.command import Exit, StopOrder, Supervisor, SupervisorLost
from minici.process.launcher import SupervisorUnavailable
from minici.reasons import Reason, sentence_of
from minici.validation import public
from minici.web.client import CallError, Client, Refused

_NO_CHECKOUT = 128  # git's own exit status when it can't go on
_BROKEN = 125  # the command could not be watched to its end
_OUT_OF_TIME = 124  # as of timeout(1), for a command that exits 0 when it is told to end
# Beyond the time limit, of which the server waits for sixty: a checkout may take a while even for
# a command that may not, and all is over in time to say so.
_CHECKOUT_SPARE_SECONDS = 15.0
_COMMAND_SPARE_SECONDS = 45.0
_GIVE_BACK_SECONDS = 2.0

_CHECKOUT_ERRORS = (
    *(GitError, GitUnavailable, Interrupted),
    *(SupervisorLost, SupervisorUnavailable, OSError),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlotSettings:
    """The settings that an agent's slots have in common."""

    data: Path
    shell: tuple[str, ...]
    passed: tuple[str, ...]
    account: Optional[Account]
    inherited: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """The end of a build here: its result, or the trouble of the agent for which it has none.

    `stopped` if it has not ended by itself.
    """

    result: Optional[Result] = None
    stopped: bool = False
    trouble: Optional[Reason] = None
    artifacts: Optional[Path] = None  # the folder in which the command could leave files


class Slot:
    """`start` and `join` are for the main thread; everything else happens in the slot's own."""

    def __init__(
        self,
        number: int,
        settings: SlotSettings,
        mirrors: Mirrors,
        inventory: Inventory,
        outbox: Outbox,
        client: Client,
        self_check: SelfCheck,
    ) -> None:
        self._settings = settings
        self._inventory = inventory
        self._outbox = outbox
        self._client = client
        self._self_check = self_check
        self._masker = Masker(map(os.fsencode, passed_secrets(settings.inherited, settings.passed)))
        self._artifacts = settings.data / "artifacts" / str(number)
        self._supervisor = Supervisor(settings.data / "processes" / str(number))
        self._workspace = Workspace(settings.data / "workspaces", number, mirrors)
        self._thread = threading.Thread(target=self._serve, name=f"slot-{number}", daemon=True)

    def start(self) -> None:
        try:
            self._supervisor.start()
        except SupervisorUnavailable as error:
            self._self_check.report_supervisor(error)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until the slot has ended what it had, after `Inventory.close`."""
        self._thread.join(seconds)

    def _serve(self) -> None:
        while True:
            running = self._inventory.take()
            if running is None:
                break
            try:
                self._build(running)
            except OSError as error:
                log.error("%s: this agent can't keep its result: %s", running.order.title, error)
                self._give_back(running, self._self_check.report_disk(error))
            except Exception:
                log.exception("%s: internal error", running.order.title)
                self._give_back(running, Reason("agent_internal_error"))
        self._supervisor.close()

    def _build(self, running: RunningBuild) -> None:
        order = running.order
        log.info("%s: %s of %s", order.title, order.commit, public(order.repository))
        output = BuildOutput(
            self._client, running, self._masker, superseded=lambda: self._supersede(running)
        )
        try:
            outcome = self._run(running, output)
        finally:
            self._workspace.release()
            sent = output.end()
        then = running.if_stopped if outcome.stopped else DELIVER
        if outcome.result is None or then == GIVE_BACK:
            self._give_back(running, outcome.trouble)
        elif then == DROP:
            self._inventory.drop(running)
        else:
            result = self._masked(outcome.result)
            if outcome.artifacts:
                folder, limit = running.folder, order.files_limit
                keep_files(outcome.artifacts, folder, limit, self._settings.account)
            pending = self._outbox.add(
                running.folder, order.attempt_id, result, order.output_limit, sent
            )
            log.info("%s: ended with status %d", order.title, result.exit_status)
            self._inventory.finish(running, pending)
            self._self_check.went_well()

    def _run(self, running: RunningBuild, output: BuildOutput) -> Outcome:
        order, stop = running.order, running.stop
        due = running.accepted_at + order.timeout
        until = due + _CHECKOUT_SPARE_SECONDS
        environ, account = self._settings.inherited, self._settings.account
        git = Git(self._supervisor, environ, stop, until, account)
        try:
            tree, commit = self._workspace.checkout(
                order.repository,
                order.commit,
                git,
                submodules=order.submodules,
                progress=output.append_checkout,
            )
            name = f"{running.folder.name}-{time.time_ns()}"
            artifacts = make_artifacts(self._artifacts, name, git)
        except _CHECKOUT_ERRORS as error:
            return self._not_checked_out(error, stop)
        seconds = min(order.timeout, due + _COMMAND_SPARE_SECONDS - time.monotonic())
        try:
            exit = self._supervisor.execute(
                [*self._settings.shell, order.command],
                folder=tree,
                env=self._environment(running, commit, tree, artifacts),
                sink=output.append,
                seconds=seconds,
                stop=stop,
                account=account,
            )
        except SupervisorLost as error:
            reason = Reason("command_lost", reason=sentence_of(error))
            return Outcome(_result(_BROKEN, reason, commit), artifacts=artifacts)
        except (SupervisorUnavailable, OSError) as error:
            trouble = self._self_check.explain(error, self._supervisor)
            reason = Reason("agent_error", error=sentence_of(error))
            return Outcome(None if trouble else _result(_BROKEN, reason, commit), False, trouble)
        result = _judge(exit, stop, seconds, commit)
        return Outcome(result, exit.stopped, artifacts=artifacts)

    def _masked(self, result: Result) -> Result:
        reason = result.reason and self._masker.mask(result.reason)
        return dataclasses.replace(result, reason=reason)

    def _not_checked_out(self, error: Exception, stop: StopOrder) -> Outcome:
        if stop.reason is not None:
            return Outcome(Result(_NO_CHECKOUT, stop.reason), stopped=True)
        trouble = self._self_check.explain(error, self._supervisor)
        if trouble:
            return Outcome(trouble=trouble)
        reason = Reason("checkout_failed", reason=sentence_of(error))
        return Outcome(Result(_NO_CHECKOUT, reason))

    def _environment(
        self, running: RunningBuild, commit: Commit, tree: Path, artifacts: Path
    ) -> dict[str, str]:
        order, account = running.order, self._settings.account
        given = build_variables(
            number=order.attempt_id.build,
            attempt=order.attempt_id.attempt,
            commit=order.commit,
            revision=commit.revision,
            repository=order.repository,
            url=order.url,
            workspace=str(tree),
            artifacts=str(artifacts),
            project=order.project,
            event=order.event,
            ref=order.ref,
        )
        if account:
            given.update(account.variables)
        return command_environment(self._settings.inherited, self._settings.passed, given)

    def _supersede(self, running: RunningBuild) -> None:
        self._inventory.stop(*running.order.attempt_id, Reason("moved_on"), DROP)

    def _give_back(self, running: RunningBuild, trouble: Optional[Reason]) -> None:
        """Give a build back to the server: it is not counted as one that the agent has lost.

        An agent that stops tells it once, and a ping tells it later; one in trouble holds on to the
        build until the server has answered.
        """
        title, stop = running.order.title, running.stop
        number, attempt = running.order.attempt_id
        params = {"id": number, "attempt": attempt, **reason_params(trouble)}
        params = {name: value for name, value in params.items() if value is not None}

        def tell() -> Optional[float]:
            try:
                self._client.post("/notify_build_returned", params, _GIVE_BACK_SECONDS)
                log.info("%s: given back to the server", title)
            except Refused as error:
                log.warning("%s: dropped, the server does not take it back: %s", title, error)
            return None

        def not_told(error: Exception) -> None:
            log.warning("%s: the server can't be told that it is given back: %s", title, error)

        told = False
        if trouble is not None:
            loop = RetryLoop(f"give-back-{number}", tell, not_told)
            with stop.wakes(loop.stop):
                if stop.reason is not None:
                    loop.stop()
                told = loop.run()
        self._inventory.drop(running)
        if not told:
            try:
                tell()
            except CallError as error:
                not_told(error)


def _judge(exit: Exit, stop: StopOrder, seconds: float, commit: Commit) -> Result:
    """The result of a command, by how it ended."""
    if exit.error:
        return _result(exit.status, Reason("not_started", error=exit.error), commit)
    if exit.timed_out:
        reason = Reason("timed_out", seconds=f"{round(seconds, 1):g}")
        return _result(exit.status or _OUT_OF_TIME, reason, commit)
    return _result(exit.status, stop.reason if exit.stopped else None, commit)


def _result(status: int, reason: Optional[str], commit: Commit) -> Result:
    about = (commit.revision, commit.subject, commit.author, commit.author_email)
    return Result(status, reason, *about)
