"""How long a command usually takes."""

from __future__ import annotations

import json

from minici import build as builds
from minici.build import Build
from minici.scheduler.typical_durations import _MOST_COMMANDS, TypicalDurations
from tests.support.fakes import FakeAgent
from tests.support.harness import Place


def ended(number: int, seconds: float, command: str = "make", status: str = "success") -> Build:
    return Build(
        id=number,
        commit="main",
        command=command,
        repository="/r",
        queued_at="2026-11-24T02:30:00.000Z",
        status=status,
        started_at="2026-11-24T02:30:00.000Z",
        finished_at=f"2026-11-24T02:{30 + int(seconds // 60)}:{seconds % 60:06.3f}Z",
    )


def test_it_is_the_median_of_the_last_successes() -> None:
    usual = TypicalDurations()
    assert usual.of("make") is None
    for number, seconds in ((1, 50), (2, 10), (3, 12), (4, 11)):
        usual.note(ended(number, seconds))
    assert usual.of("make") == 11.5
    for number in range(5, 14):
        usual.note(ended(number, 70))
    assert usual.of("make") == 70, "what was long ago counts no more"


def test_what_did_not_succeed_says_nothing() -> None:
    usual = TypicalDurations()
    for status in ("failure", "cancelled", "lost", "running", "queued"):
        usual.note(ended(1, 10, status=status))
    assert usual.of("make") is None


def test_a_build_counts_once_however_often_it_is_shown() -> None:
    usual = TypicalDurations()
    for _ in range(20):
        usual.note(ended(1, 100))
        usual.note(ended(2, 1))
        usual.note(ended(3, 2))
    assert usual.of("make") == 2


def test_it_stays_within_its_bounds() -> None:
    usual = TypicalDurations()
    for number in range(_MOST_COMMANDS + 10):
        usual.note(ended(number + 1, 10, command=f"make {number} {'x' * 300}"))
    assert len(usual._seconds) == _MOST_COMMANDS
    assert max(map(len, usual._seconds)) <= 200
    assert usual.of(f"make {_MOST_COMMANDS} {'x' * 300}") == 10
    assert usual.of(f"make 0 {'x' * 300}") is None


def test_a_running_build_has_its_bar_on_every_list(place: Place) -> None:
    """Also where the command's own builds are not among the last 60, and under a filter."""
    server = place.configure_server()
    for number in range(1, 101):
        command = "the rare one" if number == 1 else "the usual one"
        folder = server.data / "builds" / str(number)
        folder.mkdir(parents=True)
        record = builds.to_record(ended(number, 90, command=command))
        (folder / "build.json").write_text(json.dumps(record))
    (server.data / "counter").write_text("100")
    server.start()
    agent = place.keep(FakeAgent(server, slots=2))
    server.start_build(command="the usual one")
    agent.wait_build()
    assert '<progress max="90.0"' in server.get("/?status=running").text
    first = server.start_build(command="the rare one")
    agent.result(agent.wait_build(2), 0)
    server.wait_final(first)
    for _ in range(70):
        agent.result(agent.wait_build(server.start_build(command="true") - 100), 0)
    server.start_build(command="the rare one")
    agent.wait_build(73)
    assert server.get("/?status=running").text.count("<progress") == 2
