"""A hook that failed stands on the page of its build, with what it wrote."""

from __future__ import annotations

from pathlib import Path

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess, wait_for


def page(server: ServerProcess, language: str) -> str:
    return server.get("/build/1", {"Accept-Language": language}).text


def test_rule_18_the_page_of_a_build_says_that_its_hook_failed(place: Place) -> None:
    succeeds = place.folder / "succeeds"
    hook = place.folder / "hook"
    hook.write_text(
        "#!/bin/sh\n"
        f'[ -e {succeeds} ] || [ "$MINICI_STATUS" != success ] && exit 0\n'
        "echo 'the mail <server> is away' >&2; exit 7\n"
    )
    hook.chmod(0o755)
    server = place.server(hook=str(hook))
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    assert "The hook failed" not in page(server, "en"), "the ones before the end succeeded"
    agent.result(build)
    wait_for(lambda: "The hook failed: exit status 7" in page(server, "en"), 20, "its failure")
    text = page(server, "en")
    assert "It will be tried again." in text and "the mail &lt;server&gt; is away" in text
    assert "хук завершился с кодом 7" in page(server, "ru")
    server.kill()
    server.restart()
    assert "The hook failed: exit status 7" in page(server, "en"), "it is kept"
    Path(succeeds).touch()
    wait_for(lambda: "The hook failed" not in page(server, "en"), 30, "the hook to succeed")
