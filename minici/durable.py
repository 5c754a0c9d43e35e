"""Files that survive a kill and a power cut, folders that have one owner, and a probe of the disk.

Section 4 of the contract relies on this module: all other modules write durable files through it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Optional, Union

PathLike = Union[str, "os.PathLike[str]"]
Data = Union[bytes, bytearray]

_READ_BYTES = 1024 * 1024
_PROBE_VALID_SECONDS = 1.0
_F_FULLFSYNC: Optional[int] = getattr(fcntl, "F_FULLFSYNC", None)  # macOS has it: see `sync`
_UNSUPPORTED = frozenset((errno.EINVAL, errno.ENOTSUP, errno.ENOTTY, errno.EOPNOTSUPP))


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; when this returns, the new content survives a power cut.

    A reader, also after a crash, finds the old content or the new one, never a part. A path may
    have only one writer at a time. Raises OSError; the old content is then still there.
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
    """Do the same as `write_atomic`, faster, for a file that is replaced again and again.

    The replaced file is kept as PATH.tmp for the next content, because creating a file costs more
    than writing it. A process must call `forget_spare` before its first call.
    """
    temporary, old = _spare_files(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
        sync(descriptor)
    finally:
        os.close(descriptor)
    with suppress(OSError):  # there is none yet, or the file system has no hard links
        os.link(path, old)
    os.replace(temporary, path)
    with suppress(OSError):
        os.replace(old, temporary)
    sync_folder(path.parent)


def forget_spare(path: Path) -> None:
    """Delete the spare files of `write_recycling`: after a power cut, one may be a second name of
    the file in use. Raises OSError."""
    for spare in _spare_files(path):
        spare.unlink(missing_ok=True)


def _spare_files(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".tmp"), path.with_name(path.name + ".old")


def read_whole(path: PathLike, flags: int = 0) -> bytes:
    """Return the content of a file; `flags` are added to those of `os.open`. Raises OSError.

    It makes half the system calls of `open`, and each of them may switch to another thread.
    """
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        pieces: list[bytes] = []
        while True:
            piece = os.read(descriptor, _READ_BYTES)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: Data) -> None:
    """Write all of `data`: a single write may be short when space runs out. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(descriptor: int) -> None:
    """Wait until what was written to the file, or the names in the folder, are on disk.
    Raises OSError.

    On macOS, `fsync` waits only for the drive's volatile cache; F_FULLFSYNC waits for the disk,
    but some file systems lack it.
    """
    if _F_FULLFSYNC is not None:
        try:
            fcntl.fcntl(descriptor, _F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
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
    """Another living process owns the folder. `owner` is its own description of itself."""

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(f"{folder} is in use by another process ({owner or 'unknown'})")
        self.folder = folder
        self.owner = owner


class FolderLock:
    """The lock on the file `lock` of a folder, held by one process for as long as it lives.

    The kernel releases it when the process ends, however it ends: nothing is left to clean up
    after a kill. Child processes do not inherit it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: Optional[int] = None

    def acquire(self) -> None:
        """Take the lock, without waiting. Raises FolderLocked, OSError."""
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
        """Release the lock, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class WritableProbe:
    """Calls `probe`, which raises OSError, for one caller at a time. Any thread may call it.

    Whoever had to wait for another's result gets that one, if it is a second old at most.
    """

    def __init__(
        self, probe: Callable[[], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()  # held while the disk is probed; guards what follows
        self._error: Optional[OSError] = None
        self._valid_until = 0.0

    def check(self) -> None:
        """Raise OSError unless the disk could be written within the last second."""
        with self._lock:
            if self._clock() >= self._valid_until:
                self._error = self._look()
                self._valid_until = self._clock() + _PROBE_VALID_SECONDS
            error = self._error
        if error is not None:
            raise OSError(error.errno, error.strerror or str(error))

    def doubt(self) -> None:
        """Wait until no probe is under way, and have the next check probe anew."""
        with self._lock:
            self._valid_until = 0.0

    def confirm(self) -> None:
        """Note that the disk was written: a failure that was found before is out of date."""
        if self._error is not None:
            self.doubt()

    def _look(self) -> Optional[OSError]:
        try:
            self._probe()
        except OSError as error:
            return error
        return None
