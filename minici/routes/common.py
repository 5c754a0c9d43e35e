"""Helpers of all endpoints: ids, records as JSON, failures as HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from minici import build as builds
from minici.build import Build
from minici.config import ProjectConfig, ServerConfig
from minici.hosts import agent_host
from minici.reasons import Reason, sentence_of
from minici.scheduler.search import BuildFilter
from minici.scheduler.state import NoSuchAttempt, QueueFull, State
from minici.store import (
    BuildUnusable,
    DamagedBuild,
    NoSuchBuild,
    Page,
    Record,
    StoreUnavailable,
)
from minici.validation import check_commit, split_labels
from minici.web.params import BadParameter, Parameters
from minici.web.routing import HttpError, Request

ID = "([1-9][0-9]{0,17})"


@contextlib.contextmanager
def as_http() -> Iterator[None]:
    """Turn what the server's parts raise into the answers that the contract gives them."""
    try:
        yield
    except BuildUnusable as error:
        raise HttpError(
            422, sentence_of(error)
        ) from None  # not 404: nobody is to forget a result for it
    except (NoSuchBuild, NoSuchAttempt) as error:
        raise HttpError(404, sentence_of(error)) from None
    except QueueFull as error:
        raise HttpError(503, sentence_of(error), {"Retry-After": "30"}) from None
    except StoreUnavailable as error:
        raise HttpError(503, sentence_of(error), {"Retry-After": "5"}) from None
    except BadParameter as error:
        raise HttpError(400, sentence_of(error)) from None


class Records:
    """Builds as people's programs see them. `base` is the server's address for a caller."""

    def __init__(self, state: State, base: Callable[[Request], str]) -> None:
        self._state = state
        self._store = state.store
        self._base = base

    def json(
        self, request: Request, record: Record, most_files: Optional[int] = None
    ) -> Mapping[str, Any]:
        """A build as JSON, with `most_files` of its files; one whose record is damaged says so."""
        return self.teller(request, most_files)(record)

    def json_list(
        self, request: Request, records: Iterable[Record], most_files: Optional[int] = None
    ) -> list[Mapping[str, Any]]:
        """Several builds as JSON; why each of them waits is told as of one moment."""
        reasons = functools.cache(self._state.waiting_reasons)

        def waiting(number: int) -> Reason:
            return reasons().of(number).reason

        return [self._json(record, self._base(request), most_files, waiting) for record in records]

    def teller(
        self, request: Request, most_files: Optional[int] = None
    ) -> Callable[[Record], Mapping[str, Any]]:
        """`json` for one caller, without holding on to the request."""
        base = self._base(request)

        def tell(record: Record) -> Mapping[str, Any]:
            return self._json(record, base, most_files, self._waiting)

        return tell

    def _json(
        self,
        record: Record,
        base: str,
        most_files: Optional[int],
        waiting: Callable[[int], Reason],
    ) -> Mapping[str, Any]:
        if isinstance(record, DamagedBuild):
            return {"id": record.id, "status": None, "damaged": record.reason}
        files = self._store.files_json(record, most_files) if most_files != 0 else ()
        reason = waiting(record.id) if record.status == builds.QUEUED else None
        build = self._with_output_sizes(record)
        return builds.to_json(build, page_url(base, record.id), files, reason)

    def _waiting(self, number: int) -> Reason:
        """Return the reason for which a build waits, without a look at all agents if possible."""
        if self._state.is_next(number):
            return Reason("wait_soon")
        return self._state.waiting_reasons().of(number).reason

    def _with_output_sizes(self, build: Build) -> Build:
        if build.attempt == 0 or build.status in (builds.SUCCESS, builds.FAILURE):
            return build
        with self._store.transcript(build.id, build.attempt) as transcript:
            kept = transcript.kept
        return dataclasses.replace(
            build,
            stdout_bytes=kept.stdout,
            stderr_bytes=kept.stderr,
            dropped_bytes=kept.dropped,
        )


def page_url(base: str, number: int) -> str:
    return f"{base}/build/{number}"


