"""The ids that retention keeps in mind: `Numbers` does what a set does, and takes little room."""

from __future__ import annotations

import random
import sys

import pytest

from minici.scheduler.retention import Numbers


@pytest.mark.parametrize("seed", range(20))
def test_numbers_are_a_set_in_order(seed: int) -> None:
    chance, numbers = random.Random(seed), Numbers()
    known: set[int] = set()
    for _ in range(2000):
        number = chance.choice((chance.randrange(1, 200), chance.randrange(1, 10**15)))
        if chance.random() < 0.6:
            numbers.add(number)
            known.add(number)
        else:
            gone = chance.choice([number, *list(known)[:5]])
            numbers.discard(gone)
            known.discard(gone)
        assert len(numbers) == len(known), seed
    assert list(numbers) == sorted(known), seed


def test_what_is_discarded_is_gone_and_nothing_else() -> None:
    numbers = Numbers()
    for number in (1, 4095, 4096, 4097, 10**15):
        numbers.add(number)
        numbers.add(number)
    numbers.discard(4096)
    numbers.discard(2)
    assert list(numbers) == [1, 4095, 4097, 10**15] and len(numbers) == 4
    for number in (1, 4095, 4097, 10**15):
        numbers.discard(number)
    assert list(numbers) == [] and len(numbers) == 0 and numbers._blocks == {}


def test_a_million_of_them_take_little_room() -> None:
    numbers = Numbers()
    for number in range(1, 1_000_001):
        numbers.add(number)
    assert len(numbers) == 1_000_000
    assert sum(map(sys.getsizeof, numbers._blocks.values())) < 200_000
