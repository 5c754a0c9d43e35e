"""The files of a running attempt, as they come to the server: `POST /notify_build_file`.

A file is written under a number while its pieces come, and enters the index once all of it is on
disk. Many may come at once: their names, and the contents of small files, are brought to disk
together.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from minici.durable import Data, sync, sync_file, sync_folder, write_all, write_atomic
from minici.files.shelf import (
    INDEX,
    BuildFile,
    LeftOut,
    file_lines,
    left_out_lines,
    read_index,
    whole_index,
)
from minici.reasons import Reason
from minici.validation import MOST_FILES

SMALL_BYTES = 64 * 1024  # a file up to this size that comes in one piece shares one on disk
_PACK = 0


class FileGap(Exception):
    """A piece that does not begin where the file ends here; `have` is where it ends."""

    def __init__(self, have: int) -> None:
        super().__init__(have)
        self.have = have


class FileLeftOut(Exception):
    """The file is not kept; the text says why."""


class Closed(Exception):
    """The attempt takes no more files: it has its result."""


@dataclass
class _Partial:
    """A file of which pieces have come; `ended` when the last of them has. `small` is its content,
    if that is still to be written."""

    number: int
    size: int = 0
    ended: bool = False
    small: Optional[Data] = None


class IncomingFiles:
    """The files of one attempt. `limit` is in bytes, for all of them. Any thread may call it.

    Of what an earlier server has left, whole files count, and parts are forgotten. Raises OSError
    throughout: nothing was then acknowledged, and the same call may be made again.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()  # guards what follows, but for the commit
        self._contents = read_index(folder)
        self._partial: dict[str, _Partial] = {}
        self._total = sum(each.size for each in self._contents.files.values())
        self._next_number = 1
        self._closed = False
        self._committed = threading.Condition()  # guards what follows
        self._waiting: dict[str, _Partial] = {}
        self._batch: dict[str, _Partial] = {}  # is being brought to disk
        self._open()

    def _open(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700)
            sync_folder(self._folder.parent)
            sync_folder(self._folder.parent.parent)
            return
        # What is cut short at the end of the index would hide what is added behind it.
        write_atomic(self._folder / INDEX, whole_index(self._contents))
        self._remove_strays()

    def _remove_strays(self) -> None:
        known = {INDEX, *(str(each.number) for each in self._contents.files.values())}
        for entry in list(os.scandir(self._folder)):
            if entry.name not in known:
                os.unlink(entry.path)
        numbers = (each.number for each in self._contents.files.values())
        self._next_number = max(numbers, default=0) + 1

    def add(self, path: str, offset: int, data: Data, last: bool) -> int:
        """Add a piece of a file; return where the next one begins.

        With `last`, the whole file survives a power cut when this returns. Raises FileGap,
        FileLeftOut and Closed.
        """
        with self._while_open():
            whole = self._contents.files.get(path)
            if whole is not None:
                return _repeated(whole.size, offset, data, last)
            partial = self._partial_of(path)
            if partial.ended:
                _repeated(partial.size, offset, data, last)
            else:
                self._append(path, partial, offset, data, last)
                partial.ended = last
            size = partial.size
        if last:
            self._commit(path, partial)
        return size

    def _partial_of(self, path: str) -> _Partial:
        left = self._contents.left_out.get(path)
        if left is not None:
            raise FileLeftOut(left.reason)
        if path not in self._partial:
            if len(self._contents.files) + len(self._partial) >= MOST_FILES:
                self._leave_out(path, Reason("file_one_too_many", count=MOST_FILES))
            self._partial[path] = _Partial(self._next_number)
            self._next_number += 1
        return self._partial[path]

    def _append(self, path: str, partial: _Partial, offset: int, data: Data, last: bool) -> None:
        if offset != partial.size:
            raise FileGap(partial.size)
        if self._total + len(data) > self._limit:
            self._leave_out(path, Reason("file_over_limit", bytes=self._limit))
        if last and not offset and len(data) <= SMALL_BYTES:
            partial.small = data
        else:
            self._write(partial.number, data, offset)
        partial.size += len(data)
        self._total += len(data)

    def _write(self, number: int, data: Data, offset: Optional[int], durable: bool = False) -> int:
        """Write to the file of a number, at its end without `offset`; return where."""
        descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            start = end if offset is None else offset
            if start < end:  # of a piece that found no space, some may be there
                os.ftruncate(descriptor, start)
            os.lseek(descriptor, start, os.SEEK_SET)
            write_all(descriptor, data)
            if durable:
                sync(descriptor)
        finally:
            os.close(descriptor)
        return start

    def _leave_out(self, path: str, reason: Reason) -> None:
        left = LeftOut(path, reason)
        if len(self._contents.left_out) < MOST_FILES:
            self._write_index(left_out_lines([left]))
            self._contents.left_out[path] = left
        self._contents.left_count += 1
        partial = self._partial.pop(path, None)
        if partial is not None:
            self._total -= partial.size
            self._path(partial.number).unlink(missing_ok=True)
        raise FileLeftOut(reason)

    def _path(self, number: int) -> Path:
        return self._folder / str(number)

    # To disk: each large file by its own caller, all else by one of them.

    def _commit(self, path: str, partial: _Partial) -> None:
        if partial.small is None:
            self._sync(partial.number)
        with self._committed:
            self._waiting[path] = partial
            self._committed.wait_for(lambda: not self._batch or self._is_settled(path))
            leads = path in self._waiting
            if leads:
                self._batch, self._waiting = self._waiting, {}
        if leads:
            try:
                self._commit_all(self._batch)
            finally:
                with self._committed:
                    self._batch = {}
                    self._committed.notify_all()
        self._check_committed(path)

    def _is_settled(self, path: str) -> bool:
        return path not in self._waiting and path not in self._batch

    def _sync(self, number: int) -> None:
        try:
            sync_file(self._path(number))
        except FileNotFoundError:  # the result has come meanwhile
            raise Closed from None

    def _commit_all(self, batch: Mapping[str, _Partial]) -> None:
        small = b"".join(each.small or b"" for each in batch.values())
        is_new = not self._path(_PACK).exists() or any(p.small is None for p in batch.values())
        start = self._write(_PACK, small, None, durable=True)
        if is_new:
            sync_folder(self._folder)
        files = []
        for path, partial in batch.items():
            if partial.small is None:
                files.append(BuildFile(path, partial.size, partial.number))
            else:
                files.append(BuildFile(path, partial.size, _PACK, start))
                start += partial.size
        with self._while_open():
            self._write_index(file_lines(files))
        sync_file(self._folder / INDEX)  # without the lock: others come meanwhile
        with self._while_open():
            for file in files:
                self._contents.files[file.path] = file
                self._partial.pop(file.path, None)

    @contextmanager
    def _while_open(self) -> Iterator[None]:
        """Hold the lock. Raises Closed."""
        with self._lock:
            if self._closed:
                raise Closed
            yield

    def _check_committed(self, path: str) -> None:
        with self._lock:
            if path in self._contents.files:
                return
            if self._closed:
                raise Closed
        raise OSError(errno.EIO, "the index of the files could not be written")

    def _write_index(self, lines: bytes) -> None:
        descriptor = os.open(self._folder / INDEX, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                write_all(descriptor, lines)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)

    # The end.

    def close(self, left_out: Iterable[LeftOut] = (), left_count: int = 0) -> tuple[int, int]:
        """Take no more files; return how many are whole, and how many were left out.

        `left_out` are those that the agent has named, of `left_count` in all. When this returns,
        the index survives a power cut in its final form. It may be called again.
        """
        with self._lock:
            self._closed = True
            contents = self._contents
            named = {each.path: each for each in left_out if each.path not in contents.files}
            contents.left_out = {**named, **contents.left_out}
            known = max(len(contents.left_out), contents.left_count)
            contents.left_count = max(known, left_count)
            self._partial.clear()
            write_atomic(self._folder / INDEX, whole_index(contents))
            self._remove_strays()
            return len(contents.files), contents.left_count


def _repeated(size: int, offset: int, data: Data, last: bool) -> int:
    """The answer to a piece of a file that is whole: its end again, if this is its last piece."""
    if last and offset + len(data) == size:
        return size
    raise FileGap(size)
