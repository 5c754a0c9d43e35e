"""Why a build waits, in one sentence that says what would help: rule 3 of the contract."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from minici.build import AttemptId
from minici.scheduler.roster import Assignment, KnownAgent
from minici.scheduler.waiting import outlook, sentence

NEVER = "2026-01-01T00:00:00.000Z"


def agent(name: str, labels: str = "", running: int = 0, **more: Any) -> KnownAgent:
    assignments = {n: Assignment(AttemptId(n, 1), 0.0, 60.0) for n in range(1, running + 1)}
    return KnownAgent(
        name, 1, name, 1, 0.0, assignments=assignments, labels=tuple(labels.split()), **more
    )


def said(
    labels: str,
    *agents: KnownAgent,
    alone: bool = False,
    left: Optional[float] = None,
    position: int = 3,
) -> str:
    return sentence(outlook(frozenset(labels.split()), agents, lambda _: left), position, alone)


@pytest.mark.parametrize(
    "labels, agents, expected",
    [
        ("", [], "no agent is connected: start one"),
        ("", [agent("a", gone=True)], "no agent is connected: start one"),
        ("arm64", [agent("a")], "no agent has the labels it needs: arm64; start one that has them"),
        (
            "arm64 linux",
            [agent("a", "linux")],
            "no agent has the labels it needs: arm64; start one that has them",
        ),
        (
            "arm64 linux",
            [agent("a", "linux"), agent("b", "arm64")],
            "no agent has all of the labels it needs: arm64 linux; start one that has them",
        ),
        ("", [agent("a", paused=True)], "no agent takes builds now: a (a:1) is paused, resume it"),
        (
            "gpu",
            [agent("a", "gpu", paused=True), agent("b"), agent("c", "gpu", gone=True)],
            "no agent with the labels gpu takes builds now: a (a:1) is paused, resume it; "
            "c (c:1) is gone, start it again",
        ),
        (
            "",
            [agent("a", trouble="its disk is full")],
            "no agent takes builds now: a (a:1) is in trouble: its disk is full",
        ),
        ("", [agent("a", closing=True)], "no agent takes builds now: a (a:1) is stopping"),
        ("", [agent("a")], "it is about to begin"),
        ("gpu", [agent("a", "gpu", 1), agent("b")],
         "number 3 in the queue; every slot that may take it is taken"),
    ],
)  # fmt: skip
def test_rule_03_a_sentence_says_what_would_help(
    labels: str, agents: list[KnownAgent], expected: str
) -> None:
    assert said(labels, *agents) == expected


@pytest.mark.parametrize(
    "left, expected", [(0.0, "1 s"), (12.4, "12 s"), (89.0, "89 s"), (91.0, "2 minutes")]
)
def test_rule_03_a_time_is_said_where_it_is_known(left: float, expected: str) -> None:
    text = said("", agent("a", running=1), left=left)
    assert text == f"number 3 in the queue; a slot should be free in about {expected}"


def test_rule_06_a_build_that_has_to_run_alone_says_so() -> None:
    text = said("", agent("a", running=1), alone=True)
    assert text.startswith("number 3 in the queue; its agents were lost before")
    assert said("gpu", agent("a"), alone=True).startswith("no agent has the labels")
