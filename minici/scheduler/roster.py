"""The agents that a server knows, and what it concludes of them.

Pure but for its own state: time is a parameter, in seconds of a monotonic clock, nothing here
calls anyone, and the State's lock guards it. Rules 3 to 6, 20 and 21 of section 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from minici.build import AttemptId
from minici.reasons import Reason
from minici.scheduler.agent_history import AgentHistory
from minici.scheduler.build_queue import BuildQueue
from minici.scheduler.choosing import AgentIndex, choose

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
    labels: tuple[str, ...] = ()
    paused: bool = False  # a person said that it gets no more builds

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def take_over(self, registration: Registration) -> bool:
        """Take over what the agent says of itself; return whether that is new."""
        before = (self.name, self.slots, self.scheme, self.labels)
        self.name = registration.name or self.address
        self.slots = registration.slots or self.slots
        self.scheme, self.labels = registration.scheme, registration.labels
        self.slots_registered, self.closing = registration.slots is not None, False
        return before != (self.name, self.slots, self.scheme, self.labels)

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
        unable = self.gone or self.trouble or self.paused or self.closing or self.needs_ping
        return not unable and now >= self.not_before


@dataclass(frozen=True)
class Registration:
    """An agent's announcement of itself: `/notify_agent` in section 3 of the contract.

    Without `slots` it has what its pings say, and one until then. `running` are the ids of the
    builds that it has, if it says so.
    """

    host: str
    port: int
    name: Optional[str] = None
    slots: Optional[int] = None
    running: Optional[frozenset[int]] = None
    scheme: str = "http"
    labels: tuple[str, ...] = ()

    def lacks_one_of(self, builds: Iterable[int]) -> bool:
        """Return whether it says that it has not all of these builds."""
        return self.running is not None and not self.running.issuperset(builds)


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
        self._names: Counter[str] = Counter()  # how many agents have each
        # Those that take builds, for `choose`: with a free slot, and all by their taken slots.
        self._free, self._idle = AgentIndex(), AgentIndex()
        self._now = 0.0  # of the last choice
        self._later: dict[str, float] = {}  # those that take builds again from then on

    def __iter__(self) -> Iterator[KnownAgent]:
        return iter(list(self._agents.values()))

    def __len__(self) -> int:
        return len(self._agents)

    def get(self, address: str) -> Optional[KnownAgent]:
        return self._agents.get(address)

    def name_of(self, name: str, address: str) -> str:
        """The name of an agent for a reason: with its address where others have the name too."""
        return f"{name} ({address})" if self._names[name] > 1 else name

    def take_over(self, agent: KnownAgent, registration: Registration) -> bool:
        """Take over what the agent says of itself; return whether that is new."""
        self._count_name(agent.name, -1)
        changed = agent.take_over(registration)
        self._count_name(agent.name, 1)
        return changed

    def _count_name(self, name: str, change: int) -> None:
        self._names[name] += change
        if not self._names[name]:
            del self._names[name]

    def add(self, agent: KnownAgent) -> None:
        self.forget(agent.address)
        self._agents[agent.address] = agent
        self._count_name(agent.name, 1)
        agent.history = AgentHistory(agent.heard_at)
        if agent.gone:
            agent.history.note(agent.heard_at, here=False)
        self.changed(agent)

    def forget(self, address: str) -> None:
        agent = self._agents.pop(address, None)
        if agent is not None:
            self._count_name(agent.name, -1)
        self._later.pop(address, None)
        self._free.put(address, frozenset(), None)
        self._idle.put(address, frozenset(), None)

    def choose(self, queue: BuildQueue, now: float) -> Optional[tuple[int, KnownAgent]]:
        """Decide which build is dispatched next, and to which agent; None if none can be."""
        self._now = now
        for address in [each for each, moment in self._later.items() if moment <= now]:
            self.changed(self._agents[address])
        choice = choose(queue.heads(), self._free, self._idle)
        return None if choice is None else (choice.build, self._agents[choice.address])

    def next_return(self) -> Optional[float]:
        """The moment from which an agent takes builds again though nothing is heard of it."""
        return min(self._later.values(), default=None)

    def changed(self, agent: KnownAgent) -> None:
        """Take in what has become of an agent: for every change that bears on a choice."""
        if self._agents.get(agent.address) is not agent:
            return
        labels, free, idle = frozenset(agent.labels), None, None
        self._later.pop(agent.address, None)
        if agent.is_trusted(self._now):
            idle = (agent.taken_slots, len(labels))
            # One without labels that nobody asks for first; then the freest.
            free = (len(labels), -agent.free_slots) if agent.free_slots else None
        elif agent.not_before > self._now:
            self._later[agent.address] = agent.not_before
        self._free.put(agent.address, labels, free)
        self._idle.put(agent.address, labels, idle)

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
        self.changed(agent)

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
        self.changed(agent)

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
        if was_gone:
            self.changed(agent)
        return was_gone

    def lost(self, agent: KnownAgent, reason: str, now: float, at: str) -> None:
        """Note that the agent is gone."""
        agent.gone, agent.gone_since, agent.gone_reason = True, at, reason
        agent.history.note(now, here=False)
        self.changed(agent)

    def refused(self, agent: KnownAgent, now: float) -> None:
        """Give it no build before a good ping, and later and later if it goes on refusing."""
        agent.refusals += 1
        self.distrust(agent, now)
        if agent.refusals > 1:
            delay = self._interval * 2.0 ** min(agent.refusals - 2, 10)
            agent.not_before = now + min(_MOST_REFUSAL_DELAY_SECONDS, delay)
            self.changed(agent)

    def distrust(self, agent: KnownAgent, now: float) -> None:
        """Give it no build before a ping sent from now on is answered."""
        agent.distrusted_at = now
        self.changed(agent)

    def accepted(self, agent: KnownAgent, build: int, now: float) -> None:
        agent.refusals = 0
        agent.not_before = 0.0
        if build in agent.assignments:
            agent.assignments[build].taken_at = now
        self.changed(agent)

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
        if ping.running is not None and ping.undelivered is not None:
            agent.reported = ping.running
            for assignment in agent.assignments.values():
                assignment.delivering = assignment.id in ping.undelivered
            self._count_misses(agent, ping, {*ping.running, *ping.undelivered}, now)
        self.changed(agent)

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
