"""Calling git, for one build at a time.

git is called with a list of words, through the slot's supervisor: it ends when the agent ends, and
when the build's time is over. It keeps to the user's own configuration, but for hooks and for
transports that run commands; of the agent's environment it gets nothing that begins with GIT_.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Callable, Optional, Union

from minici.build import STDERR, STDOUT
from minici.checkout import messages
from minici.checkout.mounts import mounts_in
from minici.process.account import Account
from minici.process.command import Exit, StopOrder, Supervisor
from minici.reasons import Reason
from minici.validation import public

# Takes what git prints while it fetches and checks out.
Progress = Callable[[bytes], None]

_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.splitIndex=false",
    "core.trustctime=true",
    "core.checkStat=default",
    "index.version=2",  # `index_file.py` reads it
    "protocol.ext.allow=never",
    "protocol.fd.allow=never",
    "submodule.recurse=false",
    "log.showSignature=false",
    "i18n.logOutputEncoding=UTF-8",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    # Upkeep has its own time: git's would cost a build's, and delete what no ref leads to.
    "gc.auto=0",
    "maintenance.auto=false",
)
_ENVIRONMENT = {
    "LC_ALL": "C",  # its messages end up in English sentences, and some are looked at
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_PROGRESS_DELAY": "1",  # seconds
    "SSH_ASKPASS_REQUIRE": "never",
}
# Copy the git folder $1 as $2, with the refs of the mirror $3, and where its history ends.
_COPY = """
rm -rf "$2" && cp -Rp "$1" "$2" && cp -p "$3/packed-refs" "$2" || exit
if [ -e "$3/shallow" ]; then cp -p "$3/shallow" "$2"; fi
"""
_DISK_USAGE = 'nice -n 19 du -skx "$1" 2>/dev/null; exit 0'
_UNLOCK = 'chattr -i -a "$@" 2>/dev/null; exit 0'
# What a build has locked, if it was root's, is unlocked only if it must be.
_REMOVE = """
chmod -R u+rwX "$@" 2>/dev/null
rm -rf "$@" 2>/dev/null || { chattr -R -i -a "$@" 2>/dev/null; rm -rf "$@"; }
"""
# What makes a checkout wrong although git exits with 0: files that stay, a tree that is missing.
_WRONG = re.compile(r"^warning: unable to (unlink|rmdir) |^error: Could not read ", re.MULTILINE)
_FSCK = 'exec "$@" >&2'  # part of what is wrong goes to its standard output
_CAPTURED = {STDOUT: 64 * 1024 * 1024, STDERR: 64 * 1024}  # bytes

log = logging.getLogger(__name__)


class GitError(Exception):
    """git says no. The text is a sentence for the build's page, `messages` all that git said."""

    def __init__(self, sentence: str, messages: str = "") -> None:
        super().__init__(sentence)
        self.messages = messages or sentence


