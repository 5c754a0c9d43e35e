"""The log of a checkout: bounded, addressed by raw offsets, the same after it is opened again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from minici.output.checkout_log import CHECKOUT, CheckoutLog
from minici.output.format import OffsetGap, Overrun, marker

LIMIT = 1000


def shown(log: CheckoutLog, offset: int = 0) -> bytes:
    return b"".join(block for block, _ in log.follow(offset))


def test_a_missing_file_is_an_empty_log(tmp_path: Path) -> None:
    with CheckoutLog(tmp_path) as log:
        assert (log.total, log.read(0, 10), shown(log)) == (0, b"", b"")
    assert not (tmp_path / CHECKOUT).exists()


def test_what_was_appended_is_read_back_by_who_opens_it_anew(tmp_path: Path) -> None:
    with CheckoutLog(tmp_path) as log:
        log.append(0, b"Cloning\n")
        log.append(8, b"10%\r20%\r")
    with CheckoutLog(tmp_path) as log:
        assert (log.total, log.read(8, 4), log.read(16, 9)) == (16, b"10%\r", b"")
        log.append(16, b"done\n")
        assert shown(log) == b"Cloning\n10%\r20%\rdone\n"
        assert list(log.follow(16)) == [(b"done\n", 21)]


def test_a_piece_that_does_not_follow_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with CheckoutLog(tmp_path) as log:
        log.append(0, b"abc")
        for offset in (0, 2, 4):
            with pytest.raises(OffsetGap) as refused:
                log.append(offset, b"x")
            assert refused.value.have == {CHECKOUT: 3}
        assert shown(log) == b"abc"


@pytest.mark.parametrize("seed", range(8))
def test_past_the_limit_first_and_last_half_stay_and_the_rest_is_counted(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr("minici.output.checkout_log._SLACK_BYTES", chance.choice([0, 70, 5000]))
    written, log = b"", CheckoutLog(tmp_path, LIMIT)
    for _ in range(60):
        piece = bytes(chance.choice(b"ab\r\n") for _ in range(chance.randrange(1, 400)))
        log.append(len(written), piece)
        written += piece
        assert log.total == len(written)
        if len(written) > LIMIT:
            line = marker(len(written) - LIMIT, written[499:500] == b"\n")
            assert shown(log) == written[:500] + line + written[-500:]
            with pytest.raises(Overrun):
                log.read(500, 1)
            assert log.read(len(written) - 500, 500) == written[-500:]
        else:
            assert shown(log) == written
        if chance.random() < 0.3:
            log.close()
            log = CheckoutLog(tmp_path, LIMIT)
    assert (tmp_path / CHECKOUT).stat().st_size <= LIMIT + 5000 + 400
    log.close()


def test_a_reader_in_the_gap_is_told_how_much_it_has_missed(tmp_path: Path) -> None:
    with CheckoutLog(tmp_path, LIMIT) as log:
        log.append(0, b"x" * 5000)
        assert shown(log, 700) == marker(4500 - 700, after_line=True) + b"x" * 500
        assert shown(log, 4600) == b"x" * 400
        assert shown(log, 5000) == shown(log, 9000) == b""
