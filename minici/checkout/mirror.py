"""Mirrors: bare copies of repositories, kept between builds and shared by the slots.

    mirrors/NAME-HASH.git        below the agent's data folder

Branches stand in refs/remotes/origin/ there, as in a clone. Nothing is ever pruned from a mirror
but names: what a slot has checked out may have no name any more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.checkout.git import Git, GitError
from minici.checkout.git_dir import empty, lay_out
from minici.validation import public

_FULL_HASH = re.compile(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?([~^][~^0-9]*)?\Z")
_SUFFIX = re.compile(r"(?:\^\d*|~\d*)*\Z")

_BRANCHES = "+refs/heads/*:refs/remotes/origin/*"
_TAGS = "+refs/tags/*:refs/tags/*"
_HEAD = "refs/minici/HEAD"  # what HEAD is at the repository
_REMEMBERED = 1000  # commits
_PATIENCE = 0.2  # seconds between two looks at the time while another slot fetches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Commit:
    """What a commit as typed has turned out to be."""

    revision: str
    subject: str
    author: str


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
        self._new = folder.with_suffix(".new")
        self._old = folder.with_suffix(".old")
        self._lock = threading.Lock()  # guards the folder against a second writer
        self._fetched = float("-inf")  # when the last good fetch began, on the monotonic clock
        self._known: dict[str, Commit] = {}  # a revision's subject and author never change

    def resolve(self, commit: str, git: Git) -> Commit:
        """Find what a commit as typed means now. Raises GitError, Interrupted, SupervisorLost.

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
        elif name.endswith("_HEAD"):  # FETCH_HEAD and others are the mirror's own
            spellings.pop()
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
        revision, author, subject = said.decode("utf-8", "replace")[:-1].split("\n", 2)
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
            self._sweep(git)
            if not (self.folder.is_dir() and self._mend(git)):
                self._renew(git)
            self._fetched = began

    def repair(self, git: Git) -> bool:
        """Make the mirror anew if something in it is broken; False if nothing is."""
        with self._writing(git):
            try:
                self._git(git, "fsck", "--no-dangling", "--no-progress")
                return False
            except GitError as error:
                log.warning("the mirror %s is made anew: %s", self.folder, error)
                self._sweep(git)
                self._renew(git)
                return True

    def _mend(self, git: Git) -> bool:
        """Fetch into what is there; False if that is beyond repair."""
        try:
            self._fetch(self.folder, git)
            return True
        except GitError:
            # Is it the repository that is at fault? Then this says so.
            words = ("ls-remote", "--quiet", "--end-of-options", self.repository, "HEAD")
            git(*words, folder=self.folder.parent)
        try:
            self._fetch(self.folder, git)
            return True
        except GitError as error:
            log.warning("the mirror %s is made anew: %s", self.folder, error)
            return False

    def _sweep(self, git: Git) -> None:
        """Delete what was left when git was killed: nobody else writes here now."""
        packs = (self.folder / "objects" / "pack").glob("tmp_*")
        locks = (self.folder / "refs").rglob("*.lock")
        files = [*packs, *locks, *self.folder.glob("*.lock")]
        folders = [path for path in (self._new, self._old) if path.exists()]
        if files:
            git.delete(files)
        if folders:
            git.remove(*folders)

    def _renew(self, git: Git) -> None:
        self._lay_out(git)
        try:
            self._fetch(self._new, git, strict=False)
        except GitError as error:
            if "mismatched algorithms" not in str(error):
                raise
            git.remove(self._new)
            self._lay_out(git, sha256=True)
            self._fetch(self._new, git, strict=False)
        if self.folder.exists():
            os.rename(self.folder, self._old)
        os.rename(self._new, self.folder)
        self._known.clear()
        git.remove(self._old)

    def _lay_out(self, git: Git, sha256: bool = False) -> None:
        files = empty(self.repository, self.folder, bare=True, sha256=sha256)
        lay_out(self._new, files, git.account)

    def _fetch(self, folder: Path, git: Git, strict: bool = True) -> None:
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
            git(*words, f"+HEAD:{_HEAD}", folder=folder, strict=strict)
        except GitError as error:
            if "remote ref HEAD" not in str(error):
                raise
            # Its HEAD names a branch that has no commit yet.
            git(*words, folder=folder, strict=strict)
            git(f"--git-dir={folder}", "update-ref", "-d", _HEAD, folder=folder)
        if any(files for _, _, files in os.walk(folder / "refs")):
            git(f"--git-dir={folder}", "pack-refs", "--all", folder=folder)

    def _fetch_one(self, revision: str, git: Git) -> None:
        """Ask for a commit that no branch and no tag leads to; not every repository gives it."""
        words = ("fetch", "--quiet", "--no-tags", "--end-of-options", self.repository, revision)
        with self._writing(git), suppress(GitError):
            self._git(git, *words)

    def _git(self, git: Git, *words: str) -> bytes:
        return git(f"--git-dir={self.folder}", *words, folder=self.folder, strict=True)

    @contextmanager
    def _writing(self, git: Git) -> Iterator[None]:
        while not self._lock.acquire(timeout=_PATIENCE):
            git.check()
        try:
            yield
        finally:
            self._lock.release()
