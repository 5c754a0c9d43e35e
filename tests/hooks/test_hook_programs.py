"""The programs of examples/hooks, each against a stand-in of the other side."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import os
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.support.harness import ROOT

HOOKS = ROOT / "examples" / "hooks"
TLS = ROOT / "tests" / "support" / "tls"
SHA = "a" * 40
BUILD: dict[str, Any] = {
    "id": 7,
    "status": "failure",
    "reason": "exit status 3",
    "commit": "main",
    "revision": SHA,
    "subject": "Mend the <roof> @here",
    "author": "Ada Lovelace <ada@example.org>",
    "command": "make test",
    "project": "roof",
    "ref": "refs/heads/release/1",
    "url": "http://127.0.0.1:9/build/7",
}


@dataclass
class Forge:
    """A stand-in that keeps each request and gives the same answer to all."""

    status: int = 201
    answer: bytes = b"{}"
    requests: list[tuple[str, Mapping[str, str], Any]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def forge() -> Iterator[Forge]:
    forge = Forge()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            forge.requests.append((self.path, self.headers, None))
            self.send_response(forge.status)
            self.end_headers()
            self.wfile.write(forge.answer)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            forge.requests.append((self.path, self.headers, json.loads(body)))
            self.send_response(forge.status)
            self.end_headers()
            self.wfile.write(forge.answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        forge.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield forge
        server.shutdown()


def run(
    program: str,
    *words: object,
    build: Optional[Mapping[str, Any]] = None,
    previous: str = "",
    env: Mapping[str, str] = {},
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HOOKS / program), *map(str, words)],
        input=json.dumps(BUILD if build is None else build),
        env={"PATH": os.environ["PATH"], "MINICI_PREVIOUS_STATUS": previous, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("t0ken\n")
    return path


PATHS = {
    "github": f"/repos/ada/roof/statuses/{SHA}",
    "gitea": f"/api/v1/repos/ada/roof/statuses/{SHA}",
    "forgejo": f"/api/v1/repos/ada/roof/statuses/{SHA}",
    "gitlab": f"/api/v4/projects/ada%2Froof/statuses/{SHA}",
    "bitbucket": f"/2.0/repositories/ada/roof/commit/{SHA}/statuses/build",
}
PROOFS = {
    "github": ("Authorization", "Bearer t0ken"),
    "gitea": ("Authorization", "token t0ken"),
    "forgejo": ("Authorization", "token t0ken"),
    "gitlab": ("PRIVATE-TOKEN", "t0ken"),
    "bitbucket": ("Authorization", "Bearer t0ken"),
}
GITHUB_STATES = {
    "queued": "pending",
    "running": "pending",
    "success": "success",
    "failure": "failure",
    "lost": "error",
    "cancelled": "error",
}
STATES = {
    "github": GITHUB_STATES,
    "gitea": GITHUB_STATES,
    "forgejo": GITHUB_STATES,
    "gitlab": {
        "queued": "pending",
        "running": "running",
        "success": "success",
        "failure": "failed",
        "lost": "failed",
        "cancelled": "canceled",
    },
    "bitbucket": {
        "queued": "INPROGRESS",
        "running": "INPROGRESS",
        "success": "SUCCESSFUL",
        "failure": "FAILED",
        "lost": "FAILED",
        "cancelled": "STOPPED",
    },
}


@pytest.mark.parametrize("kind", STATES)
def test_a_commit_status_in_the_form_of_each_forge(forge: Forge, token: Path, kind: str) -> None:
    for status, state in STATES[kind].items():
        build = {**BUILD, "status": status, "reason": "x" * 500}
        done = run("commit-status", kind, forge.address, "ada/roof", token, build=build)
        assert (done.returncode, done.stderr) == (0, "")
        path, headers, body = forge.requests.pop()
        name, value = PROOFS[kind]
        assert (path, headers[name], headers["Content-Type"]) == (
            PATHS[kind],
            value,
            "application/json",
        )
        assert body["state"] == state and len(body["description"]) <= 140
        assert BUILD["url"] in (body.get("target_url"), body.get("url"))
        label = body.get("context") or body.get("name") or body.get("key")
        assert label == "minici/roof"
        assert body.get("ref") == ("release/1" if kind == "gitlab" else None)


def test_a_key_of_bitbucket_is_40_characters_at_most(forge: Forge, token: Path) -> None:
    build = {**BUILD, "project": "p" * 64}
    assert (
        run("commit-status", "bitbucket", forge.address, "a/b", token, build=build).returncode == 0
    )
    assert len(forge.requests[0][2]["key"]) == 40


def test_nothing_is_said_of_a_commit_that_is_not_known(forge: Forge, token: Path) -> None:
    build = {**BUILD, "revision": None}
    assert run("commit-status", "github", forge.address, "a/b", token, build=build).returncode == 0
    assert not forge.requests


def test_a_repeat_that_gitlab_refuses_is_sent(forge: Forge, token: Path) -> None:
    forge.status, forge.answer = 400, b'{"message": "Cannot transition status via :run"}'
    assert run("commit-status", "gitlab", forge.address, "a/b", token).returncode == 0
    forge.answer = b'{"message": "no such ref"}'
    done = run("commit-status", "gitlab", forge.address, "a/b", token)
    assert done.returncode == 1 and "HTTP 400" in done.stderr and "t0ken" not in done.stderr


def test_a_forge_that_is_away_is_a_failure(token: Path) -> None:
    done = run("commit-status", "github", "http://127.0.0.1:9", "a/b", token)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["cvs", "http://x", "a/b", "f"], ["github"]])
def test_wrong_words_say_how_it_is_used(words: list[str]) -> None:
    done = run("commit-status", *words)
    assert done.returncode == 2 and "hook = " in done.stderr


NEWS = [
    ("failure", "", True),
    ("failure", "success", True),
    ("failure", "failure", False),
    ("lost", "success", True),
    ("lost", "failure", False),
    ("success", "failure", True),
    ("success", "lost", True),
    ("success", "success", False),
    ("success", "", False),
    ("success", "cancelled", False),
    ("cancelled", "success", False),
    ("queued", "success", False),
    ("running", "failure", False),
]


@pytest.mark.parametrize("status, previous, told", NEWS)
def test_the_chat_hears_of_what_broke_and_what_works_again(
    forge: Forge, tmp_path: Path, status: str, previous: str, told: bool
) -> None:
    address = tmp_path / "address"
    address.write_text(f"{forge.address}/services/T0/B0\n")
    for kind, name in (("slack", "text"), ("discord", "content")):
        build = {**BUILD, "status": status}
        done = run("chat", kind, address, build=build, previous=previous)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(forge.requests) == told
        if told:
            path, headers, body = forge.requests.pop()
            assert path == "/services/T0/B0" and headers["Content-Type"] == "application/json"
            assert set(body) == {name} and "roof release/1" in body[name]
            subject = "Mend the &lt;roof&gt;" if kind == "slack" else "Mend the <roof>"
            assert subject in body[name] and "@here" not in body[name]
            assert BUILD["url"] in body[name]


def test_a_chat_that_refuses_is_a_failure(forge: Forge, tmp_path: Path) -> None:
    address = tmp_path / "address"
    address.write_text(forge.address)
    forge.status = 500
    done = run("chat", "slack", address)
    assert done.returncode == 1 and "HTTP 500" in done.stderr
    assert forge.address not in done.stderr, "the address is a secret"


class Mailbox:
    """An SMTP server for one process: keeps what it is sent and who signed in."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.signed_in: list[str] = []
        self.encrypted = False
        self.port = 0


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "private_key.pem")

    class Handler(socketserver.StreamRequestHandler):
        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

        def handle(self) -> None:
            self.say("220 ready")
            while True:
                verb = self.rfile.readline().decode().strip()
                if not verb:
                    return
                if verb.upper().startswith("EHLO"):
                    self.say("250-mail\r\n250-STARTTLS\r\n250 AUTH PLAIN")
                elif verb == "STARTTLS":
                    self.say("220 go on")
                    try:
                        self.request = context.wrap_socket(self.request, server_side=True)
                    except ssl.SSLError:
                        return  # the other side does not trust the certificate
                    self.setup()
                    box.encrypted = True
                elif verb.startswith("AUTH PLAIN"):
                    box.signed_in.append(base64.b64decode(verb.split()[-1]).decode())
                    self.say("235 welcome")
                elif verb.upper().startswith("RCPT"):
                    box.recipients.append(verb.partition("<")[2].rstrip(">"))
                    self.say("250 ok")
                elif verb.upper() == "DATA":
                    self.say("354 go on")
                    self.receive()
                    self.say("250 ok")
                elif verb.upper() == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 ok")

        def receive(self) -> None:
            lines = []
            for line in iter(self.rfile.readline, b".\r\n"):
                lines.append(line)
            mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
            assert isinstance(mail, EmailMessage)
            box.mails.append(mail)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        box.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield box
        server.shutdown()


