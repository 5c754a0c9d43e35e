"""The submodules of a commit, and where they come from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from minici.checkout import index_file
from minici.checkout.git import Git, GitError
from minici.checkout.mirror import Mirror
from minici.checkout.working_tree import WorkingTree
from minici.reasons import Reason
from minici.validation import check_repository, public

_REMOTE = re.compile(r"(?!file:)[^/]+:", re.IGNORECASE)


@dataclass(frozen=True)
class Submodule:
    """A submodule at one commit; `path` is relative to the tree that it is in."""

    path: str
    repository: str
    revision: str


def submodules_of(tree: WorkingTree, mirror: Mirror, revision: str, git: Git) -> list[Submodule]:
    """The submodules of a tree that has just been checked out. Raises GitError, Interrupted."""
    entries = index_file.submodules(tree.index, tree.hash_size)
    settings = _settings(mirror, revision, git) if entries else {}
    found = []
    for entry in entries:
        path = os.fsdecode(entry.path)
        setting = settings.get(path, {})
        if setting.get("update") == "none":
            continue
        if "url" not in setting:
            raise _failure(path, Reason("submodule_unknown"))
        repository = absolute_url(mirror.repository, setting["url"])
        wrong = check_repository(repository)
        if wrong or (is_local(repository) and not is_local(mirror.repository)):
            raise _failure(path, wrong or Reason("submodule_local", url=public(repository)))
        found.append(Submodule(path, repository, entry.hash.hex()))
    return found


def absolute_url(outer: str, url: str) -> str:
    """The URL of a submodule; one that begins with ./ or ../ is relative to the repository's."""
    base = outer.rstrip("/")
    if not url.startswith(("./", "../")):
        return url
    separator = "/"
    while url.startswith(("./", "../")):
        if url.startswith("../"):
            separator = "/" if "/" in base else ":"
            base = base.rpartition(separator)[0]
        url = url.partition("/")[2]
    return f"{base}{separator}{url}".rstrip("/")


def is_local(repository: str) -> bool:
    """Tell whether a repository is a folder of this host."""
    return _REMOTE.match(repository) is None


def _settings(mirror: Mirror, revision: str, git: Git) -> dict[str, dict[str, str]]:
    """The settings in `.gitmodules`, by the path of the submodule."""
    blob = f"{revision}:.gitmodules"
    words = ("config", "-z", "--blob", blob, "--get-regexp", r"^submodule\..*\.(path|url|update)$")
    try:
        said = git(f"--git-dir={mirror.folder}", *words, folder=mirror.folder)
    except GitError:
        return {}  # there is no such file, or nothing in it
    by_name: dict[str, dict[str, str]] = {}
    for line in os.fsdecode(said).split("\0"):
        key, _, value = line.partition("\n")
        name, _, setting = key.rpartition(".")
        by_name.setdefault(name, {})[setting] = value
    return {each["path"]: each for each in by_name.values() if "path" in each}


def _failure(path: str, reason: str) -> GitError:
    return GitError(Reason("submodule_failed", submodule=path, reason=reason))
