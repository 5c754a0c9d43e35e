"""Section 2 of the contract: configuration, refusals, ready lines, and the end."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from minici import __version__
from tests.support.fakes import FakeAgent, FakeServer
from tests.support.harness import (
    ROOT,
    Place,
    Setting,
    environment,
    holds_for,
    render_config,
    wait_for,
)
from tests.support.http_client import fetch
from tests.support.repositories import Repository, git
from tests.support.standalone import Standalone

TLS = ROOT / "tests" / "support" / "tls"
SERVER: dict[str, Setting] = {"port": 0, "repository": "/nowhere"}
AGENT: dict[str, Setting] = {"port": 0, "server": "127.0.0.1:1"}


def launch(
    folder: Path, module: str, text: str, env: Optional[Mapping[str, str]] = None
) -> subprocess.CompletedProcess[str]:
    """Run a process that is to end by itself, on a config of this text."""
    config = folder / "config.ini"
    config.write_text(text, encoding="utf-8")
    words = [sys.executable, "-m", module, str(config)]
    given = environment("refused", folder, env)
    return subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=30)


def refused(folder: Path, module: str, text: str, *words: str) -> str:
    """It ends with status 2 and one line on stderr with all these words; nothing is touched."""
    done = launch(folder, module, text)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in ("config.ini", *words):
        assert word in done.stderr, (word, done.stderr)
    assert [path.name for path in folder.iterdir()] == ["config.ini"]
    return done.stderr


def server_text(*more: str, drop: str = "") -> str:
    lines = [f"{key} = {value}" for key, value in SERVER.items() if key != drop]
    return "\n".join(["[server]", *lines, *more, ""])


def agent_text(*more: str, drop: str = "") -> str:
    lines = [f"{key} = {value}" for key, value in AGENT.items() if key != drop]
    return "\n".join(["[agent]", *lines, *more, ""])


# Refusals.


@pytest.mark.parametrize("key", ["port", "repository"])
def test_a_server_without_a_required_key_is_refused(tmp_path: Path, key: str) -> None:
    refused(tmp_path, "minici.server", server_text(drop=key), "server", key)


@pytest.mark.parametrize("key", ["port", "server"])
def test_an_agent_without_a_required_key_is_refused(tmp_path: Path, key: str) -> None:
    refused(tmp_path, "minici.agent", agent_text(drop=key), "agent", key)


def test_a_missing_section_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "minici.server", agent_text(), "server")
    refused(tmp_path, "minici.agent", server_text(), "agent")


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "minici.server", server_text("[sevrer]", "port = 1"), "sevrer")


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "minici.server", server_text("prot = 12"), "server", "prot")
    refused(tmp_path, "minici.agent", agent_text("slotz = 12"), "agent", "slotz")


def test_an_unknown_key_of_the_other_section_is_refused(tmp_path: Path) -> None:
    both = server_text() + agent_text("slotz = 12")
    refused(tmp_path, "minici.server", both, "agent", "slotz")


SERVER_VALUES = [
    ("port", "abc"),
    ("port", "-1"),
    ("port", "65536"),
    ("port", "1.5"),
    ("port", "١٢"),
    ("port", "1_0"),
    ("repository", "-oops"),
    ("repository", "ext::sh -c id"),
    ("host", "not a host"),
    ("max_queue", "0"),
    ("max_queue", "-1"),
    ("max_queue", "many"),
    ("max_attempts", "0"),
    ("max_attempts", "2.5"),
    ("ping_interval", "5x"),
    ("ping_interval", "-1s"),
    ("ping_interval", "0"),
    ("ping_interval", "nan"),
    ("ping_interval", "inf"),
    ("ping_interval", "1e3"),
    ("agent_timeout", "ten"),
    ("build_timeout", "2y"),
    ("output_limit", "64Q"),
    ("output_limit", "-64K"),
    ("output_limit", "0"),
    ("keep_builds", "-1"),
    ("keep_days", "often"),
    ("keep_days", "999999999.5"),
    ("url", "ci.example"),
    ("url", "ftp://ci.example/"),
    ("language", "de"),
    ("open", "perhaps"),
    ("secret_file", "missing-file"),
    ("certificate", "missing-file"),
    ("private_key", "missing-file"),
]


@pytest.mark.parametrize(("key", "value"), SERVER_VALUES)
def test_a_wrong_value_of_the_server_is_refused(tmp_path: Path, key: str, value: str) -> None:
    text = server_text(f"{key} = {value}", drop=key)
    sentence = refused(tmp_path, "minici.server", text, "server", key, value)
    assert len(sentence) > len(f"config.ini: [server] {key} = {value}: "), "what would be right"


AGENT_VALUES = [
    ("port", "80000"),
    ("server", "http://"),
    ("server", "ftp://ci.example"),
    ("server", "127.0.0.1:port"),
    ("server", "127.0.0.1"),
    ("advertise", "a b"),
    ("advertise", "host:99999"),
    ("slots", "0"),
    ("slots", "two"),
    ("secret_file", "missing-file"),
    ("user", "no-such-user-here"),
    ("authority", "missing-file"),
    ("certificate", "missing-file"),
    ("open", "maybe"),
]


@pytest.mark.parametrize(("key", "value"), AGENT_VALUES)
def test_a_wrong_value_of_the_agent_is_refused(tmp_path: Path, key: str, value: str) -> None:
    text = agent_text(f"{key} = {value}", drop=key)
    refused(tmp_path, "minici.agent", text, "agent", key, value)


@pytest.mark.parametrize("half", ["certificate", "private_key"])
def test_half_a_pair_for_https_is_refused(tmp_path: Path, half: str) -> None:
    text = server_text(f"{half} = {TLS / (half + '.pem')}")
    refused(tmp_path, "minici.server", text, "server", half)


def test_a_secret_and_a_secret_file_together_are_refused(tmp_path: Path) -> None:
    text = server_text("secret = word", f"secret_file = {Path(__file__).resolve()}")
    refused(tmp_path, "minici.server", text, "server", "secret_file")


@pytest.mark.parametrize(
    "text",
    ["port = 1\n", "[server\nport = 1\n", "[server]\nport\n", "[server]\nport = 1\nport = 2\n"],
)
def test_a_text_that_is_no_config_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    refused(tmp_path, "minici.server", text)


def test_a_file_that_is_not_utf8_is_refused_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "config.ini"
    config.write_bytes(b"[server]\nport = 0\nrepository = \xff\xfe\n")
    words = [sys.executable, "-m", "minici.server", str(config)]
    env = environment("refused", tmp_path)
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    refused(tmp_path, "minici.server", "\ufeff" + server_text("prot = 12"), "server", "prot")


def test_a_command_that_no_build_could_have_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "minici.server", server_text("command = a\0b"), "server", "command", "NUL")


@pytest.mark.parametrize("module", ["minici.server", "minici.agent"])
def test_a_missing_file_or_argument_is_refused_in_one_line(tmp_path: Path, module: str) -> None:
    env = environment("refused", tmp_path)
    for words in ([str(tmp_path / "none.ini")], []):
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) <= 2 and "Traceback" not in done.stderr, done
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_a_server_beyond_loopback_needs_a_secret_and_users(tmp_path: Path, host: str) -> None:
    beyond = server_text(f"host = {host}")
    refused(tmp_path, "minici.server", beyond, "server", "host", host, "secret")
    refused(tmp_path, "minici.server", beyond + "secret = s\n", "server", "host", host, "users")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7"])
def test_an_agent_beyond_loopback_needs_a_secret(tmp_path: Path, host: str) -> None:
    refused(tmp_path, "minici.agent", agent_text(f"host = {host}"), "agent", "host", host, "secret")


@pytest.mark.parametrize("module", ["minici.server", "minici.agent"])
def test_a_host_that_this_machine_does_not_have_is_refused(tmp_path: Path, module: str) -> None:
    own = server_text if module == "minici.server" else agent_text
    for host in ("192.0.2.7", "2001:db8::7", "a..b"):
        refused(tmp_path, module, own(f"host = {host}", "open = yes"), "host", host)


def test_open_says_that_a_server_for_all_is_meant(place: Place) -> None:
    server = place.server(host="0.0.0.0", open="yes")
    assert server.get("/healthz").status == 200


def test_an_agent_for_all_starts_with_a_secret_or_open(place: Place) -> None:
    server = place.keep(FakeServer())
    place.agent(server, host="0.0.0.0", open="yes")
    agent = place.agent(server, host="0.0.0.0", secret="word")
    assert agent.ping("word")["running"] == []


@pytest.mark.parametrize(
    "module, text", [("minici.server", server_text), ("minici.agent", agent_text)]
)
def test_a_data_folder_that_cant_be_made_ends_the_start(
    tmp_path: Path, module: str, text: Callable[..., str]
) -> None:
    (tmp_path / "file").touch()
    done = launch(tmp_path, module, text(f"data = {tmp_path / 'file' / 'data'}"))
    assert (done.returncode, done.stdout) == (1, ""), done
    advice = "Not a directory; make the data folder a place where this user can write"
    assert done.stderr == f"{tmp_path / 'file' / 'data'}: {advice}\n"


def test_an_agent_without_git_does_not_start(tmp_path: Path) -> None:
    done = launch(tmp_path, "minici.agent", agent_text(), {"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("git is missing: ") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.ini"]


# Asked what it is.


@pytest.mark.parametrize("module", ["minici", "minici.server", "minici.agent"])
@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_and_version_are_output(tmp_path: Path, module: str, word: str) -> None:
    done = asked(tmp_path, module, word)
    assert (done.returncode, done.stderr) == (0, ""), done
    said = f"minici {__version__}\n" if word == "--version" else f"python(3?) -m {module}"
    assert re.search(said, done.stdout), done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["minici.server", "minici.agent"])
@pytest.mark.parametrize("words", [[], ["a.ini", "b.ini"], ["--port"]])
def test_wrong_arguments_are_complained_of(tmp_path: Path, module: str, words: list[str]) -> None:
    done = asked(tmp_path, module, *words)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr == f"usage: python -m {module} config.ini\n"


def asked(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    given = environment("asked", folder)
    return subprocess.run(
        command, cwd=folder, env=given, capture_output=True, text=True, timeout=30
    )


# Started right.


def test_the_ready_line_of_a_server_stands_alone_and_is_true(place: Place) -> None:
    server = place.server()
    assert server.out.read_text() == f"minici server: http://127.0.0.1:{server.port}/\n"
    assert server.get("/healthz").status == 200
    assert server.log() == "" or "minici server: " not in server.log().splitlines()[0]


def test_the_ready_line_of_an_agent_stands_alone_and_is_true(place: Place) -> None:
    server = place.keep(FakeServer())
    agent = place.agent(server)
    line = f"minici agent: http://127.0.0.1:{agent.port}/ -> http://127.0.0.1:{server.port}/\n"
    assert agent.out.read_text() == line
    assert agent.get("/ping").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_server_cleanly(place: Place, number: int) -> None:
    server = place.server()
    assert server.stop(10, number) == 0
    assert server.out.read_text().count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_an_agent_cleanly(place: Place, number: int) -> None:
    server = place.keep(FakeServer())
    assert place.agent(server).stop(10, number) == 0


def test_a_server_stops_while_people_watch_and_connections_are_idle(place: Place) -> None:
    server = place.server()
    number = server.start_build()
    events = server.live(number)
    with socket.create_connection(("127.0.0.1", server.port)):
        assert server.stop(10) == 0
    events.close()


def test_one_file_with_both_sections_serves_both(place: Place) -> None:
    server = place.configure_server()
    server.sections["agent"] = {**AGENT, "server": "127.0.0.1:1"}
    server.start()
    agent = place.configure_agent(server)
    agent.sections["server"] = {**SERVER}
    agent.start()
    server.wait_agents(1)


def test_a_port_in_use_is_one_clear_line(place: Place) -> None:
    server = place.server()
    second = place.configure_server(port=server.port)
    second.launch()
    assert second.wait_end() != 0
    assert len(second.log().splitlines()) == 1 and str(server.port) in second.log()


def test_server_may_be_given_as_a_url(place: Place) -> None:
    server = place.server()
    agent = place.configure_agent(f"http://127.0.0.1:{server.port}/").start()
    server.wait_agents(1)
    assert f"-> http://127.0.0.1:{server.port}/" in agent.out.read_text()


# What the keys mean.


def test_relative_paths_are_relative_to_the_file(place: Place) -> None:
    Repository(place.folder / "near")
    (place.folder / "word.txt").write_text("hush\n")
    server = place.configure_server(repository="near", data="here", secret_file="word.txt")
    server.start()
    assert (place.folder / "here" / "lock").exists()
    agent = place.keep(FakeAgent(server, secret="hush"))
    server.start_build()
    assert agent.wait_build()["repository"] == str(place.folder / "near")


def test_the_data_folders_have_their_default_names_beside_the_file(place: Place) -> None:
    server = place.configure_server()
    del server.sections["server"]["data"]
    server.start()
    assert (place.folder / "minici-data").is_dir()
    agent = place.configure_agent(server)
    del agent.sections["agent"]["data"]
    agent.start()
    wait_for((place.folder / f"minici-agent-{agent.port}").is_dir, what="the agent's folder")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("0.5h", 1800), ("2h", 7200), ("0.25", 0.25)],
)
def test_durations_have_units_and_decimals(place: Place, text: str, seconds: float) -> None:
    server = place.server(build_timeout=text)
    agent = place.keep(FakeAgent(server))
    server.start_build()
    assert float(agent.wait_build()["timeout"]) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("70000", 70000), ("64K", 65536), ("16M", 16 * 2**20), ("1G", 2**30)]
)
def test_sizes_have_units(place: Place, text: str, size: int) -> None:
    server = place.server(output_limit=text)
    agent = place.keep(FakeAgent(server))
    server.start_build()
    assert int(agent.wait_build()["output_limit"]) == size


def test_the_defaults_of_what_an_agent_is_told(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    assert float(build["timeout"]) == 3600
    assert int(build["output_limit"]) == 64 * 2**20


def test_command_is_what_the_form_holds_at_first(place: Place) -> None:
    server = place.server(command="make <check>")
    assert "make &lt;check&gt;" in server.get("/").text


def test_max_queue_defaults_to_a_thousand(place: Place) -> None:
    """One more than 1000 would take a while; that 30 are taken shows that it is not small."""
    server = place.server()
    for _ in range(30):
        server.start_build()


def test_agents_are_pinged_every_two_seconds_by_default(place: Place) -> None:
    server = place.configure_server()
    del server.sections["server"]["ping_interval"]
    server.start()
    agent = place.keep(FakeAgent(server))
    first = agent.wait_call("/ping", 1)
    third = agent.wait_call("/ping", 3)
    assert 3 <= third.at - first.at <= 8


def test_keep_builds_removes_the_oldest_final_ones(place: Place) -> None:
    server = place.server(keep_builds=2)
    agent = place.keep(FakeAgent(server))
    for count in range(1, 5):
        server.start_build()
        agent.result(agent.wait_build(count), stdout="text")
    wait_for(lambda: server.get("/api/builds/2").status == 404, what="build 2 removed")
    assert server.get("/api/builds/1").status == 404
    assert server.get("/build/1").status == 404
    assert [b["id"] for b in server.api("/builds")["builds"]] == [4, 3]
    assert not (server.data / "builds" / "1").exists()


def test_keep_builds_counts_final_ones_only(place: Place) -> None:
    server = place.server(keep_builds=1)
    waiting = [server.start_build() for _ in range(3)]
    done = server.start_build()
    assert server.post(f"/build/{done}/cancel").status == 303
    for number in (*waiting, done):
        holds_for(lambda: server.get(f"/api/builds/{number}").status == 200, 0.2, "it is kept")


def test_keep_days_removes_what_is_older(place: Place) -> None:
    server = place.server(keep_days="0.00002")  # 1.7 s
    agent = place.keep(FakeAgent(server))
    server.start_build()
    agent.result(agent.wait_build())
    server.wait_final(1)

    def removed() -> bool:
        number = server.start_build()
        server.post(f"/build/{number}/cancel")
        return server.get("/api/builds/1").status == 404

    wait_for(removed, 30, "build 1 removed")


def test_a_removed_id_is_not_given_out_again(place: Place) -> None:
    server = place.server(keep_builds=1)
    for _ in range(3):
        server.post(f"/build/{server.start_build()}/cancel")
    server.kill()
    (server.data / "counter").unlink()
    server.restart()
    assert server.start_build() == 4


def test_url_is_used_in_links(place: Place) -> None:
    server = place.server(url="https://ci.example/")
    agent = place.keep(FakeAgent(server))
    server.start_build()
    assert agent.wait_build()["url"] == "https://ci.example/build/1"


def test_url_with_a_path_is_used_whole(place: Place) -> None:
    server = place.server(url="https://example.org/ci")
    agent = place.keep(FakeAgent(server))
    server.start_build()
    assert agent.wait_build()["url"] == "https://example.org/ci/build/1"


@pytest.mark.parametrize(
    ("language", "accept", "word"),
    [
        ("auto", "en", "Start build"),
        ("auto", "ru", "Запустить сборку"),
        ("auto", "de, fr;q=0.5", "Запустить сборку"),
        ("auto", "de, en;q=0.5, ru;q=0.4", "Start build"),
        ("auto", "ru;q=0.1, en-GB", "Start build"),
        ("auto", "", "Запустить сборку"),
        ("en", "ru", "Start build"),
        ("ru", "en", "Запустить сборку"),
    ],
)
def test_language_follows_the_setting_or_the_browser(
    place: Place, language: str, accept: str, word: str
) -> None:
    server = place.server(language=language)
    headers = {"Accept-Language": accept} if accept else {}
    page = server.get("/", headers).text
    assert word in page
    assert f'<html lang="{"en" if word == "Start build" else "ru"}"' in page


def tls_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "certificate.pem"))


def test_https_between_server_agent_and_people(place: Place) -> None:
    pair: dict[str, Any] = {
        "certificate": TLS / "certificate.pem",
        "private_key": TLS / "private_key.pem",
    }
    server = place.configure_server(**pair)
    server.start()
    assert server.out.read_text() == f"minici server: https://127.0.0.1:{server.port}/\n"
    address = ("127.0.0.1", server.port)
    agent = place.configure_agent(
        f"https://127.0.0.1:{server.port}", authority=TLS / "certificate.pem", secret="", **pair
    )
    del agent.sections["agent"]["secret"]
    agent.start()
    assert agent.out.read_text().startswith(
        f"minici agent: https://127.0.0.1:{agent.port}/ -> https:"
    )

    def call(method: str, path: str, body: Optional[bytes] = None) -> dict[str, object]:
        headers = {"Content-Type": "application/json"}
        reply = fetch(address, method, path, body, headers, context=tls_context())
        assert reply.status in (200, 201), reply
        return dict(reply.json())

    wait_for(lambda: call("GET", "/api/agents")["agents"], what="the agent registered")
    call("POST", "/api/builds", b'{"commit": "HEAD", "command": "echo secure"}')
    wait_for(lambda: call("GET", "/api/builds/1")["status"] == "success", what="the build")
    assert call("GET", "/api/builds/1")["stdout_bytes"] == 7


def test_an_agent_does_not_trust_a_server_of_an_unknown_authority(place: Place) -> None:
    pair: dict[str, Any] = {
        "certificate": TLS / "certificate.pem",
        "private_key": TLS / "private_key.pem",
    }
    server = place.configure_server(**pair)
    server.start()
    agent = place.configure_agent(f"https://127.0.0.1:{server.port}").start()
    wait_for(lambda: "certificate" in agent.log().lower(), what="a word in the log")


def basic(name: str, word: str) -> dict[str, str]:
    token = base64.b64encode(f"{name}:{word}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


def hashed(folder: Path, word: str) -> str:
    """What `python -m minici password` prints for a password on its standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "minici", "password"],
        input=f"{word}\n{word}\n",
        env=environment("password", folder),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done
    return done.stdout.strip().splitlines()[-1]


