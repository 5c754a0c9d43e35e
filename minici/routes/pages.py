"""What people call: the pages and their forms. Section 3 of the contract."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Callable, Optional

from minici import build as builds
from minici import html
from minici.build import Build
from minici.config import ServerConfig
from minici.html import (
    AgentsView,
    AgentView,
    BuildJson,
    BuildView,
    FormView,
    FoundLine,
    IndexView,
    PageContext,
    RunningBuild,
    Waiting,
)
from minici.output.excerpt import FIND_LENGTH, Excerpt, Selection, find_lines
from minici.reasons import Reason
from minici.routes.common import (
    ID,
    Records,
    as_http,
    has_result,
    read_before,
    read_status,
    tidy_command,
    whole,
)
from minici.routes.output import place_after
from minici.scheduler.agent_history import Quarter
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.roster import KnownAgent
from minici.scheduler.search import find_builds
from minici.scheduler.state import QueueFull, State
from minici.store import Record, Store, StoreUnavailable
from minici.timestamps import parse_time
from minici.validation import check_command, check_commit, public
from minici.web.routing import HttpError, Request, Response, Route, html_response, redirect

_PAGE = 30
_LAST = 60  # builds that the strip, the tab's icon and its title are made from
_FOUND = 200  # lines that a page lists where a text was found


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
            Route(
                "GET", "/", self.index, "people", ("before", "status", "text", "commit", "command")
            ),
            Route("POST", "/build", self.start, "people", ("commit", "command")),
            Route(
                "GET",
                f"/build/{ID}",
                self.build,
                "people",
                ("attempt", "at", "to", "line", "log", "find"),
            ),
            Route("POST", f"/build/{ID}/cancel", self.cancel, "people", ()),
            Route("POST", f"/build/{ID}/rebuild", self.rebuild, "people", ()),
            Route("GET", "/agents", self.agents, "people", ()),
            Route("POST", "/agents/forget", self.forget, "people", ("address",)),
            Route("GET", "/healthz", self.health, "people", (), public="healthz", quiet=True),
            Route("GET", "/static/([a-z0-9.-]+)", self.static, "anybody", ("v",), quiet=True),
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
            page = find_builds(self._state, before, _PAGE, wanted, text)
            last = self._store.page(None, _LAST).records
        listed = self._json(request, page.records)
        agents = self._state.agents()
        view = IndexView(
            context=self._context(request, agents),
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
                self._state.typical_durations.note(
                    record
                )  # a server that was just started knows none
        commands = {
            record.command
            for record in shown
            if isinstance(record, Build) and record.status == builds.RUNNING
        }
        usual = {command: self._state.typical_durations.of(command) for command in commands}
        return {command: seconds for command, seconds in usual.items() if seconds}

    # One build.

    def build(self, request: Request, number: str) -> Response:
        with as_http():
            record = self._state.load(int(number))
            shown = _optional_number(request, "attempt", 1)
            wanted = Selection(
                at=_optional_number(request, "at"),
                to=_optional_number(request, "to"),
                line=_optional_number(request, "line", 1),
            )
        before, after = self._store.neighbours(int(number))
        context = self._context(request, self._state.agents())
        if not isinstance(record, Build):
            view = BuildView(
                context, self._records.json(request, record), previous=before, next=after
            )
            return self._page(html.build_page(self._language(request), view))
        if shown is not None and not record.knows_attempt(shown):
            raise HttpError(404, Reason("no_attempt", build=int(number), attempt=shown))
        view = BuildView(
            context=context,
            build=self._records.json(request, record),
            waiting=self._waiting([record], self._state.agents()).get(record.id),
            max_attempts=self._config.max_attempts,
            previous=before,
            next=after,
            shown_attempt=shown,
        )
        view = self._with_sizes(view, record)
        if request.query.text("log", "") != "no":
            view = self._with_output(request, view, record, wanted)
        return self._page(html.build_page(self._language(request), view))

    def _with_sizes(self, view: BuildView, record: Build) -> BuildView:
        """The view with the size of its output and the log of its checkout."""
        attempt = record.attempt if view.shown_attempt is None else view.shown_attempt
        with self._store.transcript(record.id, attempt, has_result(record, attempt)) as transcript:
            kept, damaged = transcript.kept, transcript.damaged
        with self._store.checkout_said(record.id, attempt) as log:
            text = b"".join(block for block, _ in log.follow()).decode("utf-8", "replace")
            total = log.total
        sizes = (kept.stdout, kept.stderr, kept.dropped)
        return dataclasses.replace(
            view,
            kept=sizes,
            checkout=text,
            checkout_bytes=total,
            damage=Reason("output_contradicts") if damaged else "",
        )

    def _with_output(
        self, request: Request, view: BuildView, record: Build, wanted: Selection
    ) -> BuildView:
        attempt = record.attempt if view.shown_attempt is None else view.shown_attempt
        find = request.query.text("find", "")[:FIND_LENGTH]
        with self._store.transcript(record.id, attempt, has_result(record, attempt)) as transcript:
            excerpt = Excerpt(transcript, wanted)
            found = find_lines(transcript, find, _FOUND).lines
        live = None
        if not record.final and attempt == record.attempt and excerpt.later is None:
            place = place_after(record, excerpt.place, view.checkout_bytes)
            live = f"/build/{record.id}/live?place={place}"
        return dataclasses.replace(
            view,
            output=[html.OutputPiece(*piece) for piece in excerpt.pieces],
            first_line=excerpt.position.begun + 1,
            continued=excerpt.position.open,
            find=find,
            found=[FoundLine(line.number, line.text) for line in found],
            earlier=_part_url(view, "to", excerpt.earlier, "log-end"),
            later=_part_url(view, "at", excerpt.later, "log"),
            live=live,
        )

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
        days = self._state.registry.histories()
        shown = [self._agent(agent, days.get(agent.address, [])) for agent in agents]
        view = AgentsView(self._context(request, agents), shown)
        return self._page(html.agents_page(self._language(request), view))

    def forget(self, request: Request) -> Response:
        with as_http():
            self._state.registry.forget(request.params().text("address"))
        return redirect("/agents")

    def health(self, request: Request) -> Response:
        with as_http():
            self._store.check_writable()
        return Response(200, b"ok")

    def static(self, request: Request, name: str) -> Response:
        found = html.static_file(name)
        if found is None:
            raise HttpError(404, Reason("no_file"))
        lasting = "max-age=31536000, immutable" if request.query.get("v") else "max-age=300"
        return Response(200, found[0], found[1], {"Cache-Control": f"public, {lasting}"})

    def error(self, request: Request, error: HttpError) -> Response:
        """The page of an error; for programs, a line of text where they get one if all is well."""
        if request.path == "/healthz" and "text/html" not in request.header("Accept"):
            return Response(error.status, f"{error.sentence}\n".encode())
        context = None
        stranger = self._config.users and request.user is None
        if not stranger and error.status not in (401, 403, 421):
            context = self._context(request, self._state.agents())
        page = html.error_page(self._language(request), error.status, error.sentence, context)
        return self._page(page, error.status)

    # What pages are made from.

    def _page(self, page: str, status: int = 200) -> Response:
        response = html_response(page, status)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _language(self, request: Request) -> str:
        return html.choose_language(self._config.language, request.header("Accept-Language"))

    def _context(self, request: Request, agents: Sequence[KnownAgent]) -> PageContext:
        there = [agent for agent in agents if not agent.gone]
        queued = self._state.queued()
        now = datetime.now(timezone.utc)
        return PageContext(
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
            shared_names=_shared_names(agents),
        )

    def _json(self, request: Request, records: Sequence[Record]) -> list[BuildJson]:
        return [self._records.json(request, record) for record in records]

    def _waiting(
        self, records: Sequence[Record], agents: Sequence[KnownAgent]
    ) -> dict[int, Waiting]:
        there = [agent for agent in agents if not agent.gone]
        able = [agent for agent in there if not _trouble(agent)]
        full = not any(agent.free_slots for agent in able)
        troubles = _troubles(agents)
        return {
            record.id: Waiting(
                self._state.position(record.id),
                len(there),
                full,
                troubles if full else (),
            )
            for record in records
            if isinstance(record, Build) and record.status == builds.QUEUED
        }

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
            trouble=_trouble(agent),
            mirrors_bytes=getattr(agent, "mirrors_bytes", None),
            workspaces_bytes=getattr(agent, "workspaces_bytes", None),
        )

    def _running(self, number: int, attempt: int) -> RunningBuild:
        entry = self._state.unfinished_build(number)
        if entry is None:
            return RunningBuild(number, attempt, None)
        build = entry.build
        return RunningBuild(number, attempt, build.started_at, build.commit, build.command)


def _form_errors(commit: str, command: str) -> dict[str, str]:
    complaints = {"commit": check_commit(commit), "command": check_command(command)}
    return {name: complaint for name, complaint in complaints.items() if complaint}


def _error_key(name: str, complaint: str) -> str:
    return f"error_{name}_{getattr(complaint, 'kind', 'wrong')}"


def _list_url(before: Optional[int], status: Optional[str], text: Optional[str]) -> str:
    values = {"before": before, "status": status, "text": text}
    query = urllib.parse.urlencode({name: value for name, value in values.items() if value})
    return f"/?{query}" if query else "/"


def _part_url(view: BuildView, side: str, byte: Optional[int], there: str) -> Optional[str]:
    if byte is None:
        return None
    shown = f"attempt={view.shown_attempt}&" if view.shown_attempt else ""
    return f"/build/{view.build['id']}?{shown}{side}={byte}#{there}"


def _optional_number(request: Request, name: str, least: int = 0) -> Optional[int]:
    return request.query.number(name, least=least) if request.query.get(name) else None


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


def _state(agent: KnownAgent) -> str:
    if agent.gone:
        return "gone"
    if _trouble(agent):
        return "trouble"
    if agent.needs_ping or agent.refusals:
        return "refusing"
    return "busy" if agent.free_slots == 0 else "ready"


def _shared_names(agents: Sequence[KnownAgent]) -> frozenset[str]:
    counts = Counter(agent.name for agent in agents)
    return frozenset(name for name, count in counts.items() if count > 1)


def _troubles(agents: Sequence[KnownAgent]) -> list[tuple[str, str]]:
    """The agents that take no builds now, with the reason; by address where a name is shared."""
    shared = _shared_names(agents)
    return [
        (f"{a.name} ({a.address})" if a.name in shared else a.name, _trouble(a))
        for a in agents
        if not a.gone and _trouble(a)
    ]


def _trouble(agent: KnownAgent) -> str:
    return getattr(agent, "trouble", None) or ""
