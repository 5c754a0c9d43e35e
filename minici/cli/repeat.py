"""`repeat`: the same build several times over all free slots, to see how often it fails."""

from __future__ import annotations

from typing import Optional

from minici.cli.client import Build, Client, PatientClient
from minici.cli.connection import NoAnswer, ServerError
from minici.cli.follow import EXIT_STATUS, SUCCESS, summary
from minici.cli.starting import finished, free_slots, pause, start
from minici.cli.terminal import Progress

_WORDS = {"failure": "failed", "lost": "lost", "cancelled": "cancelled"}


def repeat(
    client: Client, count: int, commit: str, command: Optional[str], project: Optional[str]
) -> int:
    """Build a commit `count` times; return 0 if all succeeded."""
    progress = Progress()
    client = PatientClient(client, progress.say)
    slots = min(count, free_slots(client))
    progress.say(f"{count} builds of {commit}, {slots} at once")
    running: list[int] = []
    ended: list[Build] = []
    started = 0
    try:
        while len(ended) < count:
            while started < count and len(running) < slots:
                running.append(int(start(client, commit, command, project)["id"]))
                started += 1
            for build in finished(client, running):
                running.remove(build["id"])
                ended.append(build)
                commit = build.get("revision") or commit  # a branch may move meanwhile
                progress.say(summary(build))
            progress.show(f"{len(ended)} of {count} have ended")
            if running:
                pause()
    except (KeyboardInterrupt, NoAnswer, ServerError):
        if running:
            progress.say(f"stopped; builds that go on: {', '.join(map(str, running))}")
        raise
    progress.clear()
    return _report(count, ended)


def _report(count: int, ended: list[Build]) -> int:
    by_status = {
        status: sorted(build["id"] for build in ended if build["status"] == status)
        for status in _WORDS
    }
    if not any(by_status.values()):
        print(f"0 of {count} failed")
        return SUCCESS
    for status, numbers in by_status.items():
        if numbers:
            builds = "build" if len(numbers) == 1 else "builds"
            said = ", ".join(map(str, numbers))
            print(f"{len(numbers)} of {count} {_WORDS[status]}: {builds} {said}")
    worst = next(s for s in ("failure", "lost", "cancelled") if by_status[s])
    return EXIT_STATUS[worst]
