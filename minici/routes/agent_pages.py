"""The page of all agents, and the form on it. Section 3 of the contract."""

from __future__ import annotations

from collections.abc import Sequence

from minici import html
from minici.html import (
    AgentsView,
    AgentView,
    RunningBuild,
)
from minici.reasons import Reason
from minici.routes.common import (
    as_http,
)
from minici.routes.page_renderer import PageRenderer
from minici.scheduler.agent_history import Quarter
from minici.scheduler.roster import KnownAgent
from minici.scheduler.state import State
from minici.timestamps import parse_time
from minici.web.routing import HttpError, Request, Response, Route, redirect


class AgentPages:
    """The page of all agents, as routes."""

    def __init__(self, state: State, renderer: PageRenderer) -> None:
        self._state = state
        self._renderer = renderer

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/agents", self.show, "people", ()),
            Route("POST", "/agents/forget", self.forget, "people", ("address",)),
            Route("POST", "/agents/pause", self.pause, "people", ("agent",)),
            Route("POST", "/agents/resume", self.resume, "people", ("agent",)),
        ]

    def show(self, request: Request) -> Response:
        agents = self._state.agents()
        days = self._state.registry.histories()
        shown = [self._agent(agent, days.get(agent.address, [])) for agent in agents]
        view = AgentsView(self._renderer.context(request, agents), shown)
        return self._renderer.answer(html.agents_page(self._renderer.language(request), view))

    def forget(self, request: Request) -> Response:
        with as_http():
            self._state.registry.forget(request.params().text("address"))
        return redirect("/agents")

    def pause(self, request: Request) -> Response:
        return self._set_paused(request, True)

    def resume(self, request: Request) -> Response:
        return self._set_paused(request, False)

    def _set_paused(self, request: Request, paused: bool) -> Response:
        address = request.params().text("agent")
        with as_http():
            known = self._state.registry.pause(address, paused)
        if not known:
            raise HttpError(404, Reason("no_agent", address=address))
        return redirect("/agents")

    def _agent(self, agent: KnownAgent, day: Sequence[Quarter]) -> AgentView:
        return AgentView(
            name=agent.name,
            address=agent.address,
            slots=agent.slots,
            state=_state(agent),
            heard=parse_time(agent.heard),
            running=[
                self._running(each.build, each.attempt) for each in agent.assignments.values()
            ],
            note=agent.gone_reason if agent.gone else "",
            gone_since=parse_time(agent.gone_since),
            history=day,
            trouble=agent.trouble or "",
            labels=agent.labels,
            paused=agent.paused,
            mirrors_bytes=agent.mirrors_bytes,
            workspaces_bytes=agent.workspaces_bytes,
        )

    def _running(self, number: int, attempt: int) -> RunningBuild:
        entry = self._state.unfinished_build(number)
        if entry is None:
            return RunningBuild(number, attempt, None)
        build = entry.build
        return RunningBuild(number, attempt, build.started_at, build.commit, build.command)


def _state(agent: KnownAgent) -> str:
    if agent.gone:
        return "gone"
    if agent.paused:
        return "paused"
    if agent.trouble:
        return "trouble"
    if agent.needs_ping or agent.refusals:
        return "refusing"
    return "busy" if agent.free_slots == 0 else "ready"
