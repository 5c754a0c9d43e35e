"""The common part of the endpoints of pages: language, frame and queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Callable, Optional

from minici import build as builds
from minici import html
from minici.build import Build
from minici.config import ServerConfig
from minici.html import (
    BuildJson,
    PageContext,
    Waiting,
)
from minici.routes.common import (
    Records,
)
from minici.scheduler.roster import KnownAgent
from minici.scheduler.state import State
from minici.store import Record
from minici.timestamps import parse_time
from minici.validation import public
from minici.web.routing import Request, Response, html_response


class PageRenderer:
    """Answers requests with pages. `base` is the server's address as a reader reaches it."""

    def __init__(
        self,
        state: State,
        config: ServerConfig,
        records: Records,
        base: Callable[[Request], str],
    ) -> None:
        self._state = state
        self._config = config
        self._records = records
        self._base = base

    def answer(self, page: str, status: int = 200) -> Response:
        """A page as a response that nobody keeps."""
        response = html_response(page, status)
        response.headers["Cache-Control"] = "no-store"
        return response

    def language(self, request: Request) -> str:
        """The language of a page for this request."""
        return html.choose_language(self._config.language, request.header("Accept-Language"))

    def context(
        self, request: Request, agents: Sequence[KnownAgent], project: Optional[str] = None
    ) -> PageContext:
        """The parts of a page that do not depend on its subject, but for the project."""
        shown = self._config.project(project) or self._config.default_project
        there = [agent for agent in agents if not agent.gone]
        able = [agent for agent in there if not (agent.trouble or agent.paused)]
        queued = self._state.queued()
        now = datetime.now(timezone.utc)
        return PageContext(
            repository=public(shown.repository),
            now=now,
            url=self._base(request),
            agents_total=len(there),
            slots_free=sum(agent.free_slots for agent in able),
            slots_total=sum(agent.slots for agent in there),
            agents_gone=len(agents) - len(there),
            agents_paused=sum(agent.paused for agent in there),
            start_agent_command=_start_agent(self._base(request), self._config.secret),
            queued=len(queued),
            oldest_wait=_seconds_since(queued[0].queued_at, now) if queued else None,
            user=request.user,
            shared_names=shared_names(agents),
            several_projects=len(self._config.projects) > 1,
        )

    def records_json(self, request: Request, records: Sequence[Record]) -> list[BuildJson]:
        """The JSON of builds, as the pages show them."""
        return self._records.json_list(request, records, most_files=0)

    def waiting(
        self, records: Sequence[Record], agents: Sequence[KnownAgent]
    ) -> dict[int, Waiting]:
        """The place of each queued build, and why it waits, by id."""
        queued = [
            each.id for each in records if isinstance(each, Build) and each.status == builds.QUEUED
        ]
        if not queued:
            return {}
        reasons, there = self._state.waiting_reasons(), sum(not agent.gone for agent in agents)
        found = {number: reasons.of(number) for number in queued}
        return {
            number: Waiting(each.place, there, each.reason, each.blocked)
            for number, each in found.items()
        }


def _seconds_since(moment: str, now: datetime) -> float:
    begun = parse_time(moment)
    return max(0.0, (now - begun).total_seconds()) if begun else 0.0


def _start_agent(url: str, secret: Optional[str]) -> str:
    """The shell lines that start an agent for this server: as they stand, or, where there is a
    secret, which no page shows, with the file that holds it."""
    if secret:
        return "python3 -m minici.agent config.ini"
    section = f"[agent]\\nport = 8001\\nserver = {url}\\n"
    return f"printf '{section}' >agent.ini\npython3 -m minici.agent agent.ini"


def shared_names(agents: Sequence[KnownAgent]) -> frozenset[str]:
    """The names that two agents or more have."""
    counts = Counter(agent.name for agent in agents)
    return frozenset(name for name, count in counts.items() if count > 1)
