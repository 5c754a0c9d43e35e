"""The files that a command has left, from its end until the server has them: rule 19.

    files/NUMBER     the content of a file, in the folder of a build that has ended
    files/0          those of small files, one behind the other: each would cost an fsync
    files.json       its path and size, and what was left out

They are moved out of the command's folder by descriptors of folders, so that no link is followed,
whoever makes one meanwhile; only a small file, and one that has another name, is copied. Nothing
but regular files is opened.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from minici import reasons
from minici.durable import sync_file, sync_folder, write_all, write_atomic
from minici.process.account import Account
from minici.reasons import Reason
from minici.thread_pool import for_each
from minici.validation import MOST_FILES, MOST_NAMED_FILES, check_file_path

_SMALL_BYTES = 64 * 1024  # up to this size, a copy costs less than an fsync
_FILES = "files"
_LISTING = "files.json"
_SYNCING_THREADS = 8
_COPIED_BYTES = 1024 * 1024  # in one go
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_KINDS = (
    (stat.S_ISLNK, "file_link"),
    (stat.S_ISSOCK, "file_socket"),
    (stat.S_ISFIFO, "file_pipe"),
)


@dataclass(frozen=True)
class KeptFile:
    """A file that waits to be sent. `number` is its name in its folder, in which it begins at byte
    `start`; `size` is in bytes."""

    path: str
    size: int
    number: int
    start: int = 0

    @property
    def is_small(self) -> bool:
        return self.size <= _SMALL_BYTES


@dataclass(frozen=True)
class KeptFiles:
    """The files of a build, and the first of what was left out, by path, with the reasons."""

    folder: Path
    files: Sequence[KeptFile] = ()
    left_out: Sequence[tuple[str, str]] = ()
    left_count: int = 0


def keep_files(source: Path, build: Path, limit: int, account: Optional[Account]) -> None:
    """Move the files below `source` into the folder of a build; they survive a power cut.

    At most `limit` bytes of them; whatever can't be kept is named. Raises OSError where that can't
    be written.
    """
    try:
        root = os.open(source, _FOLDER_FLAGS)
    except FileNotFoundError:
        return None
    except OSError:
        return _write_listing(build, [], [("MINICI_ARTIFACTS", Reason("file_link"))], 1)
    try:
        if not os.listdir(root):
            return None
        (build / _FILES).mkdir(mode=0o700)
        target = os.open(build / _FILES, _FOLDER_FLAGS)
        try:
            collector = _Collector(target, limit, account)
            collector.collect(root, "")
        finally:
            os.close(target)
    finally:
        os.close(root)
    files = collector.files
    numbers = {file.number for file in files}
    for_each(lambda number: sync_file(build / _FILES / str(number)), numbers, _SYNCING_THREADS)
    sync_folder(build / _FILES)
    return _write_listing(build, files, collector.left_out, collector.left_count)


def read_kept_files(build: Path) -> KeptFiles:
    """The files that wait in the folder of a build. Raises OSError."""
    try:
        record = json.loads((build / _LISTING).read_bytes())
        return KeptFiles(
            build / _FILES,
            [KeptFile(str(path), *map(int, place)) for path, *place in record["files"]],
            [(each["path"], _reason(each)) for each in record["left_out"]],
            int(record["left_count"]),
        )
    except FileNotFoundError:
        return KeptFiles(build / _FILES)
    except (ValueError, TypeError, KeyError) as error:  # the result goes without
        reason = Reason("file_unreadable", error=str(error))
        return KeptFiles(build / _FILES, (), [("MINICI_ARTIFACTS", reason)], 1)


def left_out_json(left_out: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The files that were left out, as records and `/notify_build_result` have it."""
    found = []
    for path, reason in left_out:
        key, values = reasons.to_json(reason)
        found.append({"path": path, "reason": reason, "key": key, "values": values})
    return found


def _reason(record: dict[str, Any]) -> str:
    return reasons.from_json(record["reason"], record.get("key"), record.get("values")) or ""


def _write_listing(
    build: Path,
    files: Sequence[KeptFile],
    left_out: Sequence[tuple[str, str]],
    left_count: int,
) -> None:
    record = {
        "files": [(each.path, each.size, each.number, each.start) for each in files],
        "left_out": left_out_json(left_out),
        "left_count": left_count,
    }
    write_atomic(build / _LISTING, json.dumps(record).encode("ascii"))


