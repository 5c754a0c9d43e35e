"""People: names and passwords, who did what, and files that hold secrets."""

from __future__ import annotations

import base64
import configparser
import hashlib
import hmac
import http.client
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minici.web import guard
from minici.web.passwords import TooManyTries, Users, hash_password
from minici.web.routing import HttpError, Request
from tests.support.fakes import FakeAgent, FakeServer
from tests.support.harness import ROOT, AgentProcess, Place, ServerProcess, environment, wait_for

HASHES = {"ada": hash_password("engine"), "bob": hash_password("pa:ss wörd")}
PARAMS = {"commit": "HEAD", "command": "true"}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is there on Linux alone")


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {coded(f'{name}:{password}'.encode())}"}


def coded(pair: bytes) -> str:
    return base64.b64encode(pair).decode()


ADA, BOB = basic("ada", "engine"), basic("bob", "pa:ss wörd")


def with_users(place: Place, **settings: Any) -> ServerProcess:
    server = place.configure_server(secret="word", **settings)
    server.sections["users"] = {**HASHES}
    server.start()
    return server


@pytest.fixture(scope="module")
def server(shared: Place) -> ServerProcess:
    """A server with users, and with a build that has ended."""
    server = with_users(shared)
    agent = shared.keep(FakeAgent(server, secret="word"))
    assert server.post("/api/builds", PARAMS, **ADA).status == 201
    assert agent.result(agent.wait_build(), 0, "text").status == 200
    agent.close()
    return server


# Who gets in.

FOR_PEOPLE = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/?status=failure"),
    ("POST", "/build"),
    ("GET", "/build/1"),
    ("GET", "/build/1/output"),
    ("GET", "/build/1/stdout"),
    ("GET", "/build/1/stderr"),
    ("GET", "/build/1/checkout"),
    ("GET", "/build/1/find?text=x"),
    ("GET", "/build/1/live"),
    ("GET", "/build/1/find?text=x"),
    ("POST", "/build/1/cancel"),
    ("POST", "/build/1/rebuild"),
    ("GET", "/build/1/failures"),
    ("GET", "/build/1/files/a"),
    ("GET", "/build/1/files.tar"),
    ("POST", "/cancel"),
    ("POST", "/agents/pause"),
    ("POST", "/agents/resume"),
    ("GET", "/metrics"),
    ("GET", "/agents"),
    ("POST", "/agents/forget"),
    ("POST", "/poll"),
    ("POST", "/api/poll"),
    ("GET", "/api/builds"),
    ("POST", "/api/builds"),
    ("GET", "/api/builds/1/changes"),
    ("GET", "/api/builds/1"),
    ("GET", "/api/agents"),
    ("GET", "/badge.svg"),
    ("GET", "/badge.json"),
    ("GET", "/feed.atom"),
    ("GET", "/cc.xml"),
    ("GET", "/nothing"),
    ("GET", "/build/99999"),
    ("DELETE", "/build/1"),
]
ROUTE = re.compile(r'Route\(\s*"([A-Z]+)",\s*f?"([^"]+)",\s*[\w.]+,\s*"(\w+)"')
NO_PASSWORD = [
    None,
    "Bearer word",  # the agents' secret opens nothing to people
    "Basic",
    "Basic ",
    "Basic !!!",
    "Basic " + coded(b"ada"),
    "Basic " + coded(b"\xff\xfe:\xff"),
    "Digest username=ada",
    "ada:engine",
]


def test_these_are_all_the_paths_that_people_have() -> None:
    """A route that is added is added here: whoever adds one decides who may use it."""
    named = {(method, path.partition("?")[0]) for method, path in FOR_PEOPLE}
    named.add(("GET", "/healthz"))  # open unless `public` names others
    found = set()
    for source in (ROOT / "minici").rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        for method, pattern, audience in ROUTE.findall(text):
            path = pattern.replace("{ID}", "1").replace("(output|stdout|stderr)", "stdout")
            path = path.replace("((?s:.+))", "a")
            if audience == "people":
                found.add((method, path))
            else:
                assert audience in ("agents", "server") or path.startswith("/static/"), path
    assert found
    assert sorted(found - named) == []


@pytest.mark.parametrize(("method", "path"), FOR_PEOPLE)
def test_every_path_for_people_asks_for_name_and_password(
    server: ServerProcess, method: str, path: str
) -> None:
    before = server.get("/api/builds", ADA).json()
    body = b"commit=HEAD&command=true&address=127.0.0.1:1" if method == "POST" else None
    for given in NO_PASSWORD:
        headers = {"Authorization": given} if given else {}
        reply = server.request(method, path, body, headers)
        assert reply.status == 401, (path, given, reply)
        assert reply.header("WWW-Authenticate").startswith("Basic realm=")
        assert b"HEAD" not in reply.body, "it tells nothing of the builds"
    assert server.get("/api/builds", ADA).json() == before


