"""The git repository in which a person stands."""

from __future__ import annotations

import os
import subprocess
from typing import NamedTuple, Optional


class NotHere(Exception):
    """There is no clone here, or it has no such commit."""


class Commit(NamedTuple):
    hash: str
    author: str
    subject: str


def head() -> tuple[str, Optional[str]]:
    """HEAD's full hash and its branch's full name, None where HEAD is detached.

    Raises NotHere outside of a clone, and in one without a commit.
    """
    found = resolve("HEAD")
    try:
        return found, _git("symbolic-ref", "--quiet", "HEAD") or None
    except NotHere:
        return found, None


def resolve(name: str) -> str:
    """The full hash of a commit. Raises NotHere."""
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except NotHere as error:
        raise NotHere(str(error) or "no such commit in this clone") from None


def can_be_fetched(commit: str, repository: str) -> bool:
    """Tell if a server's repository probably has a commit of this clone, as far as can be seen.

    A repository of this host is asked. Of others, the clone knows what its remotes had when they
    were last fetched from or pushed to; one without remotes knows nothing, and is believed.
    """
    if os.path.isdir(repository):
        return _run("-C", repository, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0
    try:
        pushed = _git("branch", "--remotes", "--contains", commit, "--format=%(refname)")
        return bool(pushed) or not _git("remote")
    except NotHere:
        return True


def is_shallow() -> bool:
    return _git("rev-parse", "--is-shallow-repository") == "true"


def is_ancestor(first: str, last: str) -> bool:
    return _run("merge-base", "--is-ancestor", first, last).returncode == 0


def line_between(good: str, bad: str) -> list[str]:
    """The hashes behind `good` up to `bad`, along the first parents, oldest first."""
    return _git("rev-list", "--first-parent", "--reverse", f"{good}..{bad}").split()


def parents(commit: str) -> list[str]:
    return _git("rev-list", "--parents", "--max-count=1", commit).split()[1:]


def describe(commit: str) -> Commit:
    found = _git("show", "--no-patch", "--format=%H%n%an <%ae>%n%s", commit).split("\n")
    return Commit(*found[:3])


def _run(*words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *words], capture_output=True, check=False)
    except OSError as error:
        raise NotHere(f"git can't be run: {error.strerror}") from None


def _git(*words: str) -> str:
    done = _run(*words)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
        raise NotHere(said[7:] if said.startswith("fatal: ") else said)
    return done.stdout.decode("utf-8", "replace").strip()
