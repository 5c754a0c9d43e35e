"""The final form of an output that has outgrown its limit.

It is written beside the raw one, and takes its place in one step: the folder `sealed` is complete
from the moment that it has this name, and `absorb` may be interrupted and repeated.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minici.build import STDERR, STDOUT
from minici.durable import sync, sync_folder
from minici.output.format import DROPPED, TIMELINE

SEALED = "sealed"
BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True)
class SealedStream:
    """The layout of a finished stream's file: up to `head` as it was, then the marker, then
    from raw offset `tail` on; `size` bytes in all. What follows the marker of a stream that the
    agent has cut came after everything that came live: its `tail` is the live end."""

    head: int
    size: int
    dropped: int
    tail: int

    def place(self, raw: int, raw_end: int) -> int:
        """Return the place of raw offset `raw` in the file; the stream ends at `raw_end`."""
        if raw <= self.head:
            return raw
        if raw >= raw_end:
            return self.size
        marker_end = self.size - (raw_end - self.tail) if raw_end > self.tail else self.size
        return marker_end + max(0, raw - self.tail)


def absorb(folder: Path) -> None:
    """Complete what `_seal` has begun, after a crash as well."""
    sealed = folder / SEALED
    if not sealed.exists():
        return
    for name in (STDOUT, STDERR, TIMELINE):
        if (sealed / name).exists():
            os.replace(sealed / name, folder / name)
    sync_folder(folder)
    sealed.rmdir()


def read_blocks(source: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0:
        block = source.read(min(BLOCK_BYTES, length))
        if not block:
            raise ValueError("a stream is shorter than it was said to be")
        length -= len(block)
        yield block


def write_file(path: Path, blocks: Iterable[bytes]) -> int:
    size = 0
    with open(path, "wb") as file:
        for block in blocks:
            size += file.write(block)
        file.flush()
        sync(file.fileno())
    return size


def sealed_records(
    raw: Iterable[tuple[int, int, int]],
    finals: Mapping[str, SealedStream],
    raw_ends: Mapping[str, int],
    milliseconds: int,
) -> Iterator[tuple[int, int, int]]:
    """The timeline in places of the finished files, behind a record of what is gone."""
    out, err = finals[STDOUT], finals[STDERR]
    yield out.dropped, err.dropped, DROPPED
    before = (0, 0)
    for record in raw:
        ends = (
            out.place(record[0], raw_ends[STDOUT]),
            err.place(record[1], raw_ends[STDERR]),
        )
        if ends != before:
            yield (*ends, record[2])
            before = ends
    if before != (out.size, err.size):
        yield out.size, err.size, milliseconds
