"""Which queued build goes next, and to which agent: rules 3 and 6 of section 5. Pure.

What is asked for often is kept ready: builds by what they need, agents by how fit they are. So a
choice costs the same with a thousand agents and a thousand queued builds as with ten of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

Labels = frozenset[str]
Rank = tuple[int, int]

_MOST_REQUIREMENTS = 2000  # sets of labels whose agents are kept ready


class QueuedBuild(NamedTuple):
    """A queued build: an agent must have all of its labels; `alone`, and nothing else to do."""

    id: int
    labels: Labels
    alone: bool


class Choice(NamedTuple):
    """A build, and the address of the agent that gets it."""

    build: int
    address: str


class AgentIndex:
    """Agents by rank, lowest first, to find the best one that has some labels."""

    def __init__(self) -> None:
        self._agents: dict[str, tuple[Labels, Rank]] = {}  # by address
        # For each set of labels that was asked for: the agents that have all of them, by rank.
        self._matches: dict[Labels, dict[Rank, dict[str, None]]] = {}

    def put(self, address: str, labels: Labels, rank: Optional[Rank]) -> None:
        """Set an agent's labels and rank; without a rank it is never found."""
        before = self._agents.get(address)
        after = None if rank is None else (labels, rank)
        if before == after:
            return
        self._agents.pop(address, None)
        if after is not None:
            self._agents[address] = after
        for wanted, ranks in self._matches.items():
            if before is not None and wanted <= before[0]:
                _remove(ranks, before[1], address)
            if after is not None and wanted <= after[0]:
                ranks.setdefault(after[1], {})[address] = None

    def best(self, labels: Labels, but: Optional[str] = None) -> Optional[tuple[Rank, str]]:
        """The agent of the lowest rank that has all the labels, and is not `but`."""
        ranks = self._matching(labels)
        for rank in sorted(ranks):
            for address in ranks[rank]:
                if address != but:
                    return rank, address
        return None

    def _matching(self, labels: Labels) -> dict[Rank, dict[str, None]]:
        found = self._matches.get(labels)
        if found is None:
            if len(self._matches) >= _MOST_REQUIREMENTS:
                self._matches.clear()
            found = self._matches[labels] = {}
            for address, (have, rank) in self._agents.items():
                if labels <= have:
                    found.setdefault(rank, {})[address] = None
        return found


def _remove(ranks: dict[Rank, dict[str, None]], rank: Rank, address: str) -> None:
    del ranks[rank][address]
    if not ranks[rank]:
        del ranks[rank]


def choose(heads: Iterable[QueuedBuild], free: AgentIndex, idle: AgentIndex) -> Optional[Choice]:
    """Decide which build is dispatched next, and to which agent; None if none can be.

    `heads` has the oldest build of each kind. `free` are the agents with a free slot, `idle` all
    that take builds, with the number of their taken slots as the first part of their rank. For
    the oldest build that has to run alone, the least busy agent that may take it is kept free of
    younger builds until it is idle.
    """
    heads = sorted(heads)
    kept_for, kept = _kept_free(heads, idle)
    for head in heads:
        but = kept if head.id > kept_for else None
        if head.alone:
            found = idle.best(head.labels, but)
            if found is not None and found[0][0] == 0:
                return Choice(head.id, found[1])
        else:
            found = free.best(head.labels, kept) or (
                free.best(head.labels) if but is None else None
            )
            if found is not None:
                return Choice(head.id, found[1])
    return None


def _kept_free(heads: Iterable[QueuedBuild], idle: AgentIndex) -> tuple[int, Optional[str]]:
    """The build that an agent is kept free for, and that agent; 0 and None if there is none."""
    for head in heads:
        found = idle.best(head.labels) if head.alone else None
        if found is not None:
            return head.id, found[1]
    return 0, None
