"""Seals: whether anything has come into a working tree, or gone, since it was checked out.

What comes into a folder or leaves it changes the folder's times. Their clock stands still for some
milliseconds at a time, and a quick command would go unseen: so a sealed folder is dated back by a
nanosecond, and whatever happens to it afterwards gives it another date.

A seal says nothing of what stands in files: git finds that out by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional

_GIT = ".git"  # of the tree: a command may do in there what it likes


class _Folder(NamedTuple):
    """A folder as it was when it was sealed."""

    mode: int
    device: int
    inode: int
    names: int  # its own, its `.`, and in most file systems the `..` of each folder in it
    changed: int  # ns, and out of anybody's reach
    dated: int  # ns


class Seal:
    """The folders of a working tree as they were when it was sealed.

    For one thread. Nothing that a build has started may live while a tree is sealed or looked at.
    """

    def __init__(self, folders: dict[str, tuple[_Folder, list[str]]]) -> None:
        self._folders = folders

    @classmethod
    def of(cls, tree: Path, before: Optional[Seal] = None) -> Optional[Seal]:
        """Seal a tree; None where that can't be done, on a file system that keeps no such dates.

        A folder that is still as it was in the seal `before` is not read again.
        """
        known = before._folders if before else {}
        folders: dict[str, tuple[_Folder, list[str]]] = {}
        waiting = [str(tree)]
        try:
            counts = _counts_folders(str(tree))
            while waiting:
                path = waiting.pop()
                found, (sealed, inner) = _look(path), known.get(path, (None, []))
                if found != sealed:
                    leaf = counts and found.names == 2
                    sealed, inner = _date_back(path, found), [] if leaf else _folders_in(path)
                if sealed is None:
                    return None
                folders[path] = (sealed, inner)
                waiting += inner
        except OSError:
            return None
        return cls(folders)

    def unbroken(self) -> bool:
        """Whether nothing has come or gone: all that is there was checked out."""
        try:
            return all(_look(path) == sealed for path, (sealed, _) in self._folders.items())
        except OSError:
            return False


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


def _date_back(path: str, found: _Folder) -> Optional[_Folder]:
    """Date a folder a nanosecond, or as little as its file system knows, before its last change;
    None where it keeps its date."""
    os.utime(path, ns=(found.dated, found.dated - 1))
    sealed = _look(path)
    return sealed if sealed.dated < found.dated else None


def _look(path: str) -> _Folder:
    status = os.lstat(path)
    return _Folder(
        status.st_mode,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
        status.st_ctime_ns,
        status.st_mtime_ns,
    )