def test_users_are_asked_for_their_password(place: Place) -> None:
    server = place.configure_server(secret="word")
    server.sections["users"] = {"ada": hashed(place.home, "pässword: 1")}
    server.start()
    for path in ("/", "/build/1", "/api/builds", "/agents"):
        reply = server.get(path)
        assert reply.status == 401 and reply.header("WWW-Authenticate").startswith("Basic "), path
    assert server.get("/", basic("ada", "wrong")).status == 401
    assert server.get("/", basic("eve", "pässword: 1")).status == 401
    assert server.post("/api/builds", {"commit": "HEAD", "command": "true"}).status == 401
    known = basic("ada", "pässword: 1")
    assert server.get("/", known).status == 200
    reply = server.post("/api/builds", {"commit": "HEAD", "command": "true"}, **known)
    assert reply.status == 201 and reply.json()["id"] == 1
    agent = place.keep(FakeAgent(server, secret="word"))
    assert agent.result(agent.wait_build()).status == 200
    assert server.get("/api/builds/1", known).json()["status"] == "success"


def test_a_hash_does_not_hold_the_password_and_is_salted(tmp_path: Path) -> None:
    one, two = hashed(tmp_path, "geheim"), hashed(tmp_path, "geheim")
    assert "geheim" not in one and one != two


