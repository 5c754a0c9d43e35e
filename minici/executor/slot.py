"""A slot takes a build, checks its commit out, runs its command, and puts the result in order.

One thread for each slot; it owns the slot's supervisor and its working trees.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.build import Result
from minici.checkout.git import Git, GitError, Interrupted
from minici.checkout.mirror import Commit, Mirrors
from minici.checkout.workspace import Workspace
from minici.executor.environment import build_variables, command_environment
from minici.executor.inventory import DELIVER, DROP, GIVE_BACK, Inventory, RunningBuild
from minici.executor.outbox import Outbox
from minici.executor.output_streamer import OutputStreamer
from minici.output.writer import Output
from minici.process.command import Account, Exit, StopOrder, Supervisor, SupervisorLost
from minici.validation import public
from minici.web.client import CallError, Client

_NO_CHECKOUT = 128  # git's own exit status when it can't go on
_BROKEN = 125  # the command could not be watched to its end
_OUT_OF_TIME = 124  # as of timeout(1), for a command that exits 0 when it is told to end
# Seconds beyond the time limit, of which the server waits for sixty: a checkout may take a while
# even for a command that may not, and all is over in time to say so.
_SPARE_TO_CHECK_OUT = 15.0
_SPARE = 45.0
_GIVE_BACK_SECONDS = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlotSettings:
    """What an agent's slots have in common."""

    data: Path
    shell: tuple[str, ...]
    passed: tuple[str, ...]
    account: Optional[Account]
    inherited: Mapping[str, str]


@dataclass(frozen=True)
class Ended:
    """How a build ended here; `stopped` if that was not of itself."""

    result: Result
    stopped: bool = False


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
    ) -> None:
        self._settings = settings
        self._inventory = inventory
        self._outbox = outbox
        self._client = client
        self._supervisor = Supervisor(settings.data / "processes" / str(number))
        self._workspace = Workspace(settings.data / "workspaces", number, mirrors)
        self._thread = threading.Thread(target=self._serve, name=f"slot-{number}", daemon=True)

    def start(self) -> None:
        self._supervisor.start()
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
                self._give_back(running)
            except Exception:
                log.exception("%s: a fault of this agent", running.order.title)
                self._give_back(running)
        self._supervisor.close()

    def _build(self, running: RunningBuild) -> None:
        order = running.order
        log.info("%s: %s of %s", order.title, order.commit, public(order.repository))
        with Output(running.folder, order.output_limit) as output:
            sender = OutputStreamer(
                self._client, order.attempt_id, output, lambda: self._supersede(running)
            )
            try:
                ended = self._run(running, sender)
            finally:
                sent = sender.end()
        then = running.if_stopped if ended.stopped else DELIVER
        if then == GIVE_BACK:
            self._give_back(running)
        elif then == DROP:
            self._inventory.drop(running)
        else:
            entry = self._outbox.add(
                running.folder, order.attempt_id, ended.result, order.output_limit, sent
            )
            log.info("%s: ended with status %d", order.title, ended.result.exit_status)
            self._inventory.finish(running, entry)

    def _run(self, running: RunningBuild, sender: OutputStreamer) -> Ended:
        order, stop = running.order, running.stop
        due = running.accepted_at + order.timeout
        until = due + _SPARE_TO_CHECK_OUT
        environ, account = self._settings.inherited, self._settings.account
        git = Git(self._supervisor, environ, stop, until, account)
        try:
            tree, commit = self._workspace.checkout(order.repository, order.commit, git)
        except (GitError, Interrupted, SupervisorLost, OSError) as error:
            reason = f"checkout failed: {error}"
            stopped = stop.reason is not None
            return Ended(Result(_NO_CHECKOUT, stop.reason or reason), stopped)
        seconds = min(order.timeout, due + _SPARE - time.monotonic())
        try:
            exit = self._supervisor.execute(
                [*self._settings.shell, order.command],
                folder=tree,
                env=self._environment(running, commit, tree),
                sink=sender.append,
                seconds=seconds,
                stop=stop,
                account=account,
            )
        except SupervisorLost as error:
            return Ended(_result(_BROKEN, f"{error}, and the command with it", commit))
        except OSError as error:
            return Ended(_result(_BROKEN, f"the agent can't go on: {error}", commit))
        return Ended(_judge(exit, stop, seconds, commit), exit.stopped)

    def _environment(self, running: RunningBuild, commit: Commit, tree: Path) -> dict[str, str]:
        order, account = running.order, self._settings.account
        given = build_variables(
            number=order.attempt_id[0],
            attempt=order.attempt_id[1],
            commit=order.commit,
            revision=commit.revision,
            repository=order.repository,
            url=order.url,
            workspace=str(tree),
        )
        if account:
            given.update(account.variables)
        return command_environment(self._settings.inherited, self._settings.passed, given)

    def _supersede(self, running: RunningBuild) -> None:
        self._inventory.stop(*running.order.attempt_id, "it goes on elsewhere", DROP)

    def _give_back(self, running: RunningBuild) -> None:
        """Tell the server at once; where it does not hear, a ping will tell it later."""
        number, attempt = running.order.attempt_id
        self._inventory.drop(running)
        params = {"id": number, "attempt": attempt}
        try:
            self._client.post("/notify_build_returned", params, _GIVE_BACK_SECONDS)
            log.info("%s: given back to the server", running.order.title)
        except CallError as error:
            log.warning("%s: dropped, and the server not told: %s", running.order.title, error)


def _judge(exit: Exit, stop: StopOrder, seconds: float, commit: Commit) -> Result:
    """What to say of a command by how it ended."""
    if exit.error:
        return _result(exit.status, f"the command can't be started: {exit.error}", commit)
    if exit.timed_out:
        reason = f"ran out of time after {round(seconds, 1):g} s (build_timeout)"
        return _result(exit.status or _OUT_OF_TIME, reason, commit)
    return _result(exit.status, stop.reason if exit.stopped else None, commit)


def _result(status: int, reason: Optional[str], commit: Commit) -> Result:
    return Result(status, reason, commit.revision, commit.subject, commit.author)
