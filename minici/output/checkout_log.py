"""The output of git during fetch and checkout: the file `checkout` of an attempt.

The server and the agent keep it alike. It is bounded: past the limit the first half and the last
half are shown, and between them the line that says how many bytes were dropped. Offsets are raw:
they count every byte that was written, kept or not. Section 3 of the contract.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from minici.output.format import (
    MARKER,
    MARKER_LENGTH,
    OffsetGap,
    Overrun,
    marker,
)
from minici.output.ring import Ring

CHECKOUT = "checkout"
CHECKOUT_LIMIT_BYTES = 1024 * 1024

_SLACK_BYTES = 256 * 1024  # by which the file may outgrow the limit before it is written anew
_BLOCK_BYTES = 64 * 1024


class CheckoutLog:
    """The log of one attempt's checkout, as it stood on disk when this was made, and what was
    appended since. Not for two threads at once; a reader needs one of its own.

    A missing file is an empty log. Raises OSError throughout.
    """

    def __init__(self, folder: Path, limit: int = CHECKOUT_LIMIT_BYTES) -> None:
        self._path = folder / CHECKOUT
        self._ring = Ring(limit)
        self._file: Optional[int] = None
        self._load()

    def __enter__(self) -> CheckoutLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def total(self) -> int:
        """Raw bytes so far."""
        return self._size - self._marker_length + self._dropped

    def append(self, offset: int, data: bytes) -> None:
        """Add bytes at raw `offset`, which must be `total`; otherwise raise OffsetGap."""
        if offset != self.total:
            raise OffsetGap({CHECKOUT: self.total})
        if not data:
            return
        self._write(data)
        if self._size > self._ring.limit + _SLACK_BYTES:
            self._drop_middle()

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from raw `offset` on, b"" at the end; Overrun if they are gone."""
        gap_start, gap_end = self._ring.gap(self.total)
        end = min(self.total, offset + size)
        if gap_start <= offset < gap_end:
            raise Overrun
        if offset < gap_start:
            end = min(end, gap_start)
        if offset >= end or self._file is None:
            return b""
        place = offset if offset < self._ring.half else offset + self._marker_length - self._dropped
        return os.pread(self._file, end - offset, place)

    def follow(self, offset: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the rest of the log for a reader who has seen it up to raw `offset`, as blocks
        with the raw offset behind each. Bytes that are gone are one block: the line that counts
        them."""
        gap_start, gap_end = self._ring.gap(self.total)
        while True:
            if gap_start <= offset < gap_end:
                before = self.read(offset - 1, 1) if offset == gap_start and offset else b"\n"
                block = marker(gap_end - offset, before == b"\n")
                offset = gap_end
            else:
                block = self.read(offset, _BLOCK_BYTES)
                offset += len(block)
            if not block:
                return
            yield block, offset

    def _load(self) -> None:
        self._size = self._dropped = self._marker_length = 0
        try:
            self._file = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return
        self._size = os.fstat(self._file).st_size
        found = MARKER.match(os.pread(self._file, MARKER_LENGTH, self._ring.half))
        if found:
            self._dropped, self._marker_length = int(found[1]), found.end()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with open(self._path, "ab", buffering=0) as file:
            while view:
                written = file.write(view)
                self._size += written
                view = view[written:]
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)

    def _drop_middle(self) -> None:
        """Write the file anew with what is shown; a reader keeps the file that it has open."""
        temporary = self._path.with_name(CHECKOUT + ".tmp")
        temporary.write_bytes(b"".join(block for block, _ in self.follow()))
        os.replace(temporary, self._path)
        self.close()
        self._load()
