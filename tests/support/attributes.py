"""Attributes of files and folders that their mode does not show, as builds leave them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20  # tags of entries: acl(5)
_NOBODY = 0xFFFFFFFF
_SOMEBODY = 12345


def set_access_list(path: Path, kind: str, group: int, other: int) -> None:
    """Give a file or folder an access list, with an entry for another user. Raises OSError."""
    entries = [
        (_OWNER, 7 if path.is_dir() else 6, _NOBODY),
        (_USER, group, _SOMEBODY),
        (_GROUP, group, _NOBODY),
        (_MASK, group, _NOBODY),
        (_OTHER, other, _NOBODY),
    ]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    set_attribute(path, f"system.posix_acl_{kind}", data)


def set_attribute(path: Path, name: str, data: bytes = b"x") -> None:
    if sys.platform == "linux":
        os.setxattr(path, name, data)


def lock(path: Path, flag: str) -> None:
    """Make a file or folder immutable (`i`) or append-only (`a`), where this is allowed."""
    subprocess.run(["chattr", f"+{flag}", str(path)], stderr=subprocess.DEVNULL, check=False)


def unlock_all(folder: Path) -> None:
    words = ["chattr", "-R", "-i", "-a", str(folder)]
    subprocess.run(words, stderr=subprocess.DEVNULL, check=False)
