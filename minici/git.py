"""A clean checkout of a commit, from a mirror that is kept between builds.

Below an agent's data folder:

    mirrors/NAME-HASH.git        a bare copy of a repository, shared by the slots
    workspaces/NAME-HASH/N       the working tree of slot N, in which commands run
    workspaces/NAME-HASH/N.git   its index and HEAD, for the agent alone

A command has the `.git` of its working tree for itself: it is a copy, made anew for each build,
so that no hook, no setting and no lock of one build meets the next. Whatever else can be wrong
with a working tree or a mirror shows in git's exit status, and is answered by a new one.

git is called with a list of words, through the slot's runner: it ends when the agent ends, and
when the build's time is over. It keeps to the user's own configuration, but for hooks and for
transports that run commands; of the agent's environment it gets nothing that begins with GIT_.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.output import STDERR, STDOUT
from minici.process import Account, Exit, Runner, StopOrder

_FULL_HASH = re.compile(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?([~^][~^0-9]*)?\Z")
_SUFFIX = re.compile(r"(?:\^\d*|~\d*)*\Z")
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")

_BRANCHES = "+refs/heads/*:refs/remotes/origin/*"
_TAGS = "+refs/tags/*:refs/tags/*"
_HEAD = "refs/minici/HEAD"  # what HEAD is at the repository
_REMEMBERED = 1000  # commits

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
_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = {bare}
\tlogAllRefUpdates = false
[extensions]
\t{extension}
[remote "origin"]
\turl = {url}
\tfetch = +refs/heads/*:refs/remotes/origin/*
"""
# A copy of the git folder $1 as $2, with the refs of the mirror $3, and where its history ends.
_COPY = """
rm -rf "$2" && cp -Rp "$1" "$2" && cp -p "$3/packed-refs" "$2" || exit
if [ -e "$3/shallow" ]; then cp -p "$3/shallow" "$2"; fi
"""
_REMOVE = 'chmod -R u+rwX "$@" 2>/dev/null; rm -rf "$@"'

_CAPTURED = {STDOUT: 64 * 1024 * 1024, STDERR: 64 * 1024}  # bytes
_PATIENCE = 0.2  # seconds between two looks at the time while another slot fetches

log = logging.getLogger(__name__)


class GitError(Exception):
    """git says no. The text is a sentence for the build's page."""


class Interrupted(Exception):
    """The build was stopped, or its time is over: nothing is tried again."""


@dataclass(frozen=True)
class Commit:
    """What a commit as typed has turned out to be."""

    revision: str
    subject: str
    author: str


class Git:
    """Calls git for one build. `deadline` is on the monotonic clock, in seconds."""

    def __init__(
        self,
        runner: Runner,
        environment: Mapping[str, str],
        stop: StopOrder,
        deadline: float,
        account: Optional[Account] = None,
    ) -> None:
        self._runner = runner
        kept = {name: v for name, v in environment.items() if not name.startswith("GIT_")}
        self._env = {**kept, **_ENVIRONMENT}
        if account:
            self._env.update(account.variables)
        self._stop = stop
        self._deadline = deadline
        self.account = account

    def __call__(self, *words: str, folder: Path) -> str:
        """Call git and return what it prints. Raises GitError, Interrupted, RunnerLost."""
        options = [word for option in _OPTIONS for word in ("-c", option)]
        return self._call(["git", *options, *words], folder, self.account)

    def copy(self, git_folder: Path, target: Path, mirror: Path) -> None:
        """Give a working tree its `.git`."""
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

    def _call(self, words: list[str], folder: Path, account: Optional[Account]) -> str:
        self.check()
        captured = {stream: bytearray() for stream in _CAPTURED}

        def capture(stream: str, data: bytes, _: float) -> None:
            captured[stream] += data[: _CAPTURED[stream] - len(captured[stream])]

        exit = self._runner.execute(
            words,
            folder=folder,
            env=self._env,
            sink=capture,
            seconds=self._deadline - time.monotonic(),
            stop=self._stop,
            account=account,
        )
        if exit.timed_out:
            raise Interrupted("ran out of time")
        if exit.status != 0:
            self.check()
            raise GitError(_complaint(exit, captured[STDERR].decode("utf-8", "replace")))
        return captured[STDOUT].decode("utf-8", "replace")


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
    return re.sub(r"^(fatal|error): ", "", said)[:300]


_BOILERPLATE = (
    "fatal: Could not read from remote repository",
    "Please make sure you have the correct access rights",
    "and the repository exists",
    "warning:",
    "hint:",
)


def public(repository: str) -> str:
    """The repository as it may be shown: without a password."""
    return _PASSWORD.sub("", repository)


def folder_name(repository: str) -> str:
    """A name of its own for each repository, by which a person knows it again."""
    name = re.sub(r"\.git\Z", "", repository.rstrip("/").rpartition("/")[2])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:40] or "repository"
    return f"{name}-{hashlib.sha256(repository.encode()).hexdigest()[:8]}"


