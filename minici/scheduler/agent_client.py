"""What the server says to agents: three calls, and what their answers mean for a build.

Section 3 of the contract, "KnownAgent, for the server", and rule 4 of section 5.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from minici.build import AttemptId, Build
from minici.reasons import Reason, sentence_of
from minici.scheduler.roster import KnownAgent, PingResult, parse_held
from minici.web.client import CallError, Client, Failed

ACCEPTED = "taken"
REFUSED = "refused"
IMPOSSIBLE = "impossible"  # 400: no agent can run this build
UNANSWERED = "unanswered"

_KEPT_CLIENTS = 1000


@dataclass(frozen=True)
class DispatchResult:
    """What came of offering a build to an agent: one of the words above, and why, in words."""

    outcome: str
    sentence: str = ""


class AgentClient:
    """Calls to agents. Any thread may use it.

    `make_client` returns a client for an agent's base URL. The clients of the `kept_clients`
    agents that were called last are kept, and their connections with them.
    """

    def __init__(
        self,
        make_client: Callable[[str], Client],
        clock: Callable[[], float] = time.monotonic,
        kept_clients: int = _KEPT_CLIENTS,
    ) -> None:
        self._clock = clock
        self._client_at = functools.lru_cache(maxsize=kept_clients)(make_client)

    def offer(
        self, agent: KnownAgent, build: Build, params: Mapping[str, object]
    ) -> DispatchResult:
        """Hand a build over, with the limits and addresses in `params`."""
        order = {
            "id": build.id,
            "attempt": build.attempt,
            "repository": build.repository,
            "commit": build.commit,
            "command": build.command,
            **params,
        }
        try:
            answer = self._client(agent).post("/build", order)
        except Failed as error:
            unknown = error.status is None and error.sent
            return DispatchResult(UNANSWERED if unknown else REFUSED, sentence_of(error))
        except CallError as error:
            if error.status == 400:
                said = str(error).removeprefix("HTTP 400").removeprefix(": ")
                return DispatchResult(IMPOSSIBLE, said or Reason("rejected"))
            return DispatchResult(REFUSED, sentence_of(error))
        if answer.status != 202:
            return DispatchResult(REFUSED, Reason("http_status", status=answer.status))
        return DispatchResult(ACCEPTED)

    def ping(self, agent: KnownAgent) -> PingResult:
        """Ask an agent whether it lives and what it has."""
        sent_at = self._clock()
        try:
            data = self._client(agent).get("/ping").data
        except CallError as error:
            refused = isinstance(error, Failed) and error.refused
            return PingResult(sent_at, answered=error.status is not None, refused=refused)
        return PingResult(
            sent_at,
            answered=True,
            running=parse_held(data.get("running")),
            undelivered=parse_held(data.get("undelivered")),
            slots=_slots(data.get("slots")),
        )

    def cancel(self, agent: KnownAgent, held: AttemptId, superseded: bool) -> bool:
        """Tell an agent to stop a build; whether it was told. `superseded`: the result of this
        attempt is of no more use."""
        params: dict[str, object] = {"id": held[0], "attempt": held[1]}
        if superseded:
            params["superseded"] = 1
        try:
            self._client(agent).post("/cancel", params)
        except CallError as error:
            return error.status is not None and error.status < 500
        return True

    def _client(self, agent: KnownAgent) -> Client:
        return self._client_at(f"{agent.scheme}://{agent.address}")


def _slots(value: Any) -> Optional[int]:
    return value if type(value) is int and 0 <= value <= 10_000 else None
