"""What people call: the pages and their forms. Section 3 of the contract."""

from __future__ import annotations

import bisect
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Callable, Optional

from minici import build as builds
from minici import html
from minici.answers import (
    ID,
    Records,
    as_http,
    read_before,
    read_status,
    tidy_command,
    whole,
)
from minici.api import find_builds
from minici.build import Build, check_command, check_commit, public
from minici.config import ServerConfig
from minici.day import QUARTER, Quarter
from minici.dispatch import Dispatcher
from minici.live import place_after
from minici.output import STREAMS
from minici.roster import Agent
from minici.state import QueueFull, State
from minici.store import Record, Store, StoreUnavailable
from minici.texts import parse_time
from minici.transcript import BOTH, Transcript
from minici.views import (
    AgentsView,
    AgentView,
    BuildJson,
    BuildView,
    FormView,
    IndexView,
    OutputPiece,
    QuarterView,
    RunningBuild,
    Site,
    Waiting,
)
from minici.web import HttpError, Request, Response, Route, html_response, redirect

_PAGE = 30
_LAST = 60  # builds that the strip, the tab's icon and its title are made from
_PART = 256 * 1024  # bytes of output on one page; the rest is a link away
_LINES = 4000  # likewise

_Taken = tuple[str, float, bytes]  # stream, seconds since the start, bytes


