"""Section 5 of the contract, rules 1 to 8 and 14: the server's side, with agents that are scripts.

What needs real agents stands in test_contract_5_agent.py and in the tests of the faults.
"""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.fakes import DROP, HANG, Call, FakeAgent
from tests.support.harness import Place, ServerProcess, holds_for, wait_for
from tests.support.http_client import Reply


@pytest.fixture
def server(place: Place) -> ServerProcess:
    return place.server()


def agent_of(place: Place, server: ServerProcess, name: str = "fake", **more: Any) -> FakeAgent:
    return place.keep(FakeAgent(server, name, **more))


# Rule 1.


def test_rule_1_ids_rise_across_restarts_and_at_the_same_time(server: ServerProcess) -> None:
    assert [server.start_build() for _ in range(3)] == [1, 2, 3]
    server.kill()
    server.restart()
    with ThreadPoolExecutor(8) as callers:
        numbers = list(callers.map(lambda _: server.start_build(), range(24)))
    assert sorted(numbers) == list(range(4, 28))
    assert server.stop() == 0
    server.restart()
    assert server.start_build() == 28


# Rule 2 stands in test_contract_4_data.py (what is synced) and in fault 2 (kills).


# Rule 3.


def test_rule_3_the_oldest_goes_first(place: Place, server: ServerProcess) -> None:
    numbers = [server.start_build() for _ in range(5)]
    agent = agent_of(place, server)
    for count in range(1, 6):
        agent.result(agent.wait_build(count))
    assert [int(build["id"]) for build in agent.builds] == numbers


def test_rule_3_nothing_polls(place: Place) -> None:
    """Pings are a minute apart: a build goes the moment there is a slot all the same."""
    server = place.server(ping_interval="60s", agent_timeout="300s")
    server.start_build()
    agent = agent_of(place, server)
    begun = time.monotonic()
    first = agent.wait_build(1, within=5)
    server.start_build()
    agent.result(first)
    second = agent.wait_build(2, within=5)
    agent.result(second)
    server.start_build()
    agent.wait_build(3, within=5)
    assert time.monotonic() - begun < 8


def test_rule_3_slots_bound_what_an_agent_is_handed(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server, slots=2)
    for _ in range(4):
        server.start_build()
    agent.wait_build(2)
    holds_for(lambda: len(agent.builds) == 2, 1, "two slots take two builds")
    agent.result(agent.builds[0])
    agent.wait_build(3)


def test_rule_3_one_slow_agent_delays_nobody(place: Place, server: ServerProcess) -> None:
    slow = agent_of(place, server, "slow")
    slow.script_always("/build", HANG)
    slow.script_always("/ping", HANG)
    server.start_build()
    slow.wait_call("/build")
    quick = agent_of(place, server, "quick")
    begun = time.monotonic()
    for count in range(1, 4):
        server.start_build()
        quick.result(quick.wait_build(count, within=5))
    assert time.monotonic() - begun < 5


# Rule 4.


def test_rule_4_the_attempt_is_on_disk_before_the_call(place: Place, server: ServerProcess) -> None:
    seen: list[Any] = []

    def look(call: Call) -> Any:
        folder = server.data / "builds" / call.params["id"]
        seen.append(json.loads((folder / "build.json").read_text()))
        return 202, {}

    agent = agent_of(place, server)
    agent.script_always("/build", look)
    server.start_build()
    agent.wait_call("/build")
    wait_for(lambda: seen, what="the record read")
    assert seen[0]["status"] == "running" and seen[0]["attempts"][0]["attempt"] == 1


REFUSALS = [200, 201, 204, 302, 403, 404, 409, 429, 500, 503]


@pytest.mark.parametrize("status", REFUSALS)
def test_rule_4_any_answer_but_202_is_a_refusal(
    place: Place, server: ServerProcess, status: int
) -> None:
    refusing = agent_of(place, server, "refusing")
    refusing.script_always("/build", (status, b"" if status == 204 else {"error": "no"}))
    server.start_build()
    refusing.wait_call("/build")
    taking = agent_of(place, server, "taking")
    build = taking.wait_build()
    assert int(build["attempt"]) >= 2
    taking.result(build)
    known = server.build(1)
    assert known["status"] == "success" and known["agent"] == "taking"
    assert known["attempts"][0]["ending"] == "refused"
    assert not refusing.made("/cancel")


