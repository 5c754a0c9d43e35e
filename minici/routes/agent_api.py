"""The endpoints for agents: section 3 of the contract, "Server, for agents"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Optional

from minici import reasons
from minici.build import STREAMS, Result
from minici.files.incoming import FileGap, FileLeftOut
from minici.files.shelf import LeftOut
from minici.output.checkout_log import CHECKOUT
from minici.output.format import OffsetGap, StreamTail
from minici.reasons import Reason, sentence_of
from minici.routes.common import as_http, read_host, read_labels
from minici.scheduler.agent_updates import AgentUpdates, LeftOutFiles, StaleAttempt, Timeline
from minici.scheduler.roster import Registration
from minici.validation import MOST_NAMED_FILES, check_file_path
from minici.web.params import BadParameter, Parameters
from minici.web.routing import HttpError, Request, Response, Route, json_response

_SENT_STREAMS = (*STREAMS, CHECKOUT)
_PIECE_LIMIT_BYTES = 16 * 1024 * 1024  # minici's agent sends at most one MiB
_FILE_PIECE_LIMIT_BYTES = 1024 * 1024
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
                "/notify_build_file",
                self.notify_build_file,
                "agents",
                body_limit=_FILE_PIECE_LIMIT_BYTES,
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
        registration = Registration(
            host,
            port,
            name=_shortened(params.optional("name")),
            slots=slots,
            running=_ids(params),
            scheme="https" if params.text("scheme", "http") == "https" else "http",
            labels=read_labels(params),
        )
        with as_http():
            instance = self._reports.register(registration)
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

    def notify_build_file(self, request: Request) -> Response:
        query = request.query
        number, attempt = query.number("id"), query.number("attempt")
        path, offset = query.text("path"), query.number("offset")
        last = query.text("last", "") == "1"
        wrong = check_file_path(path)
        if wrong:
            raise BadParameter(Reason("param_wrong", name="path", reason=wrong))
        data = request.body.read_buffer()
        try:
            with as_http():
                following = self._reports.add_file(number, attempt, path, offset, data, last)
        except StaleAttempt:
            raise HttpError(410, Reason("stale_attempt")) from None
        except FileGap as gap:
            raise HttpError(409, Reason("offset_gap"), data={"next": gap.have}) from None
        except FileLeftOut as error:
            raise HttpError(413, sentence_of(error)) from None
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
                    _left_out(params),
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
        author_email=_shortened(params.optional("author_email")),
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


def _left_out(params: Parameters) -> LeftOutFiles:
    """The files that an agent has left out, as far as it says so in a way that can be read."""
    if not params.get("files_left_out"):
        return LeftOutFiles()
    try:
        count = params.number("files_left_out")
        records = json.loads(params.optional("files_left_out_names") or "[]")
        named = [
            LeftOut(
                str(record["path"])[:_TEXT_LIMIT],
                reasons.from_json(
                    str(record["reason"])[:_TEXT_LIMIT], record.get("key"), record.get("values")
                )
                or "",
            )
            for record in records[:MOST_NAMED_FILES]
        ]
    except (BadParameter, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return LeftOutFiles()  # no result is held back for it
    return LeftOutFiles(named, max(count, len(named)))


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
