"""The page of a build without files and without a failed hook is as if there were neither."""

from __future__ import annotations

import pytest

from minici import html
from minici.ui import build as page
from minici.ui.markup import NOTHING
from tests.support.page_samples import build_json, build_view

STATUSES = ("queued", "running", "success", "failure", "lost", "cancelled")


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("status", STATUSES)
def test_what_is_not_there_leaves_no_byte(
    monkeypatch: pytest.MonkeyPatch, status: str, language: str
) -> None:
    view = build_view(build_json(7, status), files=None, hook_failure=None)
    shown = html.build_page(language, view)
    for section in ("files_section", "_hook_failure"):
        monkeypatch.setattr(page, section, lambda *_: NOTHING)
    assert html.build_page(language, view) == shown
