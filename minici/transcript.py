"""Reading what a command wrote, while it grows and afterwards.

A view is one of the streams, or both in their order of arrival. Nothing here reads more than it
is asked for, and nothing keeps more than a block in memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from minici.build import Kept
from minici.output import DROPPED, RECORD, STDERR, STDOUT, STREAMS, TIMELINE

BOTH = "output"
VIEWS = (BOTH, STDOUT, STDERR)

_BLOCK = 64 * 1024
_Test = Callable[[tuple[int, int]], bool]


@dataclass(frozen=True)
class Piece:
    """Bytes of one stream that came together, `seconds` after the start, and the place after
    them: how many bytes of stdout and of stderr a reader has then seen."""

    stream: str
    seconds: float
    data: bytes
    place: tuple[int, int]


class Transcript:
    """One attempt's output, open for reading: as it was on disk at that moment.

    A folder or a file that is not there is an empty output. Raises OSError when reading fails.
    While a stream that has outgrown its limit is still being written, what was dropped of it is
    skipped and the marker is not there yet.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._limit, self._half = limit, limit // 2
        self._files: dict[str, int] = {}
        for name in (TIMELINE, *STREAMS):
            try:
                self._files[name] = os.open(folder / name, os.O_RDONLY)
            except FileNotFoundError:
                continue
        self._count = self._measure(TIMELINE) // RECORD.size
        self._first = 1 if self._count and self._record(0)[2] == DROPPED else 0
        last = self._record(self._count - 1) if self._count > self._first else (0, 0, 0)
        self._raw = {STDOUT: last[0], STDERR: last[1]}
        self._growing = self._first == 0

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def size(self, view: str) -> int:
        """Bytes that the view shows."""
        return sum(self._shown(stream, self._raw[stream]) for stream in _streams(view))

    @property
    def kept(self) -> Kept:
        """What is kept so far, in bytes, of an output that is still growing."""
        sizes = {stream: min(self._raw[stream], self._limit) for stream in STREAMS}
        return Kept(sizes[STDOUT], sizes[STDERR], sum(self._raw.values()) - sum(sizes.values()))

    def read(self, view: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes of the view from `start` up to `end`, in blocks."""
        if view in STREAMS:
            yield from self._read_stream(view, start, end)
            return
        place = self._at(start)
        while sum(place) < end:
            piece = self._next(place, end - sum(place))
            if piece is None:
                return
            yield piece.data
            place = piece.place

    def pieces(self, place: tuple[int, int] = (0, 0)) -> Iterator[Piece]:
        """Everything after a place, in order of arrival."""
        while True:
            piece = self._next(place, _BLOCK)
            if piece is None:
                return
            yield piece
            place = piece.place

    def place_of(self, offset: int) -> tuple[int, int]:
        """The place at which a reader is who has seen `offset` bytes of both streams."""
        return self._at(max(0, min(offset, self.size(BOTH))))

    @property
    def end(self) -> tuple[int, int]:
        """The place after everything."""
        return self._ends(self._count - 1) if self._count > self._first else (0, 0)

    # Places. The records' ends rise, so what comes next is found by halving.

    def _ends(self, index: int) -> tuple[int, int]:
        if index < self._first:
            return 0, 0
        stdout, stderr, _ = self._record(index)
        return self._shown(STDOUT, stdout), self._shown(STDERR, stderr)

    def _shown(self, stream: str, raw: int) -> int:
        """How many of the first `raw` bytes are there to be read."""
        total = self._raw[stream]
        if not self._growing or total <= self._limit or raw <= self._half:
            return raw
        return self._half + max(0, raw - (total - (self._limit - self._half)))

    def _at(self, offset: int) -> tuple[int, int]:
        index = self._search(lambda ends: sum(ends) > offset)
        before, after = self._ends(index - 1), self._ends(min(index, self._count - 1))
        missing = offset - sum(before)
        stdout = min(missing, after[0] - before[0])
        return before[0] + stdout, before[1] + min(missing - stdout, after[1] - before[1])

    def _search(self, beyond: _Test) -> int:
        """The first record whose ends are beyond a place, or the number of records."""
        low, high = self._first, self._count
        while low < high:
            middle = (low + high) // 2
            if beyond(self._ends(middle)):
                high = middle
            else:
                low = middle + 1
        return low

    def _next(self, place: tuple[int, int], most: int) -> Optional[Piece]:
        """What came after a place, at most `most` bytes, of one stream."""
        stdout, stderr = place
        index = self._search(lambda ends: ends[0] > stdout or ends[1] > stderr)
        if index >= self._count:
            return None
        ends, milliseconds = self._ends(index), self._record(index)[2]
        stream, start, end = STDOUT, stdout, ends[0]
        if end <= start:
            stream, start, end = STDERR, stderr, ends[1]
        data = b"".join(self._read_stream(stream, start, min(end, start + min(most, _BLOCK))))
        if not data:
            return None
        after = (stdout + len(data), stderr) if stream == STDOUT else (stdout, stderr + len(data))
        return Piece(stream, milliseconds / 1000, data, after)

    # Files.

    def _read_stream(self, stream: str, start: int, end: int) -> Iterator[bytes]:
        end = min(end, self._shown(stream, self._raw[stream]))
        while start < end and stream in self._files:
            place, room = self._file_place(stream, start)
            block = os.pread(self._files[stream], min(_BLOCK, room, end - start), place)
            if not block:
                return
            start += len(block)
            yield block

    def _file_place(self, stream: str, shown: int) -> tuple[int, int]:
        """Where a byte stands in its file, and how many stand behind it in one go."""
        total = self._raw[stream]
        if not self._growing or total <= self._limit:
            return shown, _BLOCK
        if shown < self._half:
            return shown, self._half - shown
        ring = self._limit - self._half
        place = (total - ring - self._half + shown - self._half) % ring
        return self._half + place, ring - place

    def _measure(self, name: str) -> int:
        return os.fstat(self._files[name]).st_size if name in self._files else 0

    def _record(self, index: int) -> tuple[int, int, int]:
        data = os.pread(self._files[TIMELINE], RECORD.size, index * RECORD.size)
        try:
            stdout, stderr, milliseconds = RECORD.unpack(data)
        except struct.error:
            raise OSError("the timeline was cut while it was read") from None
        return stdout, stderr, milliseconds


def _streams(view: str) -> tuple[str, ...]:
    return STREAMS if view == BOTH else (view,)
