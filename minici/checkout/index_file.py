"""Reading git's index, for what would cost a process if git were asked. Pure.

The format is version 2 or 3 of gitformat-index(5); `git.py` sees to that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

ATTRIBUTES = b".gitattributes"
SUBMODULE = 0o160000

_HEADER = 12  # bytes
_STATUS = 40  # bytes of an entry before its hash: times, mode, owner, size
_EXTENDED = 0x40  # in the first byte of the flags: two more bytes of them follow
_FILE_MODES = (0o100644, 0o100755)


class Entry(NamedTuple):
    mode: int
    hash: bytes
    path: bytes
    changed: int  # its file: ns since 1970

    def is_outdated(self, file: os.stat_result) -> bool:
        """Tell whether a file was changed since git has looked at it, if git keeps nanoseconds."""
        return self.changed % 10**9 != 0 and file.st_ctime_ns != self.changed


def entries(index: bytes, hash_size: int) -> Iterator[Entry]:
    """All that is in an index. Raises ValueError if it can't be read."""
    if index[:4] != b"DIRC" or index[4:8] not in (b"\0\0\0\2", b"\0\0\0\3"):
        raise ValueError("not an index of version 2 or 3")
    place = _HEADER
    for _ in range(int.from_bytes(index[8:12], "big")):
        entry, place = _entry(index, place, hash_size)
        yield entry


def attributes(index: bytes, hash_size: int) -> str:
    """A word that differs for two indexes if a `.gitattributes` in them does; empty if there is
    none. Raises ValueError."""
    if ATTRIBUTES + b"\0" not in index:
        return ""
    found = [each[:3] for each in entries(index, hash_size) if each.path.endswith(ATTRIBUTES)]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def submodules(index: bytes, hash_size: int) -> list[Entry]:
    """The submodules in an index. Raises ValueError."""
    if not may_have_submodules(index):
        return []
    return [each for each in entries(index, hash_size) if each.mode == SUBMODULE]


def may_have_submodules(index: bytes) -> bool:
    """Tell whether the mode of a submodule stands anywhere in an index."""
    return SUBMODULE.to_bytes(4, "big") in index


def changed_at(index: bytes, second: int, hash_size: int) -> list[Entry]:
    """The files that were last changed in one second, in seconds since 1970."""
    found: list[Entry] = []
    place = _HEADER
    pattern = (second & 0xFFFFFFFF).to_bytes(4, "big")
    while True:
        place = index.find(pattern, place)
        if place < 0:
            return found
        mode = int.from_bytes(index[place + 24 : place + 28], "big")
        if (place - _HEADER) % 8 == 0 and mode in _FILE_MODES:
            entry, place = _entry(index, place, hash_size)
            found.append(entry)
        else:
            place += 1


def _entry(index: bytes, place: int, hash_size: int) -> tuple[Entry, int]:
    """The entry that begins at a place, and the place of the next."""
    flags = place + _STATUS + hash_size
    path = flags + (4 if index[flags] & _EXTENDED else 2)
    end = index.index(b"\0", path)
    mode = int.from_bytes(index[place + 24 : place + 28], "big")
    seconds, fraction = (int.from_bytes(index[place + i : place + i + 4], "big") for i in (0, 4))
    changed = seconds * 10**9 + fraction
    entry = Entry(mode, index[place + _STATUS : flags], index[path:end], changed)
    return entry, place + (end - place + 8) // 8 * 8