def test_users_and_secret_allow_a_host_beyond_loopback(place: Place) -> None:
    server = place.configure_server(host="0.0.0.0", secret="word")
    server.sections["users"] = {"ada": hashed(place.home, "pw")}
    server.start()
    assert server.get("/", basic("ada", "pw")).status == 200


def test_a_wrong_hash_in_users_is_refused(tmp_path: Path) -> None:
    text = server_text("[users]", "ada = not-a-hash")
    refused(tmp_path, "minici.server", text, "users", "ada")


# The agent's keys.


def test_slots_are_builds_at_a_time(place: Place) -> None:
    server = place.server()
    agent = place.agent(server, slots=3)
    assert agent.ping()["slots"] == 3
    gate = place.folder / "gate"
    command = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    numbers = [server.start_build(command=command) for _ in range(4)]
    for number in numbers[:3]:
        server.wait_status(number, "running")
    assert server.build(numbers[3])["status"] == "queued"
    gate.touch()
    for number in numbers:
        assert server.wait_final(number)["status"] == "success"


@pytest.mark.parametrize("form", ["127.0.0.1", "localhost", "localhost:PORT"])
def test_advertise_is_what_the_server_is_told(place: Place, form: str) -> None:
    server = place.keep(FakeServer())
    port = place.keep(FakeServer()).port  # any number that is not the agent's
    place.agent(server, advertise=form.replace("PORT", str(port)))
    told = server.wait_agent().params
    assert told["host"] == form.split(":", maxsplit=1)[0]
    assert (int(told["port"]) == port) is form.endswith("PORT")


