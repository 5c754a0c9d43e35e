"""The search for the first bad commit: a pure function over positions in a line of commits.

Position 0 is the first commit behind GOOD, the last position is BAD. With k builds at once a
round divides what is left into k + 1 parts, so n commits take ceil(log(n) / log(k + 1)) rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

GOOD, BAD, SKIP = "good", "bad", "skip"


@dataclass(frozen=True)
class Search:
    """The commits that may be the first bad one: those behind `good`, up to `bad`.

    `good` is a position, or -1 for GOOD itself. `tests` are the positions to build next; none
    means that the search is over, and that `culprits` can't be told apart.
    """

    good: int
    bad: int
    tests: tuple[int, ...]

    @property
    def culprits(self) -> range:
        return range(self.good + 1, self.bad + 1)


def search(count: int, results: Mapping[int, str], slots: int) -> Search:
    """Choose up to `slots` positions among `count` commits, after the results known so far.

    The last commit is bad without a result. Results that contradict each other (a good commit
    above a bad one) count for the lowest bad one.
    """
    bad = min([count - 1, *(at for at, result in results.items() if result == BAD)])
    good = max([-1, *(at for at, result in results.items() if result == GOOD and at < bad)])
    left = [at for at in range(good + 1, bad) if at not in results]
    wide = bad - good
    tests: list[int] = []
    for part in range(1, min(slots, wide - 1) + 1):
        wanted = good + part * wide // (min(slots, wide - 1) + 1)
        near = min(left, key=lambda at: (abs(at - wanted), at), default=None)
        if near is not None:
            left.remove(near)
            tests.append(near)
    return Search(good, bad, tuple(sorted(tests)))


def rounds_needed(count: int, slots: int) -> int:
    """The rounds that `count` commits take with so many builds at once."""
    rounds, reached = 0, 1
    while reached < count:
        rounds, reached = rounds + 1, reached * (slots + 1)
    return rounds


def verdict(exit_status: Optional[int]) -> Optional[str]:
    """A command's exit status as `git bisect run` understands it; None for one that stops it."""
    if exit_status == 0:
        return GOOD
    if exit_status == 125:
        return SKIP
    return BAD if exit_status and 1 <= exit_status <= 127 else None
