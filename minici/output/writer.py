"""The output of a command: two streams of bytes and the order in which they came.

One folder holds one attempt: `stdout`, `stderr` and `timeline`. The server and the agent keep
it alike. Of a stream at most `limit` bytes are kept on disk while it grows: its first half, and
behind it a ring of the newest bytes; `finish` turns the ring into the form that the contract
promises (section 2, `output_limit`). Offsets are raw: they count every byte that was written,
kept or not. Memory does not grow with output.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Optional

from minici.build import STDERR, STDOUT, STREAMS, Kept
from minici.durable import sync, sync_folder
from minici.output.format import (
    DROPPED,
    MARKER,
    MARKER_LENGTH,
    RECORD,
    TIMELINE,
    OffsetGap,
    Overrun,
    StreamTail,
    marker,
    marker_length,
)
from minici.output.ring import Ring
from minici.output.sealing import (
    BLOCK_BYTES,
    SEALED,
    SealedStream,
    absorb,
    read_blocks,
    sealed_records,
    write_file,
)

_MERGED_MILLISECONDS = 10  # pieces of one stream that come closer together are one


class OutputWriter:
    """One attempt's output, open for writing. Not for two threads at once.

    `limit` is in bytes a stream. Everything is read back from the folder when it is opened, so
    that whoever opens it after a crash goes on where the files end. Raises OSError throughout.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._ring = Ring(limit)
        self._files: dict[str, int] = {}
        absorb(folder)
        self._dropped, self._ends, self._last = self._load()

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def total(self, stream: str) -> int:
        """Raw bytes of the stream so far."""
        return self._ends[stream]

    @property
    def totals(self) -> dict[str, int]:
        return dict(self._ends)

    # Writing as it comes.

    def append(self, stream: str, data: bytes, seconds: float) -> None:
        """Add a piece that came `seconds` after the start. Not fsynced."""
        if not data:
            return
        milliseconds = int(seconds * 1000)
        last_stream, begun = self._last
        self._write(stream, data)
        if last_stream == stream and 0 <= milliseconds - begun < _MERGED_MILLISECONDS:
            self._records -= 1
            milliseconds = begun
        self._record(stream, milliseconds)

    def _write(self, stream: str, data: bytes) -> None:
        view = memoryview(data)
        start, end = self._ends[stream], self._ends[stream] + len(data)
        # Of what falls into the ring, only its newest bytes can stay.
        ring_start = max(start, self._ring.half, end - self._ring.size)
        for first, last in ((start, min(end, self._ring.half)), (ring_start, end)):
            while first < last:
                place, room = self._ring.place(first)
                piece = view[first - start : min(first + room, last) - start]
                _pwrite_all(self._open(stream), piece, place)
                first += len(piece)  # noqa: PLW2901
        self._ends[stream] = end

    def _record(self, stream: str, milliseconds: int) -> None:
        record = RECORD.pack(self._ends[STDOUT], self._ends[STDERR], milliseconds)
        os.pwrite(self._open(TIMELINE), record, self._records * RECORD.size)
        self._records += 1
        self._last = (stream, milliseconds)

    # Reading back what is kept.

    def read(self, stream: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from raw `offset` on, b"" at the end; Overrun if they are gone."""
        end = min(self._ends[stream], offset + size)
        if offset >= end:
            return b""
        gap_start, gap_end = self._ring.gap(self._ends[stream])
        if gap_start <= offset < gap_end:
            raise Overrun
        place, room = self._ring.place(offset)
        return os.pread(self._open(stream), min(room, end - offset), place)

    def rest(self, stream: str, offset: int) -> tuple[int, int, Iterator[bytes]]:
        """Return the text that a result carries when the other side has the stream up to `offset`.

        Returns the offset at which it begins, its length in bytes, and the bytes. Where bytes
        behind `offset` were dropped, it begins at the middle of the limit, with the marker.
        """
        total = self._ends[stream]
        half, gap_end = self._ring.gap(total)
        if offset >= gap_end or half == gap_end:
            return offset, total - offset, self._blocks(stream, offset, total)
        line = marker(gap_end - half, half == 0 or self.read(stream, half - 1, 1) == b"\n")
        start = min(offset, half)
        length = half - start + len(line) + total - gap_end
        return start, length, self._cut_blocks(stream, start, line, gap_end)

    def _cut_blocks(self, stream: str, start: int, line: bytes, tail: int) -> Iterator[bytes]:
        yield from self._blocks(stream, start, self._ring.half)
        yield line
        yield from self._blocks(stream, tail, self._ends[stream])

    def _blocks(self, stream: str, offset: int, end: int) -> Iterator[bytes]:
        while offset < end:
            block = self.read(stream, offset, min(BLOCK_BYTES, end - offset))
            if not block:
                raise OSError(f"{self.folder / stream} is shorter than its timeline says")
            offset += len(block)
            yield block

    def timeline(self) -> Iterator[tuple[int, int, int]]:
        """The records in order: raw ends of stdout and stderr, milliseconds since the start."""
        for index in range(self._records):
            yield self._read_record(index)

    # The end.

    def finish(
        self,
        rests: Mapping[str, StreamTail],
        seconds: float,
        timeline: Optional[Iterable[tuple[int, int, int]]] = None,
    ) -> Kept:
        """Add the end of each stream, and bring all of it to disk in its final form.

        `timeline`, if the agent knows it better, takes the place of the one written so far.
        When this returns, the output survives a power cut. Doing it again with the same rests
        changes nothing. Raises OffsetGap, and then nothing has changed.
        """
        if any(rest.offset > self._ends[stream] for stream, rest in rests.items()):
            raise OffsetGap(self._ends)
        if self._dropped is not None:
            return self._kept(self._dropped)
        cut = {stream: self._find_marker(rest) for stream, rest in rests.items()}
        for stream, rest in rests.items():
            if cut[stream] is None:
                self._replace_end(stream, rest, seconds)
        if not any(self._ends.values()) and not any(cut.values()):
            return Kept()
        records = self._agreeing(timeline) if not any(cut.values()) else None
        if any(cut.values()) or any(end > self._ring.limit for end in self._ends.values()):
            return self._seal(rests, cut, records, int(seconds * 1000))
        self._sync_streams()
        if records is not None:
            self._replace_timeline(records)
        sync(self._open(TIMELINE))
        sync_folder(self.folder)
        return self._kept({})

    def _replace_end(self, stream: str, rest: StreamTail, seconds: float) -> None:
        if rest.length == 0 and rest.offset == self._ends[stream]:
            return
        had = self._ends[stream]
        self._ends[stream] = rest.offset
        for block in read_blocks(rest.source, rest.length):
            self._write(stream, block)
        if self._ends[stream] < had:
            self._cut_timeline()
            if had <= self._ring.limit:
                os.ftruncate(self._open(stream), self._ends[stream])
        if self._ends[stream] != had:
            self._record(stream, int(seconds * 1000))

    def _find_marker(self, rest: StreamTail) -> Optional[int]:
        """The number of bytes that the agent itself has dropped, if it cut this stream."""
        before = self._ring.half - rest.offset
        if before < 0 or rest.offset + rest.length <= self._ring.limit:
            return None
        start = rest.source.tell()
        rest.source.seek(start + before)
        found = MARKER.match(rest.source.read(MARKER_LENGTH))
        rest.source.seek(start)
        if found and rest.length - before - found.end() <= self._ring.size:
            return int(found[1])
        return None

    def _agreeing(
        self, timeline: Optional[Iterable[tuple[int, int, int]]]
    ) -> Optional[list[tuple[int, int, int]]]:
        """The agent's timeline, if it rises and ends where the streams end."""
        if timeline is None:
            return None
        records = list(timeline)
        ends = (self._ends[STDOUT], self._ends[STDERR])
        rising = all(a[0] <= b[0] and a[1] <= b[1] for a, b in zip(records, records[1:]))
        return records if rising and records and records[-1][:2] == ends else None

    def _kept(self, dropped: Mapping[str, int]) -> Kept:
        sizes = {stream: self._ends[stream] - dropped.get(stream, 0) for stream in STREAMS}
        return Kept(sizes[STDOUT], sizes[STDERR], sum(dropped.values()))

    def _replace_timeline(self, records: Iterable[tuple[int, int, int]]) -> None:
        temporary = self.folder / (TIMELINE + ".tmp")
        write_file(temporary, (RECORD.pack(*record) for record in records))
        os.replace(temporary, self.folder / TIMELINE)
        os.close(self._files.pop(TIMELINE))

    def _sync_streams(self) -> None:
        for stream in STREAMS:
            if self._ends[stream]:
                sync(self._open(stream))

    # A stream over the limit.

    def _seal(
        self,
        rests: Mapping[str, StreamTail],
        cut: Mapping[str, Optional[int]],
        records: Optional[list[tuple[int, int, int]]],
        milliseconds: int,
    ) -> Kept:
        """Write the final form beside the raw one, then let it take its place in one step."""
        temporary = self.folder / (SEALED + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        finals = {
            stream: self._seal_stream(temporary, stream, rests.get(stream), cut.get(stream))
            for stream in STREAMS
        }
        raw = self.timeline() if records is None else records
        kept = sealed_records(raw, finals, self._ends, milliseconds)
        write_file(temporary / TIMELINE, (RECORD.pack(*record) for record in kept))
        sync_folder(temporary)
        os.rename(temporary, self.folder / SEALED)
        sync_folder(self.folder)
        self.close()
        absorb(self.folder)
        self._dropped, self._ends, self._last = self._load()
        return self._kept(self._dropped or {})

    def _seal_stream(
        self, folder: Path, stream: str, rest: Optional[StreamTail], dropped: Optional[int]
    ) -> SealedStream:
        total = self._ends[stream]
        if dropped is not None and rest is not None:
            head = self._blocks(stream, 0, rest.offset)
            blocks = _chain(head, read_blocks(rest.source, rest.length))
            size = write_file(folder / stream, blocks)
            return SealedStream(self._ring.half, size, dropped, total)
        _, size, blocks = self.rest(stream, 0)
        write_file(folder / stream, blocks)
        if total <= self._ring.limit:
            return SealedStream(total, size, 0, total)
        return SealedStream(
            self._ring.half, size, total - self._ring.limit, total - (self._ring.size)
        )

    # Opening.

    def _load(self) -> tuple[Optional[dict[str, int]], dict[str, int], tuple[str, int]]:
        self._records = 0
        ends = dict.fromkeys(STREAMS, 0)
        if not (self.folder / TIMELINE).exists():
            return None, ends, ("", 0)
        self._records = os.fstat(self._open(TIMELINE)).st_size // RECORD.size
        first = self._read_record(0) if self._records else (0, 0, 0)
        if first[2] == DROPPED:
            dropped = {STDOUT: first[0], STDERR: first[1]}
            last = self._read_record(self._records - 1) if self._records > 1 else (0, 0, 0)
            sizes = self._without_markers(dict(zip(STREAMS, last)), dropped)
            return dropped, sizes, ("", 0)
        sizes = {stream: self._size(stream) for stream in STREAMS}
        while self._records:
            record = self._read_record(self._records - 1)
            if all(min(end, self._ring.limit) <= sizes[s] for s, end in zip(STREAMS, record)):
                return None, dict(zip(STREAMS, record)), ("", 0)
            # The timeline reached the disk and its bytes did not: they were never acknowledged.
            self._records -= 1
            os.ftruncate(self._open(TIMELINE), self._records * RECORD.size)
        return None, ends, ("", 0)

    def _without_markers(
        self, sizes: Mapping[str, int], dropped: Mapping[str, int]
    ) -> dict[str, int]:
        """Raw sizes from the sizes of finished files."""
        raw = {}
        for stream in STREAMS:
            raw[stream] = sizes[stream]
            if dropped[stream]:
                text = os.pread(self._open(stream), MARKER_LENGTH, self._ring.half)
                raw[stream] += dropped[stream] - marker_length(text)
        return raw

    def _cut_timeline(self) -> None:
        while self._records:
            record = self._read_record(self._records - 1)
            if all(end <= self._ends[stream] for stream, end in zip(STREAMS, record)):
                break
            self._records -= 1
        os.ftruncate(self._open(TIMELINE), self._records * RECORD.size)
        self._last = ("", 0)

    def _read_record(self, index: int) -> tuple[int, int, int]:
        data = os.pread(self._open(TIMELINE), RECORD.size, index * RECORD.size)
        stdout, stderr, milliseconds = RECORD.unpack(data)
        return stdout, stderr, milliseconds

    def _size(self, stream: str) -> int:
        try:
            return (self.folder / stream).stat().st_size
        except FileNotFoundError:
            return 0

    def _open(self, name: str) -> int:
        if name not in self._files:
            flags = os.O_RDWR | os.O_CREAT
            self._files[name] = os.open(self.folder / name, flags, 0o644)
        return self._files[name]


def _pwrite_all(descriptor: int, data: memoryview, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written


def _chain(*parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield from part
