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


def mounts_in(*folders: Path) -> list[str]:
    """The mount points in folders, which may be some themselves; bind mounts of their own file
    system are among them where the system has a table of mounts."""
    try:
        table = read_whole(_TABLE)
    except OSError:
        return [each for folder in folders for each in _other_devices(folder)]
    parents = {each: os.path.realpath(each) for each in {folder.parent for folder in folders}}
    reals = [os.fsencode(f"{parents[folder.parent]}/{folder.name}") for folder in folders]
    readable = _unescaped(table)
    return [each for real in reals if real in readable for each in _listed(table, real)]


def _listed(table: bytes, real: bytes) -> list[str]:
    points = (_unescaped(line.split(b" ", 5)[4]) for line in table.splitlines())
    below = real + b"/"
    return [os.fsdecode(each) for each in points if each == real or each.startswith(below)]


def _unescaped(point: bytes) -> bytes:
    if b"\\" not in point:
        return point
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), point)


def _other_devices(folder: Path) -> list[str]:
    if not os.path.lexists(folder):
        return []
    device = os.lstat(folder.parent).st_dev
    found = []
    for path, folders, _ in os.walk(folder):
        if os.lstat(path).st_dev != device:
            found.append(path)
            folders.clear()
    return found
