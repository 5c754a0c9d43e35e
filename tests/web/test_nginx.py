"""Behind nginx, as examples/nginx.conf has it: HTTPS, forms, live output, results of agents."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Mapping
from typing import Any, Optional

import pytest

from minici.web.passwords import hash_password
from tests.support.fakes import FakeAgent
from tests.support.harness import ROOT, Place, ServerProcess, environment, wait_for
from tests.support.http_client import Reply, encode_form, fetch

EXAMPLE = ROOT / "examples" / "nginx.conf"
TLS = ROOT / "tests" / "support" / "tls"
MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/minici.conf;
}}
"""
ADA = {"Authorization": "Basic " + base64.b64encode(b"ada:engine").decode()}
WORD = {"Authorization": "Bearer a-word"}
PARAMS = {"commit": "HEAD", "command": "echo through"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nginx:
    """nginx with the example, on free ports and with the certificate of the tests."""

    def __init__(self, place: Place) -> None:
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/bin:/opt/homebrew/bin:/usr/bin")
        assert program, "these tests need nginx; on Debian: apt-get install nginx"
        self.program = program
        self.place = place
        self.folder = place.folder / "nginx"
        self.folder.mkdir()
        self.plain, self.port = free_port(), free_port()
        self.url = f"https://localhost:{self.port}"
        self.context = ssl.create_default_context(cafile=str(TLS / "certificate.pem"))
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self, server_port: int, *changes: tuple[str, str]) -> None:
        text = EXAMPLE.read_text(encoding="utf-8")
        for old, new in (
            ("    listen [::]:80;\n", ""),
            ("    listen [::]:443 ssl;\n", ""),
            ("listen 80;", f"listen 127.0.0.1:{self.plain};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("https://ci.example.org$", f"{self.url}$"),
            ("server_name ci.example.org;", "server_name localhost;"),
            ("/etc/ssl/ci.example.org.crt", str(TLS / "certificate.pem")),
            ("/etc/ssl/private/ci.example.org.key", str(TLS / "private_key.pem")),
            ("http://127.0.0.1:8000;", f"http://127.0.0.1:{server_port};"),
            *changes,
        ):
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "minici.conf").write_text(text, encoding="utf-8")
        user = "user root;" if os.geteuid() == 0 else ""
        main = MAIN.format(folder=self.folder, user=user)
        (self.folder / "nginx.conf").write_text(main, encoding="utf-8")
        words = [self.program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                words, env=environment(self.place.marker, self.place.home), stderr=log
            )
        wait_for(self._answers, 20, f"nginx: {(self.folder / 'log').read_text()}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        return False

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def ask(
        self,
        method: str,
        path: str,
        params: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> Reply:
        """One request as a browser sends it, by HTTPS."""
        body, kind = encode_form(params or {})
        given = {"Host": f"localhost:{self.port}", "Content-Type": kind, **(headers or {})}
        address = ("127.0.0.1", self.port)
        return fetch(address, method, path, body if params else None, given, context=self.context)


@pytest.fixture
def nginx(place: Place) -> Nginx:
    return place.keep(Nginx(place))


@pytest.fixture
def server(place: Place, nginx: Nginx) -> ServerProcess:
    """A server behind nginx, with a secret and a user."""
    server = place.configure_server(url=nginx.url, secret="a-word")
    server.sections["users"] = {"ada": hash_password("engine")}
    server.start()
    nginx.start(server.port)
    return server


def agent_behind(place: Place, nginx: Nginx, server: ServerProcess) -> Any:
    """An agent that knows the server by nginx alone."""
    certificate = TLS / "certificate.pem"
    agent = place.configure_agent(nginx.url, secret="a-word", authority=certificate).start()
    wait_for(lambda: server.get("/api/agents", ADA).json()["agents"], what="registered")
    return agent


def final(nginx: Nginx, number: int) -> dict[str, Any]:
    def known() -> dict[str, Any]:
        build: dict[str, Any] = nginx.ask("GET", f"/api/builds/{number}", headers=ADA).json()
        return build if build["finished_at"] else {}

    return wait_for(known, 60, f"the end of build {number}")


def test_people_sign_in_and_start_builds(nginx: Nginx, server: ServerProcess, place: Place) -> None:
    agent_behind(place, nginx, server)
    asked = nginx.ask("GET", "/")
    assert asked.status == 401 and asked.header("WWW-Authenticate").startswith("Basic ")
    page = nginx.ask("GET", "/", headers=ADA)
    assert page.status == 200 and "default-src 'none'" in page.header("Content-Security-Policy")
    assert page.header("Strict-Transport-Security")
    near = {**ADA, "Origin": nginx.url, "Sec-Fetch-Site": "same-origin"}
    started = nginx.ask("POST", "/build", PARAMS, near)
    assert started.status == 303 and started.header("Location") == "/build/1"
    build = final(nginx, 1)
    assert (build["status"], build["started_by"]) == ("success", "ada")
    assert build["url"] == f"{nginx.url}/build/1"
    assert nginx.ask("GET", "/build/1/output", headers=ADA).body == b"through\n"
    part = nginx.ask("GET", "/build/1/output", headers={**ADA, "Range": "bytes=3-5"})
    assert (part.status, part.body) == (206, b"oug")


def test_what_is_refused_is_refused_behind_nginx_too(nginx: Nginx, server: ServerProcess) -> None:
    http_origin = nginx.url.replace("https:", "http:").replace(f":{nginx.port}", "")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": http_origin},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert nginx.ask("POST", "/build", PARAMS, {**ADA, **headers}).status == 403, headers
    assert nginx.ask("GET", "/", headers={**ADA, "Host": "evil.example"}).status == 421
    assert nginx.ask("POST", "/notify_agent", {"host": "127.0.0.1", "port": 1}).status == 401
    assert nginx.ask("POST", "/build", PARAMS).status == 401
    assert server.get("/api/builds", ADA).json()["builds"] == []


def test_http_leads_to_https(nginx: Nginx, server: ServerProcess) -> None:
    reply = fetch(("127.0.0.1", nginx.plain), "GET", "/build/1?attempt=2")
    assert reply.status == 301 and reply.header("Location") == f"{nginx.url}/build/1?attempt=2"


def test_live_output_comes_while_it_is_written(
    nginx: Nginx, server: ServerProcess, place: Place
) -> None:
    agent_behind(place, nginx, server)
    gate = place.folder / "gate"
    lines = f"for n in 1 2 3; do echo line $n; while ! [ -e {gate}$n ]; do sleep 0.02; done; done"
    nginx.ask("POST", "/api/builds", {"commit": "HEAD", "command": lines}, ADA)
    connection = http.client.HTTPSConnection(
        "localhost", nginx.port, timeout=30, context=nginx.context
    )
    connection.request("GET", "/build/1/live", headers=ADA)
    response = connection.getresponse()
    assert response.status == 200 and response.getheader("Content-Type", "").startswith(
        "text/event-stream"
    )
    for number in (1, 2, 3):  # each is read before the command may write the next
        assert next_text(response) == f"line {number}\n"
        place.folder.joinpath(f"gate{number}").touch()
    rest = response.read().decode()
    assert "event: status\n" in rest and '"status":"success"' in rest.replace(" ", "")
    connection.close()


def next_text(response: http.client.HTTPResponse) -> str:
    """The text of the next `output` event of the command."""
    event = ""
    while True:
        line = response.readline().decode()
        assert line, "the stream has ended"
        if line.startswith("event: "):
            event = line[7:].strip()
        elif line.startswith("data: ") and event == "output":
            data = json.loads(line[6:])
            if data["stream"] != "checkout":
                return str(data["text"])


def test_a_large_result_comes_through_whole(
    nginx: Nginx, server: ServerProcess, place: Place
) -> None:
    """In one call, of an agent that knows nothing of `notify_build_output`."""
    fake = place.keep(FakeAgent(server, secret="a-word"))
    nginx.ask("POST", "/api/builds", PARAMS, ADA)
    build = fake.wait_build()
    text = "x" * 20_000_000
    params = {"id": build["id"], "status": 0, "stdout": text, "stderr": ""}
    assert nginx.ask("POST", "/notify_build_result", params, WORD).status == 200
    assert final(nginx, 1)["stdout_bytes"] == len(text)
    assert nginx.ask("GET", "/build/1/stdout", headers=ADA).body == text.encode()


def test_who_guesses_is_slowed_down_and_nobody_else(nginx: Nginx, server: ServerProcess) -> None:
    """All come from nginx's address; X-Forwarded-For, which nginx sets, tells them apart."""
    guess = {"Authorization": "Basic " + base64.b64encode(b"ada:guess").decode()}
    tries = [
        nginx.ask("GET", "/", headers={**guess, "X-Forwarded-For": f"192.0.2.{n}"}).status
        for n in range(6)
    ]
    assert tries == [401] * 5 + [429], "what a client says of itself does not count"
    near = server.get("/", {**guess, "X-Forwarded-For": "192.0.2.77"})
    assert near.status == 401


def test_agents_alone_where_it_is_known_from_where_they_come(nginx: Nginx, place: Place) -> None:
    server = place.configure_server(url=nginx.url, secret="a-word").start()
    text = EXAMPLE.read_text(encoding="utf-8")
    block = re.search(r"(?ms)^    #location /notify_ .*?^    #}\n", text)
    assert block
    ours = block[0].replace("#", "").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    put = block[0].replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    nginx.start(server.port, (put, ours))
    params = {"host": "127.0.0.1", "port": 1}
    assert nginx.ask("POST", "/notify_agent", params, WORD).status == 403
    assert nginx.ask("GET", "/").status == 200
    nginx.close()
    nginx.start(server.port, (put, ours.replace("192.0.2.0/24", "127.0.0.0/8")))
    assert nginx.ask("POST", "/notify_agent", params, WORD).status == 200