class _Collector:
    """Moves files, in the order of their paths, to the folder with descriptor `target`."""

    def __init__(self, target: int, limit: int, account: Optional[Account]) -> None:
        self._target = target
        self._limit = limit
        self._account = account
        self._left = limit  # bytes
        self._last_number = 0
        self._packed = 0  # bytes of small files
        self.files: list[KeptFile] = []
        self.left_out: list[tuple[str, str]] = []
        self.left_count = 0

    def collect(self, folder: int, prefix: str) -> None:
        """Take in a folder that is open, whose files' paths begin with `prefix`."""
        with suppress(OSError):  # another user's
            os.fchmod(folder, 0o700)  # its files are to leave it
        found = []
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
        for name, state in sorted(found, key=_place):
            path = prefix + name
            try:
                reason = self._take(folder, name, path, state)
            except OSError as error:
                reason = Reason("file_unreadable", error=error.strerror or str(error))
            if reason:
                self._leave_out(path, reason)

    def _take(self, folder: int, name: str, path: str, state: os.stat_result) -> Optional[Reason]:
        """Take in a file or a folder; return why it can't be kept."""
        wrong = check_file_path(path)
        if wrong:
            return wrong
        if stat.S_ISDIR(state.st_mode):
            below = _open(folder, name, _FOLDER_FLAGS, 0o700)
            try:
                self.collect(below, path + "/")
            finally:
                os.close(below)
            return None
        unfit = self._unfit(state)
        if unfit:
            return unfit
        if state.st_size <= _SMALL_BYTES:
            size, place = self._copy_small(folder, name)
        else:
            size, place = self._move(folder, name, state)
        self._left -= size
        self.files.append(KeptFile(path, size, *place))
        return None

    def _unfit(self, state: os.stat_result) -> Optional[Reason]:
        """The reason why something that is no folder can't be kept; None if it can."""
        if not stat.S_ISREG(state.st_mode):
            kinds = (key for is_kind, key in _KINDS if is_kind(state.st_mode))
            return Reason(next(kinds, "file_device"))
        if len(self.files) == MOST_FILES:
            return Reason("file_one_too_many", count=MOST_FILES)
        if state.st_size > self._left:
            return Reason("file_over_limit", bytes=self._limit)
        return Reason("file_link") if self._is_foreign(state) else None

    def _is_foreign(self, state: os.stat_result) -> bool:
        """Tell whether this may be a second name of a file that its user could not read."""
        account = self._account
        return account is not None and state.st_nlink > 1 and state.st_uid != account.uid

    def _copy_small(self, folder: int, name: str) -> tuple[int, tuple[int, int]]:
        """Copy a file behind the other small ones; return its size and place. Raises OSError."""
        start = self._packed
        size = self._copy(folder, name, "0", start)
        self._packed += size
        return size, (0, start)

    def _move(self, folder: int, name: str, state: os.stat_result) -> tuple[int, tuple[int, int]]:
        """Make a file the agent's own; return its size and place. Raises OSError."""
        self._last_number += 1
        number, place = str(self._last_number), (self._last_number, 0)
        if state.st_nlink > 1 or not self._rename(folder, name, number):
            return self._copy(folder, name, number), place
        moved = os.stat(number, dir_fd=self._target, follow_symlinks=False)
        if not stat.S_ISREG(moved.st_mode) or moved.st_size > self._left:
            with suppress(OSError):
                os.unlink(number, dir_fd=self._target)
            raise OSError(errno.EAGAIN, "it has changed meanwhile")
        os.chmod(number, 0o600, dir_fd=self._target)
        return moved.st_size, place

    def _rename(self, folder: int, name: str, number: str) -> bool:
        try:
            os.rename(name, number, src_dir_fd=folder, dst_dir_fd=self._target)
        except OSError:  # it is on another file system, or protected
            return False
        return True

    def _copy(self, folder: int, name: str, number: str, start: int = 0) -> int:
        source = _open(folder, name, _FILE_FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise OSError(errno.EAGAIN, "it has changed meanwhile")
            target = os.open(number, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=self._target)
            try:
                os.lseek(target, start, os.SEEK_SET)
                return _copy_bytes(source, target, self._left)
            except OSError:
                os.ftruncate(target, start)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _leave_out(self, path: str, reason: Reason) -> None:
        self.left_count += 1
        if len(self.left_out) < MOST_NAMED_FILES:
            shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            self.left_out.append((shown, reason))


def _place(entry: tuple[str, os.stat_result]) -> str:
    """The key that sorts the entries of a folder as the paths below them are sorted."""
    name, state = entry
    return name + "/" if stat.S_ISDIR(state.st_mode) else name


def _open(folder: int, name: str, flags: int, mode: int) -> int:
    """Open an entry of a folder, if need be with another mode than its owner has given it."""
    try:
        return os.open(name, flags, dir_fd=folder)
    except PermissionError:
        os.chmod(name, mode, dir_fd=folder)
        return os.open(name, flags, dir_fd=folder)


def _copy_bytes(source: int, target: int, most: int) -> int:
    copied = 0
    while True:
        block = os.read(source, _COPIED_BYTES)
        copied += len(block)
        if copied > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if not block:
            return copied
        write_all(target, block)
