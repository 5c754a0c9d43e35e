"""Fetching from a repository into the git folder of a mirror.

Branches stand in refs/remotes/origin/ there, as in a clone, and the repository's HEAD in
refs/minici/HEAD. See rule 22 of section 5 of the contract.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from minici.checkout.git import Git, GitError
from minici.checkout.messages import breakage
from minici.reasons import Reason

HEAD = "refs/minici/HEAD"

_REFSPECS = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
_REFS_PER_CALL = 200  # as many as fit into one command line
_FAILURES = 50  # calls that fail before the repository as a whole counts as unreadable
_RETRY_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.5

log = logging.getLogger(__name__)


class Retry:
    """The pauses between the tries of one fetch, for a minute in all from the first failure on."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._began: Optional[float] = None
        self._seconds = _FIRST_PAUSE_SECONDS
        self.failures = 0

    def pause(self, error: GitError) -> None:
        """Wait before the next try; each pause is twice the last. Raises `error` if the minute or
        the build's time would be over before it; Interrupted."""
        now = time.monotonic()
        self._began = self._began or now
        self.failures += 1
        left = self._began + _RETRY_SECONDS - now
        if left <= 0 or not self._git.has_time_for(min(self._seconds, left)):
            if self.failures == 1:
                raise error
            seconds = max(1, round(now - self._began))
            raise GitError(
                Reason("tried", reason=str(error), count=self.failures, seconds=seconds),
                error.messages,
            )
        self._git.say(f"{error}; trying again in {min(self._seconds, left):g} s")
        self._git.pause(min(self._seconds, left))
        self._seconds *= 2


def fetch_all(folder: Path, repository: str, git: Git) -> str:
    """Fetch all branches, tags and HEAD. Returns git's messages. Raises GitError, Interrupted."""
    words = ("--prune", "--end-of-options", repository, *_REFSPECS)
    try:
        said = git.fetch(*words, f"+HEAD:{HEAD}", folder=folder)
    except GitError as error:
        if "remote ref HEAD" not in error.messages:
            raise
        # Its HEAD names a branch that has no commit yet.
        said = git.fetch(*words, folder=folder)
        git(f"--git-dir={folder}", "update-ref", "-d", HEAD, folder=folder)
    _pack_refs(folder, git)
    return said


def fetch_each(
    folder: Path, repository: str, refs: Mapping[str, str], git: Git
) -> dict[str, GitError]:
    """Fetch what can be fetched of `refs`, which are all that the repository has.

    Returns those that can't, with the reasons: one of them makes `fetch_all` fail for all. What
    has gone at the repository, or can't be fetched, goes here too. Raises GitError, Interrupted.
    """
    own = local_refs(folder, git)
    gone = set(own) - {local_name(ref) for ref in refs}
    _delete_refs(folder, [ref for ref in gone if _is_fetched(ref)], git)
    new = [ref for ref, revision in refs.items() if own.get(local_name(ref)) != revision]
    waiting = [new[n : n + _REFS_PER_CALL] for n in range(0, len(new), _REFS_PER_CALL)]
    failed: dict[str, GitError] = {}
    failures = 0
    while waiting:
        some = waiting.pop()
        refspecs = (f"+{ref}:{local_name(ref)}" for ref in some)
        try:
            git.fetch("--end-of-options", repository, *refspecs, folder=folder)
        except GitError as error:
            failures += 1
            if failures == _FAILURES:
                raise
            if len(some) == 1:
                failed[some[0]] = error
            else:
                waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
    _delete_refs(folder, [local_name(ref) for ref in failed if local_name(ref) in own], git)
    _pack_refs(folder, git)
    return failed


def remote_refs(repository: str, folder: Path, git: Git) -> dict[str, str]:
    """Ask a repository for its branches, tags and HEAD, each with its hash. Raises GitError."""
    words = ("ls-remote", "--quiet", "--end-of-options", repository, "HEAD", "refs/*")
    said = git(*words, folder=folder)
    refs = _refs_listed(said)
    wanted = ("refs/heads/", "refs/tags/")
    return {
        ref: revision
        for ref, revision in refs.items()
        if ref == "HEAD" or (ref.startswith(wanted) and not ref.endswith("^{}"))
    }


def local_refs(folder: Path, git: Git) -> dict[str, str]:
    """The refs of a mirror, each with its hash. Raises GitError."""
    words = ("for-each-ref", "--format=%(objectname)%09%(refname)")
    return _refs_listed(git(f"--git-dir={folder}", *words, folder=folder))


def find_breakage(folder: Path, git: Git, thorough: bool = True) -> Optional[str]:
    """Have git look for damage in a mirror: what it finds, or None if the mirror is sound.

    If not `thorough`, only its settings and its refs are read, which takes milliseconds.
    """
    try:
        local_refs(folder, git)
        if thorough:
            git.fsck(folder)
        return None
    except GitError as error:
        return str(error) if breakage(error.messages) else None


def _refs_listed(lines: bytes) -> dict[str, str]:
    pairs = (line.partition("\t") for line in os.fsdecode(lines).split("\n") if line)
    return {ref: revision for revision, _, ref in pairs}


def local_name(ref: str) -> str:
    """The name in a mirror of a ref of the repository."""
    if ref == "HEAD":
        return HEAD
    branch = "refs/heads/"
    return f"refs/remotes/origin/{ref[len(branch) :]}" if ref.startswith(branch) else ref


def _is_fetched(ref: str) -> bool:
    return ref == HEAD or ref.startswith(("refs/remotes/origin/", "refs/tags/"))


def _delete_refs(folder: Path, refs: Sequence[str], git: Git) -> None:
    calls = [(f"--git-dir={folder}", "update-ref", "-d", ref) for ref in refs]
    git.sequence(calls, folder=folder)


def _pack_refs(folder: Path, git: Git) -> None:
    if any(files for _, _, files in os.walk(folder / "refs")):
        git(f"--git-dir={folder}", "pack-refs", "--all", folder=folder)
