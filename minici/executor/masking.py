"""Secret values in what a command writes, replaced by `***`.

The values are those of the variables that `pass` lets through, section 3 of the contract. A
stream is masked the same wherever it is cut into pieces. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

MASK = b"***"

_SHORTEST_BYTES = 6  # a shorter value would mask half of what is written
_PROBE_BYTES = 8  # of the beginning of a value, by which a possible match is found


class Masker:
    """The secret values of one command. For any thread; its streams are for one each."""

    def __init__(self, values: Iterable[bytes]) -> None:
        # A shell's `$(...)` takes the line ends off, so a value counts without them too.
        each = {form for value in values for form in (value, value.strip(b"\r\n"))}
        self._secrets = tuple(sorted(value for value in each if len(value) >= _SHORTEST_BYTES))

    def __bool__(self) -> bool:
        """True if there is anything to mask."""
        return bool(self._secrets)

    def stream(self) -> MaskedStream:
        """A new stream, in which nothing has been written yet."""
        return MaskedStream(self._secrets)

    def mask(self, text: str) -> str:
        """Return a text with `***` in place of the values; the same object if it has none."""
        data = text.encode("utf-8", "surrogateescape")
        masked = self.stream().feed(data, last=True)
        return text if masked == data else masked.decode("utf-8", "surrogateescape")


class MaskedStream:
    """Masks one stream piece by piece.

    Holds back only what may be the beginning of a value, which is less than the longest value.
    """

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""
        self._masked = 0  # bytes of `_held` for which `***` has been given out

    def feed(self, data: bytes, last: bool = False) -> bytes:
        """Add a piece, and return what can be given out now: all that is held if it is the `last`.

        Values that overlap are masked as one.
        """
        data = self._held + data if self._held else data
        cut = len(data) if last else self._first_unfinished(data)
        pieces: list[bytes] = []
        end = self._masked
        for start, stop in sorted(self._matches(data)):
            if start >= cut:
                break
            if start >= end:
                pieces += (data[end:start], MASK)
            end = max(end, stop)
        if pieces or end or cut < len(data):
            pieces.append(data[end:cut])
        self._held, self._masked = data[cut:], max(0, end - cut)
        return b"".join(pieces) if pieces else data[:cut]

    def _matches(self, data: bytes) -> Iterable[tuple[int, int]]:
        for secret in self._secrets:
            start = data.find(secret)
            while start >= 0:
                yield start, start + len(secret)
                start = data.find(secret, start + 1)

    def _first_unfinished(self, data: bytes) -> int:
        """The place of the first value whose end is still to come; the end of the data if none."""
        return min((_unfinished(data, secret) for secret in self._secrets), default=len(data))


def _unfinished(data: bytes, secret: bytes) -> int:
    """The first place from which all that follows is a beginning of `secret`, but not all of it."""
    place = max(0, len(data) - len(secret) + 1)
    probe = secret[:_PROBE_BYTES]
    near_end = max(place, len(data) - len(probe) + 1)
    while (place := data.find(probe, place)) >= 0:
        if secret.startswith(data[place:]):
            return place
        place += 1
    # Too near to the end for the whole probe.
    ends = (place for place in range(near_end, len(data)) if secret.startswith(data[place:]))
    return next(ends, len(data))
