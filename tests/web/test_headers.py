"""The header fields of a request: `minici/web/headers.py` and the reader of heads."""

from __future__ import annotations

import json

import pytest

from minici.web.admission import kept_agents, most_connections
from minici.web.headers import Headers
from minici.web.request_reader import MOST_FIELDS
from tests.support.harness import Place, ServerProcess
from tests.support.http_client import raw, status_of


@pytest.fixture(scope="module")
def at_rest(shared: Place) -> ServerProcess:
    """A server without builds and agents."""
    return shared.server()


def test_names_are_found_in_any_case_and_the_first_value_counts() -> None:
    headers = Headers()
    headers.add(b"X-One: \t first \r\n")
    headers.add(b"x-ONE:second\n")
    headers.add(b"Empty:\r\n")
    assert headers["x-one"] == "first"
    assert headers.get_all("X-One") == ["first", "second"]
    assert headers.get("empty") == ""
    assert headers.get("None") is None and headers.get_all("None") == []
    assert dict(headers) == {"x-one": "first", "empty": ""}
    assert len(headers) == 2


def test_a_value_is_split_at_the_first_colon_and_kept_byte_for_byte() -> None:
    headers = Headers()
    headers.add(b"Origin: http://a:8000\r\n")
    headers.add(b"X-Name: \xc3\xa9\xff\r\n")
    assert headers["Origin"] == "http://a:8000"
    assert headers["X-Name"].encode("latin-1") == b"\xc3\xa9\xff"


def test_a_replaced_value_is_the_only_one() -> None:
    headers = Headers()
    headers.add(b"Host: a\r\n")
    headers.add(b"Host: b\r\n")
    headers.replace("host", "c")
    assert headers.get_all("Host") == ["c"]


@pytest.mark.parametrize(("count", "status"), [(MOST_FIELDS - 1, 200), (MOST_FIELDS, 431)])
def test_a_head_has_so_many_fields_and_no_more(
    at_rest: ServerProcess, count: int, status: int
) -> None:
    fields = b"".join(b"X-%d: y\r\n" % number for number in range(count))
    head = b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n" + fields + b"\r\n"
    assert status_of(raw(at_rest.port, head)) == status


def test_a_head_that_ends_early_starts_nothing(at_rest: ServerProcess) -> None:
    """What is missing may be the length of the body."""
    head = b"POST /build?commit=HEAD&command=true HTTP/1.1\r\nHost: localhost\r\n"
    assert raw(at_rest.port, head, half_close=True) == b""
    assert json.loads(at_rest.get("/api/builds").body)["builds"] == []


def test_a_path_with_two_slashes_leads_to_no_other_host(at_rest: ServerProcess) -> None:
    answer = raw(at_rest.port, b"GET //agents HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert status_of(answer) == 200


@pytest.mark.parametrize("files", [16, 64, 1024, 4096, 16000, 100_000])
def test_kept_connections_to_agents_leave_room_for_those_that_come(files: int) -> None:
    kept = kept_agents(files)
    assert kept >= 1
    assert 2 * kept + 2 * most_connections(files) <= max(files, 16), (kept, files)


def test_thousands_of_agents_are_called_on_kept_connections() -> None:
    assert kept_agents(16000) >= 5000
