"""The calls of the server to agents, and what their answers mean for a build.

Section 3 of the contract, "Agent, for the server", and rules 4, 20 and 21 of section 5.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from minici import reasons
from minici.build import AttemptId, Build
from minici.reasons import Reason, sentence_of
from minici.scheduler.roster import KnownAgent, PingResult, parse_attempts
from minici.web.client import CallError, Client, Failed

INSTANCE_HEADER = "X-Minici-Instance"

ACCEPTED = "accepted"
REFUSED = "refused"
IMPOSSIBLE = "impossible"  # 400: no agent can run this build
UNANSWERED = "unanswered"

_KEPT_CLIENTS = 1000
_ANOTHER_SERVER_STATUS = 409
_TROUBLE_LENGTH = 500  # characters that are kept
_MOST_BYTES = 2**63


@dataclass(frozen=True)
class DispatchResult:
    """The outcome of handing a build to an agent, one of the words above, and the reason."""

    outcome: str
    reason: str = ""


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

    def dispatch(
        self, agent: KnownAgent, build: Build, params: Mapping[str, object]
    ) -> DispatchResult:
        """Hand a build to an agent, with the limits and addresses in `params`."""
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
        """Ask an agent whether it lives, whether it can work, and what it has.

        An agent that works for another server is alive, and nothing else follows: rule 20.
        """
        sent_at = self._clock()
        try:
            data = self._client(agent).get("/ping").data
        except CallError as error:
            refused = isinstance(error, Failed) and error.refused
            foreign = error.status == _ANOTHER_SERVER_STATUS
            return PingResult(
                sent_at,
                answered=error.status is not None,
                refused=refused,
                trouble=Reason("another_server") if foreign else None,
            )
        disk = data.get("disk")
        disk = disk if isinstance(disk, Mapping) else {}
        return PingResult(
            sent_at,
            answered=True,
            running=parse_attempts(data.get("running")),
            undelivered=parse_attempts(data.get("undelivered")),
            slots=_whole(data.get("slots"), most=10_000),
            trouble=_trouble(data),
            mirrors_bytes=_whole(disk.get("mirrors"), _MOST_BYTES),
            workspaces_bytes=_whole(disk.get("workspaces"), _MOST_BYTES),
        )

    def cancel(self, agent: KnownAgent, attempt: AttemptId, superseded: bool) -> bool:
        """Tell an agent to stop a build; return whether it was told. `superseded`: the result
        of this attempt is of no more use."""
        params: dict[str, object] = {"id": attempt.build, "attempt": attempt.attempt}
        if superseded:
            params["superseded"] = 1
        try:
            self._client(agent).post("/cancel", params)
        except CallError as error:
            return error.status is not None and error.status < 500
        return True

    def _client(self, agent: KnownAgent) -> Client:
        return self._client_at(f"{agent.scheme}://{agent.address}")


def _whole(value: Any, most: int) -> Optional[int]:
    return value if type(value) is int and 0 <= value <= most else None


def _trouble(data: Mapping[str, Any]) -> Optional[str]:
    """The trouble that an agent names: with its key and values, if this version knows them."""
    sentence = data.get("trouble")
    if not isinstance(sentence, str) or not sentence:
        return None
    reason = reasons.from_json(sentence, data.get("trouble_key"), data.get("trouble_values"))
    return reason if reason and len(reason) <= _TROUBLE_LENGTH else sentence[:_TROUBLE_LENGTH]
