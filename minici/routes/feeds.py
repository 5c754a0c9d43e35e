"""Endpoints for other programs: badges, an Atom feed, desktop monitors.

None of them ever answers 404: a picture in somebody's README says "no builds" instead.
"""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.parse
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable, Optional

from minici import html
from minici.build import CANCELLED, RUNNING, Build
from minici.config import ServerConfig
from minici.html import LANGUAGES, BuildJson, PageContext, Translator, choose_language
from minici.routes.common import Records, as_http, check_found, read_filter
from minici.scheduler.search import find_builds, is_of_branch
from minici.scheduler.state import State
from minici.store import NoSuchBuild, Record, Store
from minici.validation import public
from minici.web.routing import Request, Response, Route, json_response, revalidated

_LAST = 60  # builds that a feed or a monitor is made from
_MOST_SCANNED = 2000  # records that are read to find the newest build of a kind
_MOST_REMEMBERED = 200  # kinds of builds whose newest one is remembered
_BADGE_PARAMETERS = ("commit", "project", "branch", "label", "language")
_SHORT_HASH = re.compile("[0-9a-fA-F]{4,64}")


class Monitors:
    """The badges and feeds, as routes. `base` is the server's address as a caller reaches it."""

    def __init__(
        self,
        state: State,
        config: ServerConfig,
        records: Records,
        base: Callable[[Request], str],
    ) -> None:
        self._state = state
        self._config = config
        self._records = records
        self._base = base
        self._newest = NewestBuilds(state.store)

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/badge.svg",
                self.badge,
                "people",
                _BADGE_PARAMETERS,
                public="badge",
                quiet=True,
            ),
            Route(
                "GET",
                "/badge.json",
                self.shield,
                "people",
                _BADGE_PARAMETERS,
                public="badge",
                quiet=True,
            ),
            Route(
                "GET",
                "/feed.atom",
                self.feed,
                "people",
                ("status", "text", "project", "branch", "language"),
                public="feeds",
                quiet=True,
            ),
            Route("GET", "/cc.xml", self.cctray, "people", (), public="feeds", quiet=True),
        ]

    def badge(self, request: Request) -> Response:
        with as_http():
            picture = html.badge_svg(self._badge_translator(request), *self._badge_of(request))
        return _answer(request, picture, "image/svg+xml; charset=utf-8")

    def shield(self, request: Request) -> Response:
        with as_http():
            data = html.badge_json(self._badge_translator(request), *self._badge_of(request))
        return _varied(revalidated(request, json_response(data)))

    def feed(self, request: Request) -> Response:
        with as_http():
            wanted = read_filter(request.query)
            page = find_builds(self._state, None, _LAST, wanted)
            check_found(page, wanted, self._config)
        chosen = {name: value for name, value in wanted.parameters.items() if value}
        query = f"?{urllib.parse.urlencode(chosen)}" if chosen else ""
        builds = self._json(request, page.records)
        translate, context = self._translator(request), self._context(request)
        feed = html.atom_feed(translate, context, builds, query, wanted.project)
        return _answer(request, feed, "application/atom+xml; charset=utf-8")

    def cctray(self, request: Request) -> Response:
        base = self._base(request)
        running = {
            build.project for build in self._state.unfinished_builds() if build.status == RUNNING
        }
        names = [project.name for project in self._config.projects]
        if len(names) == 1:  # it has all builds, those of projects that are no more included
            name = html.repository_name(public(self._config.default_project.repository))
            last = self._decided(request, None)
            projects = [html.MonitoredProject(name, f"{base}/", last, bool(running))]
        else:
            projects = [
                html.MonitoredProject(
                    name,
                    f"{base}/?{urllib.parse.urlencode({'project': name})}",
                    self._decided(request, name),
                    name in running,
                )
                for name in names
            ]
        return _answer(request, html.cctray(projects), "application/xml")

    def _decided(self, request: Request, project: Optional[str]) -> Optional[BuildJson]:
        """The newest build of a project that has ended and that nobody has cancelled."""
        record = self._newest.of(Wanted(project=project, decided=True))
        return self._records.json(request, record) if record else None

    def _badge_of(self, request: Request) -> tuple[Optional[BuildJson], Optional[str]]:
        """The build that a badge is about, if there is one, and the badge's label, if it is given
        or follows from the other parameters."""
        query = request.query
        names = ("commit", "project", "branch")
        commit, project, branch = (query.optional(name) or None for name in names)
        record = self._newest.of(Wanted(commit, project, branch))
        build = self._records.json(request, record) if record else None
        return build, query.optional("label") or commit or branch or project

    def _badge_translator(self, request: Request) -> Translator:
        """`?language=` goes first, then the configuration; else English, whoever looks: a badge
        stands in a README."""
        asked = request.query.text("language", "")
        setting = asked if asked in LANGUAGES else self._config.language
        return Translator(setting if setting in LANGUAGES else "en")

    def _translator(self, request: Request) -> Translator:
        """`?language=` goes first: programs name no language."""
        asked = request.query.text("language", "")
        setting = asked if asked in LANGUAGES else self._config.language
        return Translator(choose_language(setting, request.header("Accept-Language")))

    def _context(self, request: Request) -> PageContext:
        now = datetime.now(timezone.utc)
        return PageContext(
            public(self._config.default_project.repository), now, self._base(request)
        )

    def _json(self, request: Request, records: Sequence[Record]) -> list[BuildJson]:
        return self._records.json_list(request, records)


