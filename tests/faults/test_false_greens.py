"""Fault 46: a build that is green although something in it failed."""

from __future__ import annotations

import pytest

from tests.support.harness import Place, ServerProcess
from tests.support.http_client import encode_form


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    server = shared.server()
    shared.agent(server)
    return server


@pytest.mark.parametrize(
    ("command", "status", "output"),
    [
        ("echo a\nfalse\necho b", 1, b"a\n"),
        ("echo a\nsh -c 'exit 7'\necho b", 7, b"a\n"),
        ("echo a\n\n  ./nothing 2>/dev/null\n\necho b\n", 127, b"a\n"),
        ("echo a; false; echo b", 1, b"a\n"),
        ("cd nowhere 2>/dev/null\necho b", None, b""),
        ("echo a\n(exit 3)\necho b", 3, b"a\n"),
        ("x=$(exit 4)\necho b", 4, b""),
        ("echo a\nset +e\nfalse\necho b", 0, b"a\nb\n"),
        ("false || echo a\nif false; then echo b; fi\n! false\necho c", 0, b"a\nc\n"),
    ],
)
def test_fault_46_a_command_ends_at_its_first_line_that_fails(
    server: ServerProcess, command: str, status: int, output: bytes
) -> None:
    build = server.wait_final(server.start_build(command=command))
    assert build["status"] == ("success" if status == 0 else "failure")
    assert status is None or build["exit_status"] == status
    assert server.output(build["id"], "stdout") == output


def test_fault_46_also_from_the_form(server: ServerProcess) -> None:
    """Browsers send the line ends of a text field as CRLF."""
    body, kind = encode_form({"commit": "HEAD", "command": "echo a\r\nfalse\r\necho b"})
    reply = server.request("POST", "/build", body, {"Content-Type": kind})
    assert reply.status == 303
    build = server.wait_final(int(reply.header("Location").rpartition("/")[2]))
    assert (build["status"], build["exit_status"]) == ("failure", 1)
    assert server.output(build["id"]) == b"a\n"


def test_fault_46_a_shell_of_ones_own_is_used_as_it_is(place: Place) -> None:
    server = place.server()
    place.agent(server, shell="/bin/sh -c")
    build = server.wait_final(server.start_build(command="echo a\nfalse\necho b"))
    assert build["status"] == "success" and server.output(build["id"]) == b"a\nb\n"
