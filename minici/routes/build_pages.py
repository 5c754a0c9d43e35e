"""The page of one build, and the forms on it. Section 3 of the contract."""

from __future__ import annotations

import dataclasses
from itertools import islice
from typing import Callable, Optional

from minici import html
from minici.build import FAILURE, Build
from minici.config import ServerConfig
from minici.hooks.runner import HookResult
from minici.html import (
    BuildView,
    FilesView,
    FoundLine,
    HookFailureView,
)
from minici.output.excerpt import FIND_LENGTH, Excerpt, Selection, find_lines
from minici.reasons import Reason, sentence_of
from minici.routes.common import (
    ID,
    Records,
    as_http,
    has_result,
    whole,
)
from minici.routes.failures import FailureFinder
from minici.routes.output import place_after
from minici.routes.page_renderer import PageRenderer
from minici.scheduler.dispatcher import Dispatcher
from minici.scheduler.state import State
from minici.store import BuildUnusable
from minici.web.routing import HttpError, Request, Response, Route, json_response, redirect

_MOST_SHOWN_FILES = 200
_MOST_FOUND_LINES = 200  # listed on a page where a text was found


class BuildPages:
    """The pages of builds, as routes."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        config: ServerConfig,
        records: Records,
        renderer: PageRenderer,
        hook_failure: Callable[[int], Optional[HookResult]],
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._store = state.store
        self._config = config
        self._records = records
        self._renderer = renderer
        self._hook_failure = hook_failure
        self._failures = FailureFinder()

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                f"/build/{ID}",
                self.show,
                "people",
                ("attempt", "at", "to", "line", "log", "find"),
            ),
            Route("GET", f"/build/{ID}/failures", self.failures, "people", ("attempt",)),
            Route("POST", f"/build/{ID}/cancel", self.cancel, "people", ()),
            Route("POST", f"/build/{ID}/rebuild", self.rebuild, "people", ()),
        ]

    def show(self, request: Request, number: str) -> Response:
        with as_http():
            record = self._state.load(int(number))
            shown = _optional_number(request, "attempt", 1)
            wanted = Selection(
                at=_optional_number(request, "at"),
                to=_optional_number(request, "to"),
                line=_optional_number(request, "line", 1),
            )
        before, after = self._store.neighbours(int(number))
        project = record.project if isinstance(record, Build) else None
        context = self._renderer.context(request, self._state.agents(), project)
        if not isinstance(record, Build):
            view = BuildView(
                context,
                self._records.json(request, record, most_files=0),
                previous=before,
                next=after,
            )
            return self._renderer.answer(html.build_page(self._renderer.language(request), view))
        if shown is not None and not record.knows_attempt(shown):
            raise HttpError(404, Reason("no_attempt", build=int(number), attempt=shown))
        view = BuildView(
            context=context,
            build=self._records.json(request, record, most_files=0),
            waiting=self._renderer.waiting([record], self._state.agents()).get(record.id),
            max_attempts=self._config.max_attempts,
            previous=before,
            next=after,
            shown_attempt=shown,
            files=self._files(record),
            hook_failure=self._hook_failure_view(record.id),
        )
        view = self._with_sizes(view, record)
        if request.query.text("log", "") != "no":
            view = self._with_output(request, view, record, wanted)
        return self._renderer.answer(html.build_page(self._renderer.language(request), view))

    def _hook_failure_view(self, number: int) -> Optional[HookFailureView]:
        failure = self._hook_failure(number)
        if failure is None:
            return None
        return HookFailureView(failure.exit_status, failure.output, failure.again)

    def _files(self, build: Build) -> Optional[FilesView]:
        """The files of a build and what was left out; None where there is neither."""
        if not build.file_count and not build.files_left_out:
            return None
        try:
            contents = self._store.files(build).contents
        except BuildUnusable as error:
            return FilesView((), 0, 0, [(f"build {build.id}", sentence_of(error))], 1)
        files = contents.files.values()
        return FilesView(
            shown=[(each.path, each.size) for each in islice(files, _MOST_SHOWN_FILES)],
            count=len(files),
            size=sum(each.size for each in files),
            left_out=[(each.path, each.reason) for each in contents.left_out.values()],
            left_count=contents.left_count,
        )

    def _with_sizes(self, view: BuildView, record: Build) -> BuildView:
        """The view with the size of its output and the log of its checkout."""
        attempt = record.attempt if view.shown_attempt is None else view.shown_attempt
        with self._store.transcript(record.id, attempt, has_result(record, attempt)) as transcript:
            kept, damaged = transcript.kept, transcript.damaged
        with self._store.read_checkout_log(record.id, attempt) as log:
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
            failures = None
            if _has_failed(record, attempt):
                failures = self._failures.at_once(record.id, attempt, transcript)
            excerpt = Excerpt(transcript, wanted)
            if failures and failures.lines and wanted == Selection():
                first = failures.lines[0].number
                if first <= excerpt.position.begun:
                    excerpt = Excerpt(transcript, Selection(line=first))
            found = find_lines(transcript, find, _MOST_FOUND_LINES).lines
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
            failures=[line.number for line in failures.lines] if failures else None,
            found=[FoundLine(line.number, line.text) for line in found],
            earlier=_part_url(view, "to", excerpt.earlier, "log-end"),
            later=_part_url(view, "at", excerpt.later, "log"),
            live=live,
        )

    def failures(self, request: Request, number: str) -> Response:
        """The numbers of the lines that look like the failure, of a build that has failed."""
        with as_http():
            build = whole(self._state.load(int(number)))
            attempt = request.query.number("attempt", build.attempt)
        if not _has_failed(build, attempt):
            return json_response({"lines": [], "more": False})
        with self._store.transcript(build.id, attempt, has_result(build, attempt)) as transcript:
            found = self._failures.find(build.id, attempt, transcript)
        return json_response({"lines": [line.number for line in found.lines], "more": found.more})

    def cancel(self, request: Request, number: str) -> Response:
        with as_http():
            self._dispatcher.cancel(int(number), request.user)
        return redirect(f"/build/{number}")

    def rebuild(self, request: Request, number: str) -> Response:
        with as_http():
            old = whole(self._state.load(int(number)))
            build = self._state.rebuild(old, request.user)
        return redirect(f"/build/{build.id}")


def _has_failed(build: Build, attempt: int) -> bool:
    return build.status == FAILURE and attempt == build.attempt


def _part_url(view: BuildView, side: str, byte: Optional[int], there: str) -> Optional[str]:
    if byte is None:
        return None
    shown = f"attempt={view.shown_attempt}&" if view.shown_attempt else ""
    return f"/build/{view.build['id']}?{shown}{side}={byte}#{there}"


def _optional_number(request: Request, name: str, least: int = 0) -> Optional[int]:
    return request.query.number(name, least=least) if request.query.get(name) else None