def test_an_agent_keeps_its_things_in_its_data_folder(place: Place) -> None:
    server = place.server()
    agent = place.agent(server)
    number = server.start_build(command="pwd")
    server.wait_final(number)
    assert server.output(number, "stdout").decode().startswith(str(agent.data))


def test_the_words_of_shell_come_before_the_command(place: Place) -> None:
    server = place.server()
    place.agent(server, shell=f"{sys.executable} -c")
    number = server.start_build(command="import sys; print(sys.argv, 6 * 7)")
    assert server.wait_final(number)["status"] == "success"
    assert server.output(number, "stdout") == b"['-c'] 42\n"


def test_a_shell_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "minici.agent", agent_text("shell = /nowhere/sh -c"), "shell", "/nowhere/sh")


def test_user_is_as_whom_commands_run(open_place: Place) -> None:
    """Where root runs the tests, a build is nobody's; else `user` is refused in words."""
    place = open_place
    if os.geteuid() != 0:
        refused(place.elsewhere, "minici.agent", agent_text("user = nobody"), "user", "nobody")
        return
    theirs = Repository(place.folder / "theirs")
    subprocess.run(["chown", "-R", "nobody", str(theirs.path)], check=True)
    server = place.server(repository=theirs.path)
    place.agent(server, user="nobody")
    command = (
        "id -un; id -G | wc -w; echo $HOME; touch made; stat -c %U made; git log -1 --format=%s"
    )
    number = server.start_build(command=command)
    build = server.wait_final(number)
    assert build["status"] == "success", (build, server.output(number))
    lines = server.output(number, "stdout").decode().splitlines()
    assert lines[0] == lines[3] == "nobody" and lines[1] == "1"
    assert lines[2] != str(place.home)


