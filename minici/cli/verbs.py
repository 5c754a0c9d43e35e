"""The verbs of the command line, one function each; all return the exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from minici.cli import clone
from minici.cli.bisect import Bisection
from minici.cli.client import Build, Client
from minici.cli.connection import ServerError
from minici.cli.follow import SUCCESS, follow
from minici.cli.repeat import repeat
from minici.cli.starting import FINAL, start
from minici.cli.terminal import (
    Progress,
    duration,
    local_time,
    plain,
    print_table,
    short_commit,
    status_text,
)

PROGRAM = "python3 -m minici"


class Usage(Exception):
    """Wrong usage, or a request that can't be met; exit status 2."""


def run_start(client: Client, given: argparse.Namespace) -> int:
    commit, ref = given.commit, None
    if commit is None:
        try:
            commit, ref = clone.head()
        except clone.NotHere as error:
            raise Usage(f"no COMMIT given, and there is none here ({error}): name one") from None
    build = start(client, commit, given.command, given.project, ref, given.labels)
    number = int(build["id"])
    with _saying_how_to_go_on(client, number, given):
        Progress().say(f"build {number}: {client.base}/build/{number}")
        if given.commit is None and not clone.can_be_fetched(commit, build.get("repository") or ""):
            Progress().say(
                f"{commit[:10]} is not pushed, as far as this clone knows: "
                "agents can't check it out before `git push`"
            )
        return _follow_unless_detached(client, number, given)


def run_rebuild(client: Client, given: argparse.Namespace) -> int:
    number = client.rebuild(given.id)
    with _saying_how_to_go_on(client, number, given):
        Progress().say(f"build {number}: {client.base}/build/{number}")
        return _follow_unless_detached(client, number, given)


def _follow_unless_detached(client: Client, number: int, given: argparse.Namespace) -> int:
    if given.detach:
        print(number)
        return SUCCESS
    return follow(client, number)


def run_watch(client: Client, given: argparse.Namespace) -> int:
    client.build(given.id)  # one that never was is said at once
    with _saying_how_to_go_on(client, given.id, given):
        return follow(client, given.id)