def mail(box: Mailbox, *words: object, **keys: Any) -> subprocess.CompletedProcess[str]:
    server = f"127.0.0.1:{box.port}"
    return run("mail", "--server", server, "--from", "ci@example.org", *words, **keys)


@pytest.mark.parametrize("status, previous, told", NEWS)
def test_mail_goes_out_when_it_breaks_and_when_it_works_again(
    mailbox: Mailbox, status: str, previous: str, told: bool
) -> None:
    build = {**BUILD, "status": status}
    done = mail(mailbox, "--to", "team@example.org", build=build, previous=previous)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(mailbox.mails) == told
    for each in mailbox.mails:
        kind = "fixed" if status == "success" else "broken"
        assert each["Subject"] == f"[minici] roof release/1: {kind}: {BUILD['subject']}"
        assert each["To"] == "team@example.org" and each["From"] == "ci@example.org"
        assert each["Date"] and each["Message-ID"] and each["Auto-Submitted"] == "auto-generated"
        assert BUILD["url"] in each.get_content() and "make test" in each.get_content()


def test_mail_to_the_author_and_to_a_list(mailbox: Mailbox) -> None:
    assert mail(mailbox, "--to", "author", "--to", "team@example.org").returncode == 0
    assert mailbox.recipients == ["ada@example.org", "team@example.org"]
    named = {**BUILD, "author": "Ada", "author_email": "ada@b.example"}
    assert mail(mailbox, "--to", "author", build=named).returncode == 0
    assert mailbox.recipients.pop() == "ada@b.example" and mailbox.mails.pop()
    nobody = {**BUILD, "author": None}
    assert mail(mailbox, "--to", "author", build=nobody).returncode == 0
    assert len(mailbox.mails) == 1


