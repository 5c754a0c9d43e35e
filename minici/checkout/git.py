"""Calling git, for one build at a time.

git is called with a list of words, through the slot's supervisor: it ends when the agent ends, and
when the build's time is over. It keeps to the user's own configuration, but for hooks and for
transports that run commands; of the agent's environment it gets nothing that begins with GIT_.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from minici.build import STDERR, STDOUT
from minici.process.command import Account, Exit, StopOrder, Supervisor
from minici.validation import public

_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.splitIndex=false",
    "protocol.ext.allow=never",
    "protocol.fd.allow=never",
    "submodule.recurse=false",
    "log.showSignature=false",
    "i18n.logOutputEncoding=UTF-8",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    # What a slot has checked out has no ref, and nothing may go on in the background.
    "gc.pruneExpire=never",
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
)
_ENVIRONMENT = {
    "LC_ALL": "C",  # its messages end up in English sentences, and some are looked at
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
}
# A copy of the git folder $1 as $2, with the refs of the mirror $3, and where its history ends.
_COPY = """
rm -rf "$2" && cp -Rp "$1" "$2" && cp -p "$3/packed-refs" "$2" || exit
if [ -e "$3/shallow" ]; then cp -p "$3/shallow" "$2"; fi
"""
# What git passes over in a working tree: repositories in its folders, and all that is neither file,
# folder nor link.
_UNSEEN = (
    "find . -path ./.git -prune -o -name .git -prune -exec rm -rf {} +"
    " -o ! -type f ! -type d ! -type l -exec rm -f {} +"
).split()
_REMOVE = 'chmod -R u+rwX "$@" 2>/dev/null; rm -rf "$@"'

# What git adds to any trouble with a repository.
_BOILERPLATE = (
    "fatal: Could not read from remote repository",
    "Please make sure you have the correct access rights",
    "and the repository exists",
    "warning:",
    "hint:",
)
_DAMAGE = re.compile(r"^error: .*(object|pack)", re.MULTILINE)
_LEFT = re.compile(r"^warning: unable to (unlink|rmdir) ", re.MULTILINE)
_CAPTURED = {STDOUT: 64 * 1024 * 1024, STDERR: 64 * 1024}  # bytes


class GitError(Exception):
    """git says no. The text is a sentence for the build's page."""


class Interrupted(Exception):
    """The build was stopped, or its time is over: nothing is tried again."""


class Git:
    """Calls git for one build. `deadline` is on the monotonic clock, in seconds."""

    def __init__(
        self,
        supervisor: Supervisor,
        environment: Mapping[str, str],
        stop: StopOrder,
        deadline: float,
        account: Optional[Account] = None,
    ) -> None:
        self._supervisor = supervisor
        kept = {name: v for name, v in environment.items() if not name.startswith("GIT_")}
        self._env = {**kept, **_ENVIRONMENT}
        if account:
            self._env.update(account.variables)
        self._stop = stop
        self._deadline = deadline
        self.account = account

    def __call__(self, *words: str, folder: Path, strict: bool = False) -> bytes:
        """Call git and return what it prints. Raises GitError, Interrupted, SupervisorLost.

        If `strict`, a message about a broken object or pack is a failure, even where git has found
        a way around it.
        """
        trouble = _DAMAGE if strict else None
        return self._call(self._words(words), folder, self.account, trouble)

    def _words(self, words: Sequence[str]) -> list[str]:
        options = [word for option in _OPTIONS for word in ("-c", option)]
        return [_program(self._env.get("PATH", os.defpath)), *options, *words]

    def check_out(
        self, checkout: Sequence[str], folder: Path, clean: Optional[Sequence[str]] = None
    ) -> None:
        """Call git for a checkout, where nothing may be left of another; with `clean`, which is a
        call too, after that and what git does not see. Raises as a single call does."""
        orders = [self._words(checkout)]
        if clean is not None:
            orders = [_UNSEEN, self._words(clean), *orders]
        first, *others = orders
        self._call(first, folder, self.account, _LEFT, then=others)

    def copy(self, git_folder: Path, target: Path, mirror: Path) -> None:
        """Give a working tree its `.git`, with no more power than a command has: whatever a build
        of this user has put there, a link to a file of root's, say, is read as that user."""
        self._call(_shell(_COPY, git_folder, target, mirror), target.parent, self.account)

    def delete(self, files: Iterable[Path]) -> None:
        """Delete files where commands may have been at work, with no more power than theirs."""
        self._call(_shell('rm -f "$@"', *files), Path("/"), self.account)

    def remove(self, *paths: Path) -> None:
        """Remove whole folders. Raises GitError if something stays."""
        self._call(_shell(_REMOVE, *paths), Path("/"), None)

    def check(self) -> None:
        """Raise Interrupted if the build's end has come."""
        if self._stop.reason is not None:
            raise Interrupted(self._stop.reason)
        if time.monotonic() >= self._deadline:
            raise Interrupted("ran out of time")

    def _call(
        self,
        words: Sequence[str],
        folder: Path,
        account: Optional[Account],
        trouble: Optional[re.Pattern[str]] = None,
        then: Sequence[Sequence[str]] = (),
    ) -> bytes:
        self.check()
        captured = {stream: bytearray() for stream in _CAPTURED}

        def capture(stream: str, data: bytes, _: float) -> None:
            captured[stream] += data[: _CAPTURED[stream] - len(captured[stream])]

        exit = self._supervisor.execute(
            words,
            folder=folder,
            env=self._env,
            sink=capture,
            seconds=self._deadline - time.monotonic(),
            stop=self._stop,
            account=account,
            then=then,
        )
        if exit.stopped or exit.timed_out:
            self.check()
            raise Interrupted("ran out of time")
        messages = captured[STDERR].decode("utf-8", "replace")
        if exit.status != 0 or (trouble and trouble.search(messages)):
            self.check()
            raise GitError(_complaint(exit, messages))
        return bytes(captured[STDOUT])


@functools.lru_cache(maxsize=10)
def _program(path: str) -> str:
    """Where git is. Whoever is told only its name tries every folder of PATH each time."""
    return shutil.which("git", path=path) or "git"


def _shell(script: str, *paths: Path) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *map(str, paths)]


def _complaint(exit: Exit, stderr: str) -> str:
    """The line of git's messages that says what is wrong."""
    if exit.error:
        return exit.error
    lines = [line.strip() for line in stderr.splitlines()]
    telling = [line for line in lines if line and not line.startswith(_BOILERPLATE)]
    fatal = [line for line in telling if line.startswith(("fatal:", "error:"))]
    said = (fatal[:1] or telling[-1:] or lines[-1:] or [f"git ended with status {exit.status}"])[0]
    return public(re.sub(r"^(fatal|error): ", "", said)[:300])
