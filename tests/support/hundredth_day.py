"""A server on its hundredth day: three projects, thirty branches and ten thousand builds.

`python -m tests.support.hundredth_day FOLDER` makes a folder with `config.ini` and its data; start
`python -m minici.server FOLDER/config.ini` on it. It takes some seconds.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from minici import build as builds
from minici.build import Attempt, Build
from tests.support.page_scene import SUBJECTS, stamp

BUILDS, DAYS = 10_000, 100
PROJECTS = {"tides": "make test", "harbours": "npm test", "almanac": "cargo test"}
BRANCHES = (
    "main develop release/1.4 release/1.5 topic/neap topic/springs topic/node fix/zone fix/datum "
    "docs"
).split()
PEOPLE = ("Ada Lovelace", "Mary Somerville", "Анна Петрова", "William Thomson", "Edith Cannon")
BROKEN = {("tides", "main"): 2, ("harbours", "topic/neap"): 40, ("almanac", "fix/zone"): 1}
_SECONDS = {"tides": 95.0, "harbours": 41.0, "almanac": 230.0}


def settings(folder: Path, port: int = 0) -> str:
    """The text of config.ini: the first project is the server's own."""
    lines = ["[server]", f"port = {port}", f"data = {folder / 'data'}"]
    for name, command in PROJECTS.items():
        if name != "tides":
            lines.append(f"[project {name}]")
        else:
            lines.append("name = tides")
        lines += [f"repository = https://git.example.org/{name}.git", f"command = {command}"]
    return "\n".join(lines) + "\n"


def past_builds(count: int = BUILDS) -> Iterator[Build]:
    """Builds that have ended, oldest first; the branches in BROKEN have failed so often last."""
    chance, now = random.Random(100), datetime.now(timezone.utc)
    keys = [(project, branch) for project in PROJECTS for branch in BRANCHES]
    chosen = [keys[i] if i < len(keys) else chance.choice(keys) for i in range(count)]
    left = {key: chosen.count(key) for key in keys}
    for number, key in enumerate(chosen, 1):
        left[key] -= 1
        moment = now - timedelta(days=DAYS * (count + 1 - number) / count)
        failed = left[key] < BROKEN.get(key, 0) or (left[key] > 60 and chance.random() < 0.08)
        yield _ended(number, key, moment, failed, chance)


def _ended(
    number: int, key: tuple[str, str], moment: datetime, failed: bool, chance: random.Random
) -> Build:
    project, branch = key
    seconds = _SECONDS[project] * (1 + number / BUILDS) * chance.uniform(0.85, 1.2)
    begun, ended = stamp(moment), stamp(moment + timedelta(seconds=seconds))
    return Build(
        id=number,
        commit=branch,
        command=PROJECTS[project],
        repository=f"https://git.example.org/{project}.git",
        queued_at=begun,
        status=builds.FAILURE if failed else builds.SUCCESS,
        reason="exit status 2" if failed else None,
        revision=f"{chance.getrandbits(160):040x}",
        subject=chance.choice(SUBJECTS),
        author=f"{chance.choice(PEOPLE)} <someone@example.org>",
        started_at=begun,
        finished_at=ended,
        exit_status=2 if failed else 0,
        agent="harbour:8001",
        attempt=1,
        last_attempt=1,
        attempts=(Attempt(1, "harbour:8001", "127.0.0.1:8001", begun, ended, builds.FINISHED),),
        project=project,
        event=builds.PUSH,
        ref=f"refs/heads/{branch}",
    )


def fill(data: Path, count: int = BUILDS) -> None:
    """Make a data folder with so many builds, as a store leaves it; nothing is synced."""
    (data / "builds").mkdir(parents=True)
    (data / "unfinished").mkdir()
    for build in past_builds(count):
        folder = data / "builds" / str(build.id)
        folder.mkdir()
        text = json.dumps(builds.to_record(build), ensure_ascii=False)
        (folder / "build.json").write_text(text, encoding="utf-8")
    (data / "counter").write_text(f"{count}\n", encoding="utf-8")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.ini").write_text(settings(folder, 8000), encoding="utf-8")
    fill(folder / "data")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
