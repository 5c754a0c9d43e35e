"""Why a build waits, from plain data: rule 3 of the contract."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Optional

import pytest

from minici.scheduler.build_queue import BuildQueue
from minici.scheduler.choosing import QueuedBuild
from minici.scheduler.roster import KnownAgent
from minici.scheduler.waiting import AgentState, WaitingReasons, agent_state
from minici.ui.i18n import Translator
from minici.ui.reasons import reason_text


def agent(name: str, labels: str = "", slots: int = 1, taken: int = 0, **more: Any) -> AgentState:
    wanted = frozenset(labels.split())
    ends = more.pop("ends", (None,) * taken)
    more = {"taken": taken, "free": slots - taken, "ends": ends, **more}
    return AgentState(name, more.pop("address", f"{name}:1"), wanted, **more)


def reasons(
    builds: Mapping[int, str],
    *agents: AgentState,
    alone: tuple[int, ...] = (),
    usual: Optional[float] = None,
    **more: Any,
) -> WaitingReasons:
    queue = BuildQueue()
    for number, labels in builds.items():
        queue.add(QueuedBuild(number, frozenset(labels.split()), number in alone))
    return WaitingReasons(queue.lanes(), agents, lambda _: usual, **more)


GONE = agent("a", "linux", unable="gone")
PAUSED = agent("b", "linux", unable="paused")
TROUBLE = agent("c", "linux mac", unable="trouble", trouble="no space")
REFUSING = agent("d", unable="refusing")
STOPPING = agent("e", unable="stopping")


@pytest.mark.parametrize(
    "labels, agents, sentence",
    [
        ("", [], "no agent is registered: start one, the page /agents says how"),
        ("arm64", [agent("x")], "no agent has the label arm64: start one that has it"),
        (
            "gpu arm64 linux",
            [agent("x", "linux")],
            "no agent has the labels arm64 gpu: start one that has them",
        ),
        (
            "arm64 linux",
            [agent("x", "linux"), agent("y", "arm64")],
            "no single agent has all of the labels arm64 linux: start one",
        ),
        (
            "linux",
            [GONE, PAUSED, TROUBLE, agent("x")],
            "no agent with the label linux takes builds now: b is paused: resume it; "
            "c is in trouble: no space; a is gone: start it again",
        ),
        (
            "linux mac",
            [
                agent("a", "linux mac", unable="gone", paused=True),
                agent("c", "mac linux", unable="trouble", trouble="no space", paused=True),
            ],
            "no agent with the labels linux mac takes builds now: "
            "c is in trouble: no space (it is paused too: resume it); "
            "a is gone: start it again (it is paused too: resume it)",
        ),
        (
            "",
            [REFUSING, STOPPING],
            "no agent takes builds now: e is stopping: start it again; "
            "d refused a build or did not answer, and is asked again",
        ),
        (
            "",
            [agent(f"x{number}", unable="gone") for number in range(9)],
            "no agent takes builds now: x0 is gone: start it again; "
            "x1 is gone: start it again; x2 is gone: start it again; 6 more",
        ),
        (
            "",
            [agent("vm", unable="paused", address=f"10.0.0.{n}:8001") for n in (1, 2)],
            "no agent takes builds now: vm (10.0.0.1:8001) is paused: resume it; "
            "vm (10.0.0.2:8001) is paused: resume it",
        ),
    ],
)
def test_rule_03_a_build_that_nobody_may_take_says_what_would_help(
    labels: str, agents: list[AgentState], sentence: str
) -> None:
    found = reasons({7: labels}, *agents).of(7)
    assert found.reason == sentence and found.blocked
    assert reason_text(Translator("ru"), found.reason) != sentence


@pytest.mark.parametrize(
    "number, agents, usual, sentence",
    [
        (1, [agent("a", slots=2, taken=1)], None, "an agent is free: the build is about to start"),
        (1, [agent("a", taken=1)], None, "next for a free slot"),
        (3, [agent("a", taken=1)], None, "number 3 in the queue for a free slot"),
        (1, [agent("a", taken=1, ends=(200.0,))], None, "next for a free slot, in about 3 min"),
        (1, [agent("a", taken=1)], 60.0, "next for a free slot, in about 60 s"),
        (
            3,
            [agent("a", slots=2, taken=2, ends=(0.0, 1000.0))],
            60.0,
            "number 3 in the queue for a free slot, in about 60 s",
        ),
        (3, [agent("a", taken=1, ends=(9.0,))], None, "number 3 in the queue for a free slot"),
        (
            3,
            [agent("a", taken=1, ends=(1.0,))],
            4000.0,
            "number 3 in the queue for a free slot, in about 2 h",
        ),
    ],
)
def test_a_build_in_line_says_its_place_and_when_a_slot_should_be_free(
    number: int, agents: list[AgentState], usual: Optional[float], sentence: str
) -> None:
    found = reasons({1: "", 2: "", 3: ""}, *agents, usual=usual).of(number)
    assert found.reason == sentence and not found.blocked
    assert found.place == number
    assert reason_text(Translator("ru"), found.reason) != sentence


def test_only_builds_that_wait_for_the_same_agents_are_before_one() -> None:
    made = reasons(
        {1: "mac", 2: "linux", 3: "mac", 4: "", 5: "bsd", 6: "mac"},
        agent("a", "linux", taken=1),
        agent("b", "mac", taken=1),
    )
    assert [made.of(number).place for number in (2, 3, 4, 6)] == [1, 2, 4, 4]


def test_rule_06_a_build_says_that_it_runs_alone_or_waits_for_one_that_does() -> None:
    busy = agent("a", slots=2, taken=1)
    made = reasons({1: "", 2: "", 3: "", 4: ""}, busy, alone=(2, 3))
    assert made.of(1).reason == "an agent is free: the build is about to start"
    alone = "its last attempt runs alone"
    assert made.of(2).reason == f"{alone}: it waits until a has nothing else to do"
    assert made.of(3).reason == f"{alone}, on an agent that has nothing else to do"
    kept = "waits for build 2, whose last attempt runs alone; a is kept for it"
    assert made.of(4).reason == kept
    others = reasons({2: "", 4: ""}, busy, agent("b", taken=1), alone=(2,))
    assert others.of(4).reason == "number 2 in the queue for a free slot"
    for number in (2, 3, 4):
        reason = made.of(number).reason
        assert reason_text(Translator("ru"), reason) != reason


def test_a_build_that_no_agent_can_be_given_for_want_of_disk_says_so() -> None:
    said = reasons({1: ""}, agent("a"), postponed=True).of(1).reason
    assert "want of disk" in said and reason_text(Translator("ru"), said) != said


def test_a_build_that_has_left_the_queue_is_about_to_begin() -> None:
    assert reasons({}, agent("a")).of(1).reason == "an agent is free: the build is about to start"


def test_the_state_of_an_agent_says_why_it_takes_no_builds() -> None:
    known = KnownAgent("h", 1, "a", 2, 0.0, labels=("linux",))
    assert agent_state(known, 5.0, lambda _: None).unable == ""
    for attribute, value, unable in (
        ("not_before", 9.0, "refusing"),
        ("closing", True, "stopping"),
        ("paused", True, "paused"),
        ("trouble", "no space", "trouble"),
        ("gone", True, "gone"),
    ):
        setattr(known, attribute, value)
        assert agent_state(known, 5.0, lambda _: None).unable == unable
    assert agent_state(known, 5.0, lambda _: None).paused


def seconds_of_a_page(builds: int) -> float:
    """The time to say of each queued build why it waits."""
    kinds = ("", "linux", "linux arm64", "bsd")
    agents = [agent(f"a{n}", kinds[n % 3], slots=2, taken=2, ends=(1.0, 9.0)) for n in range(1000)]
    made = reasons({n + 1: kinds[n % 4] for n in range(builds)}, *agents, usual=60.0)
    begun = time.perf_counter()
    for number in range(1, builds + 1):
        assert made.of(number).reason
    return time.perf_counter() - begun


def test_a_thousand_reasons_cost_little_more_than_a_hundred() -> None:
    some = min(seconds_of_a_page(100) for _ in range(3))
    many = min(seconds_of_a_page(1000) for _ in range(3))
    assert many < 20 * some, f"{some * 1e3:.1f} ms for a hundred, {many * 1e3:.1f} for a thousand"
