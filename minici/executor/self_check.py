"""An agent's check that it can work: rule 21 of section 5 of the contract.

An agent whose disk is full or can't be written, or that can't run git, gives builds back and
takes no more, until a check of its own succeeds.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from minici.checkout.git import Git, GitError, GitUnavailable, Interrupted
from minici.executor.inventory import Inventory
from minici.executor.outbox import Outbox
from minici.executor.retry_loop import RetryLoop
from minici.process.command import StopOrder, Supervisor, SupervisorLost
from minici.process.launcher import SupervisorUnavailable
from minici.reasons import Reason, sentence_of
from minici.web.client import Backoff

_FIRST_PAUSE_SECONDS = 1.0  # from a trouble to the first check
_LONGEST_PAUSE_SECONDS = 30.0
_GIT_SECONDS = 30.0  # for `git --version`
_REMOVAL_SECONDS = 600.0
# Below the data folder: trees of slots, and what git has not come to an end with.
_LEFTOVERS = (
    "workspaces/*/*",
    "artifacts/*/*",
    "mirrors/*.git/objects/*/tmp_*",
    "mirrors/*.new",
    "mirrors/*.old",
)
_GIT_ERRORS = (
    *(GitError, GitUnavailable, Interrupted),
    *(SupervisorLost, SupervisorUnavailable, OSError),
)

# What is wrong with a disk, and not with what is written to it.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
# The same in a line of git's, of this host and not of the remote one. Where a write fails, git does
# not always say why.
_DISK_SENTENCES = (
    *(re.escape(os.strerror(each)) for each in _DISK_ERRORS),
    r"(?:unable to|couldn't) write .*",
)
_DISK_SENTENCE = re.compile(f"^(?!remote: ).*?({'|'.join(_DISK_SENTENCES)})", re.MULTILINE)

log = logging.getLogger(__name__)


class SelfCheck:
    """The trouble of an agent. For any thread.

    `supervisor` is for its own checks. After a trouble it is checked later and later, until a build
    has gone well.
    """

    def __init__(
        self,
        data: Path,
        outbox: Outbox,
        inventory: Inventory,
        supervisor: Supervisor,
        environment: Mapping[str, str],
    ) -> None:
        self._data = data
        self._outbox = outbox
        self._inventory = inventory
        self._supervisor = supervisor
        self._environment = environment
        self._changed = threading.Condition()  # guards what follows
        self._trouble: Optional[Reason] = None
        self._next_check = 0.0  # on the monotonic clock
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._loop = RetryLoop("self-check", self._recover, self._not_checked)

    def start(self) -> None:
        """Check the disk once, and from then on whenever there is a trouble."""
        try:
            self._outbox.check_writable()
        except OSError as error:
            self.report_disk(error)
        self._loop.start()

    @property
    def trouble(self) -> Optional[Reason]:
        """The reason why the agent takes no builds now; None if it takes them."""
        return self._trouble

    def report(self, reason: Reason) -> Reason:
        """Note a trouble that was met; returns it."""
        with self._changed:
            if self._trouble != reason:
                log.error("no more builds for now: %s", reason)
            self._trouble = reason
            self._next_check = time.monotonic() + self._backoff.next()
            self._changed.notify_all()
        return reason

    def report_disk(self, error: OSError) -> Reason:
        """Note that something could not be kept on disk; returns the trouble."""
        return self.report(_disk_reason(error))

    def report_supervisor(self, error: SupervisorUnavailable) -> Reason:
        """Note that commands can't be started; returns the trouble."""
        return self.report(Reason("agent_supervisor", reason=sentence_of(error)))

    def explain(self, error: Exception, supervisor: Supervisor) -> Optional[Reason]:
        """Return the trouble that has made a build fail; None if it is the build's own failure.

        `supervisor` is that of the calling thread.
        """
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return self.report_disk(error)
        if isinstance(error, SupervisorUnavailable):
            return self.report_supervisor(error)
        full = _DISK_SENTENCE.search(error.messages) if isinstance(error, GitError) else None
        if full:
            return self.report(Reason("agent_disk", error=full[1]))
        found = self._find_trouble(supervisor)
        return self.report(found) if found else None

    def went_well(self) -> None:
        """A build has ended by itself: the next trouble is another one."""
        with self._changed:
            if self._trouble is None:
                self._backoff.reset()

    def _find_trouble(self, supervisor: Supervisor) -> Optional[Reason]:
        try:
            self._outbox.check_writable()
        except OSError as error:
            return _disk_reason(error)
        try:
            self._git(supervisor, _GIT_SECONDS)("--version", folder=self._data)
        except (GitError, GitUnavailable, Interrupted) as error:
            return Reason("agent_git", reason=sentence_of(error))
        except (SupervisorLost, SupervisorUnavailable, OSError) as error:
            return Reason("agent_supervisor", reason=sentence_of(error))
        return None

    def _git(self, supervisor: Supervisor, seconds: float) -> Git:
        return Git(supervisor, self._environment, StopOrder(), time.monotonic() + seconds)

    def _make_room(self) -> None:
        """Remove what earlier builds have left on a full disk, while none runs: it can be made
        anew, and nobody else would remove it."""
        if self._trouble is None or self._trouble.key != "agent_disk" or self._inventory.running():
            return
        left = [path for pattern in _LEFTOVERS for path in self._data.glob(pattern)]
        if not left:
            return
        log.warning("the disk is full: removing %d leftovers of earlier builds", len(left))
        try:
            self._git(self._supervisor, _REMOVAL_SECONDS).remove(*left)
        except _GIT_ERRORS as error:
            log.warning("can't remove what earlier builds have left: %s", error)

    def _recover(self) -> float:
        """Wait for a trouble, check once its time has come, and end it if all is well."""
        with self._changed:
            self._changed.wait_for(lambda: self._trouble is not None)
            pause = self._next_check - time.monotonic()
        if pause > 0:
            return pause
        self._make_room()
        found = self._find_trouble(self._supervisor)
        self._supervisor.close()
        if found:
            self.report(found)
            return 0.0
        with self._changed:
            if self._next_check <= time.monotonic():  # nothing was reported meanwhile
                self._trouble = None
                log.info("takes builds again")
        return 0.0

    def _not_checked(self, error: Exception) -> None:
        log.warning("can't check whether this agent can work again: %s", error)


def _disk_reason(error: OSError) -> Reason:
    return Reason("agent_disk", error=error.strerror or str(error))