class GitUnavailable(Exception):
    """git, or another program that a checkout needs, is not on this host: rule 21."""


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
        self._progress: Optional[Progress] = None
        self.account = account

    @property
    def home(self) -> str:
        """The home folder of the user as whom git runs."""
        return self._env.get("HOME") or "/"

    @property
    def config_home(self) -> str:
        """The folder of the user's `git/config`."""
        return self._env.get("XDG_CONFIG_HOME") or f"{self.home}/.config"

    @property
    def progress_options(self) -> tuple[str, ...]:
        """Options with which git shows its progress, where somebody watches."""
        return ("--progress",) if self._progress else ()

    def showing(self, progress: Optional[Progress]) -> Git:
        """Return the same, with everything that is worth watching given to `progress`."""
        shown = copy.copy(self)
        shown._progress = progress
        return shown

    def __call__(self, *words: str, folder: Path) -> bytes:
        """Call git and return what it prints. Raises GitError, Interrupted, SupervisorLost."""
        return self._call(self._words(words), folder, self.account)[0]

    def fetch(self, *words: str, folder: Path) -> str:
        """Call `git fetch` and return its messages, which are shown. Raises as a call does."""
        how = "--progress" if self._progress else "--quiet"
        git_dir = f"--git-dir={folder}"
        command = self._words([git_dir, "fetch", how, "--no-tags", "--update-shallow", *words])
        return self._call(command, folder, self.account, shown=True)[1]

    def check_out(
        self,
        checkout: Sequence[str],
        folder: Path,
        first: Sequence[Sequence[str]] = (),
        clean: Optional[Sequence[str]] = None,
    ) -> None:
        """Call git for a checkout, after the commands `first` and the call `clean`.

        Raises as a single call does, and GitError where something of another checkout is left, or
        something is missing.
        """
        orders = [*first, *([self._words(clean)] if clean else ()), self._words(checkout)]
        command, *others = orders
        _, said = self._call(command, folder, self.account, then=others, shown=True)
        if _WRONG.search(said):
            raise GitError(messages.complaint(said, 0), said)

    def sequence(self, calls: Sequence[Sequence[str]], folder: Path) -> None:
        """Call git several times, as long as it succeeds. Raises as a single call does."""
        if calls:
            command, *others = map(self._words, calls)
            self._call(command, folder, self.account, then=others)

    def fsck(self, folder: Path) -> None:
        """Have git check a repository. Raises as a call does; the messages say what is wrong."""
        options = (f"--git-dir={folder}", "fsck", "--no-dangling", "--no-progress")
        self._call(_shell(_FSCK, *self._words(options)), folder, self.account)

    def nice(self, *words: str, folder: Path) -> None:
        """Call git with the least claim to the processor. Raises as a call does."""
        self._call(["nice", "-n", "19", *self._words(words)], folder, self.account)

    def script(self, text: str, *paths: Path, folder: Path = Path("/")) -> bytes:
        """Run a shell script with no more power than a command of a build has, and return what it
        prints. Raises as a call of git does."""
        return self._call(_shell(text, *paths), folder, self.account)[0]

    def copy(self, git_folder: Path, target: Path, mirror: Path) -> None:
        """Give a working tree its `.git`: what a build of this user has put there, a link to a
        file of root's, say, is read as that user."""
        self.script(_COPY, git_folder, target, mirror, folder=target.parent)

    def delete(self, files: Iterable[Path]) -> None:
        """Delete files where commands may have been at work, with no more power than theirs."""
        self.script('rm -f "$@"', *files)

    def remove(self, *folders: Path) -> None:
        """Remove whole folders, with the agent's power, but for those in which something is
        mounted. Raises GitError if another one stays."""
        removable = []
        for folder in folders:
            mounted = mounts_in(folder)
            if mounted:
                points = ", ".join(mounted)
                log.warning("%s stays until nothing is mounted there: umount %s", folder, points)
            elif os.path.lexists(folder):
                removable.append(folder)
        if removable:
            self._call(_shell(_REMOVE, *removable), Path("/"), None)

    def disk_usage(self, folder: Path) -> int:
        """The bytes that a folder takes on its own file system. Raises as a call does."""
        said, _ = self._call(_shell(_DISK_USAGE, folder), Path("/"), None)
        return int(said.split()[0]) * 1024 if said else 0

    def detach(self, folder: Path) -> None:
        """Unmount what a build has mounted over `folder`; nothing is removed. Raises GitError."""
        self._call(["umount", "-l", str(folder)], Path("/"), None)

    def unlock(self, *paths: Path) -> None:
        """Take away from files and folders that they can't be changed: see chattr(1)."""
        self._call(_shell(_UNLOCK, *paths), Path("/"), None)

    def check(self) -> None:
        """Raise Interrupted if the build's end has come."""
        if self._stop.reason is not None:
            raise Interrupted(self._stop.reason)
        if time.monotonic() >= self._deadline:
            raise Interrupted(Reason("checkout_timed_out"))

    def has_time_for(self, seconds: float) -> bool:
        """Tell whether the build has that much time left."""
        return time.monotonic() + seconds < self._deadline

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the build goes on. Raises Interrupted."""
        stopped = threading.Event()
        with self._stop.wakes(stopped.set):
            if self._stop.reason is None:
                stopped.wait(min(seconds, max(0.0, self._deadline - time.monotonic())))
        self.check()

    def say(self, text: str) -> None:
        """Show a line of minici's own among what git prints."""
        if self._progress:
            self._progress(f"{public(text)}\n".encode("utf-8", "surrogateescape"))

    def _words(self, words: Sequence[str]) -> list[str]:
        options = [word for option in _OPTIONS for word in ("-c", option)]
        return [_program(self._env.get("PATH", os.defpath)), *options, *words]

    def _call(
        self,
        words: Sequence[str],
        folder: Path,
        account: Optional[Account],
        then: Sequence[Sequence[str]] = (),
        shown: bool = False,
    ) -> tuple[bytes, str]:
        """Run a command; return what it printed, and its messages."""
        self.check()
        output = _Output(self._progress if shown else None)
        exit = self._supervisor.execute(
            words,
            folder=folder,
            env=self._env,
            sink=output.take,
            seconds=self._deadline - time.monotonic(),
            stop=self._stop,
            account=account,
            then=then,
        )
        output.flush()
        if exit.stopped or exit.timed_out:
            self.check()
            raise Interrupted(Reason("checkout_timed_out"))
        said = output.captured[STDERR].decode("utf-8", "replace")
        if exit.error and not shutil.which(words[0], path=self._env.get("PATH", os.defpath)):
            _program.cache_clear()  # it may have moved to another folder
            raise GitUnavailable(exit.error)
        if exit.status != 0:
            self.check()
            raise _error(exit, said)
        return bytes(output.captured[STDOUT]), said


class _Output:
    """The output of a git command: the end of each stream is captured, messages are shown."""

    def __init__(self, progress: Optional[Progress]) -> None:
        self.captured = {stream: bytearray() for stream in _CAPTURED}
        self._progress = progress
        self._rest = b""  # a line without its end: half an address might hide its password

    def take(self, stream: str, data: bytes, _: float) -> None:
        captured, limit = self.captured[stream], _CAPTURED[stream]
        captured += data
        if len(captured) > 2 * limit:
            del captured[:-limit]
        if self._progress and stream == STDERR:
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            whole = self._rest + data[:end] if end else b""
            self._rest = data[end:] if end else self._rest + data
            self._show(whole)

    def flush(self) -> None:
        self._show(self._rest)
        self._rest = b""

    def _show(self, data: bytes) -> None:
        if data and self._progress:
            self._progress(public(data.decode("latin-1")).encode("latin-1"))


@functools.lru_cache(maxsize=10)
def _program(path: str) -> str:
    """The path of git: with its name alone, every folder of PATH is tried each time."""
    return shutil.which("git", path=path) or "git"


def _shell(script: str, *words: Union[str, Path]) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *map(str, words)]


def _error(exit: Exit, said: str) -> GitError:
    return GitError(exit.error or messages.complaint(said, exit.status), said)
