"""The part of an output that one page shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from minici.output.failures import failing_lines
from minici.output.lines import LinePosition, Lines, Match
from minici.output.reader import BOTH, Transcript

PART = 256 * 1024  # bytes of output on one page; the rest is a link away
LINES = 1000  # likewise
FIND_LENGTH = 200  # characters of a text that is looked for
_CONTEXT = 200  # lines before the one that was asked for

_Taken = tuple[str, float, bytes]  # stream, seconds since the start, bytes


@dataclass(frozen=True)
class Selection:
    """Which part: what ends at byte `to` of both streams or begins at byte `at`, or what is around
    a line. Without any of them it is the end."""

    at: Optional[int] = None
    to: Optional[int] = None
    line: Optional[int] = None


class Excerpt:
    """At most PART bytes and LINES lines of an open transcript, whole lines where they fit.

    `earlier` is where the part before it ends, `later` where the next one begins, or None;
    `place` is where a live reader goes on, in raw bytes.
    """

    def __init__(self, transcript: Transcript, wanted: Selection = Selection()) -> None:
        self._transcript = transcript
        lines, size = Lines(transcript), transcript.size(BOTH)
        start = min(size, wanted.at) if wanted.at is not None else None
        if wanted.line is not None:
            start = _around(lines, wanted.line)
        if start is None:
            start, end, taken = self._before(size if wanted.to is None else min(size, wanted.to))
        else:
            start, end, taken = self._after(start, size)
        self._taken = taken
        self.position: LinePosition = lines.position(transcript.place_of(start))
        self.earlier = start or None
        self.later = end if end < size else None
        self.place = transcript.raw_place(transcript.place_of(end))

    @property
    def pieces(self) -> Iterator[tuple[str, float, str]]:
        """The pieces shown, in the order of arrival: stream, seconds since the start, text."""
        for stream, seconds, data in self._taken:
            yield stream, seconds, data.decode("utf-8", "replace")

    def _before(self, end: int) -> tuple[int, int, Sequence[_Taken]]:
        start = max(0, end - PART)
        taken = list(_take(self._transcript, self._transcript.place_of(start), end - start))
        ends, first = _line_ends(taken), 0
        if len(ends) > LINES:
            first = ends[-LINES - 1]
        elif start and ends and start + ends[0] < end:
            first = ends[0]
        return start + first, end, list(_slice(taken, first, end - start))

    def _after(self, start: int, size: int) -> tuple[int, int, Sequence[_Taken]]:
        last = min(PART, size - start)
        taken = list(_take(self._transcript, self._transcript.place_of(start), last))
        ends = _line_ends(taken)
        if len(ends) > LINES:
            last = ends[LINES - 1]
        elif ends and start + last < size:
            last = ends[-1]
        return start, start + last, list(_slice(taken, 0, last))


@dataclass(frozen=True)
class Matches:
    """The lines that hold a text, by number; where there are `more`, not all of them."""

    lines: Sequence[Match]
    more: bool


def find_lines(transcript: Transcript, text: str, most: int) -> Matches:
    """Look for a text in the whole of an output, in whichever case; at most `most` lines of it."""
    wanted = text.partition("\n")[0]
    if not wanted.strip():
        return Matches((), False)
    found = sorted(Lines(transcript).search(wanted, most + 1), key=lambda line: line.number)
    return Matches(found[:most], len(found) > most)


def find_failures(transcript: Transcript, most: int) -> Matches:
    """The lines of an output that look like a failure; at most `most` of them."""
    found = sorted(Lines(transcript).select(failing_lines, most + 1), key=lambda line: line.number)
    return Matches(found[:most], len(found) > most)


def _around(lines: Lines, number: int) -> Optional[int]:
    """Return the start of a part that holds this line and some of the text before it."""
    place = lines.place_of(number)
    if place is None:
        return None
    before = lines.place_of(max(1, number - _CONTEXT))
    near = before is not None and sum(place) - sum(before) < PART // 4
    return sum(before) if near and before is not None else sum(place)


def _take(transcript: Transcript, place: tuple[int, int], most: int) -> Iterator[_Taken]:
    for piece in transcript.pieces(place):
        data = piece.data[:most]
        most -= len(data)
        yield piece.stream, piece.seconds, data
        if most <= 0:
            return


def _line_ends(taken: Sequence[_Taken]) -> list[int]:
    """Return the offset of the end of each line, its newline included."""
    text = b"".join(data for _, _, data in taken)
    return [found.end() for found in re.finditer(b"\n", text)]


def _slice(taken: Sequence[_Taken], first: int, last: int) -> Iterator[_Taken]:
    """The bytes from `first` to `last` of all pieces, piece by piece."""
    passed = 0
    for stream, seconds, data in taken:
        part = data[max(0, first - passed) : max(0, last - passed)]
        passed += len(data)
        if part:
            yield stream, seconds, part
