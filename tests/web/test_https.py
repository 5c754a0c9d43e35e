"""HTTPS on either side: certificates are checked, and the secret goes to nobody else."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import ROOT, Place, ServerProcess, holds_for, wait_for
from tests.support.http_client import encode_form, fetch

TLS = ROOT / "tests" / "support" / "tls"
OURS = TLS / "certificate.pem"
STRANGER = TLS / "stranger.pem"  # for localhost, of an authority that nobody trusts
ELSEWHERE = TLS / "elsewhere.pem"  # for another host
PAIR: dict[str, Any] = {"certificate": OURS, "private_key": TLS / "private_key.pem"}
WORD = "pst-between-us"


class Impostor:
    """A port that speaks TLS with a certificate, and notes whatever it is told within."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.attempts = 0
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                plain, _ = self._listener.accept()
                self.attempts += 1
                with plain, contextlib.suppress(OSError):
                    plain.settimeout(5)
                    with self._context.wrap_socket(plain, server_side=True) as connection:
                        self.heard += connection.recv(65536)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("certificate", [STRANGER, ELSEWHERE])
def test_an_agent_tells_an_impostor_nothing(place: Place, certificate: Path) -> None:
    server = place.keep(Impostor(certificate))
    authority = OURS if certificate == STRANGER else certificate
    url = f"https://127.0.0.1:{server.port}"
    agent = place.configure_agent(url, secret=WORD, authority=authority).start()
    wait_for(lambda: server.attempts > 2, what="it tries again and again")
    wait_for(lambda: "certificate" in agent.log() and "not trusted" in agent.log(), what="a word")
    assert server.heard == b"" and WORD not in agent.log()


@pytest.mark.parametrize("own", [{}, PAIR], ids=["http", "https"])
@pytest.mark.parametrize("certificate", [STRANGER, ELSEWHERE])
def test_a_server_tells_an_impostor_nothing(
    place: Place, certificate: Path, own: dict[str, Any]
) -> None:
    """Somebody has the port of an agent that serves HTTPS: neither pings nor builds reach it."""
    server = place.configure_server(secret=WORD, **own)
    server.start()
    impostor = place.keep(Impostor(certificate))
    params = {"host": "127.0.0.1", "port": impostor.port, "scheme": "https"}
    told = ask(server, "/notify_agent", params, {"Authorization": f"Bearer {WORD}"})
    assert told == 200
    assert ask(server, "/api/builds", {"commit": "HEAD", "command": "true"}) == 201
    wait_for(lambda: impostor.attempts > 3, what="it tries")
    holds_for(lambda: impostor.heard == b"", 1, "it is told nothing")
    assert WORD not in server.log()


def ask(server: ServerProcess, path: str, params: Any, headers: Any = None) -> int:
    body, kind = encode_form(params)
    secure = "certificate" in server.sections["server"]
    context = ssl.create_default_context(cafile=str(OURS)) if secure else None
    given = {"Content-Type": kind, **(headers or {})}
    return fetch(("127.0.0.1", server.port), "POST", path, body, given, context=context).status


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_versions_that_are_spoken(place: Place, version: ssl.TLSVersion) -> None:
    server = place.configure_server(**PAIR)
    server.start()
    context = ssl.create_default_context(cafile=str(OURS))
    context.minimum_version = context.maximum_version = version
    address = ("127.0.0.1", server.port)
    assert fetch(address, "GET", "/healthz", context=context).status == 200


def test_old_versions_are_not_spoken(place: Place) -> None:
    server = place.configure_server(**PAIR)
    server.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        fetch(("127.0.0.1", server.port), "GET", "/healthz", context=context)
