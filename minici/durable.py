"""Files that survive a kill and a power cut, and folders that have one owner.

Who writes here decides what is safe on disk; see section 4 of the contract.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Optional, Union

PathLike = Union[str, "os.PathLike[str]"]

_PIECE = 1024 * 1024  # bytes that are asked of the system in one go
_TO_THE_DISK: Optional[int] = getattr(fcntl, "F_FULLFSYNC", None)  # macOS has it: see `sync`
_NOT_KNOWN_HERE = frozenset((errno.EINVAL, errno.ENOTSUP, errno.ENOTTY, errno.EOPNOTSUPP))


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; when this returns, the new content survives a power cut.

    A reader, and whoever comes after a crash, finds the old content or the new one, never a
    part. One writer a path at a time. Raises OSError; the old content is then still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(descriptor, data)
        sync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_recycling(path: Path, data: bytes) -> None:
    """As `write_atomic`, for a file that is replaced again and again: what is replaced becomes
    the file for the next content, `path` with ".tmp" at its end.

    To make a file costs more than to write it. Before the first call of a process, `forget_spare`.
    """
    temporary, old = _spare(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
        sync(descriptor)
    finally:
        os.close(descriptor)
    with suppress(OSError):  # there is none yet, or the file system knows no second names
        os.link(path, old)
    os.replace(temporary, path)
    with suppress(OSError):
        os.replace(old, temporary)
    sync_folder(path.parent)


def forget_spare(path: Path) -> None:
    """Have the next `write_recycling` make a new file: after a power cut the spare one may be
    the one in use, under a second name. Raises OSError."""
    for spare in _spare(path):
        spare.unlink(missing_ok=True)


def _spare(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".tmp"), path.with_name(path.name + ".old")


def read_whole(path: PathLike, flags: int = 0) -> bytes:
    """Read a file with half the system calls of `open`, each of which lets another thread in;
    `flags` are added to those of `os.open`. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        pieces: list[bytes] = []
        while True:
            piece = os.read(descriptor, _PIECE)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte of `data`: a single write may stop short when space runs out."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(descriptor: int) -> None:
    """Wait until what was written to the file, or the names in the folder, are on disk.
    Raises OSError.

    On macOS, `fsync` waits only until the drive has it in a memory of its own, which a power cut
    empties; what waits for the disk has another name there, and some file systems lack it.
    """
    if _TO_THE_DISK is not None:
        try:
            fcntl.fcntl(descriptor, _TO_THE_DISK)
            return
        except OSError as error:
            if error.errno not in _NOT_KNOWN_HERE:
                raise
    os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """Wait until the content of the file is on disk. Raises OSError."""
    _sync(path, os.O_RDWR)


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder are on disk. Raises OSError."""
    _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


class FolderLocked(Exception):
    """Another living process owns the folder. `owner` is what it wrote about itself."""

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(f"{folder} is in use by another process ({owner or 'unknown'})")
        self.folder = folder
        self.owner = owner


class FolderLock:
    """The file `lock` of a folder, held by one process for as long as it lives.

    The kernel lets go of it when the process ends, however it ends: nothing is left to clean
    up after a kill. What a process starts does not inherit it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: Optional[int] = None

    def acquire(self) -> None:
        """Take the lock or raise FolderLocked at once; OSError if the file can't be opened."""
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 100).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise FolderLocked(self._folder, owner) from None
        os.ftruncate(descriptor, 0)
        write_all(descriptor, b"process %d\n" % os.getpid())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock. Harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
