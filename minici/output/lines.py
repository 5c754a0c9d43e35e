"""The lines of an output: where each stands, and which of them hold a text.

A line of a stream ends with a line feed, and a line of both streams stands where its first byte
came. Numbers begin with 1 and are the same on every page that shows a part. Each newline is
counted once for each use; nothing is kept but a count for each block.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Callable, Optional

from minici.build import STREAMS
from minici.output.reader import Transcript

_BLOCK = 64 * 1024
_SEARCHED = 1024 * 1024  # bytes that are searched in one go, and the longest line that is whole
_EXCERPT = 400  # bytes
# What a page does not show; no line feed is in it.
_SEQUENCE = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)

_Ends = tuple[int, int]


@dataclass(frozen=True)
class LinePosition:
    """The lines that have begun before a place: their count, and each stream's open one."""

    begun: int
    open: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """A line that holds a text: its number, and how it begins."""

    number: int
    text: str


class Lines:
    """The lines of an open transcript. Raises OSError when reading fails."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._counts: dict[str, list[int]] = {stream: [0] for stream in STREAMS}

    def position(self, place: _Ends) -> LinePosition:
        """Return the lines that have begun before a place."""
        numbers = {}
        for stream, end in zip(STREAMS, place):
            if self._is_open(stream, end):
                numbers[stream] = self._number_at(stream, self._line_start(stream, end))
        return LinePosition(self._begun(place), numbers)

    def place_of(self, number: int) -> Optional[_Ends]:
        """The place at which a line begins; None where there is no such line."""
        span = self._transcript.first_beyond(lambda ends: self._begun(ends) >= number)
        if number < 1 or span is None:
            return None
        (stdout, stderr), (stdout_end, _) = span
        wanted = number - self._begun((stdout, stderr))
        of_stdout = self._begun((stdout_end, stderr)) - self._begun((stdout, stderr))
        if wanted <= of_stdout:
            return self._begins(STREAMS[0], stdout, wanted), stderr
        return stdout_end, self._begins(STREAMS[1], stderr, wanted - of_stdout)

    def search(self, text: str, most: int) -> Iterator[Match]:
        """The first `most` lines of each stream that hold a text, in whichever case, as a page
        shows them: without control sequences."""
        yield from self.select(functools.partial(_lines_with, text.lower()), most)

    def select(self, chosen_in: Callable[[bytes], Iterable[int]], most: int) -> Iterator[Match]:
        """The first `most` lines of each stream that `chosen_in` chooses: given some lines as a
        page shows them, it says how many stand before each one that it wants, in rising order."""
        for stream in STREAMS:
            for count, ordinal in enumerate(self._matching(stream, chosen_in)):
                if count >= most:
                    break
                start = self._after_newline(stream, ordinal)
                excerpt = b"".join(self._transcript.read(stream, start, start + _EXCERPT))
                shown = as_shown(excerpt.partition(b"\n")[0]).decode("utf-8", "replace")
                yield Match(self._number_at(stream, start), shown)

    # Counting. A line begins with its first byte.

    def _begun(self, place: _Ends) -> int:
        return sum(
            self._newlines(stream, end) + self._is_open(stream, end)
            for stream, end in zip(STREAMS, place)
        )

    def _number_at(self, stream: str, start: int) -> int:
        """The number of the line that begins at this byte of a stream."""
        return self._begun(self._transcript.place_at(stream, start)) + 1

    def _is_open(self, stream: str, end: int) -> bool:
        return end > 0 and self._read(stream, end - 1, end) != b"\n"

    def _line_start(self, stream: str, end: int) -> int:
        return self._after_newline(stream, self._newlines(stream, end))

    def _begins(self, stream: str, offset: int, wanted: int) -> int:
        """Return the start of the `wanted`th line that begins at `offset` or later."""
        newlines = self._newlines(stream, offset)
        if not self._is_open(stream, offset):
            wanted -= 1
        return self._after_newline(stream, newlines + wanted) if wanted else offset

    def _newlines(self, stream: str, end: int) -> int:
        """Count the newlines among the first `end` bytes of a stream."""
        block = end // _BLOCK
        self._count_blocks(stream, block)
        counts = self._counts[stream]
        return counts[block] + self._read(stream, block * _BLOCK, end).count(b"\n")

    def _after_newline(self, stream: str, count: int) -> int:
        """The byte behind the `count`th newline of a stream.

        It was counted before; where a flood has since written over it, somewhere behind.
        """
        if count == 0:
            return 0
        counts, size = self._counts[stream], self._transcript.size(stream)
        while counts[-1] < count:
            if len(counts) > size // _BLOCK + 1:
                return size
            self._count_blocks(stream, len(counts))
        block = bisect.bisect_left(counts, count) - 1
        data = self._read(stream, block * _BLOCK, (block + 1) * _BLOCK)
        return block * _BLOCK + _end_of_line(data, count - counts[block])

    def _count_blocks(self, stream: str, blocks: int) -> None:
        """See to it that the newlines before each of the first `blocks` blocks are known."""
        counts = self._counts[stream]
        while len(counts) <= blocks:
            start = (len(counts) - 1) * _BLOCK
            counts.append(counts[-1] + self._read(stream, start, start + _BLOCK).count(b"\n"))

    def _read(self, stream: str, start: int, end: int) -> bytes:
        return b"".join(self._transcript.read(stream, start, end))

    # Searching.

    def _matching(self, stream: str, chosen_in: Callable[[bytes], Iterable[int]]) -> Iterator[int]:
        """Yield, for each chosen line of the stream, the number of lines before it."""
        before = 0
        for block in self._whole_lines(stream):
            yield from (before + line for line in chosen_in(as_shown(block)))
            before += block.count(b"\n")

    def _whole_lines(self, stream: str) -> Iterator[bytes]:
        """The stream in blocks that end with a line, unless a line is longer than a block."""
        rest = b""
        for start in range(0, self._transcript.size(stream), _SEARCHED):
            block = rest + self._read(stream, start, start + _SEARCHED)
            end = block.rfind(b"\n") + 1
            if not end and len(block) > _SEARCHED:
                end = len(block)
            rest = block[end:]
            if end:
                yield block[:end]
        if rest:
            yield rest


def _end_of_line(data: bytes, count: int) -> int:
    """Return the end of the `count`th line, its newline included. Bisects: a block may have
    thousands of lines, and a search may come back to it thousands of times."""
    low, high = 0, len(data)
    while high - low > 1:
        middle = (low + high) // 2
        before = data.count(b"\n", low, middle)
        if before < count:
            low, count = middle, count - before
        else:
            high = middle
    return high


def as_shown(block: bytes) -> bytes:
    if b"\x1b" in block:
        block = _SEQUENCE.sub(b"", block)
    if b"\r" not in block:
        return block
    # A carriage return begins its line again: what counts stands behind the last one.
    return b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in block.split(b"\n"))


def _lines_with(text: str, block: bytes) -> Iterator[int]:
    """Yield, for each line that holds a text in small letters, the number of lines before it."""
    shown, wanted = _lowered(block, text), text.encode("utf-8", "replace")
    at, line, counted = shown.find(wanted), 0, 0
    while at >= 0:
        line += shown.count(b"\n", counted, at)
        yield line
        counted = shown.find(b"\n", at)
        at = shown.find(wanted, counted) if counted >= 0 else -1


def _lowered(block: bytes, text: str) -> bytes:
    if text.isascii():
        return block.lower()
    return block.decode("utf-8", "replace").lower().encode("utf-8")
