"""The files of one attempt's output: `stdout`, `stderr` and `timeline`.

Offsets are raw: they count every byte that was written, kept or not. Section 4 of the contract.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

TIMELINE = "timeline"


# The raw ends of both streams after a piece came, and when, in milliseconds since the start.
RECORD = struct.Struct("<QQQ")


# In place of the time, in the first record of a finished timeline whose streams were cut: the
# other two numbers are then the bytes that were dropped.
DROPPED = 2**64 - 1


MARKER = re.compile(rb"\n?\[minici: (\d{1,18}) bytes dropped\]\n")


MARKER_LENGTH = 64  # bytes that a marker fits into


class OffsetGap(Exception):
    """Bytes are missing before the offset. `have` is what is there of each stream."""

    def __init__(self, have: Mapping[str, int]) -> None:
        super().__init__(f"bytes before the offset are missing: {dict(have)}")
        self.have = dict(have)


class Overrun(Exception):
    """The bytes at this offset are no longer kept."""


@dataclass(frozen=True)
class StreamTail:
    """The end of a stream: `length` bytes from raw offset `offset` on, read from `source`."""

    offset: int
    length: int
    source: BinaryIO


def marker(dropped: int, after_line: bool) -> bytes:
    """The line that stands for dropped bytes; `after_line`: the text before it ends a line."""
    return (b"" if after_line else b"\n") + b"[minici: %d bytes dropped]\n" % dropped


def marker_length(text: bytes) -> int:
    """The length of the marker that a text begins with; 0 if there is none."""
    found = MARKER.match(text)
    return found.end() if found else 0
