"""Hooks of a server that is killed while they run, and of builds that begin again: rule 18."""

from __future__ import annotations

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for

# Says when it begins, and notes what it was told when it ends.
HOOK = """\
#!/bin/sh
echo "$MINICI_STATUS" >> "$0.begun"
[ "$MINICI_STATUS" != "{slow}" ] || sleep 1.5
echo "$MINICI_STATUS" >> "$0.told"
"""


def server_with_hook(place: Place, slow: str = "") -> ServerProcess:
    hook = place.folder / "hook"
    hook.write_text(HOOK.format(slow=slow))
    hook.chmod(0o755)
    return place.server(hook=hook)


def lines(place: Place, name: str) -> list[str]:
    path = place.folder / f"hook.{name}"
    return path.read_text().split() if path.exists() else []


def test_rule_18_a_hook_that_outlives_its_server_is_waited_for(place: Place) -> None:
    server = server_with_hook(place, slow="running")
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    wait_for(lambda: "running" in lines(place, "begun"), 10, "the hook that is slow")
    agent.result(build)
    server.kill()
    assert "running" not in lines(place, "told"), "it still runs"
    server.restart()
    wait_for(lambda: "success" in lines(place, "told"), 20, "the final status")
    told = [each for each in lines(place, "told") if each != "queued"]
    assert told == ["running", "success"], "in order, and the final one once"
    wait_for(lambda: not list((server.data / "hooks").iterdir()), 10, "all is told")


def test_rule_18_a_build_that_runs_again_is_told_again(place: Place) -> None:
    server = server_with_hook(place)
    agent = place.keep(FakeAgent(server))
    server.start_build()
    first = agent.wait_build()
    wait_for(lambda: "running" in lines(place, "told"), 10, "the first attempt")
    agent.returned(first)
    agent.wait_build(2)
    wait_for(lambda: lines(place, "told").count("running") == 2, 10, "the second attempt")
    agent.result(agent.builds[1])
    wait_for(lambda: not list((server.data / "hooks").iterdir()), 10, "all is told")
    assert lines(place, "told")[-3:] == ["running", "running", "success"]
