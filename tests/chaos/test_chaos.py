"""A minute of chaos; `make chaos` plays longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import game

SEED = 7


@pytest.mark.slow
def test_a_minute_of_chaos_breaks_nothing(tmp_path: Path) -> None:
    ledger = game.play(1.0, SEED, tmp_path)
    print(game.report(ledger, 1.0, SEED))
    assert not ledger.faults, ledger.faults
    kills = sum(count for name, count in ledger.counts.items() if name.startswith("SIG"))
    assert len(ledger.finals) >= 10 and kills >= 5, "a game in which next to nothing happened"
