"""Snapshots of a working tree: has anything come into it, or gone, since it was checked out?

A name that comes or goes changes the folder's times. Their clock stands still for some milliseconds
at a time, and a quick command would go unseen: so each folder is dated back by a nanosecond when
the snapshot is taken, and whatever happens to it afterwards gives it another date.

A snapshot says nothing of the content of files: git finds that out by itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Optional

_GIT = ".git"  # of the tree: a command may do in there what it likes


class _Place(NamedTuple):
    """A folder, or the index, at the time of the snapshot."""

    mode: int
    device: int
    inode: int
    names: int  # its own, its `.`, and in most file systems the `..` of each folder in it
    changed: int  # ns, and out of anybody's reach
    dated: int  # ns


_Places = Mapping[str, tuple[_Place, list[str]]]


class TreeSnapshot:
    """The folders of a working tree, and its index, as they were at one time.

    For one thread. No process of a build may live while a snapshot is taken or compared.
    """

    def __init__(self, places: _Places) -> None:
        self._places = places

    @classmethod
    def of(
        cls, tree: Path, index: Path, before: Optional[TreeSnapshot] = None
    ) -> Optional[TreeSnapshot]:
        """Take a snapshot of a tree whose files are those of the index; None if it can't be taken.

        Folders that are still as in the snapshot `before` are not read again.
        """
        try:
            return cls(_take(str(tree), str(index), before._places if before else {}))
        except (OSError, OverflowError):  # OverflowError: a date that can't be set
            return None

    def is_current(self) -> bool:
        """Tell whether nothing has come or gone: all that is there was checked out."""
        try:
            return all(_look(path) == place for path, (place, _) in self._places.items())
        except OSError:
            return False


def _take(tree: str, index: str, before: _Places) -> _Places:
    counts, device = _counts_folders(tree), _look(tree).device
    places: dict[str, tuple[_Place, list[str]]] = {}
    waiting = [tree, index]
    while waiting:
        path = waiting.pop()
        found, (known, inner) = _look(path), before.get(path, (None, []))
        if found.device != device:
            raise OSError(f"{path} is another file system")
        if found != known:
            leaf = path == index or (counts and found.names == 2)
            known, inner = _date_back(path, found), [] if leaf else _folders_in(path)
        places[path] = (known, inner)
        waiting += inner
    return places


def _counts_folders(tree: str) -> bool:
    """Tell whether a folder has one name for each folder in it, and two more, as this one does. It
    has one at least, `.git`; so a file system that gives each the same number is found out."""
    inner = [*_folders_in(tree), _GIT]
    return _look(tree).names == 2 + len(inner)


def _folders_in(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [each.path for each in entries if _is_folder(each) and each.name != _GIT]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _date_back(path: str, found: _Place) -> _Place:
    """Date something a nanosecond before its last change. Raises OSError on a file system that
    does not keep such dates: one that counts in seconds would be too easily deceived."""
    os.utime(path, ns=(found.dated, found.dated - 1))
    dated = _look(path)
    if dated.dated != found.dated - 1 or dated.dated >= dated.changed:
        raise OSError(f"{path} keeps no such date")
    return dated


def _look(path: str) -> _Place:
    status = os.lstat(path)
    return _Place(
        status.st_mode,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
        status.st_ctime_ns,
        status.st_mtime_ns,
    )
