"""The last builds of branches: which are kept, and since when a branch is broken."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

from minici.build import Build
from minici.scheduler.branch_history import BranchHistory
from minici.store import Store
from tests.support import hundredth_day

AT, LATER = "2026-11-24T02:30:00.000Z", "2026-11-24T02:31:30.000Z"


def build(number: int, status: str, ref: Optional[str] = "refs/heads/main") -> Build:
    return Build(
        number, "main", "make", "/r", AT, status, started_at=AT, finished_at=LATER,
        project="tides", ref=ref,
    )  # fmt: skip


def history(*statuses: str) -> BranchHistory:
    kept = BranchHistory()
    for number, status in enumerate(statuses, 1):
        kept.note(build(number, status))
    return kept


def test_a_branch_is_broken_since_the_first_failure_after_a_success() -> None:
    (branch,) = history("failure", "success", "failure", "cancelled", "lost", "running").branches()
    assert (branch.project, branch.name) == ("tides", "main")
    assert branch.broken_since and branch.broken_since.id == 3
    assert branch.newest.id == 5, "the newest that says how the branch is"
    (sound,) = history("failure", "success", "queued").branches()
    assert sound.broken_since is None and sound.newest.id == 2


def test_the_last_builds_are_kept_in_whatever_order_they_are_noted() -> None:
    kept = BranchHistory()
    for number in [*range(30, 60), *range(1, 30)]:
        kept.note(build(number, "success"))
    (branch,) = kept.branches()
    assert [each.id for each in branch.builds] == list(range(40, 60))
    (branch,) = kept.branches(oldest=50)
    assert branch.builds[0].id == 50, "others have been removed"
    assert kept.branches(oldest=100) == []
    assert kept.seconds("tides") == [90.0] * 59


def test_a_build_that_changes_is_there_once() -> None:
    kept = history("queued")
    kept.note(dataclasses.replace(build(1, "success")))
    assert [each.status for each in kept.branches()[0].builds] == ["success"]


def test_builds_without_a_branch_leave_no_trace() -> None:
    kept = BranchHistory()
    for ref in (None, "refs/tags/v1", "refs/pull/7/head"):
        kept.note(build(1, "failure", ref))
    assert kept.branches() == [] and kept.seconds("tides") == []


def test_there_are_so_many_branches_and_no_more() -> None:
    kept = BranchHistory()
    for number in range(1, 400):
        kept.note(build(number, "success", f"refs/heads/b{number}"))
    kept.note(build(1, "success", "refs/heads/b1"))
    names = {branch.name for branch in kept.branches()}
    assert len(names) == 300 and "b399" in names and "b1" not in names


def test_the_builds_of_an_earlier_server_are_read_but_not_all(tmp_path: Path) -> None:
    hundredth_day.fill(tmp_path, 300)
    store = Store(tmp_path, 1 << 20)
    store.open()
    kept = BranchHistory()
    newest = next(each for each in reversed(list(hundredth_day.past_builds(300))))
    kept.note(dataclasses.replace(newest, status="success"))
    kept.fill(store, lambda: False)
    branches = {(branch.project, branch.name): branch for branch in kept.branches()}
    assert len(branches) == 30
    broken = branches["tides", "main"].broken_since
    assert broken and broken.subject and broken.author
    noted = branches[newest.project, str(newest.commit)].builds[-1]
    assert noted.status == "success", "what has happened meanwhile goes first"
    none = BranchHistory()
    none.fill(store, lambda: True)
    assert none.branches() == []
    store.close()