@contextlib.contextmanager
def _saying_how_to_go_on(client: Client, number: int, given: argparse.Namespace) -> Iterator[None]:
    """On Ctrl-C, which stops the following and not the build, name the command that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        server = f" --server {client.base}" if given.server else ""
        command = f"{PROGRAM} watch {number}{server}"
        Progress().say(f"build {number} goes on; follow it with: {command}")
        raise


def run_log(client: Client, given: argparse.Namespace) -> int:
    for block in client.output(given.id, given.stream):
        sys.stdout.buffer.write(block)
    return SUCCESS


def run_list(client: Client, given: argparse.Namespace) -> int:
    filters = {"status": given.status, "project": given.project, "branch": given.branch}
    if given.json:
        return _print_json(client.page(limit=given.limit, **filters))
    rows = [
        (
            str(build["id"]),
            str(build["status"]),
            local_time(build.get("queued_at")),
            duration(build.get("started_at"), build.get("finished_at")),
            short_commit(build),
            plain(build.get("subject") or ""),
            plain(build.get("command") or ""),
        )
        for build in client.builds(given.limit, **filters)
    ]
    if not rows:
        Progress().say("there are no such builds" if any(filters.values()) else "no builds yet")
        return SUCCESS
    print_table(("ID", "STATUS", "QUEUED", "TOOK", "COMMIT", "SUBJECT", "COMMAND"), rows)
    return SUCCESS


def run_show(client: Client, given: argparse.Namespace) -> int:
    build = client.build(given.id)
    if given.json:
        return _print_json(build)
    for name, value in _details(build):
        if value:
            print(f"{name + ':':<11} {value}")
    return SUCCESS


def _details(build: Build) -> Iterator[tuple[str, str]]:
    yield "build", str(build["id"])
    yield "status", status_text(sys.stdout, build["status"])
    for name in ("reason", "waiting", "project", "commit", "revision", "ref", "event"):
        yield name, plain(build.get(name) or "")
    for name in ("subject", "author", "command", "repository"):
        yield name, plain(build.get(name) or "")
    yield "labels", plain(" ".join(build.get("labels") or ()))
    agent = build.get("agent")
    yield "agent", plain(agent or "")
    for name in ("queued_at", "started_at", "finished_at"):
        yield name.partition("_")[0], local_time(build.get(name))
    yield "took", duration(build.get("started_at"), build.get("finished_at"))
    exit_status = build.get("exit_status")
    yield "exit status", "" if exit_status is None else str(exit_status)
    attempt = build.get("attempt") or 0
    yield "attempt", str(attempt) if attempt > 1 else ""


def run_cancel(client: Client, given: argparse.Namespace) -> int:
    if given.queued == (given.id is not None):
        raise Usage("cancel takes the number of a build, or --queued for all that wait")
    if not given.queued:
        was_final = client.build(given.id)["status"] in FINAL
        client.cancel(given.id)
        status = client.build(given.id)["status"]
        Progress().say(f"build {given.id} {_cancelled(status, was_final)}")
        return SUCCESS
    numbers = [int(build["id"]) for build in client.builds(status="queued")]
    for number in numbers:
        client.cancel(number)
    print(f"{len(numbers)} cancelled")
    return SUCCESS


def _cancelled(status: str, was_final: bool) -> str:
    if was_final:
        return f"had ended already: {status}"
    return "is being cancelled" if status == "running" else f"is {status}"


def run_agents(client: Client, given: argparse.Namespace) -> int:
    agents = client.agents()
    if given.json:
        return _print_json({"agents": agents})
    rows = [
        (
            plain(agent["name"]),
            plain(agent["address"]),
            f"{len(agent['running'])}/{agent['slots']}",
            _agent_state(agent),
            plain(" ".join(agent.get("labels") or ())),
            " ".join(str(each["id"]) for each in agent["running"]),
            local_time(agent.get("last_heard")),
        )
        for agent in agents
    ]
    print_table(("NAME", "ADDRESS", "SLOTS", "STATE", "LABELS", "BUILDS", "HEARD"), rows)
    return SUCCESS


def _agent_state(agent: Mapping[str, Any]) -> str:
    if agent.get("gone"):
        return "gone"
    if agent.get("paused"):
        return "paused"
    return plain(f"trouble: {agent['trouble']}") if agent.get("trouble") else "live"


def run_pause(client: Client, given: argparse.Namespace) -> int:
    return _set_paused(client, given.agent, paused=True)


def run_resume(client: Client, given: argparse.Namespace) -> int:
    return _set_paused(client, given.agent, paused=False)


def _set_paused(client: Client, name: str, paused: bool) -> int:
    agents = client.agents()
    found = [each["address"] for each in agents if name in (each["address"], each["name"])]
    if len(found) != 1:
        known = ", ".join(f"{each['name']} ({each['address']})" for each in agents) or "none"
        why = "no agent has that name" if not found else "several have it: give the address"
        raise Usage(f"{name}: {why}; known: {plain(known)}")
    try:
        client.set_paused(found[0], paused)
    except ServerError as error:
        if error.status == 404:
            raise Usage(f"{client.base} can't pause agents: its minici is older") from None
        raise
    Progress().say(f"{found[0]} {'gets no more builds' if paused else 'gets builds again'}")
    return SUCCESS


def run_files(client: Client, given: argparse.Namespace) -> int:
    files = client.build(given.id).get("files")
    if files is None:
        raise Usage(f"{client.base} keeps no files of builds: its minici is older")
    for each in files:
        if given.to is None:
            print(f"{each['bytes']}\t{plain(each['path'])}")
        else:
            target = _fetch(client, given.id, str(each["path"]), Path(given.to))
            print(plain(target))
    return SUCCESS


def _fetch(client: Client, number: int, path: str, folder: Path) -> Path:
    """Fetch a file into a folder; it is there whole or not at all."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Usage(f"{path}: leads out of the folder, and is not fetched")
    target = folder.joinpath(*parts)
    partial = target.with_name(f".{target.name[:200]}.part")
    try:
        if folder.resolve() not in target.parent.joinpath("x").resolve().parents:
            raise Usage(f"{target}: a link leads out of {folder}, and nothing is fetched there")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        try:
            with open(partial, "xb") as file:
                for block in client.file(number, path):
                    file.write(block)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise Usage(f"{target}: {error.strerror}; name a folder with --to") from None
    return target


def run_repeat(client: Client, given: argparse.Namespace) -> int:
    return repeat(client, given.count, given.commit, given.command, given.project)


def run_bisect(client: Client, given: argparse.Namespace) -> int:
    search = Bisection(client, given.command, given.project, given.at_once, given.merges)
    return search.run(given.good, given.bad)


def _print_json(data: Optional[Mapping[str, Any]]) -> int:
    print(json.dumps(data, ensure_ascii=False, indent=2))
    return SUCCESS
