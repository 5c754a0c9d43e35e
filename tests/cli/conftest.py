"""A server with an agent of three slots, for tests of the command line."""

from __future__ import annotations

import pytest

from tests.support.harness import Place, ServerProcess


@pytest.fixture
def server(place: Place) -> ServerProcess:
    server = place.server()
    place.agent(server, slots=3)
    return server
