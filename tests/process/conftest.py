"""A supervisor for each test that asks for `commands`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Commands
from tests.support.harness import wait_for


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.supervisor.close()
    wait_for(lambda: not commands.left, 5, "the end of what a test has killed itself")
