"""The input of a hook: a build as JSON, and the variables of rule 18 of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from minici import build as builds
from minici.build import Build
from minici.scheduler.search import previous_status
from minici.scheduler.state import State


class Telling:
    """Describes builds to hooks. `page_url` returns the address of a build's page."""

    def __init__(self, state: State, page_url: Callable[[int], str]) -> None:
        self._state = state
        self._page_url = page_url

    def __call__(self, build: Build) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        url = self._page_url(build.id)
        variables = {
            "MINICI_BUILD_ID": str(build.id),
            "MINICI_STATUS": build.status,
            "MINICI_PREVIOUS_STATUS": previous_status(self._state, build),
            "MINICI_BUILD_URL": url,
            "MINICI_PROJECT": build.project,
            "MINICI_REVISION": build.revision or "",
            "MINICI_REF": build.ref or "",
        }
        files = self._state.store.files_json(build)
        return builds.to_json(build, url, files), variables
