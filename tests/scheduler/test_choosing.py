"""Which build goes to which agent: a pure decision. Rules 3, 6 and 21 of the contract."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from typing import Callable, Optional

import pytest

from minici.build import AttemptId
from minici.scheduler.build_queue import BuildQueue
from minici.scheduler.choosing import QueuedBuild
from minici.scheduler.roster import KnownAgent, PingResult, Roster

NOW = 1000.0


def roster(*agents: tuple[int, int]) -> Roster:
    """Agents a, b, c..., each with so many slots, and so many of them taken."""
    return labelled(*((slots, taken, "") for slots, taken in agents))


def labelled(*agents: tuple[int, int, str]) -> Roster:
    """As `roster`, each agent with its labels, too."""
    made = Roster(2.0, 10.0)
    build = 100
    for name, (slots, taken, labels) in zip("abc", agents):
        agent = KnownAgent(name, 1, name, slots, NOW, labels=tuple(labels.split()))
        made.add(agent)
        for _ in range(taken):
            build += 1
            made.assign(agent, AttemptId(build, 1), NOW, overdue_after=60.0)
    return made


def queue_of(*builds: tuple[int, str, bool]) -> BuildQueue:
    queue = BuildQueue()
    for number, labels, alone in builds:
        queue.add(QueuedBuild(number, frozenset(labels.split()), alone))
    return queue


def choice(made: Roster, queue: BuildQueue, now: float = NOW) -> Optional[str]:
    found = made.choose(queue, now)
    return f"{found[0]} to {found[1].name}" if found else None


def chosen(made: Roster, ordinary: Optional[int], alone: Optional[int]) -> Optional[str]:
    wanted = [(ordinary, "", False), (alone, "", True)]
    return choice(made, queue_of(*((n, labels, a) for n, labels, a in wanted if n is not None)))


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


@pytest.mark.parametrize(
    "agents, builds, expected",
    [
        # All labels, and the oldest that some agent may take.
        ([(1, 0, "linux")], [(1, "linux arm64", False)], None),
        ([(1, 0, "linux arm64 gpu")], [(1, "linux arm64", False)], "1 to a"),
        ([(1, 0, "linux")], [(1, "mac", False), (2, "linux", False)], "2 to a"),
        ([(1, 1, "mac"), (1, 0, "")], [(1, "mac", False), (2, "", False)], "2 to b"),
        ([(1, 0, "mac"), (1, 0, "")], [(2, "mac", False), (1, "", False)], "1 to b"),
        # Agents with labels that a build does not ask for come last.
        ([(9, 0, "gpu"), (1, 0, "")], [(1, "", False)], "1 to b"),
        ([(9, 0, "gpu"), (1, 1, "")], [(1, "", False)], "1 to a"),
        # To run alone, with labels: others keep none of its agents busy, and it none of theirs.
        ([(2, 1, "mac"), (2, 0, "")], [(1, "mac", True), (2, "", False)], "2 to b"),
        ([(2, 1, "mac"), (2, 2, "")], [(1, "mac", True), (2, "", False)], None),
        ([(2, 1, "mac"), (2, 2, "")], [(1, "bsd", True), (2, "", False)], "2 to a"),
        ([(2, 1, "mac"), (2, 0, "gpu")], [(1, "mac", True), (2, "gpu", True)], "2 to b"),
        # One agent is kept free at a time, for the oldest that any agent may take.
        ([(2, 1, "mac"), (2, 1, "gpu")], [(1, "mac", True), (2, "gpu", True), (3, "gpu", False)],
         "3 to b"),
        ([(2, 1, "mac"), (2, 1, "gpu")], [(1, "bsd", True), (2, "gpu", True), (3, "gpu", False)],
         None),
    ],
)  # fmt: skip
def test_rule_03_labels_decide_who_may_take_a_build(
    agents: list[tuple[int, int, str]],
    builds: list[tuple[int, str, bool]],
    expected: Optional[str],
) -> None:
    assert choice(labelled(*agents), queue_of(*builds)) == expected


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
    made.pinged(agent, PingResult(NOW, True, running=(AttemptId(7, 1),), undelivered=()), NOW, "")
    assert chosen(made, None, 1) is None


@pytest.mark.parametrize(
    "attribute, value",
    [("gone", True), ("trouble", "no disk"), ("closing", True), ("paused", True)],
)
def test_rule_06_an_agent_that_gets_no_builds_is_not_the_one_kept_free(
    attribute: str, value: object
) -> None:
    made = roster((4, 0), (4, 1), (4, 2))
    idle, _, _ = made
    before = getattr(idle, attribute)
    setattr(idle, attribute, value)
    made.changed(idle)
    assert chosen(made, 2, 1) == "2 to c"
    setattr(idle, attribute, before)
    made.changed(idle)
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


def test_the_queue_keeps_all_kinds_in_order() -> None:
    queue = queue_of(
        (5, "", False), (3, "", True), (9, "mac", True), (1, "", False), (5, "", False)
    )
    assert list(queue) == [1, 3, 5, 9] and len(queue) == 4
    assert sorted(each.id for each in queue.heads()) == [1, 3, 9]
    assert [queue.is_head(number) for number in (1, 3, 5, 9, 4)] == [True, True, False, True, False]
    queue.add(QueuedBuild(5, frozenset(("mac",)), True))
    for number in (1, 3, 4):
        queue.discard(number)
    heads = sorted((each.id, each.alone) for each in queue.heads())
    assert heads == [(5, False), (9, True)] and len(queue) == 2


# Against a choice that looks at everything.


def able(agent: KnownAgent, build: QueuedBuild, now: float) -> bool:
    return agent.is_trusted(now) and build.labels <= set(agent.labels)


def lowest(
    agents: Iterable[KnownAgent], rank: Callable[[KnownAgent], tuple[int, int]]
) -> list[KnownAgent]:
    found = list(agents)
    best = min(map(rank, found), default=None)
    return [agent for agent in found if rank(agent) == best]


def expected_choices(
    builds: Iterable[QueuedBuild], agents: Iterable[KnownAgent], now: float
) -> Iterator[tuple[Optional[int], list[str]]]:
    """The build that goes and the agents of which one gets it, for each that may be kept free."""
    builds, agents = sorted(builds), list(agents)
    holder, kept_ones = None, []
    for build in builds:
        if build.alone and holder is None:
            may = [agent for agent in agents if able(agent, build, now)]
            kept_ones = lowest(may, lambda a: (a.taken_slots, len(a.labels)))
            holder = build if may else None
    for kept in kept_ones or [None]:
        yield expected_choice(builds, agents, now, holder, kept)


def expected_choice(
    builds: list[QueuedBuild],
    agents: list[KnownAgent],
    now: float,
    holder: Optional[QueuedBuild],
    kept: Optional[KnownAgent],
) -> tuple[Optional[int], list[str]]:
    for build in builds:
        may = [agent for agent in agents if able(agent, build, now)]
        younger = holder is not None and build.id > holder.id
        others = [agent for agent in may if agent is not kept]
        if build.alone:
            idle = [agent for agent in (others if younger else may) if not agent.taken_slots]
            best = lowest(idle, lambda a: (0, len(a.labels)))
        else:
            free = [agent for agent in others if agent.free_slots]
            if not free and not younger:
                free = [agent for agent in may if agent.free_slots]
            best = lowest(free, lambda a: (len(a.labels), -a.free_slots))
        if best:
            return build.id, [agent.address for agent in best]
    return None, []


class History:
    """A random history of a queue and its agents."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = NOW
        self.made = Roster(2.0, 10.0)
        self.waiting: dict[int, QueuedBuild] = {}
        self.queue = BuildQueue()
        self.count = 0

    def labels(self) -> tuple[str, ...]:
        return tuple(self.random.sample(("linux", "mac", "gpu"), self.random.choice((0, 0, 1, 2))))

    def step(self) -> None:
        self.now += self.random.choice((0.0, 0.0, 1.0, 7.0))
        agents = list(self.made)
        agent = self.random.choice(agents) if agents else None
        kind = self.random.randrange(14)
        if kind == 0 or agent is None:
            if len(agents) < 6:
                name = f"a{self.random.randrange(9)}"
                new = KnownAgent(name, 1, name, self.random.choice((1, 2, 4)), self.now)
                new.labels = self.labels()
                if self.made.get(new.address) is None:
                    self.made.add(new)
        elif kind < 4:
            self.count += 1
            build = QueuedBuild(self.count, frozenset(self.labels()), self.random.random() < 0.3)
            self.waiting[build.id] = build
            self.queue.add(build)
        elif kind == 4 and self.waiting:
            number = self.random.choice(list(self.waiting))
            del self.waiting[number]
            self.queue.discard(number)
        else:
            self.happen(agent, kind)

    def happen(self, agent: KnownAgent, kind: int) -> None:
        made, now = self.made, self.now
        given = [each.id for each in agent.assignments.values()]
        if kind in (5, 6) and given:
            made.release(agent.address, given[0], still_there=self.random.random() < 0.3)
        elif kind == 7:
            made.lost(agent, "silent", now, "")
        elif kind == 8:
            made.refused(agent, now)
        elif kind == 9 and given:
            made.accepted(agent, given[0].build, now)
        elif kind == 10:
            agent.paused, agent.labels = self.random.random() < 0.5, self.labels()
            made.changed(agent)
        elif kind == 11 and self.random.random() < 0.3:
            made.forget(agent.address)
        else:
            running = tuple(given) if self.random.random() < 0.8 else ()
            slots = self.random.choice((0, 1, 2, 4, 4))
            trouble = self.random.choice((None, None, None, "no disk"))
            ping = PingResult(
                now, True, running=running, undelivered=(), slots=slots, trouble=trouble
            )
            made.pinged(agent, ping, now, "")

    def check(self) -> None:
        """The choice is one of those that are right; it is made, most times."""
        found = self.made.choose(self.queue, self.now)
        right = list(expected_choices(self.waiting.values(), self.made, self.now))
        if found is None:
            assert (None, []) in right, right
            return
        number, agent = found
        assert any(number == build and agent.address in addresses for build, addresses in right)
        if self.random.random() < 0.8:
            alone = self.waiting.pop(number).alone
            self.queue.discard(number)
            self.made.assign(agent, AttemptId(number, 1), self.now, 60.0, alone)