def test_rule_4_a_refused_connection_is_a_refusal(place: Place) -> None:
    server = place.server(ping_interval="30s", agent_timeout="60s", max_attempts=1)
    gone = agent_of(place, server, "gone")
    gone.close()
    number = server.start_build()
    wait_for(lambda: server.build(number)["attempts"], what="a refused attempt")
    wait_for(lambda: server.build(number)["status"] == "queued", what="the build back")
    taking = agent_of(place, server, "taking")
    assert taking.wait_build()["attempt"] == "2"
    assert server.build(number)["attempts"][0]["ending"] == "refused"


def test_rule_4_a_refused_build_keeps_its_place(place: Place) -> None:
    server = place.server(ping_interval="30s", agent_timeout="90s")
    numbers = [server.start_build() for _ in range(3)]
    refusing = place.keep(FakeAgent(server, "refusing", register=False))
    refusing.script_always("/build", (503, {"error": "full"}))
    refusing.script_always("/ping", HANG)
    refusing.register()
    wait_for(lambda: server.build(1)["attempts"], what="an attempt")
    wait_for(lambda: server.build(1)["status"] == "queued", what="the build back")
    holds_for(lambda: len(refusing.made("/build")) == 1, 0.5, "it is asked once")
    taking = agent_of(place, server, "taking")
    for count in range(1, 4):
        taking.result(taking.wait_build(count))
    assert [int(build["id"]) for build in taking.builds] == numbers


def test_rule_4_a_ping_from_before_a_refusal_is_not_the_next_one(place: Place) -> None:
    server = place.server(ping_interval="30s", agent_timeout="90s")
    refusing = place.keep(FakeAgent(server, "refusing", register=False))
    refused = threading.Event()

    def late(_: Call) -> Any:
        assert refused.wait(30)
        return 200, {"running": [], "undelivered": []}

    refusing.script_always("/ping", late)
    refusing.script_always("/build", (503, {"error": "full"}))
    refusing.register()
    refusing.wait_call("/ping")
    heard = server.agents()[0]["last_heard"]
    server.start_build()
    wait_for(lambda: server.build(1)["attempts"], what="an attempt")
    wait_for(lambda: server.build(1)["status"] == "queued", what="the build back")
    refused.set()
    wait_for(lambda: server.agents()[0]["last_heard"] != heard, what="the answer to the ping")
    holds_for(lambda: len(refusing.made("/build")) == 1, 0.5, "it is asked once")


@pytest.mark.parametrize("answer", [{"error": "I rest on Sundays"}, b"I rest on Sundays\n"])
def test_rule_4_400_ends_the_build_with_the_agents_sentence(
    place: Place, server: ServerProcess, answer: Any
) -> None:
    agent = agent_of(place, server)
    agent.script("/build", (400, answer))
    known = server.wait_final(server.start_build())
    assert known["status"] == "failure" and known["reason"] == "I rest on Sundays"
    server.start_build()
    assert agent.wait_build()["id"] == "2"


def test_rule_4_400_without_a_sentence_gets_one(place: Place, server: ServerProcess) -> None:
    agent_of(place, server).script("/build", (400, b""))
    known = server.wait_final(server.start_build())
    assert known["status"] == "failure"
    assert known["reason"] == "the agent will not run it, and did not say why"


