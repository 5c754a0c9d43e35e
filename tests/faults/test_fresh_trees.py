"""Faults 49 and 50: the tree of a build depends on its commit alone. Rule 23."""

from __future__ import annotations

import pytest

from tests.support.harness import Place, ServerProcess
from tests.support.repositories import Repository


def printed(server: ServerProcess, commit: str, command: str) -> str:
    """What a command prints in the tree of a commit; it must succeed."""
    number = server.start_build(commit, command)
    assert server.wait_final(number)["status"] == "success"
    return server.output(number, "stdout").decode()


@pytest.mark.parametrize(
    "attributes, content",
    [("*.txt text eol=crlf\n", "one\r\ntwo\r\n"), ("*.txt filter=upper\n", "ONE\nTWO\n")],
    ids=["line ends", "filter"],
)
def test_fault_49_attributes_of_a_later_commit(
    place: Place, own_repository: Repository, attributes: str, content: str
) -> None:
    (place.home / ".gitconfig").write_text('[filter "upper"]\n\tsmudge = tr a-z A-Z\n')
    before = own_repository.commit({"f.txt": "one\ntwo\n"}, "A file")
    after = own_repository.commit({".gitattributes": attributes}, "Attributes")
    server = place.server(repository=own_repository.path)
    place.agent(server)
    for commit, expected in ((before, "one\ntwo\n"), (after, content)) * 2:
        assert printed(server, commit, "cat f.txt") == expected


@pytest.mark.parametrize("mode", ["555", "700", "777", "2755"])
def test_fault_50_modes_of_the_build_before(
    place: Place, own_repository: Repository, mode: str
) -> None:
    commit = own_repository.commit({"sub/deep/x": "x\n", "sub/y": "y\n"}, "Folders")
    server = place.server(repository=own_repository.path)
    place.agent(server)
    look = "ls -ld sub sub/deep sub/y sub/deep/x | cut -c 1-10"
    fresh = printed(server, commit, look)
    assert len(fresh.splitlines()) == 4
    printed(server, commit, f"chmod {mode} sub/deep sub/y sub")
    assert printed(server, commit, look) == fresh
