"""A process without OpenSSL: an agent that has no use for it, and a Python that has none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minici import openssl
from minici.web.passwords import hash_password
from tests.support.harness import ROOT, Minici, Place, environment

PAIR = {
    "certificate": ROOT / "tests" / "support" / "tls" / "certificate.pem",
    "private_key": ROOT / "tests" / "support" / "tls" / "private_key.pem",
}
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


def python(script: str, folder: Path) -> str:
    words = [sys.executable, "-c", script]
    env = environment("python", folder)
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def found_first(place: Place, name: str, text: str) -> dict[str, str]:
    """The environment of a Python that finds this module before its own."""
    folder = place.folder / "first"
    folder.mkdir()
    (folder / name).write_text(text)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def loaded(pid: int) -> bool:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return "_ssl." in maps or "_hashlib." in maps


@only_linux
@pytest.mark.parametrize("own, loads", [({}, False), (PAIR, True)], ids=["http", "https"])
def test_an_agent_loads_what_it_has_a_use_for(
    place: Place, own: dict[str, Any], loads: bool
) -> None:
    agent = place.agent("127.0.0.1:9", **own)
    assert loaded(agent.pid) is loads


@only_linux
def test_an_agent_of_a_server_with_https_loads_it(place: Place) -> None:
    agent = place.agent("https://127.0.0.1:9")
    assert loaded(agent.pid)


def test_what_needs_no_openssl_works_without(tmp_path: Path) -> None:
    said = python(
        "from minici import openssl\n"
        "print(openssl.leave_out(), openssl.leave_out())\n"
        "import hashlib, hmac, http.client, http.server, random, secrets, sys, tempfile\n"
        "import urllib.request, uuid\n"
        "print(hashlib.sha256(b'x').hexdigest()[:8], hmac.compare_digest(b'x', b'x'))\n"
        "print(hasattr(http.client, 'HTTPSConnection'), sys.modules.get('_ssl'))\n",
        tmp_path,
    )
    assert said.split() == ["True", "False", "2d711642", "True", "False", "None"]


def test_what_is_loaded_already_stays(tmp_path: Path) -> None:
    said = python(
        "import ssl\n"
        "from minici import openssl\n"
        "print(openssl.leave_out())\n"
        "import http.client, ssl\n"
        "print(hasattr(http.client, 'HTTPSConnection'))\n",
        tmp_path,
    )
    assert said.split() == ["False", "True"]


def test_a_python_whose_hashes_are_openssls_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(sys.modules)
    for name in ("_ssl", "_hashlib"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(openssl, "_OWN_HASHES", ("_md5", "_no_such_hash"))
    assert not openssl.leave_out()
    assert sys.modules.get("ssl") is before.get("ssl") and "_hashlib" not in sys.modules


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