@pytest.mark.parametrize("path", ["/", "/build/1", "/build/1/output", "/api/builds", "/healthz"])
@pytest.mark.parametrize("who", [ADA, BOB], ids=["ada", "bob"])
def test_people_and_their_programs_sign_in_the_same_way(
    server: ServerProcess, path: str, who: dict[str, str]
) -> None:
    assert server.get(path, who).status == 200


def test_a_password_opens_nothing_that_is_for_agents(server: ServerProcess) -> None:
    params = {"host": "127.0.0.1", "port": 9, "name": "intruder"}
    reply = server.post("/notify_agent", params, **ADA)
    assert reply.status == 401 and reply.header("WWW-Authenticate") == "Bearer"
    assert "intruder" not in server.get("/api/agents", ADA).text


def test_who_started_cancelled_and_rebuilt_is_in_the_record_and_on_the_page(place: Place) -> None:
    server = with_users(place)
    server.post("/build", PARAMS, **ADA)
    server.post("/build/1/cancel", **BOB)
    server.post("/build/1/rebuild", **BOB)
    first, second = (server.get(f"/api/builds/{number}", ADA).json() for number in (1, 2))
    assert (first["started_by"], first["cancelled_by"]) == ("ada", "bob")
    assert (second["started_by"], second["rebuild_of"]) == ("bob", 1)
    for number, names in ((1, ("ada", "bob")), (2, ("bob",))):
        page = server.get(f"/build/{number}", {**ADA, "Accept-Language": "en"}).text
        facts = page.partition("Started by")[2]
        assert all(name in facts for name in names)
    server.kill()
    server.restart()
    assert server.get("/api/builds/1", ADA).json()["cancelled_by"] == "bob"


# Guessing.


def test_wrong_passwords_slow_an_address_down(place: Place) -> None:
    server = with_users(place)
    assert server.get("/", BOB).status == 200
    tries = [server.get("/", basic("ada", f"guess {n}")).status for n in range(5)]
    assert tries == [401] * 5
    right_now = server.get("/", ADA)
    assert right_now.status == 429 and int(right_now.header("Retry-After")) in (1, 2)
    assert "engine" not in server.log() and "guess" not in server.log()
    assert server.get("/", BOB).status == 200, "who is signed in already is not hindered"
    wait_for(lambda: server.get("/", ADA).status == 200, 10, "the right one after a while")
    assert server.get("/", basic("ada", "guess")).status == 401, "it counts from the start again"


@LINUX
def test_wrong_passwords_slow_no_other_address_down(place: Place) -> None:
    server = with_users(place)
    while server.get("/", basic("ada", "guess")).status != 429:
        continue
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.port, timeout=30, source_address=("127.0.0.2", 0)
    )
    connection.request("GET", "/", headers=ADA)
    assert connection.getresponse().status == 200
    connection.close()


def wrong(server: ServerProcess, said: str) -> int:
    return server.get("/", {**basic("ada", "guess"), "X-Forwarded-For": said}).status


def test_nobody_but_a_proxy_says_from_where_a_try_comes(place: Place) -> None:
    """Without `url` there is no proxy: another address each time does not help."""
    server = with_users(place)
    assert [wrong(server, f"192.0.2.{n}") for n in range(6)] == [401] * 5 + [429]


def test_a_proxy_on_this_host_says_from_where_a_try_comes(place: Place) -> None:
    server = with_users(place, url="https://ci.example")
    assert [wrong(server, f"192.0.2.{n}, 192.0.2.9") for n in range(6)] == [401] * 5 + [429]
    assert wrong(server, "192.0.2.9, 192.0.2.7") == 401, "what stands last is the proxy's"
    assert server.get("/", ADA).status == 200
    nonsense = ["", "x" * 5000, "192.0.2.1:80", "unknown", "192.0.2.300"]
    assert [wrong(server, said) for said in nonsense] == [401] * 5 and wrong(server, "x") == 429


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tries(users: Users, address: str, most: int = 100) -> int:
    """How many wrong ones an address has before it has to wait."""
    for count in range(most):
        try:
            assert not users.check("ada", "guess", address)
        except TooManyTries:
            return count
    return most


