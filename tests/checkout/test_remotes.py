"""Repositories elsewhere: git's own http-backend and a real sshd, both on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.fakes import FakeServer
from tests.support.harness import Place, ServerProcess, wait_for
from tests.support.repositories import Repository, git


class HttpBackend(BaseHTTPRequestHandler):
    """Hands each request to `git http-backend`, as a web server does by CGI."""

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.root),  # type: ignore[attr-defined]
            "GIT_HTTP_EXPORT_ALL": "1",
            # The test is not always the owner of what it serves.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _serve

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def http_url(own_repository: Repository) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HttpBackend)
    server.root = own_repository.path.parent  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/repository/.git"
    server.shutdown()
    server.server_close()


def program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is missing; on Debian: apt-get install {package}"
    return found


SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
SSH = (
    "ssh -F /dev/null -i {folder}/user -o IdentitiesOnly=yes -o BatchMode=yes"
    " -o StrictHostKeyChecking=no -o UserKnownHostsFile={folder}/known -o LogLevel=ERROR"
)


@pytest.fixture
def ssh_url(place: Place, tmp_path: Path, own_repository: Repository) -> Iterator[str]:
    """A repository behind an sshd of the test's own, whose key the agent's git knows."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    keygen = program("ssh-keygen", "openssh-client")
    for name in ("host", "user"):
        subprocess.run(
            [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    probe = FakeServer()
    probe.close()
    (folder / "config").write_text(SSHD.format(port=probe.port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a root's sshd separates its privileges
    command = [program("sshd", "openssh-server"), "-D", "-e", "-f", str(folder / "config")]
    with open(folder / "log", "wb") as log:
        sshd = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
    config = place.home / ".gitconfig"
    config.write_text(f'[core]\n\tsshCommand = "{SSH.format(folder=folder)}"\n')
    try:
        wait_for(lambda: "listening" in (folder / "log").read_text(), 10, "sshd listens")
        user = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
        yield f"ssh://{user}@127.0.0.1:{probe.port}{own_repository.path}"
    finally:
        sshd.kill()
        sshd.wait()


def check(server: ServerProcess, repository: Repository) -> None:
    """Every way to name a commit, one that came a moment ago, and one that never came."""
    fresh = repository.commit({"fresh.txt": "fresh\n"}, "A moment ago")
    for commit, revision in (
        ("HEAD", fresh),
        ("main", fresh),
        ("topic", repository.topic),
        ("v1", repository.second),
        (repository.first, repository.first),
        (repository.third[:9], repository.third),
    ):
        number = server.start_build(commit, "git rev-parse HEAD && git status --porcelain")
        assert server.wait_final(number)["status"] == "success", server.output(number)
        assert server.output(number).decode().split() == [revision]
    later = repository.commit({"fresh.txt": "later\n"}, "And another")
    number = server.start_build("main", "cat fresh.txt")
    build = server.wait_final(number)
    assert (build["revision"], server.output(number)) == (later, b"later\n")
    build = server.wait_final(server.start_build("nowhere", "true"))
    assert build["status"] == "failure"
    assert "nowhere" in build["reason"]


def test_over_http(place: Place, own_repository: Repository, http_url: str) -> None:
    server = place.server(repository=http_url)
    place.agent(server)
    check(server, own_repository)


def test_over_ssh(place: Place, own_repository: Repository, ssh_url: str) -> None:
    server = place.server(repository=ssh_url)
    place.agent(server)
    check(server, own_repository)


@pytest.mark.parametrize("form", ["file://{}", "{}"])
def test_on_this_host(place: Place, own_repository: Repository, form: str) -> None:
    server = place.server(repository=form.format(own_repository.path))
    place.agent(server)
    check(server, own_repository)


def test_a_repository_that_is_not_there_is_said_to_be(place: Place, http_url: str) -> None:
    server = place.server(repository=f"{http_url}-that-is-not-there")
    place.agent(server)
    build = server.wait_final(server.start_build("HEAD", "true"))
    assert build["status"] == "failure"
    assert "not found" in build["reason"], build


def test_the_remotes_here_are_real(http_url: str, ssh_url: str, place: Place) -> None:
    """What these tests rest on: both remotes serve git by themselves."""
    assert git(place.folder, "ls-remote", http_url, "HEAD")
    command = (place.home / ".gitconfig").read_text().split('"')[1]
    assert git(place.folder, "-c", f"core.sshCommand={command}", "ls-remote", ssh_url, "HEAD")
