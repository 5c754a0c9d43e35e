"""Which build goes to which agent: a pure decision."""

from __future__ import annotations

from typing import Optional

import pytest

from minici.build import AttemptId
from minici.scheduler.build_queue import BuildQueue
from minici.scheduler.roster import KnownAgent, PingResult, Roster

NOW = 1000.0


def roster(*agents: tuple[int, int]) -> Roster:
    """Agents a, b, c..., each with so many slots, and so many of them taken."""
    made = Roster(2.0, 10.0)
    build = 100
    for name, (slots, taken) in zip("abc", agents):
        agent = KnownAgent(name, 1, name, slots, NOW)
        made.add(agent)
        for _ in range(taken):
            build += 1
            made.assign(agent, AttemptId(build, 1), NOW, overdue_after=60.0)
    return made


def chosen(made: Roster, ordinary: Optional[int], alone: Optional[int]) -> Optional[str]:
    found = made.choose(ordinary, alone, NOW)
    return f"{found[0]} to {found[1].name}" if found else None


@pytest.mark.parametrize(
    "agents, ordinary, alone, expected",
    [
        ([], 1, 2, None),
        ([(1, 0)], None, None, None),
        ([(1, 0)], 1, None, "1 to a"),
        ([(2, 1), (2, 0)], 1, None, "1 to b"),
        ([(1, 1)], 1, None, None),
        # To run alone: an idle agent, whatever is free elsewhere.
        ([(4, 1), (1, 0)], None, 1, "1 to b"),
        ([(4, 1)], None, 1, None),
        # The older goes first.
        ([(2, 0)], 1, 2, "1 to a"),
        ([(2, 0)], 2, 1, "1 to a"),
        # One agent is kept free of younger builds, the least busy; others get them.
        ([(4, 2), (4, 1)], 2, 1, "2 to a"),
        ([(4, 1)], 2, 1, None),
        ([(4, 4), (4, 1)], 2, 1, None),
        # Not of older ones, where nobody else can take them.
        ([(4, 2), (4, 1)], 1, 2, "1 to a"),
        ([(4, 4), (4, 1)], 1, 2, "1 to b"),
    ],
)
def test_rule_06_an_agent_is_chosen(
    agents: list[tuple[int, int]],
    ordinary: Optional[int],
    alone: Optional[int],
    expected: Optional[str],
) -> None:
    assert chosen(roster(*agents), ordinary, alone) == expected


def test_rule_06_nothing_is_given_beside_a_build_that_runs_alone() -> None:
    made = roster((4, 0))
    (agent,) = made
    made.assign(agent, AttemptId(1, 3), NOW, overdue_after=60.0, alone=True)
    assert agent.free_slots == 0 and chosen(made, 2, None) is None
    made.release(agent.address, AttemptId(1, 3))
    assert chosen(made, 2, None) == "2 to a"


def test_rule_10_a_build_that_is_being_delivered_takes_no_slot() -> None:
    made = roster((1, 1))
    (agent,) = made
    ended = AttemptId(101, 1)
    made.pinged(agent, PingResult(NOW, answered=True, running=(), undelivered=(ended,)), NOW, "")
    assert chosen(made, 1, None) == "1 to a" and 101 in agent.assignments
    made.pinged(agent, PingResult(NOW, answered=True, running=(ended,), undelivered=()), NOW, "")
    assert chosen(made, 1, None) is None


def test_rule_06_what_an_agent_runs_for_others_counts() -> None:
    made = roster((4, 0))
    (agent,) = made
    agent.reported = (AttemptId(7, 1),)
    assert chosen(made, None, 1) is None


def test_rule_06_an_agent_that_gets_no_builds_is_not_the_one_kept_free() -> None:
    made = roster((4, 0), (4, 1), (4, 2))
    idle, _, _ = made
    for attribute, value in (("gone", True), ("trouble", "no disk"), ("closing", True)):
        before = getattr(idle, attribute)
        setattr(idle, attribute, value)
        assert chosen(made, 2, 1) == "2 to c", attribute
        setattr(idle, attribute, before)
    assert chosen(made, 2, 1) == "1 to a"


def test_rule_21_an_agent_in_trouble_gets_no_builds_until_a_ping_says_otherwise() -> None:
    made = roster((1, 0))
    (agent,) = made
    made.pinged(agent, PingResult(NOW, True, trouble="no space"), NOW, "")
    assert agent.trouble == "no space" and chosen(made, 1, None) is None
    made.pinged(agent, PingResult(NOW, False), NOW, "")
    assert chosen(made, 1, None) is None, "no answer is no good one"
    made.pinged(agent, PingResult(NOW, True), NOW, "")
    assert agent.trouble is None and chosen(made, 1, None) == "1 to a"


def test_the_queue_keeps_both_kinds_in_order() -> None:
    queue = BuildQueue()
    for number, alone in ((5, False), (3, True), (9, True), (1, False), (5, False)):
        queue.add(number, alone)
    assert list(queue) == [1, 3, 5, 9] and len(queue) == 4
    assert (queue.first_ordinary, queue.first_alone) == (1, 3)
    assert [queue.position(number) for number in (1, 3, 5, 9, 4)] == [1, 2, 3, 4, 0]
    queue.add(5, alone=True)
    for number in (1, 3, 4):
        queue.discard(number)
    assert (queue.first_ordinary, queue.first_alone, len(queue)) == (5, 9, 2)