class Mirrors:
    """The mirrors of an agent. For any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # guards the mapping
        self._mirrors: dict[str, Mirror] = {}

    def of(self, repository: str) -> Mirror:
        with self._lock:
            if repository not in self._mirrors:
                folder = self._folder / f"{folder_name(repository)}.git"
                self._mirrors[repository] = Mirror(folder, repository)
            return self._mirrors[repository]


class Mirror:
    """A bare copy of a repository. For any thread; one at a time writes to it."""

    def __init__(self, folder: Path, repository: str) -> None:
        self.folder = folder
        self.repository = repository
        self._lock = threading.Lock()  # guards the folder against a second writer
        self._fetched = float("-inf")  # when the last good fetch began, on the monotonic clock
        self._known: dict[str, Commit] = {}  # a revision's subject and author never change

    def resolve(self, commit: str, git: Git) -> Commit:
        """Find what a commit as typed means now. Raises GitError, Interrupted, RunnerLost.

        A full hash that is here needs no network. A name is looked up in the repository first:
        it may have moved a second ago.
        """
        full = _FULL_HASH.match(commit) is not None
        found = self._find(commit, git) if full else None
        if found is None:
            self.fetch(git)
            found = self._find(commit, git) if full else self._find_name(commit, git)
        if found is None and full:
            self._fetch_one(commit, git)
            found = self._find(commit, git)
        if found is None:
            raise GitError(f'no commit "{commit}" in {public(self.repository)}')
        return found

    def _find_name(self, commit: str, git: Git) -> Optional[Commit]:
        """A branch goes before a tag, and both before a short hash."""
        name = _SUFFIX.sub("", commit)
        branch = re.sub(r"\A(refs/)?heads/", "", name)
        spellings = [f"refs/remotes/origin/{branch}", f"refs/tags/{name}", name]
        if name == "HEAD":
            spellings = [_HEAD]
        each = (self._find(spelling + commit[len(name) :], git) for spelling in spellings)
        return next(filter(None, each), None)

    def _find(self, commit: str, git: Git) -> Optional[Commit]:
        if commit in self._known:
            return self._known[commit]
        if not self.folder.is_dir():
            return None
        words = ("log", "-1", "--format=%H%n%an%n%s", "--end-of-options", f"{commit}^{{commit}}")
        try:
            said = self._git(git, *words, "--")
        except GitError:
            return None
        revision, author, subject = said.rstrip("\n").split("\n", 2)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[revision] = found = Commit(revision, subject, author)
        return found

    def fetch(self, git: Git) -> None:
        """Bring all branches and tags up to date, whatever it takes."""
        asked = time.monotonic()
        with self._writing(git):
            if self._fetched >= asked:
                return  # another slot has, while this one waited
            began = time.monotonic()
            if not (self.folder.is_dir() and self._mend(git)):
                self._renew(git)
            self._fetched = began

    def renew(self, git: Git) -> None:
        """Make the mirror anew: something in it is broken."""
        with self._writing(git):
            self._renew(git)

    def _mend(self, git: Git) -> bool:
        """Fetch into what is there; False if that is beyond repair."""
        try:
            self._sweep(git)
            self._fetch(self.folder, git)
            return True
        except GitError as error:
            # Is it the repository that is at fault? Then this says so.
            words = ("ls-remote", "--quiet", "--end-of-options", self.repository, "HEAD")
            git(*words, folder=self.folder.parent)
            log.warning("the mirror %s is made anew: %s", self.folder, error)
            return False

    def _sweep(self, git: Git) -> None:
        """Delete what a fetch that was killed has left: nobody else writes here now."""
        packs = (self.folder / "objects" / "pack").glob("tmp_*")
        locks = (self.folder / "refs").rglob("*.lock")
        left = [*packs, *locks, *self.folder.glob("*.lock")]
        if left:
            git.delete(left)

    def _renew(self, git: Git) -> None:
        new, old = self.folder.with_suffix(".new"), self.folder.with_suffix(".old")
        git.remove(new, old)
        _lay_out(new, self.repository, git.account, bare=True)
        try:
            self._fetch(new, git)
        except GitError as error:
            if "mismatched algorithms" not in str(error):
                raise
            git.remove(new)
            _lay_out(new, self.repository, git.account, bare=True, sha256=True)
            self._fetch(new, git)
        if self.folder.exists():
            os.rename(self.folder, old)
        os.rename(new, self.folder)
        self._known.clear()
        git.remove(old)

    def _fetch(self, folder: Path, git: Git) -> None:
        words = (
            f"--git-dir={folder}",
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--update-shallow",
            "--end-of-options",
            self.repository,
            _BRANCHES,
            _TAGS,
        )
        try:
            git(*words, f"+HEAD:{_HEAD}", folder=folder)
        except GitError as error:
            if "remote ref HEAD" not in str(error):
                raise
            git(*words, folder=folder)  # its HEAD names a branch that has no commit yet
            git(f"--git-dir={folder}", "update-ref", "-d", _HEAD, folder=folder)
        if any(files for _, _, files in os.walk(folder / "refs")):
            git(f"--git-dir={folder}", "pack-refs", "--all", folder=folder)

    def _fetch_one(self, revision: str, git: Git) -> None:
        """Ask for a commit that no branch and no tag leads to; not every repository gives it."""
        words = ("fetch", "--quiet", "--no-tags", "--end-of-options", self.repository, revision)
        with self._writing(git), suppress(GitError):
            self._git(git, *words)

    def _git(self, git: Git, *words: str) -> str:
        return git(f"--git-dir={self.folder}", *words, folder=self.folder)

    @contextmanager
    def _writing(self, git: Git) -> Iterator[None]:
        while not self._lock.acquire(timeout=_PATIENCE):
            git.check()
        try:
            yield
        finally:
            self._lock.release()


class Workspace:
    """The working trees of one slot, one for each repository. For the slot's thread."""

    def __init__(self, folder: Path, slot: int, mirrors: Mirrors) -> None:
        self._folder = folder
        self._slot = slot
        self._mirrors = mirrors

    def checkout(self, repository: str, commit: str, git: Git) -> tuple[Path, Commit]:
        """Check a commit out. Returns the working tree, in which nothing else is.

        Raises GitError, Interrupted, RunnerLost.
        """
        mirror = self._mirrors.of(repository)
        found = mirror.resolve(commit, git)
        tree = self._folder / folder_name(repository) / str(self._slot)
        try:
            self._check_out(mirror, tree, found.revision, git)
        except GitError as error:
            log.warning("the working tree %s is made anew: %s", tree, error)
            self._discard(tree, git)
            try:
                self._check_out(mirror, tree, found.revision, git)
            except GitError as error:
                log.warning("the mirror %s is made anew: %s", mirror.folder, error)
                self._discard(tree, git)
                mirror.renew(git)
                found = mirror.resolve(commit, git)
                self._check_out(mirror, tree, found.revision, git)
        return tree, found

    def _check_out(self, mirror: Mirror, tree: Path, revision: str, git: Git) -> None:
        own = tree.with_suffix(".git")
        if not _is_folder(tree) or not _is_folder(own):
            self._discard(tree, git)
            tree.mkdir(parents=True)
            _give([tree], git.account)
            sha256 = len(revision) == 64
            _lay_out(own, mirror.repository, git.account, mirror.folder, sha256=sha256)
        options = (f"--git-dir={own}", f"--work-tree={tree}")
        if _has_submodules(own / "index"):
            self._forget_submodules(options, tree, git)
        git(*options, "clean", "-ffdxq", folder=tree)
        git(*options, "checkout", "--force", "--detach", "--quiet", revision, "--", folder=tree)
        git.copy(own, tree / ".git", mirror.folder)

    def _forget_submodules(self, options: tuple[str, ...], tree: Path, git: Git) -> None:
        """Take them out of the index: `clean` spares what a build has put into a submodule."""
        listed = git(*options, "ls-files", "--stage", "-z", folder=tree).split("\0")
        paths = [entry.partition("\t")[2] for entry in listed if entry.startswith("160000 ")]
        if paths:
            git(*options, "rm", "--cached", "-f", "-q", "--", *paths, folder=tree)

    def _discard(self, tree: Path, git: Git) -> None:
        """Put a working tree out of the way, and remove it as far as it lets itself be removed."""
        for path in (tree, tree.with_suffix(".git")):
            if os.path.lexists(path):
                os.rename(path, path.with_name(f"{path.name}.{time.time_ns()}.trash"))
        trash = list(tree.parent.glob(f"{tree.name}.*.trash"))
        try:
            git.remove(*trash)
        except GitError as error:
            log.warning("can't remove what a build has left, so it stays: %s", error)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _has_submodules(index: Path) -> bool:
    """Whether the mode of a submodule stands anywhere in an index: maybe, or certainly not."""
    try:
        descriptor = os.open(index, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        return b"\x00\x00\xe0\x00" in file.read()


def _lay_out(
    folder: Path,
    repository: str,
    account: Optional[Account],
    alternate: Optional[Path] = None,
    bare: bool = False,
    sha256: bool = False,
) -> None:
    """Make an empty repository, of git's oldest format, whatever git's own settings say."""
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
        (folder / name).mkdir(parents=True)
    escaped = repository.replace("\\", "\\\\").replace('"', '\\"')
    config = _CONFIG.format(
        version=int(sha256),
        bare=str(bare).lower(),
        extension="objectFormat = sha256" if sha256 else "",
        url=f'"{escaped}"',
    )
    (folder / "config").write_text(config, encoding="utf-8")
    (folder / "HEAD").write_text("ref: refs/heads/none\n")
    (folder / "packed-refs").touch()
    if alternate:
        alternates = folder / "objects" / "info" / "alternates"
        alternates.write_bytes(os.fsencode(alternate / "objects") + b"\n")
    _give([*folder.rglob("*"), folder], account)


def _give(paths: list[Path], account: Optional[Account]) -> None:
    if account:
        for path in paths:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
