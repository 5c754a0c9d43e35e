"""The JSON API for people's programs: section 3 of the contract."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from minici.routes.common import (
    FILTER_PARAMETERS,
    ID,
    START_PARAMETERS,
    Records,
    as_http,
    check_found,
    read_before,
    read_filter,
    read_start,
)
from minici.scheduler.roster import KnownAgent
from minici.scheduler.search import find_builds
from minici.scheduler.state import State
from minici.validation import check_command, check_commit
from minici.web.routing import HttpError, Request, Response, Route, json_response

_LIST_PARAMETERS = ("limit", "before", *FILTER_PARAMETERS)
_PAGE = 50
_MOST = 1000
_MOST_FILES = 100  # of each build in a list; its `file_count` says how many there are


class Api:
    """The JSON of builds and agents, as routes."""

    def __init__(self, state: State, records: Records) -> None:
        self._state = state
        self._records = records

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/builds", self.list_builds, "people", _LIST_PARAMETERS),
            Route("POST", "/api/builds", self.start_build, "people", START_PARAMETERS),
            Route("GET", f"/api/builds/{ID}", self.show_build, "people", ()),
            Route("GET", "/api/agents", self.list_agents, "people", ()),
        ]

    def list_builds(self, request: Request) -> Response:
        limit = min(_MOST, request.query.number("limit", _PAGE, least=1))
        wanted = read_filter(request.query)
        page = find_builds(self._state, read_before(request), limit, wanted)
        check_found(page, wanted, self._state.config)
        following = None
        if page.before is not None:
            query = {"before": page.before, "limit": limit, **wanted.parameters}
            given = {name: value for name, value in query.items() if value}
            following = f"/api/builds?{urllib.parse.urlencode(given)}"
        found = self._records.json_list(request, page.records, _MOST_FILES)
        return json_response({"builds": found, "next": following})

    def start_build(self, request: Request) -> Response:
        wanted = read_start(request.params(), self._state.config)
        for name, complaint in (
            ("commit", check_commit(wanted.commit)),
            ("command", check_command(wanted.command)),
        ):
            if complaint:
                raise HttpError(400, f"{name}: {complaint}")
        with as_http():
            build = self._state.enqueue(
                wanted.commit,
                wanted.command,
                request.user,
                project=wanted.project,
                ref=wanted.ref,
                labels=wanted.labels,
            )
        headers = {"Location": f"/api/builds/{build.id}"}
        return json_response(self._records.json(request, build), 201, headers)

    def show_build(self, request: Request, number: str) -> Response:
        with as_http():
            record = self._state.load(int(number))
        return json_response(self._records.json(request, record))

    def list_agents(self, request: Request) -> Response:
        return json_response({"agents": [_agent_json(each) for each in self._state.agents()]})


def _agent_json(agent: KnownAgent) -> Mapping[str, Any]:
    return {
        "name": agent.name,
        "address": agent.address,
        "slots": agent.slots,
        "labels": list(agent.labels),
        "paused": agent.paused,
        "running": [
            {"id": each.build, "attempt": each.attempt} for each in agent.assignments.values()
        ],
        "last_heard": agent.heard or None,
        "gone": agent.gone,
        "gone_since": agent.gone_since,
        "trouble": agent.trouble,
    }
