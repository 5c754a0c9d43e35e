"""The sentence that says why a queued build waits, and what would help: rule 3 of section 5."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from minici.build import QUEUED, Build
from minici.reasons import Reason
from minici.scheduler.choosing import Labels
from minici.scheduler.roster import KnownAgent
from minici.scheduler.state import State

_MOST_NAMED = 5  # agents in one sentence
_MINUTE_SECONDS = 90.0  # from here on, a time is said in minutes
_VALID_SECONDS = 0.1


@dataclass(frozen=True)
class Outlook:
    """The prospects of the builds with the same labels.

    `obstacle` is why no agent may take one now, whatever its place. `free`: an agent has a free
    slot. `seconds` is the usual time until the first taken slot is free, if it is known.
    """

    obstacle: Optional[Reason] = None
    free: bool = False
    seconds: Optional[float] = None


def outlook(
    labels: Labels, agents: Sequence[KnownAgent], seconds_left: Callable[[int], Optional[float]]
) -> Outlook:
    """Judge what builds with these labels wait for. Pure.

    `seconds_left` is the time that a running build will usually still take.
    """
    if all(agent.gone for agent in agents):
        return Outlook(Reason("wait_no_agent"))
    having = [agent for agent in agents if labels <= set(agent.labels)]
    if not having:
        return Outlook(_without_labels(labels, agents))
    able = [agent for agent in having if not _obstacle(agent)]
    if not able:
        return Outlook(_unable(labels, having))
    running = (build for agent in able for build in agent.assignments)
    seconds = min((s for s in map(seconds_left, running) if s is not None), default=None)
    return Outlook(None, any(agent.free_slots for agent in able), seconds)


def sentence(outlook: Outlook, position: int, alone: bool) -> Reason:
    """The sentence for a build at this place of the queue. Pure."""
    if outlook.obstacle:
        return outlook.obstacle
    if alone:
        return Reason("wait_alone", position=position)
    if outlook.free:
        return Reason("wait_soon")
    if outlook.seconds is None:
        return Reason("wait_place", position=position)
    if outlook.seconds < _MINUTE_SECONDS:
        return Reason("wait_seconds", position=position, seconds=max(1, round(outlook.seconds)))
    return Reason("wait_minutes", position=position, minutes=round(outlook.seconds / 60))


def _without_labels(labels: Labels, agents: Iterable[KnownAgent]) -> Reason:
    known = {label for agent in agents for label in agent.labels}
    missing = sorted(labels - known)
    if missing:
        return Reason("wait_label", labels=" ".join(missing))
    return Reason("wait_labels", labels=" ".join(sorted(labels)))


def _unable(labels: Labels, having: Sequence[KnownAgent]) -> Reason:
    obstacles = [each for each in map(_obstacle, having[:_MOST_NAMED]) if each]
    if not labels:
        return Reason("wait_unable", reasons=obstacles)
    return Reason("wait_unable_labels", labels=" ".join(sorted(labels)), reasons=obstacles)


def _obstacle(agent: KnownAgent) -> Optional[Reason]:
    """The reason why an agent takes no builds, whatever slots it has free."""
    name = f"{agent.name} ({agent.address})"
    if agent.gone:
        return Reason("wait_gone", agent=name)
    if agent.paused:
        return Reason("wait_paused", agent=name)
    if agent.trouble:
        return Reason("wait_trouble", agent=name, reason=agent.trouble)
    return Reason("wait_closing", agent=name) if agent.closing else None


class WaitingReasons:
    """The reasons why builds wait. Any thread may call it.

    The agents are looked at anew for a set of labels at most ten times a second, so that a list
    of a thousand queued builds costs little more than a list of others.
    """

    def __init__(self, state: State, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()  # guards _outlooks
        self._outlooks: dict[Labels, tuple[float, Outlook]] = {}

    def of(self, build: Build) -> Optional[Reason]:
        """Return the reason why a build waits; None if it does not."""
        position = self._state.position(build.id) if build.status == QUEUED else 0
        if not position:
            return None
        alone = build.runs_alone(self._state.config.max_attempts)
        return sentence(self._outlook(frozenset(build.labels)), position, alone)

    def _outlook(self, labels: Labels) -> Outlook:
        now = self._clock()
        with self._lock:
            looked_at, found = self._outlooks.get(labels, (0.0, None))
        if found is None or now - looked_at > _VALID_SECONDS:
            found = outlook(labels, self._state.agents(), self._state.usual_seconds_left)
            with self._lock:
                self._outlooks = {
                    each: value
                    for each, value in self._outlooks.items()
                    if now - value[0] <= _VALID_SECONDS
                }
                self._outlooks[labels] = now, found
        return found
