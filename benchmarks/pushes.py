"""Pushes: from `git push` to the running command, and what looking at the refs costs the server."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import repositories, system
from benchmarks.figures import Figure, Spread, at_most
from benchmarks.ground import Ground, Server, wait_for
from benchmarks.repositories import SMALL

_PUSHES = 100
_POLL = 1.0  # seconds, of the looks at which pushes are found
_SECRET = "word"
_REFS = (10, 1000, 10_000)
_PROJECTS = (1, 50)
_LOOKS = 100
_MOST_MS = 50.0  # of the server's processor for one look
# Git, which notes that it was called.
_SHIM = '#!/bin/sh\necho >> {calls}\nPATH="{path}" exec git "$@"\n'


def measure(ground: Ground) -> Iterator[Figure]:
    for name, found in (
        ("with a webhook", _pushes(ground, poll="1h", told=True)),
        (f"with a look every {_POLL:g} s", _pushes(ground, poll=f"{_POLL:g}s", told=False)),
    ):
        yield Figure(f"from git push to the command, {name}, median", "ms", found)
        yield Figure(f"{name}, 99th percentile", "ms", found.percentile(99))
    if system.HAS_PROC:
        for count in _PROJECTS:
            for refs in _REFS:
                yield _look(ground, count, refs)
        yield _look(ground, 1, _REFS[-1], address="")


def _pushes(ground: Ground, poll: str, told: bool) -> Spread:
    """The milliseconds from the end of each push to the beginning of its command."""
    made = repositories.make(ground, SMALL).path
    bare, ran = ground.folder / f"bare-{poll}.git", ground.folder / f"ran-{poll}"
    ran.mkdir()
    ground.run(["git", "clone", "--quiet", "--bare", made, bare])
    server = ground.server(
        f"file://{bare}",
        branches="*",
        poll=poll,
        command=f": > {ran}/$MINICI_REVISION",
        webhook_secret=_SECRET,
        supersede="no",
    )
    agent = ground.agent(server)
    found = []
    for number in range(ground.times(_PUSHES, 3)):
        revision = _commit(ground, made, number)
        ground.run(["git", "-C", made, "push", "--quiet", "--force", bare, f"{revision}:main"])
        begun = time.perf_counter()
        if told:
            _call_webhook(server, bare.name.removesuffix(".git"))
        wait_for((ran / revision).exists, f"the command of push {number}", pause=0.001)
        found.append(1000 * (time.perf_counter() - begun))
        time.sleep(0.013 * (number % 77) / 10)  # not in step with the looks
    agent.end()
    server.end()
    ground.run(["rm", "-rf", made])
    return Spread.of(found)


def _commit(ground: Ground, path: Path, number: int) -> str:
    user = ["-c", "user.name=Bench", "-c", "user.email=bench@example.org"]
    words = ["commit-tree", "-p", "main", "-m", f"Push {number}", "main^{tree}"]
    return ground.run(["git", "-C", path, *user, *words])


def _call_webhook(server: Server, project: str) -> None:
    url = f"http://{server.address}/webhook/{project}"
    headers = {"Authorization": f"Bearer {_SECRET}"}
    urllib.request.urlopen(urllib.request.Request(url, b"", headers), timeout=30).close()


def _look(ground: Ground, projects: int, refs: int, address: str = "file://") -> Figure:
    """The server's own processor time for a look that finds nothing new.

    Without `address` the repository is at a path, whose folders show that nothing has moved.
    """
    repository = _repository(ground, refs)
    calls = ground.folder / f"calls-{projects}-{refs}{'-path' if not address else ''}"
    calls.touch()
    looks = ground.times(_LOOKS, 2 * projects)
    poll = max(0.2, projects / 10)
    with _counted_git(ground, calls):
        server = _server(ground, f"{address}{repository}", projects, poll)
    folder = server.data / "refs"
    wait_for(
        lambda: folder.is_dir() and len(list(folder.glob("*.json"))) == projects, "first looks"
    )
    time.sleep(2.5)  # until a path's folders are trusted
    before, used, begun = _size(calls), system.own_seconds(server.pid), time.monotonic()
    if address:
        wait_for(lambda: _size(calls) - before >= looks, f"{looks} looks", pause=0.1)
        taken = float(_size(calls) - before)
    else:
        time.sleep(ground.times(20, 1))
        taken = (time.monotonic() - begun) / poll
    cost = 1000 * (system.own_seconds(server.pid) - used) / taken
    server.end()
    noun = "project" if projects == 1 else "projects"
    where = "" if address else ", in a clone at rest"
    name = f"the server's processor, a look at {refs} refs, {projects} {noun}{where}"
    return Figure(name, "ms", Spread.of([cost]), None, at_most(_MOST_MS))


def _size(path: Path) -> int:
    return path.stat().st_size


def _repository(ground: Ground, refs: int) -> Path:
    path = ground.folder / f"refs-{refs}"
    if not path.exists():
        made = repositories.make(ground, SMALL)
        ground.run(["git", "clone", "--quiet", "--bare", made.path, path])
        lines = [f"{made.commits[0]} refs/heads/branch-{number:05}\n" for number in range(refs)]
        (path / "packed-refs").write_text("# pack-refs with: sorted \n" + "".join(lines))
        ground.run(["rm", "-rf", made.path])
    return path


def _server(ground: Ground, repository: str, projects: int, poll: float) -> Server:
    keys = {"command": "true", "branches": "*", "poll": f"{poll:g}s"}
    more = "".join(
        f"\n[project p{number}]\n" + "".join(f"{key} = {text}\n" for key, text in keys.items())
        for number in range(1, projects)
    )
    # The last key of the section, behind which the others follow.
    return ground.server(repository, **{**keys, "name": f"p0{more}"})


@contextmanager
def _counted_git(ground: Ground, calls: Path) -> Iterator[None]:
    """Within the block, what is started calls a git that adds a byte to `calls` each time."""
    path = os.environ["PATH"]
    folder = ground.folder / f"{calls.name}-bin"
    folder.mkdir()
    (folder / "git").write_text(_SHIM.format(calls=calls, path=path))
    (folder / "git").chmod(0o755)
    os.environ["PATH"] = f"{folder}:{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path