class Pages:
    """The pages, as routes. `base` is the server's address as a reader reaches it."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        store: Store,
        config: ServerConfig,
        records: Records,
        base: Callable[[Request], str],
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._store = store
        self._config = config
        self._records = records
        self._base = base

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/", self.index, "people"),
            Route("POST", "/build", self.start, "people"),
            Route("GET", f"/build/{ID}", self.build, "people"),
            Route("POST", f"/build/{ID}/cancel", self.cancel, "people"),
            Route("POST", f"/build/{ID}/rebuild", self.rebuild, "people"),
            Route("GET", "/agents", self.agents, "people"),
            Route("POST", "/agents/forget", self.forget, "people"),
            Route("GET", "/healthz", self.health, "people", quiet=True),
            Route("GET", "/static/([a-z0-9.-]+)", self.static, "anybody", quiet=True),
        ]

    # The start page and its form.

    def index(self, request: Request) -> Response:
        form = FormView(
            commit=request.query.text("commit", "HEAD"),
            command=request.query.text("command", self._config.command),
        )
        return self._index(request, form)

    def start(self, request: Request) -> Response:
        params = request.params()
        commit = params.text("commit", "").strip(" \t")
        command = tidy_command(params.text("command", ""))
        errors = _form_errors(commit, command)
        if errors and request.wants_json():
            raise HttpError(400, "; ".join(errors.values()))
        if errors:
            keys = {name: _error_key(name, complaint) for name, complaint in errors.items()}
            return self._index(request, FormView(commit, command, keys), 400)
        try:
            build = self._state.enqueue(commit, command, request.user)
        except (QueueFull, StoreUnavailable) as error:
            if request.wants_json():
                with as_http():
                    raise
            full = isinstance(error, QueueFull)
            form = FormView(commit, command, {"form": "error_queue_full" if full else "error_disk"})
            response = self._index(request, form, 503)
            response.headers["Retry-After"] = "30" if full else "5"
            return response
        return redirect(f"/build/{build.id}")

    def _index(self, request: Request, form: FormView, status: int = 200) -> Response:
        with as_http():
            wanted, text = read_status(request), request.query.optional("text")
            before = read_before(request)
            page = find_builds(self._store, before, _PAGE, wanted, text)
            last = self._store.page(None, _LAST).records
        listed = self._json(request, page.records)
        agents = self._state.agents()
        view = IndexView(
            site=self._site(request, agents),
            builds=listed,
            form=form,
            waiting=self._waiting(page.records, agents),
            filter=wanted,
            text=text,
            newer=_list_url(None, wanted, text) if before else None,
            older=_list_url(page.before, wanted, text) if page.before else None,
            last=self._json(request, last),
            medians=self._medians(page.records, last),
        )
        return self._page(html.index_page(self._language(request), view), status)

    def _medians(self, shown: Sequence[Record], last: Sequence[Record]) -> Mapping[str, float]:
        """How long the commands of the running builds usually take, in seconds."""
        for record in last:
            if isinstance(record, Build):
                self._state.usual.note(record)  # a server that was just started knows none
        commands = {
            record.command
            for record in shown
            if isinstance(record, Build) and record.status == builds.RUNNING
        }
        usual = {command: self._state.usual.of(command) for command in commands}
        return {command: seconds for command, seconds in usual.items() if seconds}

    # One build.

    def build(self, request: Request, number: str) -> Response:
        with as_http():
            record = self._state.load(int(number))
            shown = request.query.number("attempt", 0, least=1) or None
            at = request.query.number("at") if request.query.get("at") else None
        before, after = self._store.neighbours(int(number))
        site = self._site(request, self._state.agents())
        if not isinstance(record, Build):
            view = BuildView(site, self._records.json(request, record), previous=before, next=after)
            return self._page(html.build_page(self._language(request), view))
        if shown is not None and not record.knows_attempt(shown):
            raise HttpError(404, f"build {number} never had an attempt {shown}")
        attempt = record.attempt if shown is None else shown
        with self._store.transcript(record.id, attempt) as transcript:
            part = _Part(transcript, at)
            output = list(_decoded(part.pieces))
        live = None
        if not record.final and attempt == record.attempt and part.last:
            live = f"/build/{record.id}/live?place={place_after(record, part.place)}"
        view = BuildView(
            site=site,
            build=self._records.json(request, record),
            output=output,
            waiting=self._waiting([record], self._state.agents()).get(record.id),
            max_attempts=self._config.max_attempts,
            previous=before,
            next=after,
            shown_attempt=shown,
            first_line=part.first_line,
            earlier=_part_url(record.id, shown, part.earlier),
            later=_part_url(record.id, shown, part.later),
            live=live,
        )
        return self._page(html.build_page(self._language(request), view))

    def cancel(self, request: Request, number: str) -> Response:
        with as_http():
            self._dispatcher.cancel(int(number), request.user)
        return redirect(f"/build/{number}")

    def rebuild(self, request: Request, number: str) -> Response:
        with as_http():
            old = whole(self._state.load(int(number)))
            build = self._state.enqueue(old.commit, old.command, request.user, repeats=old)
        return redirect(f"/build/{build.id}")

    # The rest.

    def agents(self, request: Request) -> Response:
        agents = self._state.agents()
        view = AgentsView(self._site(request, agents), [self._agent(agent) for agent in agents])
        return self._page(html.agents_page(self._language(request), view))

    def forget(self, request: Request) -> Response:
        with as_http():
            self._state.forget(request.params().text("address"))
        return redirect("/agents")

    def health(self, request: Request) -> Response:
        with as_http():
            self._store.check_writable()
        return Response(200, b"ok")

    def static(self, request: Request, name: str) -> Response:
        found = html.static_file(name)
        if found is None:
            raise HttpError(404, "there is no such file")
        lasting = "max-age=31536000, immutable" if request.query.get("v") else "max-age=300"
        return Response(200, found[0], found[1], {"Cache-Control": f"public, {lasting}"})

    def error(self, request: Request, error: HttpError) -> Response:
        """The page of an error."""
        site = None
        if error.status not in (401, 403, 421):
            site = self._site(request, self._state.agents())
        page = html.error_page(self._language(request), error.status, error.sentence, site)
        return self._page(page, error.status)

    # What pages are made from.

    def _page(self, page: str, status: int = 200) -> Response:
        response = html_response(page, status)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _language(self, request: Request) -> str:
        return html.choose_language(self._config.language, request.header("Accept-Language"))

    def _site(self, request: Request, agents: Sequence[Agent]) -> Site:
        there = [agent for agent in agents if not agent.gone]
        queued = self._state.queued()
        now = datetime.now(timezone.utc)
        return Site(
            repository=public(self._config.repository),
            now=now,
            url=self._base(request),
            agents_total=len(there),
            slots_free=sum(agent.free_slots for agent in there),
            slots_total=sum(agent.slots for agent in there),
            agents_gone=len(agents) - len(there),
            start_agent_command=_start_agent(self._base(request), self._config.secret),
            queued=len(queued),
            oldest_wait=_seconds_since(queued[0].queued_at, now) if queued else None,
            user=request.user,
        )

    def _json(self, request: Request, records: Sequence[Record]) -> list[BuildJson]:
        return [self._records.json(request, record) for record in records]

    def _waiting(self, records: Sequence[Record], agents: Sequence[Agent]) -> dict[int, Waiting]:
        there = [agent for agent in agents if not agent.gone]
        full = not any(agent.free_slots for agent in there)
        return {
            record.id: Waiting(self._state.position(record.id), len(there), full)
            for record in records
            if isinstance(record, Build) and record.status == builds.QUEUED
        }

    def _agent(self, agent: Agent) -> AgentView:
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
            day=[_quarter(each) for each in agent.day.quarters(self._state.clock())],
        )

    def _running(self, number: int, attempt: int) -> RunningBuild:
        entry = self._state.entry(number)
        if entry is None:
            return RunningBuild(number, attempt, None)
        build = entry.build
        return RunningBuild(number, attempt, build.started_at, build.commit, build.command)


class _Part:
    """The part of an output that one page shows: the end of it, or what follows place `at`.

    It has at most _PART bytes and _LINES lines. `place` is where a live reader goes on.
    """

    def __init__(self, transcript: Transcript, at: Optional[int]) -> None:
        size = transcript.size(BOTH)
        start = max(0, size - _PART) if at is None else min(at, size)
        begun = transcript.place_of(start)
        taken = list(_take(transcript, begun, min(_PART, size - start)))
        ends = _line_ends(taken)
        first, last = 0, sum(len(data) for _, _, data in taken)
        if len(ends) > _LINES and at is None:
            first = ends[-_LINES - 1]
        elif len(ends) > _LINES:
            last = ends[_LINES - 1]
        self.pieces = list(_slice(taken, first, last))
        self.first_line = 1 + _count_lines(transcript, begun) + bisect.bisect(ends, first)
        start, end = start + first, start + last
        self.last = end >= size
        self.earlier = max(0, start - _PART) if start else None
        self.later = None if self.last else end
        self.place = transcript.raw_place(transcript.place_of(end))


def _take(transcript: Transcript, place: tuple[int, int], most: int) -> Iterator[_Taken]:
    for piece in transcript.pieces(place):
        data = piece.data[:most]
        most -= len(data)
        yield piece.stream, piece.seconds, data
        if most <= 0:
            return


def _line_ends(taken: Sequence[_Taken]) -> list[int]:
    """How many bytes stand before the end of each line, its newline included."""
    text = b"".join(data for _, _, data in taken)
    return [found.end() for found in re.finditer(b"\n", text)]


def _slice(taken: Sequence[_Taken], first: int, last: int) -> Iterator[_Taken]:
    """The bytes from `first` to `last` of all pieces, piece by piece."""
    passed = 0
    for stream, seconds, data in taken:
        part = data[max(0, first - passed) : max(0, last - passed)]
        passed += len(data)
        if part:
            yield stream, seconds, part


def _count_lines(transcript: Transcript, place: tuple[int, int]) -> int:
    lines = 0
    for stream, end in zip(STREAMS, place):
        lines += sum(block.count(b"\n") for block in transcript.read(stream, 0, end))
    return lines


def _decoded(pieces: Sequence[_Taken]) -> Iterator[OutputPiece]:
    for stream, seconds, data in pieces:
        yield OutputPiece(stream, seconds, data.decode("utf-8", "replace"))


def _form_errors(commit: str, command: str) -> dict[str, str]:
    complaints = {"commit": check_commit(commit), "command": check_command(command)}
    return {name: complaint for name, complaint in complaints.items() if complaint}


def _error_key(name: str, complaint: str) -> str:
    return f"error_{name}_{getattr(complaint, 'kind', 'wrong')}"


def _list_url(before: Optional[int], status: Optional[str], text: Optional[str]) -> str:
    values = {"before": before, "status": status, "text": text}
    query = urllib.parse.urlencode({name: value for name, value in values.items() if value})
    return f"/?{query}" if query else "/"


def _part_url(number: int, attempt: Optional[int], at: Optional[int]) -> Optional[str]:
    if at is None:
        return None
    shown = f"attempt={attempt}&" if attempt else ""
    return f"/build/{number}?{shown}at={at}"


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


def _quarter(quarter: Quarter) -> QuarterView:
    busy = quarter.busy / quarter.here if quarter.here else 0.0
    return QuarterView(quarter.here / QUARTER, quarter.gone / QUARTER, busy)


def _state(agent: Agent) -> str:
    if agent.gone:
        return "gone"
    if agent.needs_ping or agent.refusals:
        return "refusing"
    return "busy" if agent.free_slots == 0 else "ready"
