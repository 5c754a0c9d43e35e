"""The mirrors of an agent, by their repositories, and who uses them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minici.checkout.mirror import Mirror


def folder_name(repository: str) -> str:
    """A name of its own for each repository, by which a person knows it again."""
    name = re.sub(r"\.git\Z", "", repository.rstrip("/").rpartition("/")[2])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:40] or "repository"
    return f"{name}-{hashlib.sha256(repository.encode()).hexdigest()[:8]}"


class Mirrors:
    """The mirrors of an agent, and who uses them. For any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # guards what follows
        self._mirrors: dict[str, Mirror] = {}  # by repository
        self._used: dict[int, set[str]] = {}  # names of folders, by slot
        self.released = threading.Event()  # set when a build is over

    def of(self, repository: str, slot: int) -> Mirror:
        """The mirror of a repository, which the slot uses until it calls `release`."""
        name = folder_name(repository)
        with self._lock:
            self._used.setdefault(slot, set()).add(name)
            if repository not in self._mirrors:
                self._mirrors[repository] = Mirror(self._folder / f"{name}.git", repository)
            mirror = self._mirrors[repository]
        mirror.touch()
        return mirror

    def release(self, slot: int) -> None:
        """Say that a slot's build is over."""
        with self._lock:
            names = self._used.pop(slot, set())
            used = [each for each in self._mirrors.values() if each.folder.stem in names]
        for mirror in used:
            mirror.touch()
        self.released.set()

    def all(self) -> list[Mirror]:
        """Those that have been used since the agent's start."""
        with self._lock:
            return list(self._mirrors.values())

    @contextmanager
    def forgetting(self, name: str) -> Iterator[bool]:
        """Within the block nobody begins to use the mirror of that name, and it is forgotten. False
        if it is in use."""
        with self._lock:
            used = any(name in names for names in self._used.values())
            if not used:
                kept = {url: m for url, m in self._mirrors.items() if m.folder.stem != name}
                self._mirrors = kept
            yield not used

    @property
    def is_idle(self) -> bool:
        """True if no slot has a build."""
        with self._lock:
            return not self._used
