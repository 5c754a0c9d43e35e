"""A cheap look at a repository on this host, by the times of the folders that hold its refs.

Asking git costs two processes a look; a person's own clone is looked at every second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Callable, Optional

# Git replaces a ref by renaming a file, which changes its folder. A change within this time may
# leave no trace behind an earlier one: file systems keep times in ticks.
_TICK_NS = 2_000_000_000
_FOLDERS = ("refs/heads", "refs/tags")
_PACKED = "packed-refs"

Stamp = tuple[tuple[str, int], ...]


class LocalRefs:
    """The folders that hold a repository's refs. For one thread."""

    def __init__(self, repository: str, now: Callable[[], int] = time.time_ns) -> None:
        self._repository = repository
        self._now = now
        self._below: dict[str, tuple[int, tuple[str, ...]]] = {}  # changed when; folders in it

    def stamp(self) -> Optional[Stamp]:
        """Return what is another one after any change of a branch or tag.

        None where nobody can tell: the repository is not on this host, has changed just now, or
        keeps its refs in another way.
        """
        folder = _git_folder(self._repository)
        if folder is None:
            return None
        before = self._now() - _TICK_NS
        try:
            found = [(_PACKED, _changed(os.path.join(folder, _PACKED)))]
            found += self._walk([os.path.join(folder, name) for name in _FOLDERS], before)
        except OSError:
            return None
        return tuple(found) if all(changed <= before for _, changed in found) else None

    def _walk(self, folders: list[str], before: int) -> Iterator[tuple[str, int]]:
        """Yield the folders and all below them, each with its time.

        What is in a folder that has not changed since `before` is kept for the next walk.

        Without recursion: anybody may push a name that is some thousand folders deep.
        """
        earlier, self._below = self._below, {}
        while folders:
            folder = folders.pop()
            changed = _changed(folder)
            yield folder, changed
            known = earlier.get(folder)
            if known is None or known[0] != changed:
                with os.scandir(folder) as entries:
                    known = (
                        changed,
                        tuple(each.path for each in entries if each.is_dir(follow_symlinks=False)),
                    )
            if changed <= before:
                self._below[folder] = known
            folders.extend(known[1])


def _changed(path: str) -> int:
    """Return the time of a file or folder in nanoseconds; 0 if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _git_folder(repository: str) -> Optional[str]:
    """The folder in which a repository of this host keeps its refs, those of a worktree too."""
    if not os.path.isabs(repository):
        return None
    folder = os.path.join(repository, ".git")
    try:
        if os.path.isfile(folder):
            folder = os.path.join(repository, _line(folder).removeprefix("gitdir: "))
        elif not os.path.isdir(folder):
            folder = repository
        shared = os.path.join(folder, "commondir")
        if os.path.isfile(shared):
            folder = os.path.join(folder, _line(shared))
    except (OSError, ValueError):
        return None
    return folder if os.path.isfile(os.path.join(folder, "HEAD")) else None


def _line(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline().rstrip("\n")
