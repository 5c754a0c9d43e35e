"""The lines of one output that another one did not have.

Lines are compared as a page shows them, without colours and without what a carriage return has
written over, and by their fingerprints: which stream a line is of does not matter, nor how often
it is there. Of outputs that were cut, what is kept is compared; the line that stands for what was
dropped is never new. Memory does not grow with the outputs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from tempfile import SpooledTemporaryFile
from typing import IO, Optional

from minici.build import STREAMS
from minici.output.fingerprints import Fingerprints
from minici.output.lines import as_shown
from minici.output.reader import Transcript

_LONGEST_LINE_BYTES = 1024 * 1024  # of a longer one its beginning is compared
_CHUNK_LINES = 64 * 1024  # that are looked up in one go
_IN_MEMORY_BYTES = 4 * 1024 * 1024  # of fingerprints; more are in a file
_READ_BYTES = 256 * 1024
_MARKER = b"[minici: 1 bytes dropped]"

# Some lines of a stream: the offsets at which they begin, and the indexes of those that are new.
_Chunk = tuple["array[int]", list[int]]
_Block = tuple[bytes, int]  # whole lines, without the last line feed, and their size in the stream


def new_lines(output: Transcript, earlier: Transcript) -> Iterator[Optional[int]]:
    """The numbers of the lines of `output` that `earlier` did not have, as its page counts them.

    They rise. None comes after each piece of work, so that a caller can give up between two.
    Raises OSError when reading fails.
    """
    fingerprints = Fingerprints()
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        known = _KnownLines(file)
        known.add(fingerprints.of(_MARKER))
        for stream in STREAMS:
            for block, _ in _blocks(earlier, stream):
                known.add(fingerprints.of(as_shown(block)))
                yield None
        sides = [_Side(_chunks(output, stream, fingerprints, known)) for stream in STREAMS]
        both = all(output.size(stream) for stream in STREAMS)
        yield from _numbers(output.ends() if both else (output.end,), sides)


class _KnownLines:
    """A set of fingerprints: the last ones, and all others in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = 0  # bytes of the file
        self._last: set[int] = set()

    def add(self, fingerprints: Iterable[int]) -> None:
        """Add fingerprints. Not after the first look."""
        self._last.update(fingerprints)
        if len(self._last) >= _CHUNK_LINES:
            self._size += self._file.write(array("q", self._last).tobytes())
            self._last.clear()

    def places_of_others(self, fingerprints: array[int]) -> list[int]:
        """The indexes of those fingerprints that are not in the set.

        The file is read from where the last look ended, for outputs are often alike: what is
        looked for next follows what was found.
        """
        left = set(fingerprints) - self._last
        for _ in range(0, self._size, _READ_BYTES):
            if not left:
                return []
            left.difference_update(self._next_block())
        return [index for index, each in enumerate(fingerprints) if each in left]

    def _next_block(self) -> array[int]:
        data = self._file.read(_READ_BYTES)
        if not data:
            self._file.seek(0)
            data = self._file.read(_READ_BYTES)
        return array("q", data)


class _Side:
    """The lines of one stream that are still to be numbered."""

    def __init__(self, chunks: Iterator[_Chunk]) -> None:
        self._chunks = chunks
        self._starts: array[int] = array("q")
        self._new: list[int] = []
        self._place = 0

    def begins_before(self, end: int) -> bool:
        """Tell whether the next line begins before a byte of the stream."""
        while self._place == len(self._starts):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            (self._starts, self._new), self._place = chunk, 0
        return self._starts[self._place] < end

    def take(self, end: int) -> tuple[int, list[int]]:
        """Pass by lines that begin before a byte; return their count, and the new ones, from 1."""
        first, last = self._place, bisect_left(self._starts, end, self._place)
        self._place = last
        new = self._new[bisect_left(self._new, first) : bisect_left(self._new, last)]
        return last - first, [each - first + 1 for each in new]


def _numbers(places: Iterable[tuple[int, int]], sides: list[_Side]) -> Iterator[Optional[int]]:
    """The numbers of the new lines: a line stands where its first byte came."""
    number = 0
    for ends in places:
        for side, end in zip(sides, ends):
            while side.begins_before(end):
                count, new = side.take(end)
                yield from (number + each for each in new)
                number += count
                yield None


def _chunks(
    output: Transcript, stream: str, fingerprints: Fingerprints, known: _KnownLines
) -> Iterator[_Chunk]:
    starts, found, place = array("q"), array("q"), 0
    for block, size in _blocks(output, stream):
        lengths = (len(line) + 1 for line in block.split(b"\n"))
        starts.extend(accumulate(lengths, initial=place))
        starts.pop()
        found.extend(fingerprints.of(as_shown(block)))
        place += size
        if len(found) >= _CHUNK_LINES:
            yield starts, known.places_of_others(found)
            starts, found = array("q"), array("q")
    yield starts, known.places_of_others(found)


def _blocks(transcript: Transcript, stream: str) -> Iterator[_Block]:
    """The stream in blocks of whole lines."""
    rest, cut = b"", 0
    for data in transcript.read(stream, 0, transcript.size(stream)):
        end = data.rfind(b"\n")
        if end >= 0:
            block = rest + data[:end]
            yield block, len(block) + cut + 1
            rest, cut = data[end + 1 :], 0
        else:
            room = max(0, _LONGEST_LINE_BYTES - len(rest))
            rest, cut = rest + data[:room], cut + max(0, len(data) - room)
    if rest:
        yield rest, len(rest) + cut
