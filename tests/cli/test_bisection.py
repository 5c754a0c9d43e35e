"""The choice of the commits to build, held by property: every history, slots, skips."""

from __future__ import annotations

import random

import pytest

from minici.cli.bisection import BAD, GOOD, SKIP, rounds_needed, search, verdict


def run(count: int, first_bad: int, slots: int, skipped: frozenset[int]) -> tuple[range, int]:
    """Search to the end; return the culprits and the rounds."""
    results: dict[int, str] = {}
    for rounds in range(count + 1):
        state = search(count, results, slots)
        if not state.tests:
            return state.culprits, rounds
        assert len(set(state.tests)) == len(state.tests) <= slots
        for at in state.tests:
            assert at not in results, "built twice"
            assert state.good < at < state.bad, "a result that is known already"
            results[at] = SKIP if at in skipped else BAD if at >= first_bad else GOOD
    raise AssertionError("no end")


@pytest.mark.parametrize("slots", (1, 2, 3, 4, 7, 50))
def test_every_history_is_searched_in_the_promised_rounds(slots: int) -> None:
    for count in range(1, 41):
        for first_bad in range(count):
            culprits, rounds = run(count, first_bad, slots, frozenset())
            assert list(culprits) == [first_bad]
            assert rounds <= rounds_needed(count, slots), (count, first_bad)


def test_with_skips_the_culprit_is_kept_and_only_skipped_ones_stay_beside_it() -> None:
    dice = random.Random(7)
    for _ in range(3000):
        count, slots = dice.randint(1, 30), dice.randint(1, 6)
        first_bad = dice.randrange(count)
        skipped = frozenset(dice.sample(range(count), dice.randint(0, count)))
        culprits, _ = run(count, first_bad, slots, skipped)
        assert first_bad in culprits
        assert set(culprits[:-1]) <= skipped


@pytest.mark.parametrize(
    "count, slots, rounds", [(1, 3, 0), (2, 1, 1), (19, 3, 3), (64, 3, 3), (65, 3, 4), (8, 1, 3)]
)
def test_rounds_are_the_logarithm(count: int, slots: int, rounds: int) -> None:
    assert rounds_needed(count, slots) == rounds


def test_exit_statuses_are_those_of_git_bisect_run() -> None:
    assert [verdict(n) for n in (0, 1, 124, 125, 126, 127)] == [GOOD, BAD, BAD, SKIP, BAD, BAD]
    assert [verdict(stops) for stops in (128, 255, -9)] == [None, None, None]
