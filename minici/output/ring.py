"""The layout of a stream's file while the stream grows: a head and a ring. Pure.

At most `limit` bytes are kept: the first half of the limit as it came, and behind it a ring of
the newest bytes. Offsets are raw: they count every byte that was written.
"""

from __future__ import annotations


class Ring:
    """The layout of a growing stream of which `limit` bytes are kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.half = limit // 2
        self.size = limit - self.half  # bytes of the ring

    def gap(self, total: int) -> tuple[int, int]:
        """The raw bytes that are gone of `total`; empty, and at the end, if none are."""
        return (self.half, total - self.size) if total > self.limit else (total, total)

    def place(self, raw: int) -> tuple[int, int]:
        """The place of a raw byte in the file, and how many bytes stand there in one go."""
        if raw < self.half:
            return raw, self.half - raw
        place = (raw - self.half) % self.size
        return self.half + place, self.size - place
