"""The endpoints for agents: section 3 of the contract, "Server, for agents"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Optional

from minici import reasons
from minici.build import STREAMS, Result
from minici.output.checkout_log import CHECKOUT
from minici.output.format import OffsetGap, StreamTail
from minici.reasons import Reason
from minici.routes.common import as_http, read_host
from minici.scheduler.agent_updates import AgentUpdates, StaleAttempt, Timeline
from minici.web.params import BadParameter, Parameters
from minici.web.routing import HttpError, Request, Response, Route, json_response

_SENT_STREAMS = (*STREAMS, CHECKOUT)
_PIECE_LIMIT_BYTES = 16 * 1024 * 1024  # minici's agent sends at most one MiB
_TEXT_LIMIT = 4096  # characters of a reason, a subject or an author that are kept
_MOST_SLOTS = 10_000
_VALUES_LIMIT = 16 * 1024  # characters of the values of a reason, as JSON
_TIMELINE_LINE = re.compile(r"([oe]) ([0-9]{1,18}) ([0-9]{1,12}(?:\.[0-9]{1,6})?)")


class AgentEndpoints:
    """The calls of agents, as routes. `result_limit` is the largest result in bytes."""

    def __init__(self, reports: AgentUpdates, result_limit: int) -> None:
        self._reports = reports
        self._result_limit = result_limit

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/notify_agent", self.notify_agent, "agents", quiet=True),
            Route("POST", "/notify_build_returned", self.notify_build_returned, "agents"),
            Route(
                "POST",
                "/notify_build_output",
                self.notify_build_output,
                "agents",
                body_limit=_PIECE_LIMIT_BYTES,
                quiet=True,
            ),
            Route(
                "POST",
                "/notify_build_result",
                self.notify_build_result,
                "agents",
                body_limit=self._result_limit,
                large=STREAMS,
            ),
        ]

    def notify_agent(self, request: Request) -> Response:
        params = request.params()
        host, port = read_host(params)
        slots = params.number("slots", least=1) if params.get("slots") else None
        if slots is not None and slots > _MOST_SLOTS:
            raise BadParameter(Reason("param_range", name="slots", least=1, most=_MOST_SLOTS))
        with as_http():
            instance = self._reports.register(
                host,
                port,
                name=_shortened(params.optional("name")),
                slots=slots,
                running=_ids(params),
                scheme="https" if params.text("scheme", "http") == "https" else "http",
            )
        return json_response({"instance": instance})

    def notify_build_returned(self, request: Request) -> Response:
        params = request.params()
        with as_http():
            self._reports.give_back(
                params.number("id"),
                params.number("attempt"),
                trouble=_reason(params),
            )
        return json_response({})

    def notify_build_output(self, request: Request) -> Response:
        query = request.query
        number, attempt = query.number("id"), query.number("attempt")
        offset, stream = query.number("offset"), query.text("stream")
        if stream not in _SENT_STREAMS:
            raise BadParameter(
                Reason("param_choice", name="stream", choices=", ".join(_SENT_STREAMS))
            )
        seconds = _seconds(query.optional("seconds"))
        data = request.body.read()
        try:
            with as_http():
                following = self._reports.add_output(number, attempt, stream, offset, data, seconds)
        except StaleAttempt:
            raise HttpError(410, Reason("stale_attempt")) from None
        except OffsetGap as gap:
            have = {"next": gap.have[stream]}
            raise HttpError(409, Reason("offset_gap"), data=have) from None
        return json_response({"next": following})

    def notify_build_result(self, request: Request) -> Response:
        params = request.params()
        attempt = params.number("attempt") if params.get("attempt") else None
        rests = {stream: _rest(params, stream) for stream in STREAMS}
        try:
            with as_http():
                self._reports.finish(
                    params.number("id"),
                    attempt,
                    _result(params),
                    rests,
                    _timeline(params.optional("timeline")),
                )
        except OffsetGap as gap:
            raise HttpError(409, Reason("offset_gap"), data=gap.have) from None
        return json_response({})


def _rest(params: Parameters, stream: str) -> StreamTail:
    source, length = params.stream(stream)
    return StreamTail(params.number(f"{stream}_offset", 0), length, source)


def _result(params: Parameters) -> Result:
    return Result(
        exit_status=params.number("status", least=-(2**31)),
        reason=_reason(params),
        revision=_shortened(params.optional("revision")),
        subject=_shortened(params.optional("subject")),
        author=_shortened(params.optional("author")),
    )


def _reason(params: Parameters) -> Optional[str]:
    """The reason of a result: with its key and values, if they make the sentence that came."""
    sentence = _shortened(params.optional("reason"))
    key, values = params.optional("reason_key"), params.optional("reason_values") or "{}"
    if sentence is None or key is None or len(values) > _VALUES_LIMIT:
        return sentence
    try:
        reason = reasons.from_json(sentence, key, json.loads(values))
    except (ValueError, RecursionError):
        return sentence
    return reason if reason == sentence else sentence


def _shortened(text: Optional[str]) -> Optional[str]:
    return text[:_TEXT_LIMIT] if text else None


def _ids(params: Parameters) -> Optional[frozenset[int]]:
    """The builds that an agent says it has, or None if it says nothing of them."""
    if "running" not in params:
        return None
    names = [name.strip() for name in params.text("running").split(",") if name.strip()]
    if not all(re.fullmatch(r"[1-9][0-9]{0,17}", name) for name in names):
        raise BadParameter(Reason("param_ids", name="running"))
    return frozenset(int(name) for name in names)


def _seconds(text: Optional[str]) -> Optional[float]:
    """Seconds since the start, as the agent measured them; None if it did not."""
    if text is None or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text):
        return None
    return float(text)


def _timeline(text: Optional[str]) -> Optional[Timeline]:
    """The order of both streams as the agent saw it: lines of stream, bytes and seconds."""
    return None if text is None else _records(text)


def _records(text: str) -> Iterator[tuple[int, int, int]]:
    ends = {"o": 0, "e": 0}
    for line in text.splitlines():
        found = _TIMELINE_LINE.fullmatch(line)
        if not found:
            return
        ends[found[1]] += int(found[2])
        yield ends["o"], ends["e"], int(float(found[3]) * 1000)
