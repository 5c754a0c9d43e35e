"""Fixtures of the agent's rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

from minici.executor.outbox import Outbox


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    outbox = Outbox(tmp_path)
    assert outbox.open() == []
    return outbox
