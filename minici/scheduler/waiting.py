"""The reason for which a queued build waits, and what would help: rule 3 of section 5. Pure.

Builds with the same needs share what is worked out, so a page with a thousand queued builds costs
little more than one.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from minici.reasons import Reason
from minici.scheduler.build_queue import Kind
from minici.scheduler.choosing import Labels
from minici.scheduler.roster import KnownAgent

_MOST_NAMED = 3  # agents in a sentence
_SAMPLED_BUILDS = 20  # of one kind, for their usual time
_UNABLE = {  # by what is mended soonest
    "paused": "wait_paused",
    "trouble": "wait_trouble",
    "stopping": "wait_stopping",
    "refusing": "wait_refusing",
    "gone": "wait_gone",
}


class Waiting(NamedTuple):
    """The place of a queued build among those that wait for the same agents, 1 for the next, and
    why it waits. `blocked`: no agent may take it, whatever becomes free."""

    place: int
    reason: Reason
    blocked: bool = False


@dataclass(frozen=True)
class AgentState:
    """An agent at one moment. `unable` is why it takes no builds, a key of `_UNABLE`, or empty.

    `ends` has for each of its builds the seconds after which it should have ended, if known.
    """

    name: str
    address: str
    labels: Labels
    taken: int
    free: int
    unable: str = ""
    trouble: str = ""
    paused: bool = False
    ends: tuple[Optional[float], ...] = ()


def agent_state(
    agent: KnownAgent, now: float, ends: Callable[[int], Optional[float]]
) -> AgentState:
    """Return the state of an agent; `ends` gives the seconds that a running build still takes."""
    return AgentState(
        agent.name,
        agent.address,
        frozenset(agent.labels),
        agent.taken_slots,
        agent.free_slots,
        _unable(agent, now),
        agent.trouble or "",
        agent.paused,
        tuple(map(ends, agent.assignments)),
    )


def _unable(agent: KnownAgent, now: float) -> str:
    if agent.gone:
        return "gone"
    if agent.trouble:
        return "trouble"
    if agent.paused:
        return "paused"
    if agent.closing:
        return "stopping"
    return "" if agent.is_trusted(now) else "refusing"


@dataclass(frozen=True)
class _Lane:
    """The builds of one kind: who may take them, and what stands against it."""

    able: frozenset[str]  # addresses
    free: int
    ends: Sequence[float]  # seconds until each taken slot should be free; none if one is unknown
    usual: Optional[float]  # seconds that one of the builds takes
    blocked: Optional[Reason]

    def seconds_until(self, place: int) -> Optional[float]:
        """The time until a slot should be free for the build at this place, if it is known."""
        if not self.ends:
            return None
        rounds, index = divmod(max(0, place - self.free - 1), len(self.ends))
        if rounds and self.usual is None:
            return None
        return self.ends[index] + rounds * (self.usual or 0.0)


class WaitingReasons:
    """The reasons of all queued builds at one moment.

    `lanes` are the queued builds by what they need, oldest first; `usual` gives the usual seconds
    of one. `postponed`: nothing is dispatched now, for want of disk or threads on the server.
    """

    def __init__(
        self,
        lanes: Mapping[Kind, Sequence[int]],
        agents: Sequence[AgentState],
        usual: Callable[[int], Optional[float]],
        postponed: bool = False,
    ) -> None:
        self._lanes = lanes
        self._agents = agents
        self._usual = usual
        self._postponed = postponed
        self._names = Counter(agent.name for agent in agents)
        self._kinds = {number: kind for kind, lane in lanes.items() for number in lane}
        self._worked_out: dict[Kind, _Lane] = {}
        self._rivals: dict[Kind, list[Sequence[int]]] = {}
        self._kept_for, self._kept = self._find_kept()

    def of(self, number: int) -> Waiting:
        """The place of a queued build, and why it waits; one that is not in the queue begins."""
        kind = self._kinds.get(number)
        if kind is None:
            return Waiting(1, Reason("wait_soon"))
        lane = self._lane(kind)
        if lane.blocked is not None:
            return Waiting(1, lane.blocked, blocked=True)
        place = 1 + sum(bisect.bisect_left(rival, number) for rival in self._rivals_of(kind))
        return Waiting(place, self._reason(number, kind[1], lane, place))

    def _reason(self, number: int, alone: bool, lane: _Lane, place: int) -> Reason:
        if self._postponed:
            return Reason("wait_postponed")
        kept, younger = self._kept, number > self._kept_for
        if kept is not None and number == self._kept_for:
            return Reason("wait_alone_agent", agent=self._name(kept))
        if alone:
            return Reason("wait_alone")
        if kept is not None and younger and lane.able == {kept.address}:
            return Reason("wait_kept", agent=self._name(kept), build=str(self._kept_for))
        if place <= lane.free and (kept is None or not younger):
            return Reason("wait_soon")
        return _in_line(place, lane.seconds_until(place))

    def _find_kept(self) -> tuple[int, Optional[AgentState]]:
        """The build that an agent is kept free for, and that agent; as `choose` decides it."""
        found = [
            (lane[0], self._lane(kind).able)
            for kind, lane in self._lanes.items()
            if kind[1] and self._lane(kind).able
        ]
        if not found:
            return 0, None
        number, able = min(found, key=lambda each: each[0])
        may = (agent for agent in self._agents if agent.address in able)
        return number, min(may, key=lambda agent: (agent.taken, len(agent.labels)))

    def _rivals_of(self, kind: Kind) -> list[Sequence[int]]:
        """The builds that wait for some of the same agents, in their lanes."""
        if kind not in self._rivals:
            able = self._lane(kind).able
            self._rivals[kind] = [
                lane
                for other, lane in self._lanes.items()
                if not able.isdisjoint(self._lane(other).able)
            ]
        return self._rivals[kind]

    def _lane(self, kind: Kind) -> _Lane:
        if kind not in self._worked_out:
            have = [agent for agent in self._agents if kind[0] <= agent.labels]
            able = [agent for agent in have if not agent.unable]
            usual = self._usual_of(self._lanes[kind][:_SAMPLED_BUILDS])
            ends = [usual if end is None else end for agent in able for end in agent.ends]
            known = sorted(end for end in ends if end is not None)
            self._worked_out[kind] = _Lane(
                frozenset(agent.address for agent in able),
                sum(agent.free for agent in able),
                known if len(known) == len(ends) else (),
                usual,
                None if able else self._blocked(kind[0], have),
            )
        return self._worked_out[kind]

    def _usual_of(self, builds: Sequence[int]) -> Optional[float]:
        known = [seconds for seconds in map(self._usual, builds) if seconds is not None]
        return sum(known) / len(known) if known else None

    def _blocked(self, labels: Labels, have: Sequence[AgentState]) -> Reason:
        if not self._agents:
            return Reason("wait_no_agent")
        if not have:
            return self._nobody_has(labels)
        order = list(_UNABLE)
        have = sorted(have, key=lambda agent: (order.index(agent.unable), agent.name))
        reasons = [self._why_unable(agent) for agent in have[:_MOST_NAMED]]
        if len(have) > _MOST_NAMED:
            reasons.append(Reason("wait_more", count=len(have) - _MOST_NAMED))
        if labels:
            key = "wait_unable_label" if len(labels) == 1 else "wait_unable_labels"
            return Reason(key, labels=_listed(labels), reasons=reasons)
        return Reason("wait_unable", reasons=reasons)

    def _nobody_has(self, labels: Labels) -> Reason:
        missing = labels.difference(*(agent.labels for agent in self._agents))
        if not missing:
            return Reason("wait_no_agent_with_all", labels=_listed(labels))
        key = "wait_label_missing" if len(missing) == 1 else "wait_labels_missing"
        return Reason(key, labels=_listed(missing))

    def _why_unable(self, agent: AgentState) -> Reason:
        trouble = {"reason": agent.trouble} if agent.unable == "trouble" else {}
        reason = Reason(_UNABLE[agent.unable], agent=self._name(agent), **trouble)
        if agent.paused and agent.unable != "paused":
            return Reason("wait_paused_too", reason=reason)
        return reason

    def _name(self, agent: AgentState) -> str:
        return agent.name if self._names[agent.name] == 1 else f"{agent.name} ({agent.address})"


def _in_line(place: int, seconds: Optional[float]) -> Reason:
    if seconds is None:
        return Reason("wait_next") if place == 1 else Reason("wait_place", place=place)
    if place == 1:
        return Reason("wait_next_in", time=_about(seconds))
    return Reason("wait_place_in", place=place, time=_about(seconds))


def _listed(labels: Labels) -> str:
    return " ".join(sorted(labels))


def _about(seconds: float) -> Reason:
    """A length of time, as exact as a guess may be."""
    if seconds < 90:
        return Reason("about_seconds", count=max(5, 5 * round(seconds / 5)))
    if seconds < 90 * 60:
        return Reason("about_minutes", count=round(seconds / 60))
    return Reason("about_hours", count=round(seconds / 3600))