@pytest.mark.parametrize("seed", range(60))
def test_rule_03_the_choice_is_that_of_one_who_looks_at_everything(seed: int) -> None:
    history = History(seed)
    for _ in range(150):
        history.step()
        history.check()


def seconds_a_choice(size: int) -> float:
    """The time of a choice and its assignment, with so many agents and queued builds."""
    kinds = ("", "linux", "linux arm64", "mac")
    made, queue = Roster(2.0, 10.0), BuildQueue()
    for number in range(size):
        labels = tuple(kinds[number % 4].split())
        made.add(KnownAgent(f"a{number}", 1, "", 4, NOW, labels=labels))
        queue.add(QueuedBuild(number + 1, frozenset(labels), alone=False))
    rounds, begun = 400, time.perf_counter()
    for _ in range(rounds):
        found = made.choose(queue, NOW)
        assert found is not None
        number, agent = found
        build = QueuedBuild(number, frozenset(kinds[(number - 1) % 4].split()), alone=False)
        queue.discard(number)
        made.assign(agent, AttemptId(number, 1), NOW, 60.0)
        made.release(agent.address, AttemptId(number, 1))
        queue.add(build)
    return (time.perf_counter() - begun) / rounds


def test_rule_03_a_choice_costs_the_same_with_a_thousand_agents() -> None:
    few = min(seconds_a_choice(10) for _ in range(5))
    many = min(seconds_a_choice(1000) for _ in range(5))
    assert many < 4 * few, f"{few * 1e6:.0f} us with ten, {many * 1e6:.0f} us with a thousand"