@dataclass(frozen=True)
class Wanted:
    """The builds among which the newest is looked for; None stands for everything.

    `commit` is a name that a build was started by, or a revision; `branch` a branch by its short
    name. `decided`: only those that have ended and were not cancelled.
    """

    commit: Optional[str] = None
    project: Optional[str] = None
    branch: Optional[str] = None
    decided: bool = False

    def fits(self, build: Build) -> bool:
        return (
            (self.commit is None or _is_of_commit(build, self.commit))
            and self.project in (None, build.project)
            and (self.branch is None or is_of_branch(build, self.branch))
            and (not self.decided or (build.final and build.status != CANCELLED))
        )


class NewestBuilds:
    """The newest build of a kind. Any thread may ask.

    Up to which build it has looked is remembered, and asking again reads what is newer: a badge
    is asked for each time that somebody looks at a README.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()  # guards _found
        self._found: OrderedDict[Wanted, tuple[int, int]] = OrderedDict()  # checked, found

    def of(self, wanted: Wanted) -> Optional[Record]:
        """The newest build that is wanted, as far as it is among the last some thousand; the
        newest of all, damaged or not, if all are wanted."""
        if wanted == Wanted():
            newest = self._store.page(None, 1).records
            return newest[0] if newest else None
        with self._lock:
            checked, found = self._found.get(wanted, (0, 0))
        checked, found = self._look(wanted, checked, found)
        with self._lock:
            self._found[wanted] = checked, found
            self._found.move_to_end(wanted)
            if len(self._found) > _MOST_REMEMBERED:
                self._found.popitem(last=False)
        with contextlib.suppress(NoSuchBuild):
            return self._store.load(found) if found else None
        return None

    def _look(self, wanted: Wanted, checked: int, found: int) -> tuple[int, int]:
        """Look at the builds above `checked`. One that is not final gets its revision and its
        status later, so it is looked at again."""
        settled = top = self._store.newest
        for number in range(top, max(checked, self._store.oldest - 1, top - _MOST_SCANNED), -1):
            with contextlib.suppress(NoSuchBuild):
                record = self._store.load(number)
                if not isinstance(record, Build):
                    continue
                if not record.final:
                    settled = number - 1
                if wanted.fits(record):
                    return settled, number
        return settled, found


def _is_of_commit(build: Build, commit: str) -> bool:
    if build.commit == commit:
        return True
    short = _SHORT_HASH.fullmatch(commit) is not None
    return short and (build.revision or "").startswith(commit.lower())


def _answer(request: Request, text: str, kind: str) -> Response:
    return _varied(revalidated(request, Response(200, text.encode("utf-8", "replace"), kind)))


def _varied(response: Response) -> Response:
    response.headers["Vary"] = "Accept-Language"
    return response
