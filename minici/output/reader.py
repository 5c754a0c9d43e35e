"""Reading what a command wrote, while it grows and afterwards.

A view is one of the streams, or both in their order of arrival. Nothing here reads more than it
is asked for, and nothing keeps more than a block in memory.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from minici.build import STDERR, STDOUT, STREAMS, Kept
from minici.output.format import DROPPED, MARKER_LENGTH, RECORD, TIMELINE, marker, marker_length
from minici.output.ring import Ring
from minici.output.timeline import ends_rise

BOTH = "output"
VIEWS = (BOTH, STDOUT, STDERR)

_BLOCK_BYTES = 64 * 1024
_NEAR_BYTES = 32 * 1024 * 1024  # more than can come while a block is read
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

    `finished`: nothing is written to it any more. `damaged`: its files contradict each other.
    What is there of stdout is then shown before what is there of stderr.
    """

    def __init__(self, folder: Path, limit: int, finished: bool = False) -> None:
        self._ring = Ring(limit)
        self._finished = finished
        self._files: dict[str, int] = {}
        self._made_up: list[tuple[int, int, int]] = []  # in place of a timeline that is damaged
        try:
            self._open(folder)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: Path) -> None:
        for name in (TIMELINE, *STREAMS):
            with contextlib.suppress(FileNotFoundError):
                self._files[name] = os.open(folder / name, os.O_RDONLY)
        self._count = self._measure(TIMELINE) // RECORD.size
        self._first = 1 if self._count and self._record(0)[2] == DROPPED else 0
        self._growing = self._first == 0
        last = self._record(self._count - 1) if self._count > self._first else (0, 0, 0)
        self._raw = {STDOUT: last[0], STDERR: last[1]}
        self.damaged = not self._is_sound()
        if self.damaged:
            self._do_without_timeline()
        self._gaps = {stream: self._gap(stream) for stream in STREAMS}

    def _is_sound(self) -> bool:
        if not all(self._fits(stream, self._measure(stream)) for stream in STREAMS):
            return False
        return self._count <= self._first or ends_rise(self._files[TIMELINE], self._first)

    def _fits(self, stream: str, size: int) -> bool:
        """Return whether the file of a stream is as long as the timeline says."""
        if not self._growing:
            return size == self._raw[stream] and self._record(0)[STREAMS.index(stream)] < DROPPED
        there = min(self._raw[stream], self._ring.limit)
        return size in (there, self._raw[stream]) if self._finished else size >= there

    def _do_without_timeline(self) -> None:
        most = self._ring.limit + MARKER_LENGTH
        self._raw = {stream: min(self._measure(stream), most) for stream in STREAMS}
        stdout, stderr = self._raw[STDOUT], self._raw[STDERR]
        self._made_up = [(stdout, 0, 0), (stdout, stderr, 0)]
        self._count, self._first, self._growing = 2, 0, False

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
        """The bytes that are kept, without the markers."""
        dropped = dict.fromkeys(STREAMS, 0)
        sizes = {stream: self.size(stream) for stream in STREAMS}
        for stream, gap in self._gaps.items():
            if gap is not None:
                dropped[stream] = gap.end - gap.start
                sizes[stream] -= gap.marker
        return Kept(sizes[STDOUT], sizes[STDERR], sum(dropped.values()))

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
            piece = self._next(place, _BLOCK_BYTES)
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
            piece = self._next(place, _BLOCK_BYTES)
            if piece is None:
                return
            stream, gap = piece.stream, self._gaps[piece.stream]
            start = place[STREAMS.index(stream)]
            if gap and start == gap.start and raw[stream] < gap.end:
                piece = self._marker_piece(piece, gap, raw[stream])
                raw[stream] = gap.end
            else:
                most = gap.start - start if gap and start < gap.start else _BLOCK_BYTES
                piece = replace(piece, data=piece.data[:most])
                raw[stream] += len(piece.data)
            yield replace(piece, place=(raw[STDOUT], raw[STDERR]))
            place = self._place_after(raw)

    def raw_place(self, place: tuple[int, int]) -> tuple[int, int]:
        """The place in raw bytes at which a reader is who has seen what is shown up to `place`."""
        stdout, stderr = (self._raw_of(each, at) for each, at in zip(STREAMS, place))
        return stdout, stderr

    def is_stable(self) -> bool:
        """Return whether the bytes just read can't have been overwritten meanwhile: a stream near
        its limit writes over what a reader may be reading."""
        if self.damaged:
            return self._finished
        count = self._measure(TIMELINE) // RECORD.size
        last = self._record(count - 1) if count > self._first else (0, 0, 0)
        return not self._growing or max(last[:2]) + _NEAR_BYTES <= self._ring.limit

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

    def ends(self) -> Iterator[tuple[int, int]]:
        """The places after each piece, in order of arrival."""
        for index in range(self._first, self._count):
            yield self._ends(index)

    # Places. The records' ends rise, so what comes next is found by halving.

    def _ends(self, index: int) -> tuple[int, int]:
        if index < self._first:
            return 0, 0
        stdout, stderr, _ = self._record(index)
        return self._shown(STDOUT, stdout), self._shown(STDERR, stderr)

    def _shown(self, stream: str, raw: int) -> int:
        """Return the number of the first `raw` bytes that can be read."""
        raw = min(raw, self._raw[stream])
        if not self._growing or raw <= self._ring.half:
            return raw
        start, end = self._ring.gap(self._raw[stream])
        return raw if raw <= start else start + max(0, raw - end)

    def _gap(self, stream: str) -> Optional[_Gap]:
        if self.damaged:
            return None
        if self._growing:
            start, end = self._ring.gap(self._raw[stream])
            return _Gap(start, end, 0) if start < end else None
        dropped = self._record(0)[STREAMS.index(stream)]
        if not dropped:
            return None
        text = os.pread(self._files[stream], MARKER_LENGTH, self._ring.half)
        return _Gap(self._ring.half, self._ring.half + dropped, marker_length(text))

    def _place_after(self, raw: Mapping[str, int]) -> tuple[int, int]:
        return self._shown_of(STDOUT, raw[STDOUT]), self._shown_of(STDERR, raw[STDERR])

    def _shown_of(self, stream: str, raw: int) -> int:
        """Map a raw offset to one in the shown bytes; in a gap, to its beginning."""
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
        """Return the marker of the gap for a reader who has seen `raw` bytes of the stream."""
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
        """Return the bytes of one stream after a place, at most `most`."""
        stdout, stderr = place
        index = self._search(lambda ends: ends[0] > stdout or ends[1] > stderr)
        if index >= self._count:
            return None
        ends, milliseconds = self._ends(index), self._record(index)[2]
        stream, start, end = STDOUT, stdout, ends[0]
        if end <= start:
            stream, start, end = STDERR, stderr, ends[1]
        data = b"".join(self._read_stream(stream, start, min(end, start + min(most, _BLOCK_BYTES))))
        if not data:
            return None
        after = (stdout + len(data), stderr) if stream == STDOUT else (stdout, stderr + len(data))
        return Piece(stream, milliseconds / 1000, data, after)

    # Files.

    def _read_stream(self, stream: str, start: int, end: int) -> Iterator[bytes]:
        end = min(end, self._shown(stream, self._raw[stream]))
        while start < end and stream in self._files:
            place, room = self._file_place(stream, start)
            block = os.pread(self._files[stream], min(_BLOCK_BYTES, room, end - start), place)
            if not block:
                return
            start += len(block)
            yield block

    def _file_place(self, stream: str, shown: int) -> tuple[int, int]:
        """Return the place of a byte in its file, and the number of bytes that follow it there."""
        if not self._growing or self._raw[stream] <= self._ring.limit:
            return shown, _BLOCK_BYTES
        _, gap_end = self._ring.gap(self._raw[stream])
        before = shown < self._ring.half
        return self._ring.place(shown if before else gap_end + shown - self._ring.half)

    def _measure(self, name: str) -> int:
        return os.fstat(self._files[name]).st_size if name in self._files else 0

    def _record(self, index: int) -> tuple[int, int, int]:
        if self._made_up:
            return self._made_up[index]
        data = os.pread(self._files[TIMELINE], RECORD.size, index * RECORD.size)
        try:
            stdout, stderr, milliseconds = RECORD.unpack(data)
        except struct.error:
            raise OSError("the timeline was cut while it was read") from None
        return stdout, stderr, milliseconds


def _streams(view: str) -> tuple[str, ...]:
    return STREAMS if view == BOTH else (view,)
