"""Fault 48: secret variables, in the environment of commands and in what they write."""

from __future__ import annotations

import shutil

from tests.support.fakes import FakeServer
from tests.support.harness import Place, wait_for

KEY = "-----BEGIN KEY-----\nabcdef\n-----END KEY-----\n"


def test_fault_48_what_pass_lets_through_is_masked(place: Place) -> None:
    server = place.keep(FakeServer())
    secrets = {"DEPLOY_TOKEN": "s3cret-value", "DEPLOY_PRIVATE_KEY": KEY, "DEPLOY_PASS": "short"}
    hidden = {"PGPASSWORD": "x1", "GITHUB_PAT": "x2", "NPM_AUTH": "x3", "TOKEN": "x4"}
    agent = place.agent(server, {**secrets, **hidden}, **{"pass": "DEPLOY_*"})
    gate = place.folder / "gate"
    command = (
        'echo "$DEPLOY_PASS,$PGPASSWORD,$GITHUB_PAT,$NPM_AUTH,$TOKEN."; printf "a s3cret-";'
        f"while [ ! -e {gate} ]; do sleep 0.05; done; echo value;"
        'echo "[$DEPLOY_TOKEN]" >&2; printf %s "$DEPLOY_PRIVATE_KEY"; printf s3cret'
    )
    about = {"repository": place.repository.path, "attempt": 1}
    agent.post("/build", {**about, "id": 1, "commit": "HEAD", "command": command})
    wait_for(lambda: server.stream(1, "stdout") == b"short,,,,.\na ")
    gate.touch()
    assert server.wait_result(1)["status"] == "0"
    assert server.stream(1, "stdout") == b"short,,,,.\na ***\n***s3cret"
    assert server.stream(1, "stderr") == b"[***]\n"
    agent.post("/build", {**about, "id": 2, "commit": "s3cret-value", "command": "true"})
    reason = server.wait_result(2)["reason"]
    assert "***" in reason and "s3cret-value" not in reason
    assert "reason_values" not in server.results[-1]


def test_fault_48_masked_bytes_count_for_the_limit(place: Place) -> None:
    server = place.keep(FakeServer())
    server.script_always("/notify_build_output", (404, {"error": "unknown"}))
    agent = place.agent(server, {"MY_TOKEN": "x" * 100}, **{"pass": "MY_TOKEN"})
    about = {"repository": place.repository.path, "attempt": 1, "commit": "HEAD"}
    command = "for i in 1 2 3 4 5 6 7 8; do echo $MY_TOKEN; done"
    agent.post("/build", {**about, "id": 1, "command": command, "output_limit": 32})
    server.wait_result(1)
    assert server.stream(1, "stdout") == b"***\n" * 8


def test_fault_48_what_git_prints_is_masked(place: Place) -> None:
    server = place.keep(FakeServer())
    repository = place.folder / "s3cret-value"
    shutil.copytree(place.repository.path, repository)
    agent = place.agent(server, {"MY_TOKEN": "s3cret-value"}, **{"pass": "MY_TOKEN"})
    about = {"repository": f"file://{repository}", "attempt": 1, "id": 1, "commit": "HEAD"}
    agent.post("/build", {**about, "command": 'echo "$MINICI_REPOSITORY"'})
    server.wait_result(1)
    assert server.stream(1, "stdout").endswith(b"/***\n")
    said = server.stream(1, "checkout")
    assert b"/***" in said and b"s3cret" not in said
