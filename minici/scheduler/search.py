"""Pages of builds, newest first, by what a reader asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from minici.build import FINAL, SUCCESS, Build
from minici.scheduler.state import State
from minici.store import Page, Record

_BRANCH_PREFIX = "refs/heads/"


@dataclass(frozen=True)
class BuildFilter:
    """The filter of a list of builds; None stands for everything.

    `text` is a part of commit, subject, revision or command; `branch` a branch by its short name.
    """

    status: Optional[str] = None
    text: Optional[str] = None
    project: Optional[str] = None
    branch: Optional[str] = None

    def __bool__(self) -> bool:
        return any(each is not None for each in self.parameters.values())

    @property
    def parameters(self) -> dict[str, Optional[str]]:
        """The filter as parameters of a query."""
        return {
            "status": self.status,
            "text": self.text,
            "project": self.project,
            "branch": self.branch,
        }

    def fits(self, build: Build) -> bool:
        return (
            self.status in (None, build.status)
            and self.project in (None, build.project)
            and (self.branch is None or is_of_branch(build, self.branch))
            and (self.text is None or _has_text(build, self.text))
        )


def is_of_branch(build: Build, branch: str) -> bool:
    """Return whether a build is of a branch: by its ref, else by the commit as typed."""
    if build.ref is not None:
        return build.ref == _BRANCH_PREFIX + branch
    return build.commit == branch


def find_builds(
    state: State, before: Optional[int], limit: int, wanted: BuildFilter = BuildFilter()
) -> Page:
    """A page of builds, newest first, that fit a filter."""

    def fits(record: Record) -> bool:
        return not wanted or (isinstance(record, Build) and wanted.fits(record))

    waiting = wanted.status is not None and wanted.status not in FINAL
    return state.store.page(before, limit, fits, state.unfinished() if waiting else None)


def previous_status(state: State, build: Build) -> str:
    """Return the status of the last final build of the same project and ref before this one, or "".

    Looks at as many records as a page of the list may read.
    """
    if build.ref is None:
        return ""

    def fits(record: Record) -> bool:
        return (
            isinstance(record, Build)
            and record.final
            and (record.project, record.ref) == (build.project, build.ref)
        )

    found = state.store.page(build.id, 1, fits).records
    return found[0].status if found and isinstance(found[0], Build) else ""


def last_success(state: State, build: Build) -> Optional[Build]:
    """Return the last success of the same project and command before a build, if there is one.

    Looks at as many records as a page of the list may read.
    """

    def fits(record: Record) -> bool:
        return (
            isinstance(record, Build)
            and record.status == SUCCESS
            and (record.project, record.command) == (build.project, build.command)
        )

    found = state.store.page(build.id, 1, fits).records
    return found[0] if found and isinstance(found[0], Build) else None


def _has_text(build: Build, text: str) -> bool:
    searched = (build.commit, build.command, build.subject or "", build.revision or "")
    return any(text.lower() in each.lower() for each in searched)
