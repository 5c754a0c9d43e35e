"""Views to make pages from: one of each kind, with any text in any field."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

from minici import html
from minici.ui.models import (
    AgentsView,
    AgentView,
    BranchView,
    BuildView,
    FormView,
    IndexView,
    OutputPiece,
    PageContext,
    ProjectView,
    RunningBuild,
    Waiting,
)

NOW = datetime(2026, 11, 24, 2, 30, tzinfo=timezone.utc)
STATUSES = ("queued", "running", "success", "failure", "lost", "cancelled")
Text = Callable[[str], str]


def plain(field: str) -> str:
    """A harmless text that says where it belongs."""
    return f"the {field}"


SPANS = (61.0, 95.5, 64.0, 70.25)


def iso(seconds: float) -> str:
    """A time of a record, that many seconds ago."""
    moment = (NOW - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def build_json(number: int, status: str, say: Text = plain, **changes: Any) -> dict[str, Any]:
    """A build as the contract has it, begun 100 s ago and 64 s long."""
    begun, final = status != "queued", status not in ("queued", "running")
    build: dict[str, Any] = {
        "id": number,
        "status": status,
        "reason": say("reason") if status in ("failure", "lost") else None,
        "commit": say("commit"),
        "revision": "0123456789abcdef0123456789abcdef01234567" if begun else None,
        "subject": say("subject") if begun else None,
        "author": say("author") if begun else None,
        "command": say("command"),
        "repository": say("repository"),
        "queued_at": iso(104),
        "started_at": iso(100) if begun else None,
        "finished_at": iso(36) if final else None,
        "exit_status": {"success": 0, "failure": 2, "cancelled": -15}.get(status),
        "agent": say("agent") if begun else None,
        "attempt": 2 if begun else 0,
        "attempts": [_attempt(1, "silent", say), _attempt(2, "finished", say)] if begun else [],
        "stdout_bytes": 2048,
        "stderr_bytes": 10,
        "dropped_bytes": 5,
        "cancel_requested": False,
        "rebuild_of": 3,
        "started_by": say("started_by"),
        "cancelled_by": say("cancelled_by") if status == "cancelled" else None,
        "url": f"http://127.0.0.1:8000/build/{number}",
    }
    return {**build, **changes}


def _attempt(number: int, ending: str, say: Text) -> dict[str, Any]:
    return {
        "attempt": number,
        "agent": say("attempt_agent"),
        "address": say("attempt_address"),
        "started_at": iso(100),
        "finished_at": iso(36),
        "ending": ending,
        "reason": say("attempt_reason"),
    }


def context(say: Text = plain, **changes: Any) -> PageContext:
    """What every page shows around its subject."""
    values: dict[str, Any] = {
        "repository": say("context_repository"),
        "now": NOW,
        "url": say("url"),
        "agents_total": 2,
        "slots_free": 1,
        "slots_total": 3,
        "queued": 2,
        "oldest_wait": 84.0,
        "start_agent_command": say("start_agent_command"),
        "user": say("user"),
    }
    return PageContext(**{**values, **changes})


def index_view(say: Text = plain, **changes: Any) -> IndexView:
    """A start page with a build of each status and a damaged one."""
    builds = [build_json(20 - place, status, say) for place, status in enumerate(STATUSES)]
    builds.append({"id": 9, "damaged": say("damaged")})
    values: dict[str, Any] = {
        "context": context(say),
        "builds": builds,
        "form": FormView(say("form_commit"), say("form_command")),
        "waiting": {20: Waiting(2, 2)},
        "newer": None,
        "older": "/?before=9",
        "last": builds,
        "medians": {say("command"): 120.0},
    }
    values["overview"] = [
        ProjectView(
            say("project"), [branch_view("failure", say), branch_view("success", say)], SPANS
        ),
        ProjectView(say("project_2"), [branch_view("running", say)]),
    ]
    return IndexView(**{**values, **changes})


def branch_view(status: str, say: Text = plain) -> BranchView:
    """A branch whose newest build has this status."""
    builds = [build_json(3, "success", say), build_json(4, status, say)]
    broken = builds[-1] if status == "failure" else None
    return BranchView(say(f"branch_{status}"), builds, builds[-1], broken)


def build_view(build: dict[str, Any], say: Text = plain, **changes: Any) -> BuildView:
    """A build's page with some output of both streams."""
    output = [
        OutputPiece("stdout", 0.5, say("stdout") + "\n"),
        OutputPiece("stderr", 1.25, say("stderr") + "\n"),
    ]
    values: dict[str, Any] = {"context": context(say), "build": build, "output": output}
    values.update(previous=build["id"] - 1, next=build["id"] + 1)
    return BuildView(**{**values, **changes})


def day() -> list[tuple[float, float, float]]:
    """A day in which an agent came after an hour, was gone for two quarters, and worked at last."""
    nothing, idle, gone, busy = (0, 0, 0), (900, 0, 0), (0, 900, 0), (900, 0, 450)
    return [nothing] * 4 + [idle] * 40 + [gone] * 2 + [idle] * 26 + [busy] * 24


def agents_view(say: Text = plain, **changes: Any) -> AgentsView:
    """An agent of each state."""
    running = [RunningBuild(7, 1, iso(30), say("running_commit"), say("running_command"))]
    agents = [
        AgentView(
            say("agent_name"),
            say("agent_address") + ("" if state == "gone" else f" {state}"),
            2,
            state,
            NOW - timedelta(seconds=2),
            running if state == "busy" else [],
            say("agent_note") if state == "gone" else "",
            NOW - timedelta(minutes=3) if state == "gone" else None,
            day(),
            labels=(say("agent_label"), "linux"),
            paused=state in ("paused", "gone"),
        )
        for state in ("ready", "busy", "gone", "refusing", "paused")
    ]
    return AgentsView(**{"context": context(say), "agents": agents, **changes})


def all_pages(language: str, say: Text = plain) -> Iterator[tuple[str, html.Html]]:
    """Every kind of page, by a name, with `say(field)` in every field that is text."""
    yield "index", html.index_page(language, index_view(say))
    errors = {"commit": say("commit_error"), "command": say("command_error")}
    wrong = FormView(say("form_commit"), say("form_command"), errors)
    yield "form", html.index_page(language, index_view(say, form=wrong))
    alone = context(say, agents_total=0, queued=0)
    yield "empty", html.index_page(language, index_view(say, builds=[], last=[], context=alone))
    yield "filtered", html.index_page(language, index_view(say, text=say("filter_text")))
    none = index_view(say, text=say("filter_text"), older=None, builds=[], last=[], filter="lost")
    yield "none", html.index_page(language, none)
    for status in STATUSES:
        build = build_json(12, status, say)
        waiting = Waiting(1, 0) if status == "queued" else None
        yield status, html.build_page(language, build_view(build, say, waiting=waiting))
    damaged = build_view({"id": 12, "damaged": say("damaged")}, say, output=())
    yield "damaged", html.build_page(language, damaged)
    silent = build_json(12, "failure", say, exit_status=None)
    yield "silent", html.build_page(language, build_view(silent, say, output=()))
    yield "agents", html.agents_page(language, agents_view(say))
    yield "no agents", html.agents_page(language, AgentsView(alone, []))
    for number in (400, 401, 403, 404, 405, 413, 418, 421, 500, 503):
        yield f"error {number}", html.error_page(language, number, say("sentence"), context(say))
