"""Starting builds, looking at them until they have ended, and finding earlier ones."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Optional

from minici.cli.client import Build, Client
from minici.cli.connection import ServerError

FINAL = frozenset(("success", "failure", "lost", "cancelled"))
_POLL_SECONDS = 0.25
_MOST_SEARCHED = 5000  # builds, newest first, that are searched for earlier results


def start(
    client: Client,
    commit: str,
    command: Optional[str],
    project: Optional[str] = None,
    ref: Optional[str] = None,
    labels: Optional[str] = None,
) -> Build:
    """Start a build. What is not given is not sent: the project's command fills the gap.

    A server that does not know `ref` gets the build without it.
    """
    given = {
        "commit": commit,
        "command": command,
        "project": project,
        "ref": ref,
        "labels": labels,
    }
    params = {name: value for name, value in given.items() if value is not None}
    try:
        return client.start(params)
    except ServerError as error:
        said = str(error)
        if error.status == 400 and ref is not None and re.search(r"\bref\b", said):
            return start(client, commit, command, project, labels=labels)
        if error.status == 400 and command is None and said.startswith("command"):
            raise ServerError("no COMMAND given, and the server has none: give one", 400) from None
        raise


def free_slots(client: Client, own: Collection[int] = ()) -> int:
    """The slots that could take a build now, or run one of `own`; 1 at least."""
    able = (
        int(agent["slots"]) - sum(each["id"] not in own for each in agent["running"])
        for agent in client.agents()
        if not (agent.get("gone") or agent.get("paused") or agent.get("trouble"))
    )
    return max(1, sum(free for free in able if free > 0))


def finished(client: Client, numbers: Iterable[int]) -> Iterator[Build]:
    """Those of some builds that are final by now."""
    for number in list(numbers):
        build = client.build(number)
        if build["status"] in FINAL:
            yield build


def pause() -> None:
    time.sleep(_POLL_SECONDS)


def own_exit_status(build: Build) -> Optional[int]:
    """The exit status of a command that has ended by itself.

    None for others: after a cancel, the exit status proves nothing.
    """
    return build.get("exit_status") if build.get("status") in ("success", "failure") else None


def earlier_builds(
    client: Client, commits: set[str], command: str, project: Optional[str]
) -> dict[str, Build]:
    """The newest build of each of some commits with a command that has an exit status."""
    found: dict[str, Build] = {}
    for build in client.builds(_MOST_SEARCHED):
        if len(found) == len(commits):
            break
        commit = build.get("revision") or build.get("commit")
        same = build.get("command") == command and project in (None, build.get("project"))
        if commit in commits and same and own_exit_status(build) is not None:
            found.setdefault(str(commit), build)
    return found
