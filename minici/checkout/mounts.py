"""File systems that a build has mounted in its working tree.

Whoever cleans or removes a folder looks here first: what is mounted in it belongs elsewhere. See
rule 23 of section 5 of the contract.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from minici.durable import read_whole

_TABLE = "/proc/self/mountinfo"  # of Linux


def mounts_in(folder: Path) -> list[str]:
    """The mount points in a folder, which may be one itself; bind mounts of its own file system
    are among them where the system has a table of mounts."""
    if not os.path.lexists(folder):
        return []
    try:
        table = read_whole(_TABLE)
    except OSError:
        return _other_devices(folder)
    real = os.fsencode(os.path.join(os.path.realpath(folder.parent), folder.name))
    points = (_unescaped(line.split(b" ", 5)[4]) for line in table.splitlines())
    below = real + b"/"
    return [os.fsdecode(each) for each in points if each == real or each.startswith(below)]


def _unescaped(point: bytes) -> bytes:
    if b"\\" not in point:
        return point
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), point)


def _other_devices(folder: Path) -> list[str]:
    device = os.lstat(folder.parent).st_dev
    found = []
    for path, folders, _ in os.walk(folder):
        if os.lstat(path).st_dev != device:
            found.append(path)
            folders.clear()
    return found
