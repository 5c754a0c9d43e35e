"""Seals: whether anything has come into a working tree, or gone, since it was checked out.

What comes into a folder or leaves it changes the folder's times. Their clock stands still for some
milliseconds at a time, and a quick command would go unseen: so a sealed folder is dated back by a
nanosecond, and whatever happens to it afterwards gives it another date.

A seal says nothing of what stands in files: git finds that out by itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Optional

_GIT = ".git"  # of the tree: a command may do in there what it likes


class _Place(NamedTuple):
    """A folder, or the index, as it was when it was sealed."""

    mode: int
    device: int
    inode: int
    names: int  # its own, its `.`, and in most file systems the `..` of each folder in it
    changed: int  # ns, and out of anybody's reach
    dated: int  # ns


_Places = Mapping[str, tuple[_Place, list[str]]]


class Seal:
    """The folders of a working tree, and its index, as they were when it was sealed.

    For one thread. Nothing that a build has started may live while a tree is sealed or looked at.
    """

    def __init__(self, places: _Places) -> None:
        self._places = places

    @classmethod
    def of(cls, tree: Path, index: Path, before: Optional[Seal] = None) -> Optional[Seal]:
        """Seal a tree, whose files are those of the index; None where that can't be done.

        What is still as it was in the seal `before` is not read again.
        """
        try:
            return cls(_seal(str(tree), str(index), before._places if before else {}))
        except (OSError, OverflowError):  # of a date that can't be set, too
            return None

    def unbroken(self) -> bool:
        """Whether nothing has come or gone: all that is there was checked out."""
        try:
            return all(_look(path) == sealed for path, (sealed, _) in self._places.items())
        except OSError:
            return False


def _seal(tree: str, index: str, before: _Places) -> _Places:
    counts, device = _counts_folders(tree), _look(tree).device
    places: dict[str, tuple[_Place, list[str]]] = {}
    waiting = [tree, index]
    while waiting:
        path = waiting.pop()
        found, (sealed, inner) = _look(path), before.get(path, (None, []))
        if found.device != device:
            raise OSError(f"{path} is another file system")
        if found != sealed:
            leaf = path == index or (counts and found.names == 2)
            sealed, inner = _date_back(path, found), [] if leaf else _folders_in(path)
        places[path] = (sealed, inner)
        waiting += inner
    return places


def _counts_folders(tree: str) -> bool:
    """Whether a folder's names tell how many folders are in it, as those of this one do. It has
    one at least, `.git`; so a file system that gives each the same number is found out."""
    inner = [*_folders_in(tree), _GIT]
    return _look(tree).names == 2 + len(inner)


def _folders_in(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [each.path for each in entries if _is_folder(each) and each.name != _GIT]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _date_back(path: str, found: _Place) -> _Place:
    """Date something a nanosecond before its last change. Raises OSError where that is not what
    comes of it: a file system that counts in seconds would be too easily deceived."""
    os.utime(path, ns=(found.dated, found.dated - 1))
    sealed = _look(path)
    if sealed.dated != found.dated - 1 or sealed.dated >= sealed.changed:
        raise OSError(f"{path} keeps no such date")
    return sealed


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
