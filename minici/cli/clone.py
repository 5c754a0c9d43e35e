"""The git repository in which a person stands."""

from __future__ import annotations

import subprocess
from typing import NamedTuple, Optional


class NotHere(Exception):
    """There is no clone here, or it has no such commit."""


class Commit(NamedTuple):
    hash: str
    author: str
    subject: str


def head() -> Optional[tuple[str, Optional[str]]]:
    """HEAD's full hash and its branch's full name, None where HEAD is detached. None outside of
    a clone, and in one without a commit."""
    try:
        found = resolve("HEAD")
    except NotHere:
        return None
    try:
        return found, _git("symbolic-ref", "--quiet", "HEAD") or None
    except NotHere:
        return found, None


def resolve(name: str) -> str:
    """The full hash of a commit. Raises NotHere."""
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")


def is_pushed(commit: str) -> bool:
    """Tell if a remote-tracking branch, as this clone knows them, holds a commit."""
    try:
        return bool(_git("branch", "--remotes", "--contains", commit, "--format=%(refname)"))
    except NotHere:
        return False


def has_remotes() -> bool:
    try:
        return bool(_git("remote"))
    except NotHere:
        return False


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
        raise NotHere(said or f"git {words[0]}: exit status {done.returncode}")
    return done.stdout.decode("utf-8", "replace").strip()