def test_rule_4_who_refuses_is_asked_later_and_later(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    agent.script_always("/build", (503, {"error": "full"}))
    server.start_build()
    wait_for(lambda: len(agent.made("/build")) >= 5, 60, "five refusals")
    calls = [call.at for call in agent.made("/build")[:5]]
    gaps = [later - earlier for earlier, later in zip(calls, calls[1:])]
    assert gaps[-1] > 1.5 * gaps[0], gaps
    pings = [call.at for call in agent.made("/ping")]
    for earlier, later in zip(calls, calls[1:]):
        assert any(earlier <= ping <= later for ping in pings), "a good ping came between"
    agent.script_always("/build", None)
    assert int(agent.wait_build(1, within=60)["attempt"]) >= 6


@pytest.mark.parametrize("lists", [True, False])
def test_rule_4_without_an_answer_it_is_told_to_cancel(
    place: Place, server: ServerProcess, lists: bool
) -> None:
    agent = agent_of(place, server, "odd")
    agent.lists = lists
    agent.script("/build", DROP)
    server.start_build()
    call = agent.wait_call("/cancel")
    assert call.params["id"] == "1" and call.params["attempt"] == "1"
    build = agent.wait_build()
    assert build["attempt"] == "2"
    agent.result(build)
    known = server.build(1)
    assert [each["ending"] for each in known["attempts"]] == ["unanswered", "finished"]


def test_rule_4_an_answer_that_never_comes_is_no_answer(place: Place) -> None:
    server = place.server(agent_timeout="60s")
    agent = agent_of(place, server, "odd")
    agent.script("/build", HANG)
    server.start_build()
    assert agent.wait_call("/cancel", within=40).params["attempt"] == "1"
    assert agent.wait_build(within=40)["attempt"] == "2"


def test_rule_4_no_attempt_number_is_used_twice(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    agent.script("/build", (503, {}), (503, {}), DROP)
    server.start_build()
    build = agent.wait_build(1, within=60)
    server.kill()
    server.restart()
    agent.register()
    assert agent.returned(build).status == 200
    agent.wait_build(2)
    numbers = [call.params["attempt"] for call in agent.made("/build")]
    assert len(numbers) == len(set(numbers)) and numbers == sorted(numbers, key=int)


# Rule 5.


def test_rule_5_silence_orphans_a_build(place: Place) -> None:
    server = place.server(agent_timeout="1s")
    silent = agent_of(place, server, "silent")
    server.start_build()
    silent.wait_build()
    silent.script_always("/ping", HANG)
    begun = time.monotonic()
    other = agent_of(place, server, "other")
    build = other.wait_build(within=15)
    assert 0.5 < time.monotonic() - begun < 8
    assert build["attempt"] == "2"
    (first, _) = server.build(1)["attempts"]
    assert first["agent"] == "silent" and first["ending"] == "silent" and first["finished_at"]


def test_rule_5_two_refused_pings_orphan_at_once(place: Place) -> None:
    server = place.server(agent_timeout="60s")
    dying = agent_of(place, server, "dying")
    server.start_build()
    dying.wait_build()
    other = agent_of(place, server, "other")
    dying.close()
    begun = time.monotonic()
    assert other.wait_build(within=15)["attempt"] == "2"
    assert time.monotonic() - begun < 4


class PlainAgent(BaseHTTPRequestHandler):
    """An agent as people write it: HTTP/1.1, answers without a length, one thread a connection
    that goes on when the port is closed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_rule_5_a_closed_port_is_the_end_whatever_connections_are_open(place: Place) -> None:
    server = place.server(agent_timeout="60s")
    listener = ThreadingHTTPServer(("127.0.0.1", 0), PlainAgent)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    params = {"host": "127.0.0.1", "port": listener.server_port}
    assert server.post("/notify_agent", params).status == 200
    server.start_build()
    server.wait_status(1, "running")
    heard = server.agents()[0]["last_heard"]
    wait_for(lambda: server.agents()[0]["last_heard"] != heard, what="a ping")
    assert len(server.build(1)["attempts"]) == 1
    listener.shutdown()
    listener.server_close()
    server.wait_status(1, "queued")
    assert server.build(1)["attempts"][0]["ending"] == "silent"


def test_rule_5_an_agent_gone_gets_nothing_and_may_come_back(place: Place) -> None:
    server = place.server(agent_timeout="1s")
    agent = agent_of(place, server)
    agent.close()
    server.start_build()
    time.sleep(1.5)
    agent.open()
    assert agent.register().status == 200
    agent.wait_build()


def test_rule_5_forgotten_after_two_pings(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    server.start_build()
    build = agent.wait_build()
    agent.wait_pings(2)
    agent.forget(build)
    again = agent.wait_build(2, within=10)
    assert again["attempt"] == "2"
    assert server.build(1)["attempts"][0]["ending"] == "forgotten"


def test_rule_5_one_ping_without_it_is_not_enough(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    server.start_build()
    agent.wait_build()
    agent.wait_pings(1)
    empty = {"name": "fake", "slots": 1, "running": [], "undelivered": []}
    for _ in range(4):
        agent.script("/ping", (200, empty))
        agent.wait_pings(4)
    assert server.build(1)["attempt"] == 1


def test_rule_5_another_attempt_of_it_does_not_count(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server, slots=2)
    server.start_build()
    build = agent.wait_build()
    agent.forget(build)
    agent.running.append({"id": 1, "attempt": 7})
    assert agent.wait_build(2, within=10)["attempt"] == "2"


@pytest.mark.parametrize(
    "lists",
    [{"running": "x", "undelivered": []}, {"running": []}, {"running": [1], "undelivered": [2]}],
)
def test_rule_5_lists_of_another_kind_prove_nothing(
    place: Place, server: ServerProcess, lists: dict[str, Any]
) -> None:
    agent = agent_of(place, server)
    server.start_build()
    agent.wait_build()
    agent.script_always("/ping", (200, {"name": "fake", "slots": 1, **lists}))
    agent.wait_pings(5)
    assert server.build(1)["attempt"] == 1


def test_rule_5_an_orphan_goes_to_its_old_place(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    for _ in range(3):
        server.start_build()
    agent.forget(agent.wait_build())
    agent.wait_build(2, within=10)
    for count in (2, 3, 4):
        agent.result(agent.wait_build(count))
    assert [int(build["id"]) for build in agent.builds] == [1, 1, 2, 3]


# Rule 6.


def test_rule_6_lost_after_max_attempts_with_names(place: Place) -> None:
    server = place.server(max_attempts=2)
    agent = agent_of(place, server, "killed by it")
    server.start_build()
    server.start_build()
    for count in (1, 2):
        agent.forget(agent.wait_build(count, within=15))
    known = server.wait_final(1)
    assert known["status"] == "lost" and "killed by it" in known["reason"]
    assert len(known["attempts"]) == 2 and known["finished_at"] and known["exit_status"] is None
    assert agent.wait_build(3)["id"] == "2"


def test_rule_6_refusals_and_returns_do_not_count(place: Place) -> None:
    server = place.server(max_attempts=1)
    agent = agent_of(place, server)
    agent.script("/build", (503, {}))
    server.start_build()
    for count in (1, 2):
        assert agent.returned(agent.wait_build(count, within=30)).status == 200
    build = agent.wait_build(3)
    assert build["attempt"] == "4" and server.build(1)["status"] == "running"
    agent.forget(build)
    assert server.wait_final(1)["status"] == "lost"


def test_rule_6_unanswered_calls_count(place: Place) -> None:
    server = place.server(max_attempts=2)
    agent = agent_of(place, server, "mute")
    agent.script_always("/build", DROP)
    known = server.wait_final(server.start_build())
    assert known["status"] == "lost" and "mute" in known["reason"]
    said = (
        f"no answer from mute: http://127.0.0.1:{agent.port} ended the connection without an answer"
    )
    assert known["attempts"][0]["reason"] == said
    assert len(agent.made("/build")) == 2


# Rule 7.


def orphaned(
    place: Place, server: ServerProcess
) -> tuple[FakeAgent, dict[str, str], dict[str, str]]:
    """A build whose attempt 1 was forgotten and whose attempt 2 runs."""
    agent = agent_of(place, server, slots=2)
    server.start_build()
    first = agent.wait_build()
    agent.output(first, "stdout", 0, b"first ")
    agent.forget(first)
    second = agent.wait_build(2, within=15)
    agent.output(second, "stdout", 0, b"second ")
    return agent, first, second


def test_rule_7_a_new_attempt_begins_empty(place: Place, server: ServerProcess) -> None:
    _, _, second = orphaned(place, server)
    assert second["attempt"] == "2"
    assert server.output(1) == b"second "
    assert server.output(1, attempt=1) == b"first "


def test_rule_7_the_first_result_counts_whichever_attempt_it_is(
    place: Place, server: ServerProcess
) -> None:
    agent, first, second = orphaned(place, server)
    assert agent.result(first, 3, "result", stdout_offset=6).status == 200
    known = server.build(1)
    assert (known["status"], known["exit_status"], known["attempt"]) == ("failure", 3, 1)
    assert server.output(1) == b"first result"
    call = agent.wait_call("/cancel")
    assert call.params["id"] == "1" and call.params["attempt"] == "2"
    assert agent.output(second, "stdout", 7, b"more").status == 410
    assert agent.result(second, 0, "second whole").status == 200
    assert server.build(1) == known
    assert server.output(1) == b"first result"
    assert server.output(1, attempt=2).startswith(b"second ")


def test_rule_7_results_at_the_same_time_are_recorded_once(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server)
    for count in range(1, 6):
        server.start_build()
        build = agent.wait_build(count)

        def deliver(status: int, build: dict[str, str] = build) -> Reply:
            return agent.result(build, status, f"from {status}\n" * 500)

        with ThreadPoolExecutor(8) as callers:
            replies = list(callers.map(deliver, range(8)))
        assert [reply.status for reply in replies] == [200] * 8
        known = server.build(count)
        assert server.output(count) == f"from {known['exit_status']}\n".encode() * 500


@pytest.mark.parametrize("ending", ["success", "failure", "lost", "cancelled"])
def test_rule_7_no_final_status_ever_changes(place: Place, ending: str) -> None:
    server = place.server(max_attempts=1)
    agent = agent_of(place, server)
    server.start_build()
    build = agent.wait_build()
    if ending == "lost":
        agent.forget(build)
    elif ending == "cancelled":
        server.post("/build/1/cancel")
        agent.result(build, -15)
    else:
        agent.result(build, 0 if ending == "success" else 1)
    known = server.wait_status(1, ending)
    for status in (0, 1):
        assert agent.result(build, status, "late").status == 200
    assert agent.returned(build).status == 200
    server.post("/build/1/cancel")
    assert server.build(1) == known
    server.kill()
    server.restart()
    assert server.build(1) == known


def test_rule_7_a_result_for_a_queued_build_counts(place: Place, server: ServerProcess) -> None:
    """Attempt 1 was orphaned and nobody has taken attempt 2: its result is the result."""
    agent = agent_of(place, server)
    server.start_build()
    build = agent.wait_build()
    agent.script_always("/build", (503, {}))
    agent.forget(build)
    server.wait_status(1, "queued")
    assert agent.result(build, 0, "late but first").status == 200
    known = server.build(1)
    assert known["status"] == "success" and server.output(1) == b"late but first"
    agent.script_always("/build", None)
    holds_for(lambda: len(agent.builds) == 1, 1, "it does not start again")


# Rule 8.


def test_rule_8_a_restarted_server_goes_on(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    numbers = [server.start_build() for _ in range(3)]
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"before ")
    before = server.build(1)
    server.kill()
    server.restart()
    assert server.build(1) == before
    assert [server.build(n)["status"] for n in numbers] == ["running", "queued", "queued"]
    agent.wait_pings(4)
    assert server.build(1)["attempt"] == 1
    assert agent.output(build, "stdout", 7, b"after ").status == 200
    assert agent.result(build, 0, "", stdout_offset=13).status == 200
    assert server.output(1) == b"before after "
    for count in (2, 3):
        agent.result(agent.wait_build(count))
    assert [int(each["id"]) for each in agent.builds] == numbers


def test_rule_8_an_agent_that_went_meanwhile_is_offered_nothing(place: Place) -> None:
    """Agents of an earlier start are asked first whether they are still there."""
    server = place.server()
    gone = place.keep(FakeAgent(server, "gone", slots=9))
    gone.wait_pings(1)
    server.kill()
    gone.close()
    server.restart()
    number = server.start_build()
    there = place.keep(FakeAgent(server, "there"))
    assert there.wait_build()["id"] == str(number)
    assert [each["agent"] for each in server.build(number)["attempts"]] == ["there"]


def test_rule_8_the_agent_has_time_to_show_itself(place: Place) -> None:
    """`agent_timeout` of silence counts from the restart on, and not from before."""
    server = place.server(agent_timeout="2s")
    agent = agent_of(place, server)
    server.start_build()
    agent.wait_build()
    server.kill()
    time.sleep(2.5)
    server.restart()
    agent.wait_pings(3)
    assert server.build(1)["attempt"] == 1


def test_rule_8_running_ones_are_orphaned_when_the_agent_is_gone(place: Place) -> None:
    server = place.server(agent_timeout="2s")
    agent = agent_of(place, server)
    server.start_build()
    agent.wait_build()
    server.kill()
    agent.close()
    server.restart()
    other = agent_of(place, server, "other")
    assert other.wait_build(within=15)["attempt"] == "2"


def test_rule_8_a_cancel_outlives_a_restart(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    server.start_build()
    build = agent.wait_build()
    assert server.post("/build/1/cancel").status == 303
    server.kill()
    server.restart()
    assert agent.result(build, -15).status == 200
    assert server.build(1)["status"] == "cancelled"


# Rule 14.


def test_rule_14_a_cancelled_queued_build_never_starts(place: Place, server: ServerProcess) -> None:
    numbers = [server.start_build() for _ in range(3)]
    server.post(f"/build/{numbers[0]}/cancel")
    agent = agent_of(place, server)
    for count in (1, 2):
        agent.result(agent.wait_build(count))
    holds_for(lambda: len(agent.builds) == 2, 0.5, "no more comes")
    assert [int(build["id"]) for build in agent.builds] == numbers[1:]


def test_rule_14_a_cancelled_running_build_is_told_to_its_agent(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server)
    server.start_build()
    build = agent.wait_build()
    begun = time.monotonic()
    assert server.post("/build/1/cancel").status == 303
    call = agent.wait_call("/cancel", within=5)
    assert time.monotonic() - begun < 3
    assert call.params["id"] == "1" and call.params["attempt"] == "1"
    agent.result(build, -15, "the last words")
    known = server.build(1)
    assert known["status"] == "cancelled" and server.output(1) == b"the last words"


def test_rule_14_a_result_that_was_faster_than_the_cancel_counts(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server)
    server.start_build()
    agent.result(agent.wait_build(), 0)
    server.post("/build/1/cancel")
    assert server.build(1)["status"] == "success"


def test_rule_14_a_cancelled_build_of_an_agent_that_dies_is_not_requeued(
    place: Place, server: ServerProcess
) -> None:
    agent = agent_of(place, server)
    server.start_build()
    agent.wait_build()
    agent.script_always("/cancel", HANG)
    server.post("/build/1/cancel")
    agent.wait_call("/cancel")
    agent.close()
    assert server.wait_final(1, within=20)["status"] == "cancelled"


def test_rule_14_it_ends_in_time_although_the_agent_says_nothing(
    place: Place, server: ServerProcess
) -> None:
    """An agent that answers pings and never ends it: a person does not wait for ever."""
    agent = agent_of(place, server)
    server.start_build()
    agent.wait_build()
    server.post("/build/1/cancel")
    assert server.wait_final(1, within=40)["status"] == "cancelled"


def test_rule_11_returns_are_not_counted_up_to_ten_times(place: Place) -> None:
    server = place.server(max_attempts=1)
    agent = agent_of(place, server)
    server.start_build()
    for count in range(1, 11):
        assert agent.returned(agent.wait_build(count)).status == 200
    agent.returned(agent.wait_build(11))
    known = server.wait_final(1)
    assert known["status"] == "lost" and len(known["attempts"]) == 11


def test_reasons_are_sentences(place: Place, server: ServerProcess) -> None:
    agent = agent_of(place, server)
    server.start_build()
    agent.result(agent.wait_build(), -9)
    reason = server.build(1)["reason"]
    assert re.search(r"\b9\b|KILL", reason) and "\n" not in reason
