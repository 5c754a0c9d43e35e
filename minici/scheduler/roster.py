"""The agents that a server knows, and what it concludes of them.

Pure but for its own state: time is a parameter, in seconds of a monotonic clock, nothing here
calls anyone, and the State's lock guards it. Rules 3 to 6, 20 and 21 of section 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from minici.build import AttemptId
from minici.reasons import Reason
from minici.scheduler.agent_history import AgentHistory

_MOST_REFUSAL_DELAY_SECONDS = 60.0
_REFUSED_PINGS_TO_BE_GONE = 2
_PINGS_TO_BE_FORGOTTEN = 2
_GONE_PING_FACTOR = 5  # an agent that is gone is pinged this many times less often


@dataclass
class Assignment:
    """An attempt that an agent has been given. `taken_at` is when the agent accepted it.

    `alone`: the agent is given nothing beside it. `misses` counts the pings in a row that were
    answered without it. `delivering`: by its last ping it has ended, and its files and its result
    are on their way: its slot can have another build.
    """

    id: AttemptId
    assigned_at: float
    overdue_after: float
    alone: bool = False
    taken_at: Optional[float] = None
    misses: int = 0
    delivering: bool = False

    @property
    def build(self) -> int:
        return self.id.build

    @property
    def attempt(self) -> int:
        return self.id.attempt


@dataclass
class KnownAgent:
    """An agent by its address. Times are in seconds of the monotonic clock."""

    host: str
    port: int
    name: str
    slots: int
    heard_at: float
    assignments: dict[int, Assignment] = field(default_factory=dict)
    reported: tuple[AttemptId, ...] = ()
    told: tuple[AttemptId, ...] = ()  # what it was told to stop after its last ping
    gone: bool = False
    gone_since: Optional[str] = None
    gone_reason: str = ""
    heard: str = ""  # when it was last heard, for people
    history: AgentHistory = field(default_factory=lambda: AgentHistory(0.0), compare=False)
    registered: str = ""
    next_ping: float = 0.0
    pinging: bool = False
    refused_pings: int = 0
    refusals: int = 0
    not_before: float = 0.0
    distrusted_at: Optional[float] = None  # it gets no build before a good ping sent since
    slots_registered: bool = False  # it has said how many; else a ping's answer counts
    closing: bool = False  # it answers that it has no slots: it stops
    scheme: str = "http"
    trouble: Optional[str] = None  # why it takes no builds now
    mirrors_bytes: Optional[int] = None  # of its disk, as far as it says
    workspaces_bytes: Optional[int] = None

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def taken_slots(self) -> int:
        """The slots known to be taken, by builds of ours or by others that it reports."""
        running = sum(not assignment.delivering for assignment in self.assignments.values())
        if not self.reported:
            return running
        ours = {assignment.id for assignment in self.assignments.values()}
        return running + sum(attempt not in ours for attempt in self.reported)

    @property
    def free_slots(self) -> int:
        """The slots that a build can be given: none beside a build that runs alone."""
        if self.closing or any(each.alone for each in self.assignments.values()):
            return 0
        return max(0, self.slots - self.taken_slots)

    @property
    def busy(self) -> float:
        """The share of its slots that are taken."""
        return min(1.0, self.taken_slots / max(1, self.slots))

    @property
    def needs_ping(self) -> bool:
        return self.distrusted_at is not None

    def is_trusted(self, now: float) -> bool:
        """Return whether it gets builds at all."""
        return not (self.gone or self.trouble or self.needs_ping) and now >= self.not_before


@dataclass(frozen=True)
class PingResult:
    """The result of a ping that was sent at `sent_at`.

    `answered`: something came back over HTTP. `refused`: the port refused the connection.
    `running` and `undelivered` are None unless the answer had both lists. `trouble` is why the
    agent takes no builds now, if it can't.
    """

    sent_at: float
    answered: bool
    refused: bool = False
    running: Optional[tuple[AttemptId, ...]] = None
    undelivered: Optional[tuple[AttemptId, ...]] = None
    slots: Optional[int] = None
    trouble: Optional[str] = None
    mirrors_bytes: Optional[int] = None
    workspaces_bytes: Optional[int] = None


class Roster:
    """All agents by address, and which of them has which build."""

    def __init__(self, ping_interval: float, agent_timeout: float) -> None:
        # An agent that is heard less often than it may be silent would come and go for ever.
        self._interval = min(ping_interval, agent_timeout / 3)
        self._timeout = agent_timeout
        self._agents: dict[str, KnownAgent] = {}

    def __iter__(self) -> Iterator[KnownAgent]:
        return iter(list(self._agents.values()))

    def __len__(self) -> int:
        return len(self._agents)

    def get(self, address: str) -> Optional[KnownAgent]:
        return self._agents.get(address)

    def add(self, agent: KnownAgent) -> None:
        self._agents[agent.address] = agent
        agent.history = AgentHistory(agent.heard_at)
        if agent.gone:
            agent.history.note(agent.heard_at, here=False)

    def forget(self, address: str) -> None:
        self._agents.pop(address, None)

    def choose(
        self, ordinary: Optional[int], alone: Optional[int], now: float
    ) -> Optional[tuple[int, KnownAgent]]:
        """Decide which build is dispatched next, and to which agent; None if none can be.

        `ordinary` is the oldest queued build that may share an agent, `alone` the oldest that
        has to run alone: rule 6. For the latter one agent is kept free of younger builds until
        it is idle.
        """
        reserved = None if alone is None else self._reserved(now)
        older = ordinary is not None and (alone is None or ordinary < alone)
        if alone is not None and reserved and not reserved.taken_slots and not older:
            return alone, reserved
        if ordinary is not None:
            agent = self._freest(now, reserved) or (self._freest(now) if older else None)
            if agent is not None:
                return ordinary, agent
        return None

    def _freest(self, now: float, reserved: Optional[KnownAgent] = None) -> Optional[KnownAgent]:
        """The agent with the most free slots, or None if nobody else can take a build."""
        most, chosen = 0, None
        for agent in self._agents.values():
            if agent is not reserved and agent.is_trusted(now) and agent.free_slots > most:
                most, chosen = agent.free_slots, agent
        return chosen

    def _reserved(self, now: float) -> Optional[KnownAgent]:
        """The agent that has the least to do, for a build that has to run alone."""
        able = (a for a in self._agents.values() if a.is_trusted(now) and not a.closing)
        return min(able, key=lambda agent: agent.taken_slots, default=None)

    def assign(
        self,
        agent: KnownAgent,
        attempt: AttemptId,
        now: float,
        overdue_after: float,
        alone: bool = False,
    ) -> None:
        """Give an agent an attempt, which is overdue so many seconds after it was accepted."""
        agent.assignments[attempt.build] = Assignment(
            attempt, assigned_at=now, overdue_after=overdue_after, alone=alone
        )

    def release(self, address: str, attempt: AttemptId, *, still_there: bool = False) -> None:
        """Take an attempt from an agent. `still_there`: its command may go on for a moment, and
        takes the slot until a ping is answered without it."""
        agent = self._agents.get(address)
        if agent is None:
            return
        assignment = agent.assignments.get(attempt.build)
        if assignment is not None and assignment.id == attempt:
            del agent.assignments[attempt.build]
        agent.reported = tuple(each for each in agent.reported if each != attempt)
        if still_there:
            agent.reported += (attempt,)

    def strays(self, agent: KnownAgent) -> list[AttemptId]:
        """The attempts that the agent runs and should not."""
        ours = {assignment.id for assignment in agent.assignments.values()}
        return [attempt for attempt in agent.reported if attempt not in ours]

    # Events.

    def heard(self, agent: KnownAgent, now: float, at: str) -> bool:
        """Note a sign of life; return whether the agent was thought to be gone."""
        was_gone, agent.gone, agent.gone_since = agent.gone, False, None
        agent.heard_at, agent.heard = max(agent.heard_at, now), at
        agent.refused_pings = 0
        agent.history.note(now, here=True, busy=agent.busy)
        return was_gone

    def lost(self, agent: KnownAgent, reason: str, now: float, at: str) -> None:
        """Note that the agent is gone."""
        agent.gone, agent.gone_since, agent.gone_reason = True, at, reason
        agent.history.note(now, here=False)

    def refused(self, agent: KnownAgent, now: float) -> None:
        """Give it no build before a good ping, and later and later if it goes on refusing."""
        agent.refusals += 1
        self.distrust(agent, now)
        if agent.refusals > 1:
            delay = self._interval * 2.0 ** min(agent.refusals - 2, 10)
            agent.not_before = now + min(_MOST_REFUSAL_DELAY_SECONDS, delay)

    def distrust(self, agent: KnownAgent, now: float) -> None:
        """Give it no build before a ping sent from now on is answered."""
        agent.distrusted_at = now

    def accepted(self, agent: KnownAgent, build: int, now: float) -> None:
        agent.refusals = 0
        agent.not_before = 0.0
        if build in agent.assignments:
            agent.assignments[build].taken_at = now

    def pinged(self, agent: KnownAgent, ping: PingResult, now: float, at: str) -> None:
        """Take in the result of a ping, and set when the next one is due."""
        agent.pinging = False
        agent.next_ping = ping.sent_at + self._interval * (_GONE_PING_FACTOR if agent.gone else 1)
        if not ping.answered:
            agent.refused_pings = agent.refused_pings + 1 if ping.refused else 0
            return
        self.heard(agent, now, at)
        if agent.distrusted_at is not None and ping.sent_at >= agent.distrusted_at:
            agent.distrusted_at = None  # one sent before says nothing of what came since
        agent.closing = ping.slots == 0
        agent.trouble = ping.trouble
        agent.mirrors_bytes, agent.workspaces_bytes = ping.mirrors_bytes, ping.workspaces_bytes
        if ping.slots and not agent.slots_registered:
            agent.slots = ping.slots
        if ping.running is None or ping.undelivered is None:
            return
        agent.reported = ping.running
        for assignment in agent.assignments.values():
            assignment.delivering = assignment.id in ping.undelivered
        self._count_misses(agent, ping, {*ping.running, *ping.undelivered}, now)

    def _count_misses(
        self, agent: KnownAgent, ping: PingResult, has: set[AttemptId], now: float
    ) -> None:
        for assignment in agent.assignments.values():
            taken = assignment.taken_at
            if assignment.id in has:
                assignment.misses = 0
            elif taken is not None and ping.sent_at > taken:
                assignment.misses += 1
                agent.next_ping = now  # the second look, that settles it, need not wait

    # Conclusions.

    def due_pings(self, now: float) -> list[KnownAgent]:
        return [a for a in self._agents.values() if not a.pinging and a.next_ping <= now]

    def next_moment(self, now: float) -> float:
        """Seconds until the next ping is due."""
        times = [agent.next_ping for agent in self._agents.values() if not agent.pinging]
        return max(0.0, min(times, default=now + self._interval) - now)

    def newly_gone(self, now: float) -> list[tuple[KnownAgent, Reason]]:
        """The agents that are gone and were not before, each with the reason in words."""
        found = []
        for agent in self._agents.values():
            silence = now - agent.heard_at
            if agent.gone:
                continue
            if agent.refused_pings >= _REFUSED_PINGS_TO_BE_GONE:
                found.append((agent, Reason("port_refuses")))
            elif silence >= self._timeout:
                found.append((agent, Reason("silent", seconds=f"{silence:.1f}")))
        return found

    def orphans(self, now: float) -> list[tuple[KnownAgent, Assignment, str]]:
        """Attempts that have lost their agent, or their time, each with the attempt's ending.

        An attempt that its agent has not yet accepted is left to the call that hands it over.
        """
        found = []
        for agent in self._agents.values():
            for assignment in agent.assignments.values():
                if assignment.taken_at is None:
                    continue
                if agent.gone:
                    found.append((agent, assignment, "silent"))
                elif assignment.misses >= _PINGS_TO_BE_FORGOTTEN:
                    found.append((agent, assignment, "forgotten"))
                elif now - assignment.taken_at >= assignment.overdue_after:
                    found.append((agent, assignment, "overdue"))
        return found


def parse_attempts(value: Any) -> Optional[tuple[AttemptId, ...]]:
    """The list of attempts in a ping's answer; None if it is not one."""
    if not isinstance(value, list):
        return None
    attempts = []
    for each in value:
        build, attempt = (
            (each.get("id"), each.get("attempt")) if isinstance(each, Mapping) else (0, 0)
        )
        if type(build) is not int or type(attempt) is not int or build < 1:
            return None
        attempts.append(AttemptId(build, attempt))
    return tuple(attempts)