# Server and agents in one go.


def in_one_go(place: Place, folder: Path) -> Standalone:
    return Standalone(place, folder)


def finish_one(minici: Standalone, command: str = "cat file.txt") -> dict[str, Any]:
    """Start a build of HEAD and wait for its end."""
    return minici.build(command)


def test_everything_in_one_go_on_the_repository_in_which_one_stands(place: Place) -> None:
    own = Repository(place.folder / "project")
    git(own.path, "checkout", "--quiet", "main")
    (own.path / "below").mkdir()
    minici = in_one_go(place, own.path / "below")
    minici.launch()
    minici.ready()
    page = minici.get("/", {"Accept-Language": "en"}).text
    assert re.search(r"<input[^>]*value=\"HEAD\"", page), "the form offers HEAD"
    build = finish_one(minici)
    assert build["status"] == "success" and build["revision"] == own.third
    before = git(own.path, "status", "--porcelain", "--ignored")
    assert before == "" and sorted(p.name for p in own.path.iterdir()) == sorted(
        [".git", ".gitignore", "below", "file.txt", "script.sh"]
    )
    assert minici.stop(20, signal.SIGINT) == 0
    minici.launch()
    minici.ready()
    assert minici.get("/api/builds/1").json()["status"] == "success"
    assert finish_one(minici)["id"] == 2
    assert minici.stop(20, signal.SIGTERM) == 0


