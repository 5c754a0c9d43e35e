"""Mirrors: bare copies of repositories, kept between builds and shared by the slots.

    mirrors/NAME-HASH.git        below the agent's data folder

Nothing is ever pruned from a mirror but names: what a slot has checked out may have no name any
more. Rule 22 of section 5 of the contract says when one is made anew.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from minici.checkout.fetch import (
    Retry,
    fetch_all,
    fetch_each,
    find_breakage,
    local_name,
    remote_refs,
)
from minici.checkout.git import Git, GitError
from minici.checkout.git_dir import create, empty_repository
from minici.checkout.messages import damage, is_corruption, is_final
from minici.checkout.salvage import name_of_old, salvage
from minici.process.command import StopOrder
from minici.reasons import Reason
from minici.validation import public

_FULL_HASH = re.compile(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?([~^][~^0-9]*)?\Z")
_SUFFIX = re.compile(r"(?:\^\d*|~\d*)*\Z")
_KNOWN_COMMITS = 1000
_HARMLESS_MESSAGES = 100
# Packs that are larger than all smaller ones together are left as they are. What no ref leads to
# is packed like the rest, and never deleted.
_PACK = ("-c", "pack.threads=1", "repack", "--geometric=2", "-d", "-q")
_PACK_ALL = ("-c", "pack.threads=1", "repack", "-a", "-k", "-d", "-q")
_LOCK_WAIT_SECONDS = 0.2  # between two looks at the build's time while another slot fetches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Commit:
    """The commit that a name or a hash as typed was resolved to."""

    revision: str
    subject: str
    author: str
    author_email: str


class Mirror:
    """A bare copy of a repository. For any thread; one at a time writes to it."""

    def __init__(self, folder: Path, repository: str) -> None:
        self.folder = folder
        self.repository = repository
        self._new = folder.with_suffix(".new")
        self._lock = threading.Lock()  # guards the folder against a second writer, and what follows
        self._began = self._fetched = float("-inf")  # the last fetch and the last good one
        self._failed: tuple[float, Optional[GitError]] = (float("-inf"), None)  # the last bad one
        self._suspect = False  # git could not read something in the folder
        self._broken: Optional[str] = None  # what git has found wrong with the folder
        self._upkeep: Optional[StopOrder] = None  # while it packs
        self._unfetched: dict[str, GitError] = {}  # refs of the repository that can't be fetched
        self._harmless: set[str] = set()  # messages that came from no damage
        self._known: dict[str, Commit] = {}  # a revision's subject and author never change

    def resolve(self, commit: str, git: Git) -> Commit:
        """Find the commit that a name or a hash as typed means now.

        A full hash that is here needs no network. A name is looked up in the repository first:
        it may have moved a second ago. Raises GitError, Interrupted, SupervisorLost.
        """
        try:
            return self._resolve(commit, git)
        except GitError:
            suspect, self._suspect = self._suspect, False
            if not suspect or not self.repair(git):
                raise
        return self._resolve(commit, git)

    def fetch(self, git: Git, commit: str = "") -> None:
        """Bring all branches and tags up to date, as far as the build of `commit` needs them.

        Raises GitError, Interrupted, SupervisorLost.
        """
        asked = time.monotonic()
        with self._writing(git):
            if self._fetched >= asked:
                return  # another slot has, while this one waited
            failed_at, error = self._failed
            if error and failed_at >= asked:
                raise error
            git.say(f"Fetching {self.repository}")
            self._sweep(git)
            try:
                self._update(git, _refs_named(commit))
            except GitError as error:
                self._failed = self._began, error
                raise
            salvage(self.folder, git)
            self._fetched = self._began

    def repair(self, git: Git) -> bool:
        """Make the mirror anew if something in it is broken; False if nothing is."""
        with self._writing(git):
            self._broken = find_breakage(self.folder, git)
            if self._broken is None:
                return False
            self._sweep(git)
            self._update(git, ())
            salvage(self.folder, git)
            return True

    def touch(self) -> None:
        """Note that the mirror is in use now, as the time of its folder."""
        with suppress(OSError):  # it has not been made yet
            os.utime(self.folder)

    def pack(self, git: Git, stop: StopOrder) -> None:
        """Put loose objects and small packs into one, unless somebody writes here; `stop` is
        ordered when a build wants to. Raises GitError, Interrupted, SupervisorLost."""
        if not self._lock.acquire(blocking=False):
            return
        self._upkeep = stop
        try:
            try:
                git.nice(f"--git-dir={self.folder}", *_PACK, folder=self.folder)
            except GitError:  # git is older than 2.33
                git.nice(f"--git-dir={self.folder}", *_PACK_ALL, folder=self.folder)
        finally:
            self._upkeep = None
            self._lock.release()

    def _resolve(self, commit: str, git: Git) -> Commit:
        full = _FULL_HASH.match(commit) is not None
        found = self._find(commit, git) if full else None
        if found is None:
            self.fetch(git, commit)
            found = self._find(commit, git) if full else None
        if found is None and full:
            found = self._find_elsewhere(commit, git)
        if found is None:
            found = self._find_name(commit, git)
        if found is None:
            repository = public(self.repository)
            raise GitError(Reason("no_commit", commit=commit, repository=repository))
        return found

    def _find_name(self, commit: str, git: Git) -> Optional[Commit]:
        """A full name of a ref goes first, then a branch, a tag, and at last a short hash."""
        name = _SUFFIX.sub("", commit)
        for ref in _refs_named(commit):
            if ref in self._unfetched:
                raise self._unfetched[ref]
            if ref.startswith(("refs/heads/", "refs/tags/")) or ref == "HEAD":
                found = self._find(local_name(ref) + commit[len(name) :], git)
            else:
                found = self._find_elsewhere(commit, git)
            if found:
                return found
        if name.endswith("_HEAD"):  # FETCH_HEAD and others are the mirror's own
            return None
        found = self._find(commit, git)
        for error in () if found else self._unfetched.values():
            if not is_corruption(error.messages):
                raise error  # it may be there
        return found

    def _find(self, commit: str, git: Git) -> Optional[Commit]:
        if commit in self._known:
            return self._known[commit]
        if not self.folder.is_dir():
            return None
        words = (
            "log",
            "-1",
            "--format=%H%n%an%n%ae%n%s",
            "--end-of-options",
            f"{commit}^{{commit}}",
        )
        try:
            said = git(f"--git-dir={self.folder}", *words, "--", folder=self.folder)
        except GitError as error:
            # Of a name that is not there, git says no more than that it is fatal.
            self._suspect = (
                self._suspect or re.search("error: |corrupt", error.messages) is not None
            )
            return None
        revision, author, email, subject = said.decode("utf-8", "replace")[:-1].split("\n", 3)
        if len(self._known) >= _KNOWN_COMMITS:
            self._known.clear()
        self._known[revision] = found = Commit(revision, subject, author, email)
        return found

    def _find_elsewhere(self, commit: str, git: Git) -> Optional[Commit]:
        """Ask for a hash, or for a ref that is neither branch nor tag; not every repository gives
        what no branch and no tag leads to."""
        name = _SUFFIX.sub("", commit)
        with self._writing(git):
            retry = Retry(git)
            while True:
                try:
                    git.fetch("--end-of-options", self.repository, name, folder=self.folder)
                    return self._find(f"FETCH_HEAD{commit[len(name) :]}", git)
                except GitError as error:
                    if is_final(error.messages):
                        return None
                    self._suspect = self._suspect or is_corruption(error.messages)
                    if self._suspect:
                        raise
                    retry.pause(error)

    def _update(self, git: Git, wanted: Sequence[str]) -> None:
        """Fetch until it has worked, or a retry is of no use."""
        retry, checked, renewed = Retry(git), False, False
        while True:
            self._began = time.monotonic()
            try:
                self._fetch_everything(git)
                return
            except GitError as error:
                trouble = error
            try:
                refs = remote_refs(self.repository, self.folder.parent, git)
            except GitError as error:
                if is_final(error.messages):
                    raise
                retry.pause(error)
                continue
            # The repository answers. So the connection broke off, or the mirror is broken, or
            # something in the repository.
            self._broken = self._look_for_breakage(git, thorough=False)
            if not self._broken and (retry.failures or _is_lasting(trouble)):
                missing = self._fetch_parts(refs, wanted, git)
                if missing is None:
                    return
                if not checked:
                    checked, self._broken = True, self._look_for_breakage(git, thorough=True)
                trouble = missing
            if self._broken and not renewed:
                renewed = True
                continue
            if _is_lasting(trouble):
                raise trouble
            retry.pause(trouble)

    def _look_for_breakage(self, git: Git, thorough: bool) -> Optional[str]:
        return find_breakage(self.folder, git, thorough) if self.folder.is_dir() else None

    def _fetch_everything(self, git: Git) -> None:
        self._unfetched = {}
        if self._broken or not self.folder.is_dir():
            self._renew(lambda: fetch_all(self._new, self.repository, git), git)
            return
        said = fetch_all(self.folder, self.repository, git)
        unknown = set(damage(said)) - self._harmless
        if not unknown:
            return
        self._broken = find_breakage(self.folder, git)
        if self._broken:
            self._fetch_everything(git)
        elif len(self._harmless) < _HARMLESS_MESSAGES:
            self._harmless |= unknown

    def _fetch_parts(
        self, refs: Mapping[str, str], wanted: Sequence[str], git: Git
    ) -> Optional[GitError]:
        """Fetch every ref that can be; return why one of the wanted ones can't."""

        def fetch(folder: Path) -> None:
            self._unfetched = fetch_each(folder, self.repository, refs, git)

        try:
            if self.folder.is_dir():
                fetch(self.folder)
            else:
                self._renew(lambda: fetch(self._new), git)
        except GitError as error:
            return error
        for ref, reason in self._unfetched.items():
            log.warning("%s: %s can't be fetched: %s", public(self.repository), ref, reason)
        return next((self._unfetched[ref] for ref in wanted if ref in self._unfetched), None)

    def _renew(self, fetch: Callable[[], object], git: Git) -> None:
        """Have a new folder filled by `fetch`, and put it in the place of the old one."""
        if self._broken:
            log.warning("the mirror %s is made anew: %s", self.folder, self._broken)
        self._lay_out(git)
        try:
            fetch()
        except GitError as error:
            if "mismatched algorithms" not in error.messages:
                raise
            self._lay_out(git, sha256=True)
            fetch()
        if self.folder.exists():
            os.rename(self.folder, name_of_old(self.folder))
        os.rename(self._new, self.folder)
        self._broken = None
        self._known.clear()

    def _lay_out(self, git: Git, sha256: bool = False) -> None:
        git.remove(self._new)
        files = empty_repository(self.repository, self.folder, bare=True, sha256=sha256)
        create(self._new, files, git.account)

    def _sweep(self, git: Git) -> None:
        """Delete what was left when git was killed: nobody else writes here now."""
        packs = self.folder / "objects" / "pack"
        locks = (self.folder / "refs").rglob("*.lock")
        files = [*packs.glob("tmp_*"), *packs.glob(".tmp-*"), *locks, *self.folder.glob("*.lock")]
        if files:
            git.delete(files)
        if self._new.exists():
            git.remove(self._new)

    @contextmanager
    def _writing(self, git: Git) -> Iterator[None]:
        upkeep = self._upkeep
        if upkeep:
            upkeep.give("a build needs the mirror", grace=0.0)
        while not self._lock.acquire(timeout=_LOCK_WAIT_SECONDS):
            git.check()
        try:
            yield
        finally:
            self._lock.release()


def _is_lasting(error: GitError) -> bool:
    """Tell whether a retry is of no use, of a repository that answers."""
    return is_corruption(error.messages) or is_final(error.messages)


def _refs_named(commit: str) -> list[str]:
    """The refs of a repository that a name as typed may mean, in the order in which they count."""
    name = _SUFFIX.sub("", commit)
    if name == "HEAD":
        return [name]
    own = [f"refs/heads/{name}", f"refs/tags/{name}"]
    if name.startswith("refs/"):
        return [name, *own]
    return [*own, f"refs/{name}"] if name.startswith(("heads/", "tags/")) else own
