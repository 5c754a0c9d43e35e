"""The agents as the next server finds them: their records, and their last 24 hours.

`agents.json` and `agents-day.json` in the data folder: section 4 of the contract.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable

from minici import reasons
from minici.scheduler.roster import KnownAgent
from minici.store import Store
from minici.timestamps import parse_time

log = logging.getLogger("minici.scheduler.agents_file")

AgentRecord = Mapping[str, object]


class AgentsFile:
    """Writes the records of agents. Any thread may call it.

    Those who had to wait while another wrote may find that their change was written, too: a
    thousand agents that register at once cause some dozen writes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counting = threading.Lock()  # guards _wanted
        self._wanted = 0
        self._writing = threading.Lock()  # held while the file is written; guards _written
        self._written = 0

    def save(self, records: Callable[[], Sequence[AgentRecord]]) -> None:
        """Make durable what `records` returns now or later. Raises StoreUnavailable."""
        with self._counting:
            self._wanted += 1
            wanted = self._wanted
        with self._writing:
            if self._written >= wanted:
                return
            with self._counting:
                including = self._wanted
            self._store.save_agents(records())
            self._written = including

    def load(self, now: float) -> Iterator[KnownAgent]:
        """Yield the agents that the last server knew, as if heard of at `now`."""
        for record in self._store.load_agents():
            try:
                yield _agent(record, now)
            except (KeyError, ValueError):
                log.warning("agents.json: an agent can't be read; it will announce itself")

    def save_histories(self, at: str, histories: Mapping[str, Sequence[str]]) -> None:
        """Keep what the agents did of late, by address. Raises StoreUnavailable."""
        self._store.save_agent_history(at, histories)

    def restore_histories(self, agents: Sequence[KnownAgent], at: str) -> None:
        """Give the agents the histories that were saved, if any; `at` is the present time."""
        saved_at, histories = self._store.load_agent_history()
        saved, present = parse_time(saved_at), parse_time(at)
        if saved is None or present is None:
            return
        ago = max(0.0, (present - saved).total_seconds())
        for agent in agents:
            with contextlib.suppress(ValueError, TypeError):
                agent.history.read(histories.get(agent.address, ()), ago)


def to_record(agent: KnownAgent) -> AgentRecord:
    """The agent as it stands in agents.json."""
    key, values = reasons.to_json(agent.gone_reason)
    gone = {
        "gone_since": agent.gone_since,
        "gone_reason": agent.gone_reason,
        "gone_reason_key": key,
        "gone_reason_values": values,
    }
    return {
        "host": agent.host,
        "port": agent.port,
        "name": agent.name,
        "slots": agent.slots,
        "scheme": agent.scheme,
        "registered": agent.registered,
        "heard": agent.heard,
        "labels": list(agent.labels),
        "paused": agent.paused,
        **(gone if agent.gone else {}),
    }


def _agent(record: AgentRecord, now: float) -> KnownAgent:
    """Raises KeyError or ValueError."""
    agent = KnownAgent(
        host=str(record["host"]),
        port=int(str(record["port"])),
        name=str(record["name"]),
        slots=int(str(record["slots"])),
        heard_at=now,
        heard=str(record.get("heard") or ""),
        registered=str(record.get("registered") or ""),
        scheme="https" if record.get("scheme") == "https" else "http",
        labels=_labels(record.get("labels")),
        paused=record.get("paused") is True,
    )
    if record.get("gone_since"):
        agent.gone, agent.gone_since = True, str(record["gone_since"])
        words = str(record.get("gone_reason") or "")
        key, values = record.get("gone_reason_key"), record.get("gone_reason_values")
        agent.gone_reason = reasons.from_json(words, key, values) or ""
    return agent


def _labels(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()