def has_result(build: Build, attempt: int) -> bool:
    """Return whether an attempt's output is complete: its result has been recorded."""
    return attempt == build.attempt and build.exit_status is not None


def whole(record: Record) -> Build:
    """The build, or HttpError 500 for one that is damaged."""
    if isinstance(record, DamagedBuild):
        raise HttpError(500, Reason("damaged", build=record.id, reason=record.reason))
    return record


def read_host(params: Parameters) -> tuple[str, int]:
    """The parameters `host` and `port`. Raises BadParameter."""
    host = agent_host(params.text("host").strip("[]"))
    if host is None:
        raise BadParameter(Reason("param_host", name="host"))
    port = params.number("port", least=1)
    if port > 65535:
        raise BadParameter(Reason("param_range", name="port", least=1, most=65535))
    return host, port


def read_before(request: Request) -> Optional[int]:
    """The id before which a page of builds begins. Raises BadParameter."""
    return request.query.number("before", least=1) if request.query.get("before") else None


def _read_status(params: Parameters) -> Optional[str]:
    status = params.optional("status")
    if status is not None and status not in builds.STATUSES:
        raise BadParameter(
            Reason("param_choice", name="status", choices=", ".join(builds.STATUSES))
        )
    return status


FILTER_PARAMETERS = ("status", "text", "project", "branch")


def read_filter(params: Parameters) -> BuildFilter:
    """Read the filter of a list of builds. Raises BadParameter."""
    names = ("text", "project", "branch")
    return BuildFilter(_read_status(params), *(params.optional(name) or None for name in names))


def read_project(params: Parameters, config: ServerConfig) -> ProjectConfig:
    """The project that a call names, the default one if it names none. Raises BadParameter."""
    name = params.optional("project") or None
    project = config.project(name)
    if project is None:
        raise no_project(name, config)
    return project


def no_project(name: Optional[str], config: ServerConfig) -> BadParameter:
    """Return the error about the name of a project that does not exist."""
    known = ", ".join(each.name for each in config.projects)
    return BadParameter(Reason("no_project", project=name or "", known=known))


def check_found(page: Page, wanted: BuildFilter, config: ServerConfig) -> None:
    """Raise BadParameter for a list without builds whose project is not there.

    A project that is no longer in the configuration still has its builds.
    """
    if not page.records and page.before is None and config.project(wanted.project) is None:
        raise no_project(wanted.project, config)


@dataclass(frozen=True)
class StartRequest:
    """The parameters of a request to start a build, as they were sent."""

    project: ProjectConfig
    commit: str
    command: str
    ref: Optional[str]
    labels: tuple[str, ...]


START_PARAMETERS = ("commit", "command", "project", "labels", "ref")


def read_start(params: Parameters, config: ServerConfig) -> StartRequest:
    """The parameters that start a build. A command that is left out is the project's.

    Raises BadParameter; commit and command are not checked.
    """
    project = read_project(params, config)
    return StartRequest(
        project=project,
        commit=params.text("commit", "").strip(" \t"),
        command=tidy_command(params.text("command", project.command)),
        ref=_full_ref(params.optional("ref")),
        labels=read_labels(params),
    )


def read_labels(params: Parameters) -> tuple[str, ...]:
    """The parameter `labels`; none where it is missing or empty. Raises BadParameter."""
    try:
        return split_labels(params.words("labels"))
    except ValueError as error:
        raise BadParameter(
            Reason("param_wrong", name="labels", reason=sentence_of(error))
        ) from None


def _full_ref(name: Optional[str]) -> Optional[str]:
    """The full name of a branch, or of a ref that is given by it. Raises BadParameter."""
    if not name:
        return None
    complaint = check_commit(name)
    if complaint:
        raise BadParameter(Reason("param_wrong", name="ref", reason=complaint))
    return name if name.startswith("refs/") else f"refs/heads/{name}"


def tidy_command(text: str) -> str:
    """A command as a form sends it, with the line ends of a shell."""
    return text.replace("\r\n", "\n")
