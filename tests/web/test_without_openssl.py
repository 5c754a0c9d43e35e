"""Pythons whose OpenSSL is missing or too old."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minici.web.passwords import hash_password
from tests.support.harness import ROOT, Minici, Place, environment

PAIR = {
    "certificate": ROOT / "tests" / "support" / "tls" / "certificate.pem",
    "private_key": ROOT / "tests" / "support" / "tls" / "private_key.pem",
}


def found_first(place: Place, name: str, text: str) -> dict[str, str]:
    """The environment of a Python that finds this module before its own."""
    folder = place.folder / "first"
    folder.mkdir()
    (folder / name).write_text(text)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


# A Python that was built without the module ssl.


@pytest.fixture
def without(place: Place) -> dict[str, str]:
    return found_first(place, "ssl.py", 'raise ImportError("built without")\n')


def test_a_python_without_ssl_builds(place: Place, without: dict[str, str]) -> None:
    server = place.server(env=without)
    place.agent(server, env=without)
    number = server.start_build("HEAD", "echo done")
    assert server.wait_final(number)["status"] == "success"
    assert server.output(number) == b"done\n"


@pytest.mark.parametrize("section", ["server", "agent"])
def test_a_python_without_ssl_says_that_it_has_no_https(
    place: Place, without: dict[str, str], section: str
) -> None:
    process: Minici = place.configure_server(env=without, **PAIR)
    if section == "agent":
        process = place.configure_agent("127.0.0.1:9", env=without, **PAIR)
    process.launch()
    assert process.wait_end() == 2
    assert "certificate" in process.log() and "built without the module ssl" in process.log()


def test_an_agent_without_ssl_says_that_it_can_not_call_https(
    place: Place, without: dict[str, str]
) -> None:
    agent = place.configure_agent("https://ci.example.org", env=without)
    agent.launch()
    assert agent.wait_end() == 2
    (line,) = agent.log().splitlines()
    assert "https://ci.example.org" in line and "built without the module ssl" in line


# A Python whose OpenSSL is too old for scrypt, or is LibreSSL.


@pytest.fixture
def unhashing(place: Place) -> dict[str, str]:
    return found_first(place, "sitecustomize.py", "import hashlib\ndel hashlib.scrypt\n")


@pytest.mark.parametrize("words", [["init", "new.ini"], ["password"]])
def test_a_python_without_scrypt_says_so(
    place: Place, unhashing: dict[str, str], words: list[str]
) -> None:
    env = environment(place.marker, place.home, unhashing)
    done = subprocess.run(
        [sys.executable, "-m", "minici", *words],
        cwd=place.folder,
        env=env,
        input="a password\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "no scrypt" in line and "OpenSSL 1.1" in line
    assert not (place.folder / "new.ini").exists()


def test_a_server_with_users_needs_scrypt(place: Place, unhashing: dict[str, str]) -> None:
    server = place.configure_server(env=unhashing)
    server.sections["users"] = {"ada": hash_password("a password", cost=10)}
    server.launch()
    assert server.wait_end() == 1
    (line,) = server.log().splitlines()
    assert "[users]" in line and "no scrypt" in line
    del server.sections["users"]
    server.start()
