"""The lines of one output that another one did not have.

Lines are compared as a page shows them, without colours and without what a carriage return has
written over, and by their fingerprints: which stream a line is of does not matter, nor how often
it is there. Of outputs that were cut, what is kept is compared; the line that stands for what was
dropped is never new. Memory grows by eight bytes for each line that is different from all others.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Optional

from minici.build import STREAMS
from minici.output.fingerprints import Fingerprints
from minici.output.lines import as_shown
from minici.output.reader import Transcript

_LONGEST_LINE_BYTES = 1024 * 1024  # of a longer one its beginning is compared
_MOST_PACKS = 4  # before they are made one
_LOOSE = 500_000  # fingerprints in a set, before they are packed
_MARKER = b"[minici: 1 bytes dropped]"

_Block = tuple[bytes, int]  # whole lines, without the last line feed, and their size in the stream


def new_lines(output: Transcript, earlier: Transcript) -> Iterator[Optional[int]]:
    """The numbers of the lines of `output` that `earlier` did not have, as its page counts them.

    They rise. None comes after each piece of work, so that a caller can give up between two.
    Raises OSError when reading fails.
    """
    fingerprints = Fingerprints()
    known = _KnownLines()
    known.add(fingerprints.of(_MARKER))
    for stream in STREAMS:
        for block, _ in _blocks(earlier, stream):
            known.add(fingerprints.of(as_shown(block)))
            yield None
    written = [stream for stream in STREAMS if output.size(stream)]
    if len(written) == 2:
        yield from _new_of_both(output, fingerprints, known)
    for stream in written if len(written) == 1 else ():
        number = 0
        for block, _ in _blocks(output, stream):
            found = fingerprints.of(as_shown(block))
            yield from (number + n for n, each in enumerate(found, 1) if each not in known)
            yield None
            number += len(found)


class _KnownLines:
    """A set of fingerprints, most of them packed."""

    def __init__(self) -> None:
        self._loose: set[int] = set()
        self._packed: list[array[int]] = []

    def add(self, fingerprints: list[int]) -> None:
        self._loose.update(fingerprints)
        if len(self._loose) >= _LOOSE:
            self._packed.append(array("q", sorted(self._loose)))
            self._loose = set()
            if len(self._packed) > _MOST_PACKS:
                everything = sorted({each for pack in self._packed for each in pack})
                self._packed = [array("q", everything)]

    def __contains__(self, fingerprint: int) -> bool:
        if fingerprint in self._loose:
            return True
        for pack in self._packed:
            place = bisect_left(pack, fingerprint)
            if place < len(pack) and pack[place] == fingerprint:
                return True
        return False


def _new_of_both(
    output: Transcript, fingerprints: Fingerprints, known: _KnownLines
) -> Iterator[Optional[int]]:
    """The new lines of two streams: a line stands where its first byte came."""
    sides = [_Side(_blocks(output, stream), fingerprints, known) for stream in STREAMS]
    number = 0
    for ends in output.ends():
        for side, end in zip(sides, ends):
            while side.start < end:
                number += 1
                if side.is_new:
                    yield number
                if side.go_on():
                    yield None


class _Side:
    """The next line of one stream: the offset at which it begins, and whether it is new."""

    def __init__(
        self, blocks: Iterator[_Block], fingerprints: Fingerprints, known: _KnownLines
    ) -> None:
        self._blocks = blocks
        self._fingerprints = fingerprints
        self._known = known
        self._lines: Iterator[tuple[int, bool]] = iter(())
        self._end = 0
        self.start, self.is_new = 0, False
        self.go_on()

    def go_on(self) -> bool:
        """Go to the next line; return True where a block was compared for it."""
        line = next(self._lines, None)
        if line is not None:
            self.start, self.is_new = line
            return False
        block, size = next(self._blocks, (None, 0))
        if block is None:
            self.start = sys.maxsize
            return True
        starts = accumulate((len(line) + 1 for line in block.split(b"\n")), initial=self._end)
        marks = [each not in self._known for each in self._fingerprints.of(as_shown(block))]
        self._lines = zip(starts, marks)
        self._end += size
        return self.go_on()


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