def test_a_build_in_one_go_finds_pythonpath_as_it_was(place: Place) -> None:
    minici = in_one_go(place, place.repository.path)
    minici.launch()
    minici.ready()
    finish_one(minici, 'printf %s "$PYTHONPATH"')
    assert minici.get("/build/1/stdout").text == minici.env["PYTHONPATH"]


def test_a_stop_in_one_go_hands_a_build_from_agent_to_agent_no_more(place: Place) -> None:
    minici = in_one_go(place, place.repository.path)
    minici.launch()
    minici.ready()
    params = {"commit": "HEAD", "command": "echo here; sleep 100"}
    assert minici.post("/api/builds", params).status == 201
    wait_for(lambda: minici.get("/build/1/output").text == "here\n", 60, "an agent that has it")
    running = minici.get("/api/builds/1").json()["agent"]
    assert minici.stop(30, signal.SIGINT) == 0
    record = next(Path(minici.env["HOME"]).rglob("builds/1/build.json"))
    attempts = json.loads(record.read_text())["attempts"]
    assert [each["agent"] for each in attempts if each["ending"] == "returned"] == [running]


@pytest.mark.parametrize(
    "words", [["--agents", "0"], ["--port", "70000"], ["init", "--bogus"], ["password", "word"]]
)
def test_a_wrong_argument_is_refused_and_nothing_is_touched(place: Place, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minici", *words],
        cwd=place.elsewhere,
        env=environment("refused", place.home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2 and words[-1] in done.stderr, done
    assert list(place.elsewhere.iterdir()) == list(place.home.iterdir()) == []


def test_in_one_go_whatever_the_folder_is_called(place: Place) -> None:
    own = Repository(place.folder / "проект 1% b")
    minici = in_one_go(place, own.path)
    minici.env["PYTHONIOENCODING"] = "ascii"
    minici.launch()
    minici.ready()
    assert finish_one(minici)["status"] == "success"
    assert minici.stop(20) == 0 and "\\u043f" in minici.log()


def test_in_one_go_in_a_folder_whose_name_is_no_text_is_one_clear_line(place: Place) -> None:
    folder = os.fsencode(place.folder) + b"/caf\xe9"
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    minici = in_one_go(place, Path(os.fsdecode(folder)))
    minici.launch()
    assert minici.wait_end() == 1
    assert len(minici.log().splitlines()) == 1 and "caf\\xe9" in minici.log()


def test_in_one_go_outside_of_a_repository_is_one_clear_line(place: Place) -> None:
    minici = in_one_go(place, place.elsewhere)
    minici.launch()
    assert minici.wait_end() != 0
    assert len(minici.log().splitlines()) == 1 and "repository" in minici.log()


def test_a_copied_folder_is_an_installation(place: Place) -> None:
    subprocess.run(["cp", "-r", str(ROOT / "minici"), str(place.home)], check=True)
    server = place.server(env={"PYTHONPATH": str(place.home)})
    assert server.get("/").status == 200


def test_a_written_config_is_what_the_tests_think_it_is() -> None:
    assert render_config({"server": {"port": 0}}) == "[server]\nport = 0\n"