def test_mail_has_the_end_of_the_output(mailbox: Mailbox, forge: Forge) -> None:
    build = {**BUILD, "url": f"{forge.address}/build/7"}
    lines = "".join(f"line {number}\r\n" for number in range(30))
    forge.status, forge.answer = 206, f"{lines}\x1b[31mError:\x1b[0m \x07Größe \xff\n".encode()
    assert mail(mailbox, "--to", "team@example.org", build=build).returncode == 0
    text = mailbox.mails[0].get_content().replace("\r\n", "\n")
    assert text.startswith(f"roof release/1: exit status 3\n{build['url']}\n\nCommit:  {SHA[:12]} ")
    assert (
        text.endswith("    line 28\n    line 29\n    Error: Größe \u00ff\n")
        and "line 9\n" not in text
    )
    ((path, headers, _),) = forge.requests
    assert (path, headers["Range"]) == ("/build/7/output", "bytes=-3000")
    fixed = {**build, "status": "success"}
    mail(mailbox, "--to", "team@example.org", build=fixed, previous="failure")
    assert mailbox.mails[1].get_content().startswith("roof release/1: works again\r\n")
    assert len(forge.requests) == 1


def test_a_line_end_in_a_subject_begins_no_header(mailbox: Mailbox) -> None:
    build = {**BUILD, "subject": "x\r\nBcc: eve@example.org", "author": "a\nb <a@b.example>"}
    assert mail(mailbox, "--to", "author", build=build).returncode == 0
    assert mailbox.mails[0]["Bcc"] is None and mailbox.recipients == ["a@b.example"]


def test_signing_in_over_an_encrypted_connection(mailbox: Mailbox, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("pa ss\n")
    words = ["--to", "x@example.org", "--starttls", "--user", "ci", "--password-file", password]
    # The stand-in's certificate is trusted only where SSL_CERT_FILE names it.
    done = mail(mailbox, *words)
    assert done.returncode == 1 and "certificate" in done.stderr.lower() and not mailbox.signed_in
    done = mail(mailbox, *words, env={"SSL_CERT_FILE": str(TLS / "certificate.pem")})
    assert (done.returncode, done.stderr) == (0, "")
    assert mailbox.encrypted and mailbox.signed_in == ["\0ci\0pa ss"] and len(mailbox.mails) == 1


def test_a_mail_server_that_is_away_is_a_failure() -> None:
    words = ["--server", "127.0.0.1:9", "--from", "ci@x.example", "--to", "a@b.example"]
    done = run("mail", *words)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", sorted(HOOKS.iterdir()), ids=lambda path: path.name)
def test_each_program_is_short_and_can_be_run(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 100 and os.access(path, os.X_OK)
