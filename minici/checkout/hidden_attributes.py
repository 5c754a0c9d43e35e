"""Attributes of files and folders that their mode does not show, on Linux: access lists, which new
files inherit, other extended attributes, and the flags of chattr(1).

A fresh clone has none, and git passes over those of the folders that it finds.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import Optional

_GET_FLAGS = 0x80086601 if sys.maxsize > 2**32 else 0x80046601  # FS_IOC_GETFLAGS: ioctl_iflags(2)
_LOCKED = 0x10 | 0x20  # immutable, append-only
_NAMES = ("system.posix_acl_", "user.")  # all others are the file system's own


def find_hidden_attributes(tree: str) -> Optional[str]:
    """The first folder of a tree that has some, but for its `.git`. Raises OSError."""
    waiting = [tree]
    while waiting:
        folder = waiting.pop()
        if has_hidden_attributes(folder):
            return folder
        with os.scandir(folder) as entries:
            inner = [each for each in entries if each.is_dir(follow_symlinks=False)]
        waiting += [each.path for each in inner if each.name != ".git"]
    return None


def has_hidden_attributes(path: str) -> bool:
    """Tell whether a file or folder has some. Raises OSError."""
    if sys.platform != "linux":
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return _is_listed(descriptor) or _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_listed(descriptor: int) -> bool:
    try:
        return any(name.startswith(_NAMES) for name in os.listxattr(descriptor))
    except OSError:  # a file system without them
        return False


def _is_locked(descriptor: int) -> bool:
    try:
        flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
    except OSError:  # a file system without them
        return False
    return int.from_bytes(flags[:4], sys.byteorder) & _LOCKED != 0
