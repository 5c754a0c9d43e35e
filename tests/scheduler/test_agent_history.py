"""An agent's last 24 hours: what is kept of them, in which bounds, and over a restart."""

from __future__ import annotations

import json
import re

import pytest

from minici.build import AttemptId
from minici.scheduler.agent_history import QUARTER_SECONDS, QUARTERS, AgentHistory
from minici.scheduler.roster import KnownAgent, PingResult, Roster
from tests.support.fakes import FakeAgent
from tests.support.harness import Place, wait_for

NOW = 1_000_000 * QUARTER_SECONDS


def shares(day: AgentHistory, now: float, last: int) -> list[tuple[float, float, float]]:
    """Seconds there, gone and busy of the last quarters, rounded."""
    quarters = day.quarters(now)[-last:]
    return [(round(here), round(gone), round(busy)) for here, gone, busy in quarters]


def test_what_is_noted_holds_until_the_next_note() -> None:
    day = AgentHistory(NOW)
    day.note(NOW + 100, here=True, busy=0.5)
    day.note(NOW + 500, here=True, busy=1)
    day.note(NOW + 600, here=False)
    assert shares(day, NOW + 900, 2) == [(500, 300, 300), (0, 0, 0)]


def test_a_note_that_holds_for_long_fills_quarter_by_quarter() -> None:
    day = AgentHistory(NOW)
    day.note(NOW + 450, here=True, busy=0.25)
    assert shares(day, NOW + 2.5 * QUARTER_SECONDS, 4) == [
        (0, 0, 0),
        (450, 0, 112),
        (900, 0, 225),
        (450, 0, 112),
    ]


def test_what_is_older_than_a_day_is_forgotten() -> None:
    day = AgentHistory(NOW)
    day.note(NOW, here=True, busy=1)
    day.note(NOW + QUARTER_SECONDS, here=False)
    after = day.quarters(NOW + QUARTER_SECONDS * QUARTERS - 1)
    assert len(after) == QUARTERS
    assert after[0] == (900, 0, 900) and after[1] == (0, 900, 0)
    later = day.quarters(NOW + QUARTER_SECONDS * QUARTERS + 1)
    assert later[0] == (0, 900, 0) and later[-1] == (0, 1, 0)


def test_days_of_sleep_cost_no_more_than_one() -> None:
    day = AgentHistory(NOW)
    day.note(NOW, here=True)
    begun = NOW + 5_000_000 * QUARTER_SECONDS
    assert day.quarters(begun)[0] == (900, 0, 0)
    assert sum(here for here, _, _ in day.quarters(begun)) == pytest.approx(95 * 900)


def test_a_clock_that_stands_still_or_goes_back_adds_nothing() -> None:
    day = AgentHistory(NOW + 10)
    day.note(NOW + 10, here=True)
    day.note(NOW, here=True)
    assert shares(day, NOW + 10, 1) == [(0, 0, 0)]


def test_a_copy_is_its_own() -> None:
    day = AgentHistory(NOW)
    day.note(NOW, here=True)
    copy = day.copy()
    day.note(NOW + 100, here=False)
    assert shares(copy, NOW + 200, 1) == [(200, 0, 0)]
    assert shares(day, NOW + 200, 1) == [(100, 100, 0)]


@pytest.mark.parametrize("away", [0, 3, 95, 96, 4000])
def test_a_day_goes_on_in_another_life_of_the_server(away: int) -> None:
    day = AgentHistory(NOW)
    day.note(NOW, here=True, busy=1)
    day.note(NOW + QUARTER_SECONDS, here=True, busy=1 / 3)
    day.note(NOW + 2 * QUARTER_SECONDS, here=False)
    lines = day.written(NOW + 3 * QUARTER_SECONDS)
    assert [len(line) for line in lines] == [96] * 3
    other = AgentHistory(77 * QUARTER_SECONDS)
    other.read(lines, away * QUARTER_SECONDS)
    read = other.quarters(77 * QUARTER_SECONDS)
    nothing = (0, 0, 0)
    expected = [nothing] * 92 + [(900, 0, 900), (900, 0, 300), (0, 900, 0), nothing]
    assert read == (expected + [nothing] * away)[-96:]