def test_the_wait_doubles_up_to_a_minute_and_a_neighbour_of_ipv6_is_no_other_address() -> None:
    clock = Clock()
    users = Users({"ada": hash_password("engine", 10)}, clock)
    assert tries(users, "2001:db8::1") == 5
    waits = []
    for host in range(2, 12):
        with pytest.raises(TooManyTries) as caught:
            users.check("ada", "guess", f"2001:db8::{host}")
        waits.append(caught.value.wait)
        clock.now += caught.value.wait
        assert not users.check("ada", "guess", f"2001:db8::{host:x}:1")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert tries(users, "2001:db8:0:1::1") == 5
    assert tries(users, "192.0.2.1") == 5 and tries(users, "::ffff:192.0.2.1") == 0


@pytest.mark.parametrize("cost", [10, 14])
def test_an_unknown_name_costs_what_a_wrong_password_costs(
    cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = Users({"ada": hash_password("engine", cost)})
    asked: list[int] = []
    scrypt = hashlib.scrypt

    def counted(*args: Any, **named: Any) -> bytes:
        asked.append(named["n"])
        return scrypt(*args, **named)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    assert not users.check("ada", "guess", "192.0.2.1")
    assert not users.check("nobody", "guess", "192.0.2.2")
    assert asked == [2**cost] * 2


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer w", "Bearer wrong", "Bearer word", "word"])
def test_the_secret_is_compared_in_constant_time(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []
    compare_digest = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    body: Any = None
    request = Request("GET", "/ping", "", {"Authorization": given}, body, "192.0.2.1")
    if given == "Bearer word":
        guard.check_secret(request, "word")
    else:
        with pytest.raises(HttpError):
            guard.check_secret(request, "word")
    assert compared == [b"word"]


@pytest.mark.parametrize("cost", ["0", "1", "9", "21", "99"])
def test_a_hash_whose_cost_is_out_of_reach_is_refused(place: Place, cost: str) -> None:
    server = place.configure_server()
    server.sections["users"] = {"ada": HASHES["ada"].replace("scrypt:14", f"scrypt:{cost}")}
    server.launch()
    assert server.wait_end() == 2
    assert "[users] ada" in server.log() and "scrypt" not in server.log()


# Files that hold secrets.


def written(place: Place, name: str, text: str, mode: int) -> Path:
    path = place.folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o644])
@pytest.mark.parametrize("inside", [True, False], ids=["secret", "secret_file"])
@pytest.mark.parametrize("module", ["server", "agent"])
def test_a_secret_that_others_can_read_gets_a_warning(
    place: Place, module: str, inside: bool, mode: int
) -> None:
    told = place.keep(FakeServer())
    process = place.configure_server() if module == "server" else place.configure_agent(told)
    config = place.folder / f"{process.name}.ini"
    if inside:
        process.sections[module]["secret"] = "a-word"
        holder = written(place, config.name, "", mode)
    else:
        holder = written(place, "word", "a-word\n", mode)
        process.sections[module]["secret_file"] = holder
        written(place, config.name, "", 0o644)
    process.start()
    warnings = [line for line in process.log().splitlines() if "WARNING" in line]
    assert bool(warnings) == (mode != 0o600), process.log()
    assert all(f"chmod 600 {holder}" in line for line in warnings) and len(warnings) <= 1
    assert "a-word" not in process.log()


def test_a_config_without_a_secret_may_be_read_by_all(place: Place) -> None:
    server = place.configure_server()
    written(place, f"{server.name}.ini", "", 0o644)
    server.start()
    assert "WARNING" not in server.log()


SLIPS = [
    ("[server]\nport = 1\nrepository = /x\nSecret = %s\n", "unknown key"),
    ("[server]\nport = 1\nrepository = /x\nsecrett = %s\n", "unknown key"),
    ("[server]\nport = 1\nrepository = /x\npassword = %s\n", "unknown key"),
    ("[server]\nport = 1\nrepository = /x\nsecret = %s\xfc\n", "ASCII"),
    ("[server]\nport = one\n  secret = %s\nrepository = /x\n", "a port is a number"),
    ("[server]\nport = 1\nrepository = /x\nurl = http://ada:%s@ci.example\n", "without a name"),
    ("[server]\nport = 1\nrepository = /x\n[users]\nada = %s\n", "prints a hash"),
    ("[server]\nport = 1\nrepository = /x\nsecret\n%s\n", "line"),
]


