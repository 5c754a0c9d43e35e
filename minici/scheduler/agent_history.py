"""The last 24 hours of an agent, in quarters of an hour, in a kilobyte.

Pure: time comes as a parameter, in seconds of a monotonic clock.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

QUARTER_SECONDS = 900.0  # seconds
QUARTERS = 96

_HERE, _GONE, _BUSY = range(3)
_CELLS = 3
_LEVELS = 9  # a share is kept on disk as a digit


# Seconds of a quarter of an hour: for which the agent was there, and was gone (in the rest nobody
# looked), and for which it was busy, each second counted by the share of its slots that were.
Quarter = tuple[float, float, float]


class AgentHistory:
    """Keeps what is noted of one agent. The State's lock guards it.

    What was noted last holds until the next note, so noting at every sign of life is enough, and
    the state that is asked for in between is never far off.
    """

    __slots__ = ("_seconds", "_until", "_here", "_gone", "_busy")

    def __init__(self, now: float) -> None:
        self._seconds = array("f", [0.0]) * (QUARTERS * _CELLS)  # a ring, by quarter
        self._until = now
        self._here = False
        self._gone = False
        self._busy = 0.0

    def copy(self) -> AgentHistory:
        other = AgentHistory(self._until)
        other._seconds = self._seconds[:]
        other._here, other._gone, other._busy = self._here, self._gone, self._busy
        return other

    def note(self, now: float, here: bool, busy: float = 0.0) -> None:
        """From now on the agent is there or gone, with this share of its slots busy: 0 to 1."""
        self._pass(now)
        self._here, self._gone, self._busy = here, not here, busy

    def quarters(self, now: float) -> list[Quarter]:
        """The last 96 quarters, oldest first; the last one has just begun."""
        self._pass(now)
        oldest = int(self._until // QUARTER_SECONDS + 1) % QUARTERS * _CELLS
        cells = self._seconds[oldest:] + self._seconds[:oldest]
        return list(zip(cells[_HERE::_CELLS], cells[_GONE::_CELLS], cells[_BUSY::_CELLS]))

    def _pass(self, now: float) -> None:
        """Put the time since the last note into the quarters that it fell into."""
        begun = max(self._until, now - QUARTER_SECONDS * QUARTERS)
        if begun > self._until:
            self._until = begun
            self._seconds = array("f", [0.0]) * len(self._seconds)
        while self._until < now:
            quarter = int(self._until // QUARTER_SECONDS)
            end = min(now, (quarter + 1) * QUARTER_SECONDS)
            self._add(quarter, end - self._until)
            self._until = end
            if end == (quarter + 1) * QUARTER_SECONDS:
                self._clear(quarter + 1)

    def _add(self, quarter: int, seconds: float) -> None:
        place = quarter % QUARTERS * _CELLS
        self._seconds[place + _HERE] += seconds * self._here
        self._seconds[place + _GONE] += seconds * self._gone
        self._seconds[place + _BUSY] += seconds * self._busy

    def _clear(self, quarter: int) -> None:
        place = quarter % QUARTERS * _CELLS
        self._seconds[place : place + _CELLS] = array("f", [0.0]) * _CELLS

    # Over a restart of the server.

    def written(self, now: float) -> list[str]:
        """The day in three lines of digits, for `read` in another life of the server."""
        return ["".join(map(_digit, seconds)) for seconds in zip(*self.quarters(now))]

    def read(self, written: Sequence[str], ago: float) -> None:
        """Take over what was written `ago` seconds ago. Raises ValueError for anything else."""
        if len(written) != _CELLS or any(len(line) != QUARTERS for line in written):
            raise ValueError("a day has three lines of 96 digits")
        levels = [[int(digit) for digit in line] for line in written]
        newest = int(self._until // QUARTER_SECONDS) - round(ago / QUARTER_SECONDS)
        oldest = int(self._until // QUARTER_SECONDS) - QUARTERS + 1
        for cell in range(_CELLS):
            for back, level in enumerate(reversed(levels[cell])):
                if oldest <= newest - back:
                    place = (newest - back) % QUARTERS * _CELLS
                    self._seconds[place + cell] = level * QUARTER_SECONDS / _LEVELS


def _digit(seconds: float) -> str:
    return str(min(_LEVELS, round(seconds / QUARTER_SECONDS * _LEVELS)))