@pytest.mark.parametrize("wrong", [(), ("0" * 96,) * 2, ("0" * 95,) * 3, ("x" * 96,) * 3])
def test_what_is_no_day_is_refused(wrong: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        AgentHistory(NOW).read(wrong, 0)


def test_the_roster_notes_signs_of_life_and_their_end() -> None:
    roster = Roster(ping_interval=2, agent_timeout=10, overdue=60)
    agent = KnownAgent("a", 1, "a", slots=2, heard_at=NOW)
    roster.add(agent)
    roster.heard(agent, NOW, "")
    roster.assign(agent, AttemptId(1, 1), NOW + 100)
    answer = PingResult(NOW + 100, True, running=((1, 1),), undelivered=())
    roster.pinged(agent, answer, NOW + 100, "")
    roster.lost(agent, "silent", NOW + 300, "")
    assert shares(agent.history, NOW + 400, 1) == [(300, 100, 100)]
    roster.heard(agent, NOW + 400, "")
    assert shares(agent.history, NOW + 500, 1) == [(400, 100, 150)]


def test_an_agents_day_and_its_loss_outlive_the_server(place: Place) -> None:
    server = place.server()
    here, lost = place.keep(FakeAgent(server, "here")), place.keep(FakeAgent(server, "lost"))
    lost.close()
    wait_for(lambda: [each["gone"] for each in server.agents()] == [False, True], 30, "one is gone")
    before = server.agents()[1]
    page = server.get("/agents", {"Accept-Language": "en"}).text
    assert re.search(r"lost <time [^>]*>just now</time>", page)
    assert "its port refuses connections" in page
    server.stop()
    kept = server.data / "agents-day.json"
    written = json.loads(kept.read_text())
    for lines in written["days"].values():
        assert [len(line) for line in lines] == [96] * 3
    written["days"] = {address: ["9" * 96, "0" * 96, "0" * 96] for address in written["days"]}
    kept.write_text(json.dumps(written))  # as if the server had run since yesterday
    server.restart()
    after = server.agents()
    assert [each["gone"] for each in after] == [False, True]
    assert after[1]["gone_since"] == before["gone_since"], "not the moment of the restart"
    assert after[1]["last_heard"] == before["last_heard"]
    here.wait_pings()
    english = {"Accept-Language": "en"}
    page = wait_for(lambda: "gone for" in (text := server.get("/agents", english).text) and text)
    told = re.findall("Last 24 hours: connected for (?:1\u00a0d|23\u00a0h)", page)
    assert len(told) == 4, "for the eye's and the ear's reader"


def test_an_agent_that_came_back_is_there_after_a_restart(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    agent.close()
    wait_for(lambda: server.agents()[0]["gone"], 30, "it is gone")
    agent.open()
    wait_for(lambda: not server.agents()[0]["gone"], 30, "it is back")
    number = server.start_build()
    agent.wait_build()
    server.kill()
    server.restart()
    assert not server.agents()[0]["gone"]
    assert server.build(number)["attempt"] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"days": 3}', '{"days": {"x": [1]}}'])
def test_a_damaged_day_costs_no_more_than_itself(place: Place, content: str) -> None:
    server = place.configure_server()
    server.data.mkdir()
    (server.data / "agents-day.json").write_text(content)
    server.start()
    agent = place.keep(FakeAgent(server))
    agent.wait_pings()
    assert "connected for" in server.get("/agents", {"Accept-Language": "en"}).text


def test_a_thousand_agents_take_little() -> None:
    """A kilobyte or two each, and some microseconds for a sign of life."""
    days = [AgentHistory(NOW) for _ in range(1000)]
    for day in days:
        for minute in range(0, 24 * 60, 7):
            day.note(NOW + 60 * minute, here=True, busy=minute % 2)
    assert sum(day._seconds.itemsize * len(day._seconds) for day in days) < 2_000_000


def test_an_agent_that_is_gone_leaves_by_the_button_alone(place: Place) -> None:
    server = place.server()
    agents = [place.keep(FakeAgent(server, name)) for name in ("one", "two")]
    agents[0].close()
    wait_for(lambda: server.agents()[0]["gone"], 30, "one is gone")
    for agent in agents:
        assert server.post("/agents/forget", {"address": agent.address}).status == 303
    assert [each["name"] for each in server.agents()] == ["two"], "a living one stays"
    server.kill()
    server.restart()
    assert [each["name"] for each in server.agents()] == ["two"]
    agents[0].open()
    assert agents[0].register().status == 200
    assert len(server.agents()) == 2, "what is forgotten may come back"
