"""Endpoints of the start page, of static files and of errors. Section 3 of the contract."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Callable, Optional

from minici import build as builds
from minici import html
from minici.build import Build
from minici.config import ServerConfig
from minici.hooks.runner import HookResult
from minici.html import (
    BranchView,
    FormView,
    IndexView,
    LookFailure,
    ProjectChoice,
    ProjectView,
)
from minici.reasons import Reason
from minici.routes.agent_pages import AgentPages
from minici.routes.build_pages import BuildPages
from minici.routes.common import (
    FILTER_PARAMETERS,
    START_PARAMETERS,
    Records,
    as_http,
    check_found,
    read_before,
    read_filter,
    read_project,
    read_start,
)
from minici.routes.page_renderer import PageRenderer
from minici.scheduler.branch_history import Branch
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.search import BuildFilter, find_builds
from minici.scheduler.state import QueueFull, State
from minici.store import Record, Store, StoreUnavailable
from minici.triggers.poller import Poller
from minici.validation import check_command, check_commit
from minici.web.routing import HttpError, Request, Response, Route, redirect

_INDEX_PARAMETERS = ("before", *FILTER_PARAMETERS, "commit", "command")
_LISTED_BUILDS = 30  # on one page
_LAST_BUILDS = 60  # builds that the strip, the tab's icon and its title are made from


class Pages:
    """All pages, as routes. `base` is the server's address as a reader reaches it."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        store: Store,
        config: ServerConfig,
        records: Records,
        poller: Poller,
        hook_failure: Callable[[int], Optional[HookResult]],
        base: Callable[[Request], str],
    ) -> None:
        self._poller = poller
        self._dispatcher = dispatcher
        self._state = state
        self._store = store
        self._config = config
        self._renderer = PageRenderer(state, config, records, base)
        self._build_pages = BuildPages(
            state, dispatcher, config, records, self._renderer, hook_failure
        )
        self._agent_pages = AgentPages(state, self._renderer)

    def routes(self) -> list[Route]:
        return [
            *self._build_pages.routes(),
            *self._agent_pages.routes(),
            Route("GET", "/", self.index, "people", _INDEX_PARAMETERS),
            Route("POST", "/build", self.start, "people", START_PARAMETERS),
            Route("POST", "/cancel", self.cancel_queued, "people", ("text", "project", "branch")),
            Route("POST", "/poll", self.poll, "people", FILTER_PARAMETERS),
            Route("GET", "/healthz", self.health, "people", (), public="healthz", quiet=True),
            Route("GET", "/static/([a-z0-9.-]+)", self.static, "anybody", ("v",), quiet=True),
        ]

    # The start page and its form.

    def index(self, request: Request) -> Response:
        name = request.query.optional("project")
        project = self._config.project(name) or self._config.default_project
        form = FormView(
            commit=request.query.text("commit", "HEAD"),
            command=request.query.text("command", project.command),
            project=project.name,
        )
        return self._index(request, form)

    def start(self, request: Request) -> Response:
        with as_http():
            wanted = read_start(request.params(), self._config)
        form = FormView(wanted.commit, wanted.command, project=wanted.project.name)
        errors = _form_errors(wanted.commit, wanted.command)
        if errors and request.wants_json():
            raise HttpError(400, "; ".join(errors.values()))
        if errors:
            keys = {name: _error_key(name, complaint) for name, complaint in errors.items()}
            return self._index(request, dataclasses.replace(form, errors=keys), 400)
        try:
            build = self._state.enqueue(
                wanted.commit,
                wanted.command,
                request.user,
                project=wanted.project,
                ref=wanted.ref,
                labels=wanted.labels,
            )
        except (QueueFull, StoreUnavailable) as error:
            if request.wants_json():
                with as_http():
                    raise
            full = isinstance(error, QueueFull)
            keys = {"form": "error_queue_full" if full else "error_disk"}
            response = self._index(request, dataclasses.replace(form, errors=keys), 503)
            response.headers["Retry-After"] = "30" if full else "5"
            return response
        return redirect(f"/build/{build.id}")

    def poll(self, request: Request) -> Response:
        """Look at the refs that a list is about now: those of its project, or of all."""
        params = request.params()
        with as_http():
            wanted = read_filter(params)
            read_project(params, self._config)  # or it is none
        self._poller.look_now(wanted.project)
        return redirect(_list_url(None, wanted))

    def cancel_queued(self, request: Request) -> Response:
        """Cancel all queued builds that fit a filter."""
        params = request.params()
        names = ("text", "project", "branch")
        wanted = BuildFilter(builds.QUEUED, *(params.optional(name) or None for name in names))
        with as_http():
            for build in self._state.queued():
                if wanted.fits(build):
                    self._dispatcher.cancel(build.id, request.user)
        return redirect(_list_url(None, dataclasses.replace(wanted, status=None)))

    def _index(self, request: Request, form: FormView, status: int = 200) -> Response:
        with as_http():
            wanted, before = read_filter(request.query), read_before(request)
            page = find_builds(self._state, before, _LISTED_BUILDS, wanted)
            check_found(page, wanted, self._config)
            narrowed = BuildFilter(project=wanted.project, branch=wanted.branch)
            last = find_builds(self._state, None, _LAST_BUILDS, narrowed).records
        listed = self._renderer.records_json(request, page.records)
        agents = self._state.agents()
        looks = [each for each in self._poller.statuses() if wanted.project in (None, each.project)]
        view = IndexView(
            context=self._renderer.context(request, agents, wanted.project),
            builds=listed,
            form=form,
            projects=self._projects(),
            waiting=self._renderer.waiting(page.records, agents),
            filter=wanted.status,
            text=wanted.text,
            project=wanted.project,
            branch=wanted.branch,
            newer=_list_url(None, wanted) if before else None,
            older=_list_url(page.before, wanted) if page.before else None,
            last=self._renderer.records_json(request, last),
            medians=self._medians(page.records, last),
            looks=looks != [],
            overview=self._overview(),
            cancellable=sum(map(wanted.fits, self._state.queued()))
            if wanted.status == builds.QUEUED
            else 0,
            look_failures=[
                LookFailure(each.project, each.failure)
                for each in looks
                if each.failure is not None
            ],
        )
        return self._renderer.answer(
            html.index_page(self._renderer.language(request), view), status
        )

    def _projects(self) -> list[ProjectChoice]:
        """The projects to choose from; none where there is one only."""
        projects = self._config.projects
        if len(projects) == 1:
            return []
        return [ProjectChoice(each.name, each.command) for each in projects]

    def _overview(self) -> list[ProjectView]:
        """The projects that have branches with builds, in their order in the configuration."""
        history = self._state.branch_history
        branches = history.branches(self._store.oldest)
        projects = [
            ProjectView(
                project.name,
                [_branch_view(branch) for branch in branches if branch.project == project.name],
                history.seconds(project.name),
            )
            for project in self._config.projects
        ]
        return [project for project in projects if project.branches]

    def _medians(self, shown: Sequence[Record], last: Sequence[Record]) -> Mapping[str, float]:
        """The typical seconds of the commands of the running builds, by command."""
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
            context = self._renderer.context(request, self._state.agents())
        page = html.error_page(
            self._renderer.language(request), error.status, error.sentence, context
        )
        return self._renderer.answer(page, error.status)


def _branch_view(branch: Branch) -> BranchView:
    since = branch.broken_since
    return BranchView(
        branch.name,
        [build._asdict() for build in branch.builds],
        branch.newest._asdict(),
        since._asdict() if since else None,
    )


def _form_errors(commit: str, command: str) -> dict[str, str]:
    complaints = {"commit": check_commit(commit), "command": check_command(command)}
    return {name: complaint for name, complaint in complaints.items() if complaint}


def _error_key(name: str, complaint: str) -> str:
    return f"error_{name}_{getattr(complaint, 'kind', 'wrong')}"


def _list_url(before: Optional[int], wanted: BuildFilter) -> str:
    values = {"before": before, **wanted.parameters}
    query = urllib.parse.urlencode({name: value for name, value in values.items() if value})
    return f"/?{query}" if query else "/"
