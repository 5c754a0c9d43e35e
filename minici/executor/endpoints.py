"""The calls that an agent answers: section 3 of the contract, "Agent, for the server"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable

from minici import reasons
from minici.build import AttemptId
from minici.executor.heartbeat import Heartbeat
from minici.executor.inventory import DELIVER, DROP, Inventory, NoSlot
from minici.executor.order import read_number, read_order
from minici.executor.self_check import SelfCheck
from minici.reasons import Reason, sentence_of
from minici.web.routing import HttpError, Request, Response, Route, json_response

INSTANCE = "X-Minici-Instance"  # the header with the word of the server that calls


@dataclass(frozen=True)
class AgentEndpoints:
    """The calls of the server, as routes. `server` is its URL, `name` the agent's own name, and
    `disk_usage` gives the bytes of mirrors and workspaces. For any thread."""

    server: str
    name: str
    inventory: Inventory
    heartbeat: Heartbeat
    self_check: SelfCheck
    disk_usage: Callable[[], Mapping[str, int]]

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/build", self._checked(self.build), "server"),
            Route("GET", "/ping", self._checked(self.ping), "server", quiet=True),
            Route("POST", "/cancel", self._checked(self.cancel), "server"),
        ]

    def _checked(self, handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """The handler for calls of this agent's own server alone: rule 20."""

        def handle(request: Request) -> Response:
            if not self.heartbeat.serves(request.header(INSTANCE)):
                raise HttpError(409, Reason("other_instance"))
            return handler(request)

        return handle

    def build(self, request: Request) -> Response:
        order = read_order(request.params(), self.server)
        trouble = self.self_check.trouble
        if trouble and not self.inventory.has(order.attempt_id):
            raise HttpError(503, trouble)
        try:
            self.inventory.accept(order)
        except NoSlot as error:
            raise HttpError(503, sentence_of(error)) from None
        except OSError as error:
            raise HttpError(503, self.self_check.report_disk(error)) from None
        return json_response({}, 202)

    def ping(self, request: Request) -> Response:
        self.heartbeat.heard()
        running, undelivered = self.inventory.snapshot()
        trouble = self.self_check.trouble
        key, values = reasons.to_json(trouble)
        return json_response(
            {
                "name": self.name,
                "slots": self.inventory.slots,
                "running": [_to_json(each) for each in running],
                "undelivered": [_to_json(each) for each in undelivered],
                "trouble": trouble,
                "trouble_key": key,
                "trouble_values": values,
                "disk": dict(self.disk_usage()),
            }
        )

    def cancel(self, request: Request) -> Response:
        params = request.params()
        number = read_number(params, "id")
        attempt = read_number(params, "attempt") if params.get("attempt") else None
        if params.text("superseded", "") == "1":
            found = self.inventory.stop(number, attempt, Reason("moved_on"), DROP)
        else:
            found = self.inventory.stop(number, attempt, Reason("cancelled"), DELIVER)
        if not found:
            raise HttpError(404, Reason("not_on_agent"))
        return json_response({})


def error_as_json(request: Request, error: HttpError) -> Response:
    """The answer for an error: an agent has no pages."""
    key, values = reasons.to_json(error.sentence)
    told = {"error": error.sentence, "error_key": key, "error_values": values}
    return json_response({**told, **error.data}, error.status, error.headers)


def _to_json(attempt_id: AttemptId) -> dict[str, int]:
    return {"id": attempt_id.build, "attempt": attempt_id.attempt}
