"""Pages of builds, newest first, by what a reader asks for."""

from __future__ import annotations

from typing import Optional

from minici.build import FINAL, Build
from minici.scheduler.state import State
from minici.store import Page, Record


def find_builds(
    state: State,
    before: Optional[int],
    limit: int,
    status: Optional[str] = None,
    text: Optional[str] = None,
) -> Page:
    """A page of builds, newest first, by status and by text of commit or command."""

    def wanted(record: Record) -> bool:
        if status is None and text is None:
            return True
        return isinstance(record, Build) and _fits(record, status, text)

    among = state.unfinished() if status is not None and status not in FINAL else None
    return state.store.page(before, limit, wanted, among)


def _fits(build: Build, status: Optional[str], text: Optional[str]) -> bool:
    if status is not None and build.status != status:
        return False
    if text is None:
        return True
    searched = (build.commit, build.command, build.subject or "", build.revision or "")
    return any(text.lower() in each.lower() for each in searched)
