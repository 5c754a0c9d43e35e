"""The agents known to this server, for all threads: the roster under the lock of the State."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional

from minici.build import Attempt, AttemptId
from minici.reasons import Reason
from minici.scheduler.agent_history import Quarter
from minici.scheduler.agents_file import AgentsFile, to_record
from minici.scheduler.roster import Assignment, KnownAgent, PingResult, Registration, Roster
from minici.store import StoreUnavailable

log = logging.getLogger("minici.scheduler.agent_registry")


@dataclass
class AgentCount:
    """The number of agents by state (`ready`, `trouble`, `paused`, `gone`), and of the slots of
    those that are not gone."""

    states: Counter[str] = field(default_factory=Counter)
    slots: int = 0
    free_slots: int = 0

    def add(self, agent: KnownAgent) -> None:
        unable = "paused" if agent.paused else "trouble" if agent.trouble else ""
        self.states["gone" if agent.gone else unable or "ready"] += 1
        if not agent.gone:
            self.slots += agent.slots
        if not (agent.gone or unable):
            self.free_slots += agent.free_slots


class AgentRegistry:
    """Any thread may call it. `lock` guards `roster` and is not held by callers.

    `ready` is called, with the lock held, when an agent may have become ready for a build.
    """

    def __init__(
        self,
        lock: threading.Condition,
        roster: Roster,
        file: AgentsFile,
        clock: Callable[[], float],
        now: Callable[[], str],
        ready: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._roster = roster
        self._file = file
        self._clock = clock
        self._now = now
        self._ready = ready
        self._attention = threading.Event()  # there is something for the watchdog to look at
        self._histories_saved_at = clock()

    # The last server's agents, and this one's for the next.

    def restore(self) -> None:
        """Take over the agents that the last server knew. Once, before any other call."""
        now = self._clock()
        for agent in self._file.load(now):
            self._roster.add(agent)
            self._roster.distrust(agent, now)  # it may have gone while nobody looked
        self._file.restore_histories(list(self._roster), self._now())

    def restore_attempt(
        self, build: int, attempt: Attempt, overdue_after: float, alone: bool
    ) -> None:
        """Take over an attempt that the last server handed out. After `restore`."""
        now = self._clock()
        agent = self._roster.get(attempt.address)
        if agent is None:
            host, _, port = attempt.address.rpartition(":")
            number = int(port) if port.isascii() and port.isdigit() else 0
            agent = KnownAgent(host.strip("[]"), number, attempt.agent, 1, now)
            self._roster.add(agent)
        agent.gone, agent.gone_since = False, None  # it has a build: it may have come back
        self._roster.changed(agent)
        self._roster.assign(agent, AttemptId(build, attempt.number), now, overdue_after, alone)
        self._roster.accepted(agent, build, now)

    def save(self) -> None:
        """Make durable which agents there are, and which are gone. Raises StoreUnavailable."""
        self._file.save(self._records)

    def _records(self) -> list[Mapping[str, object]]:
        with self._lock:
            return [to_record(agent) for agent in self._roster]

    def _save_if_possible(self) -> None:
        """Save what nobody waits for; it is for the pages of the next server only."""
        with contextlib.suppress(StoreUnavailable):
            self.save()

    def save_histories(self, least_seconds: float = 0.0) -> None:
        """Keep the agents' last 24 hours, unless that was done less than `least_seconds` ago.

        Raises StoreUnavailable.
        """
        now = self._clock()
        if now - self._histories_saved_at < least_seconds:
            return
        self._histories_saved_at = now
        with self._lock:
            histories = {agent.address: agent.history.copy() for agent in self._roster}
        written = {address: history.written(now) for address, history in histories.items()}
        self._file.save_histories(self._now(), written)

    # For pages and programs.

    def agents(self) -> list[KnownAgent]:
        """The agents as they are now, copied but for their histories, by name."""
        with self._lock:
            copies = [
                dataclasses.replace(agent, assignments=dict(agent.assignments))
                for agent in self._roster
            ]
        return sorted(copies, key=lambda agent: (agent.name, agent.address))

    def count(self) -> AgentCount:
        """Count agents and slots, without copies: thousands of agents may be known."""
        count = AgentCount()
        with self._lock:
            for agent in self._roster:
                count.add(agent)
        return count

    def histories(self) -> dict[str, list[Quarter]]:
        """The last 24 hours of each agent, by its address."""
        with self._lock:
            histories = {agent.address: agent.history.copy() for agent in self._roster}
        now = self._clock()
        return {address: history.quarters(now) for address, history in histories.items()}

    def get(self, address: str) -> Optional[KnownAgent]:
        with self._lock:
            return self._roster.get(address)

    def name_of(self, name: str, address: str) -> str:
        """The name of an agent for a reason: with its address where others have the name too."""
        with self._lock:
            return self._roster.name_of(name, address)

    def forget(self, address: str) -> bool:
        """Take an agent that is gone from the list; return whether it was there and gone."""
        with self._lock:
            agent = self._roster.get(address)
            if agent is None or not agent.gone:
                return False
            self._roster.forget(address)
        self.save()
        return True

    def pause(self, address: str, paused: bool) -> bool:
        """Give an agent no more builds, or builds again; return whether it is known.

        Durable when this returns. Raises StoreUnavailable, and then nothing has changed.
        """
        with self._lock:
            agent = self._roster.get(address)
            if agent is None:
                return False
            before, agent.paused = agent.paused, paused
            self._roster.changed(agent)
            self._ready()
        try:
            self.save()
        except StoreUnavailable:
            with self._lock:
                agent.paused = before
                self._roster.changed(agent)
            raise
        if before != paused:
            log.info("agent %s %s", agent.name, "is paused" if paused else "takes builds again")
        return True

    # Signs of life.

    def register(self, registration: Registration) -> None:
        """Add an agent that announces itself, or note that it is still there.

        Raises StoreUnavailable.
        """
        now, at = self._clock(), self._now()
        fresh = KnownAgent(registration.host, registration.port, "", 1, now, registered=at)
        with self._lock:
            agent = self._roster.get(fresh.address)
            known = agent is not None
            if agent is None:
                agent = fresh
                self._roster.add(agent)
            changed = self._roster.take_over(agent, registration)
            self._roster.changed(agent)
            back = self._roster.heard(agent, now, at)
            if registration.lacks_one_of(agent.assignments) or agent.trouble:
                agent.next_ping = now
                self._attention.set()
            self._ready()
        if back or not known:
            log.info("agent %s at %s is %s", agent.name, agent.address, "back" if known else "new")
        if changed:
            self._attention.set()
            self.save()
        elif back:
            self._save_if_possible()

    def due_pings(self) -> list[KnownAgent]:
        """The agents to ping now; each is due again only after `pinged`."""
        with self._lock:
            due = self._roster.due_pings(self._clock())
            for agent in due:
                agent.pinging = True
            return due

    def pinged(self, agent: KnownAgent, ping: PingResult) -> list[AttemptId]:
        """Take in the result of a ping; return what the agent should not run."""
        with self._lock:
            now = self._clock()
            back, trouble = agent.gone and ping.answered, agent.trouble
            self._roster.pinged(agent, ping, now, self._now())
            strays = self._roster.strays(agent) if ping.running is not None else []
            if agent.next_ping <= now:
                self._attention.set()
            self._ready()
        if agent.trouble and agent.trouble != trouble:
            log.warning("agent %s takes no builds: %s", agent.name, agent.trouble)
        elif trouble and not agent.trouble:
            log.info("agent %s takes builds again", agent.name)
        if back:
            log.info("agent %s at %s is back", agent.name, agent.address)
            self._save_if_possible()
        return strays

    def rest(self, seconds: float) -> None:
        """Wait, but not where an agent needs attention. For the watchdog's thread only."""
        self._attention.wait(seconds)

    def wait(self, least_seconds: float, most_seconds: float) -> None:
        """Wait until a ping is due or an agent needs attention, within these bounds; at once
        for attention. For the watchdog's thread only."""
        with self._lock:
            pause = min(most_seconds, self._roster.next_moment(self._clock()))
        if not self._attention.wait(least_seconds):
            self._attention.wait(max(0.0, pause - least_seconds))
        self._attention.clear()

    def wake_watchdog(self) -> None:
        self._attention.set()

    # Attempts, by what agents said to them.

    def accepted(self, agent: KnownAgent, build: int) -> None:
        """The agent has taken a build, or may have: its pings tell from now on."""
        with self._lock:
            self._roster.accepted(agent, build, self._clock())

    def refused(self, agent: KnownAgent) -> None:
        """The agent did not take a build: rule 4."""
        with self._lock:
            self._roster.refused(agent, self._clock())

    def distrust(self, agent: KnownAgent) -> None:
        """Give the agent no build before its next good ping."""
        with self._lock:
            self._roster.distrust(agent, self._clock())

    def gave_back(self, address: str, trouble: Optional[str]) -> None:
        """The agent has returned a build, because of `trouble` or because it stops."""
        with self._lock:
            agent = self._roster.get(address)
            if agent is not None:
                self._roster.refused(agent, self._clock())
                agent.trouble = trouble or agent.trouble
                self._roster.changed(agent)

    def release(self, address: str, attempt: AttemptId) -> None:
        """The attempt is the agent's no longer."""
        with self._lock:
            self._roster.release(address, attempt)
            self._ready()

    def assigned(self, agent: KnownAgent) -> list[int]:
        """The ids of the builds that the agent has been given."""
        with self._lock:
            return list(agent.assignments)

    def conclude(self) -> list[tuple[KnownAgent, Assignment, str]]:
        """Settle which agents are gone; return the orphaned attempts, each with its ending."""
        with self._lock:
            now = self._clock()
            gone = self._roster.newly_gone(now)
            for agent, reason in gone:
                self._roster.lost(agent, reason, now, self._now())
            orphans = self._roster.orphans(now)
        self._log_gone(gone)
        if gone:
            self._save_if_possible()
        return orphans

    def _log_gone(self, gone: Sequence[tuple[KnownAgent, Reason]]) -> None:
        for agent, reason in gone:
            count = len(agent.assignments)
            log.warning("agent %s is gone (%s); it had %d builds", agent.name, reason, count)
