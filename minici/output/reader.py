"""Reading what a command wrote, while it grows and afterwards.

A view is one of the streams, or both in their order of arrival. Nothing here reads more than it
is asked for, and nothing keeps more than a block in memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from minici.build import STDERR, STDOUT, STREAMS, Kept
from minici.output.format import DROPPED, MARKER_LENGTH, RECORD, TIMELINE, marker, marker_length

BOTH = "output"
VIEWS = (BOTH, STDOUT, STDERR)

_BLOCK = 64 * 1024
_NEAR = 32 * 1024 * 1024  # bytes: more than can come while a block is read
_Test = Callable[[tuple[int, int]], bool]


@dataclass(frozen=True)
class Piece:
    """Bytes of one stream that came together, `seconds` after the start, and the place after
    them: how many bytes of stdout and of stderr a reader has then seen.

    `marker`: not what the command wrote, but the line that stands for what was dropped."""

    stream: str
    seconds: float
    data: bytes
    place: tuple[int, int]
    marker: bool = False


@dataclass(frozen=True)
class _Gap:
    """Bytes of a stream that are not kept, by raw offsets, and how long their marker is: 0 while
    the stream grows, for the marker is written at its end."""

    start: int
    end: int
    marker: int


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
        self._gaps = {stream: self._gap(stream) for stream in STREAMS}

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

    def follow(self, seen: tuple[int, ...]) -> Iterator[Piece]:
        """Everything after a place in raw bytes, in order of arrival; so are the pieces' places.

        Raw places stay what they are while the stream outgrows its limit. What was dropped
        before the reader came to it is one piece, the marker.
        """
        raw = dict(zip(STREAMS, seen))
        place = self._place_after(raw)
        while True:
            piece = self._next(place, _BLOCK)
            if piece is None:
                return
            stream, gap = piece.stream, self._gaps[piece.stream]
            start = place[STREAMS.index(stream)]
            if gap and start == gap.start and raw[stream] < gap.end:
                piece = self._marker_piece(piece, gap, raw[stream])
                raw[stream] = gap.end
            else:
                most = gap.start - start if gap and start < gap.start else _BLOCK
                piece = replace(piece, data=piece.data[:most])
                raw[stream] += len(piece.data)
            yield replace(piece, place=(raw[STDOUT], raw[STDERR]))
            place = self._place_after(raw)

    def raw_place(self, place: tuple[int, int]) -> tuple[int, int]:
        """The place in raw bytes at which a reader is who has seen what is shown up to `place`."""
        stdout, stderr = (self._raw_of(each, at) for each, at in zip(STREAMS, place))
        return stdout, stderr

    def unhurried(self) -> bool:
        """Whether the bytes that were read are certainly those that stood there: a stream near
        its limit writes over what a reader may be reading."""
        count = self._measure(TIMELINE) // RECORD.size
        last = self._record(count - 1) if count > self._first else (0, 0, 0)
        return not self._growing or max(last[:2]) + _NEAR <= self._limit

    def place_of(self, offset: int) -> tuple[int, int]:
        """The place at which a reader is who has seen `offset` bytes of both streams."""
        return self._at(max(0, min(offset, self.size(BOTH))))

    def place_at(self, stream: str, offset: int) -> tuple[int, int]:
        """The place before a byte of a stream: what of the other one had come by then."""
        which = STREAMS.index(stream)
        index = self._search(lambda ends: ends[which] > offset)
        if which == 0:
            return offset, self._ends(index - 1)[1]
        return self._ends(min(index, self._count - 1))[0], offset

    def first_beyond(
        self, beyond: Callable[[tuple[int, int]], bool]
    ) -> Optional[tuple[tuple[int, int], tuple[int, int]]]:
        """The places before and after the first piece whose end is beyond something that rises
        with the output; None if none is. Of what came together, stdout stands first."""
        index = self._search(beyond)
        return None if index >= self._count else (self._ends(index - 1), self._ends(index))

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

    def _gap(self, stream: str) -> Optional[_Gap]:
        if self._growing:
            dropped, length = self._raw[stream] - self._limit, 0
        else:
            dropped = self._record(0)[STREAMS.index(stream)]
            text = os.pread(self._files[stream], MARKER_LENGTH, self._half) if dropped else b""
            length = marker_length(text)
        return _Gap(self._half, self._half + dropped, length) if dropped > 0 else None

    def _place_after(self, raw: Mapping[str, int]) -> tuple[int, int]:
        return self._shown_of(STDOUT, raw[STDOUT]), self._shown_of(STDERR, raw[STDERR])

    def _shown_of(self, stream: str, raw: int) -> int:
        """Where a reader of raw bytes goes on among what is shown; in a gap, at its beginning."""
        gap = self._gaps[stream]
        if gap is None or raw <= gap.start:
            return raw
        return gap.start if raw < gap.end else gap.start + gap.marker + raw - gap.end

    def _raw_of(self, stream: str, shown: int) -> int:
        gap = self._gaps[stream]
        if gap is None or shown <= gap.start:
            return shown
        return gap.end + max(0, shown - gap.start - gap.marker)

    def _marker_piece(self, piece: Piece, gap: _Gap, raw: int) -> Piece:
        """What a reader is told who has seen `raw` bytes of a stream that goes on behind a gap."""
        before = self._read_stream(piece.stream, max(0, raw - 1), gap.start)
        after_line = raw == 0 or (raw == gap.start and b"".join(before) == b"\n")
        return replace(piece, data=marker(gap.end - raw, after_line), marker=True)

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
