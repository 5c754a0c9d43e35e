"""Branches and tags that move, come and go while everything dies: rules 16 and 17."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from tests.support.harness import FINAL, Place, ServerProcess, Setting, wait_for
from tests.support.repositories import Repository, git

PROJECT = "pushed"
BRANCHES = tuple(f"refs/heads/{name}" for name in ("main", "dev", "deep/one", "deep/two"))
TAGS = tuple(f"refs/tags/v{number}" for number in range(3))
REST_SECONDS = 120.0
_GONE = (OSError, http.client.HTTPException, AssertionError)

Spot = Optional[str]  # the commit of a ref; None where it is deleted


class Pushes:
    """A repository of its own, somebody who pushes to it, and every place that its refs had."""

    def __init__(self, place: Place, seed: int) -> None:
        self._repository = Repository(place.repository.path.with_name(PROJECT))
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._push)
        self.moves = 0
        self.places: dict[str, list[Spot]] = {ref: [None] for ref in (*BRANCHES, *TAGS)}
        for ref in self._refs():
            if ref not in self.places:
                git(self._repository.path, "update-ref", "-d", ref)
        self.places["refs/heads/main"] = [self._repository.third]

    def keys(self, base: str) -> dict[str, Setting]:
        """The project's section; `base` is the address of the folder of its repository."""
        return {
            "repository": f"{base}/{PROJECT}",
            "command": "git rev-parse HEAD",
            "branches": "*",
            "tags": "*",
            "poll": "0.5s",
        }

    def start(self, server: ServerProcess) -> None:
        """Begin to push once the server has looked for the first time."""
        wait_for(lambda: self._remembered(server.data), 30, "the first look")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _push(self) -> None:
        while not self._stop.wait(self._chance.choice((0.0, 0.1, 0.5, 1.5))):
            for _ in range(self._chance.choice((1, 1, 1, 3, 6))):
                self._move(self._chance.choice((*BRANCHES, *TAGS)))

    def _move(self, ref: str) -> None:
        known = [place for place in self.places[ref] if place]
        now = self.places[ref][-1]
        kind = self._chance.choice(("forward", "forward", "forced", "back", "delete"))
        if kind == "delete":
            target: Spot = None
        elif kind == "back" and known:
            target = self._chance.choice(known)
        else:
            parent = now if kind == "forward" and now else self._repository.first
            content = {"file.txt": f"{self._chance.getrandbits(64):x}\n"}
            target = self._repository.commit(content, kind, "made", parent)
            git(self._repository.path, "update-ref", "-d", "refs/heads/made")
        if target != now:
            self._set(ref, target)
            self.places[ref].append(target)
            self.moves += 1

    def _set(self, ref: str, target: Spot) -> None:
        if target is None:
            git(self._repository.path, "update-ref", "-d", ref)
        elif ref in TAGS and self._chance.random() < 0.5:
            words = ["-c", "user.name=T", "-c", "user.email=t@t", "tag", "-f", "-a", "-m", "tag"]
            git(self._repository.path, *words, ref[len("refs/tags/") :], target)
        else:
            git(self._repository.path, "update-ref", ref, target)

    def _refs(self) -> dict[str, str]:
        """Where the refs are, annotated tags by their commits."""
        form = "--format=%(refname) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)"
        lines = git(self._repository.path, "for-each-ref", f"{form}%(end)").splitlines()
        return dict(line.split(" ") for line in lines)

    def _remembered(self, data: Path) -> Any:
        path = data / "refs" / f"{PROJECT}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def problems(self, server: ServerProcess) -> list[str]:
        """Wait until all is built; return what was not, or was twice."""
        found: list[dict[str, Any]] = []

        def at_rest() -> bool:
            record = self._remembered(server.data)
            if record["refs"] != self._refs() or record["after"] is not None:
                return False
            with contextlib.suppress(*_GONE):
                found[:] = server.builds(f"&project={PROJECT}")
                return all(build["status"] in FINAL for build in found)
            return False

        try:
            wait_for(at_rest, REST_SECONDS, "the refs are remembered, and what was pushed is built")
        except AssertionError as error:
            return [str(error), *(str(b) for b in found if b["status"] not in FINAL)]
        return [
            f"{ref} was at {self.places[ref]}, and built at {built}"
            for ref in self.places
            if not _fits(self.places[ref], built := _revisions(found, ref))
        ]


def _revisions(found: Sequence[dict[str, Any]], ref: str) -> list[str]:
    return [str(build["revision"]) for build in found if build["ref"] == ref]


def _fits(places: Sequence[Spot], built: Sequence[str]) -> bool:
    """Whether a ref that had these places was built at some of them, in this order, each time
    once, and at the last one, unless it is deleted there or nobody has seen it move."""
    left = iter(places[1:])
    in_order = all(revision in left for revision in built)
    last = built[-1] if built else places[0]
    return in_order and places[-1] in (None, last)
