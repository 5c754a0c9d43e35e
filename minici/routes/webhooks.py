"""Calls that say that something was pushed: the next look at the refs comes now.

What they say besides is not believed. Contract, section 3, `/webhook/NAME` and `/api/poll`.
"""

from __future__ import annotations

from minici.config import ServerConfig
from minici.routes.common import read_project
from minici.triggers.poller import Poller
from minici.triggers.signatures import is_signed
from minici.web.routing import HttpError, Request, Response, Route, json_response

_BODY_LIMIT = 32 * 1024 * 1024  # bytes: GitHub sends up to 25 MB
_PIECE = 1024 * 1024  # bytes of a body that are in memory


class Webhooks:
    """The webhooks, as routes."""

    def __init__(self, config: ServerConfig, poller: Poller) -> None:
        self._config = config
        self._poller = poller

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                r"/webhook/([A-Za-z0-9._-]{1,64})",
                self.webhook,
                "anybody",
                body_limit=_BODY_LIMIT,
            ),
            Route("POST", "/api/poll", self.poll, "people", ("project",)),
        ]

    def webhook(self, request: Request, name: str) -> Response:
        project = self._config.project(name)
        if project is None or project.webhook_secret is None:
            raise HttpError(404, "there is no such project, or it has no webhook_secret")
        body = iter(lambda: request.body.read(_PIECE), b"")
        if not is_signed(request.headers, body, project.webhook_secret):
            raise HttpError(401, "the signature is missing or wrong: set the project's secret")
        self._poller.look_now(name)
        return json_response({"project": name}, 202)

    def poll(self, request: Request) -> Response:
        params = request.params()
        name = read_project(params, self._config).name if params.optional("project") else None
        self._poller.look_now(name)
        return json_response({}, 202)
