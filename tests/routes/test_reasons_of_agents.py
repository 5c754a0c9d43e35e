"""The reasons that agents give: kept with their keys, and shown in the reader's language."""

from __future__ import annotations

import json

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place

SENTENCE = 'checkout failed: no commit "nope" in /r'
NO_COMMIT = {"key": "no_commit", "values": {"commit": "nope", "repository": "/r"}}


def test_a_reason_with_its_key(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    values = json.dumps({"reason": NO_COMMIT})
    about = {"reason": SENTENCE, "reason_key": "checkout_failed", "reason_values": values}
    assert agent.result(agent.wait_build(), 128, **about).status == 200
    assert server.build(number)["reason"] == SENTENCE
    page = server.get(f"/build/{number}", {"Accept-Language": "ru"}).text
    assert "не удалось получить коммит: в /r нет коммита «nope»" in page


@pytest.mark.parametrize(
    "values",
    [
        "{",
        "[]",
        "{}",
        "7",
        '{"reason": null}',
        '{"reason": {"key": "no_commit", "values": []}}',
        '{"reason": {"key": "no such key", "values": {}}}',
        '{"reason": {}}',
        '{"reason": "x", "key": "y"}',
        '{"reason": ' + "[" * 100_000 + "]" * 100_000 + "}",
        json.dumps({"reason": "x" * 100_000}),
    ],
)
def test_a_key_that_makes_no_sense_costs_nothing(place: Place, values: str) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    about = {"reason": SENTENCE, "reason_key": "checkout_failed", "reason_values": values}
    assert agent.result(agent.wait_build(), 128, **about).status == 200
    assert server.build(number)["reason"] == SENTENCE
    assert server.get(f"/build/{number}", {"Accept-Language": "ru"}).status == 200


def test_a_build_that_is_given_back_says_why(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    number = server.start_build()
    build = agent.wait_build()
    agent.forget(build)
    about = {"id": build["id"], "attempt": build["attempt"], "reason": "git is gone"}
    assert agent.call("/notify_build_returned", about).status == 200
    assert "git is gone" in server.build(number)["attempts"][0]["reason"]