@pytest.mark.parametrize(("text", "sentence"), SLIPS)
def test_no_error_of_a_config_shows_a_secret(place: Place, text: str, sentence: str) -> None:
    config = written(place, "slip.ini", text.replace("%s", "hush-hush"), 0o600)
    done = subprocess.run(
        [sys.executable, "-m", "minici.server", str(config)],
        env=environment(place.marker, place.home),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2 and sentence in done.stderr, done
    assert "hush" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_repositorys_password_is_shown_nowhere(place: Place) -> None:
    closed = FakeServer()
    closed.close()
    url = f"http://ada:pass-word@{closed.address}/project.git"
    server = place.server(repository=url)
    agent = place.agent(server)
    number = server.start_build()
    known = server.wait_final(number, within=120)  # it is tried again for a minute
    assert known["status"] == "failure" and known["repository"] == url.replace("ada:pass-word@", "")
    paths = ["/", f"/build/{number}", f"/build/{number}/output", "/api/builds", "/nothing"]
    said = server.get(f"/build/{number}/checkout").text
    assert closed.address in said and "pass-word" not in said
    for path in (*paths, "/feed.atom", "/cc.xml", "/badge.svg", "/badge.json"):
        assert "pass-word" not in server.get(path).text, path
    assert "pass-word" not in server.log() + agent.log()


# The tools.


def tool(place: Place, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minici", *words],
        input=given,
        env=environment(place.marker, place.home),
        cwd=place.elsewhere,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_init_writes_a_file_for_two_hosts(place: Place) -> None:
    done = tool(place, "init", "config.ini")
    assert done.returncode == 0, done
    path = place.elsewhere / "config.ini"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = re.search(r"sign in as (\w+) with the password (\S+)", done.stdout)
    assert found and found[2] not in path.read_text(encoding="utf-8")
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read(path, encoding="utf-8")
    sections: Any = {name: dict(parsed[name]) for name in parsed.sections()}
    assert sections["server"]["secret"] == sections["agent"]["secret"]
    assert len(sections["server"]["secret"]) >= 32
    assert {sections["server"]["host"], sections["agent"]["host"]} == {"0.0.0.0"}
    # What differs on this machine; `repository` is what a person has to set.
    sections["server"].update(repository=place.repository.path, port=0)
    server = started(place, ServerProcess, sections)
    sections["agent"].update(server=server.address, port=0)
    agent = started(place, AgentProcess, sections)
    who = basic(found[1], found[2])
    assert server.get("/").status == 401 and agent.get("/ping").status == 401
    assert server.post("/api/builds", PARAMS, **who).status == 201
    wait_for(lambda: server.get("/api/builds/1", who).json()["status"] == "success", what="success")
    assert server.get("/api/builds/1", who).json()["started_by"] == found[1]
    assert "WARNING" not in server.log() + agent.log()


def started(place: Place, kind: Any, sections: Any) -> Any:
    """A process on these sections, in a file that only its user can read."""
    process = kind(place, kind.__name__, sections)
    place.processes.append(process)
    written(place, process.config.name, "", 0o600)
    return process.start()


def test_init_is_told_the_repository_or_says_that_it_is_missing(place: Place) -> None:
    url = "https://git.example/a{b}%c.git"
    told, untold = tool(place, "init", "--repository", url, "a.ini"), tool(place, "init", "b.ini")
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read(place.elsewhere / "a.ini", encoding="utf-8")
    assert parsed["server"]["repository"] == url
    assert "`repository`" in untold.stdout and "`repository`" not in told.stdout
    refused = tool(place, "init", "--repository", "ext::sh -c true", "c.ini")
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert "--repository ext::" in refused.stderr and not (place.elsewhere / "c.ini").exists()


def test_init_writes_over_nothing_and_each_time_another_secret(place: Place) -> None:
    assert tool(place, "init").returncode == tool(place, "init", "other.ini").returncode == 0
    texts = {(place.elsewhere / name).read_text() for name in ("config.ini", "other.ini")}
    found = [re.findall(r"(?m)^(?:secret|admin) = (.*)$", text) for text in texts]
    assert len({value for values in found for value in values}) == 4
    again = tool(place, "init")
    assert again.returncode == 1 and len(again.stderr.splitlines()) == 1
    assert "config.ini" in again.stderr and (place.elsewhere / "config.ini").read_text() in texts


def test_a_person_who_goes_beyond_loopback_is_told_of_three_ways(place: Place) -> None:
    for process in (place.configure_server(host="0.0.0.0"), place.configure_agent("x:1")):
        process.sections[process.module.rsplit(".")[-1]]["host"] = "0.0.0.0"
        process.launch()
        assert process.wait_end() == 2
        assert len(process.log().splitlines()) == 1
        for way in ("secret", "127.0.0.1", "open = yes"):
            assert way in process.log()
