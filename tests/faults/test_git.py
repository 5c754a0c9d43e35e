"""Faults 29 to 34: git."""

from __future__ import annotations

import base64
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import FakeServer
from tests.support.harness import (
    AgentProcess,
    Ground,
    Place,
    ServerProcess,
    holds_for,
    marked,
    wait_for,
)
from tests.support.repositories import Repository, git


@pytest.fixture(scope="module")
def world(shared: Place) -> tuple[ServerProcess, AgentProcess]:
    server = shared.server()
    return server, shared.agent(server)


COMMITS = [
    "--upload-pack=touch X",
    "--upload-pack=touch${IFS}X",
    "-x",
    "--",
    "-",
    "a b",
    "a\nb",
    "HEAD\n",
    "\r\nHEAD",
    "a\0b",
    "x" * 10_240,
    "$(touch X)",
    "`touch X`",
    "HEAD;touch X",
    "HEAD:file.txt",
    "HEAD..main",
    "main^{tree}",
    ":/First",
    "refs/heads/main:refs/heads/evil",
    "+main",
    "@{upstream}",
    "../main",
    "/etc/passwd",
    "main\\",
    "*",
    "\u202emain",
    "\ud800",
]


@pytest.mark.parametrize("commit", COMMITS)
def test_fault_29_odd_commits(world: tuple[ServerProcess, AgentProcess], commit: str) -> None:
    server, agent = world
    reply = server.post("/api/builds", {"commit": _plain(commit), "command": "echo ran"})
    assert reply.status in (201, 400), reply
    if reply.status == 201:
        known = server.wait_final(reply.json()["id"])
        assert known["status"] == "failure" and b"ran\n" not in server.output(known["id"])
    params = {"id": 1, "repository": server.place.repository.path, "command": "true"}
    direct = agent.post("/build", {**params, "commit": _plain(commit)})
    assert direct.status in (202, 400), direct
    wait_for(lambda: not agent.ping()["running"] and not agent.ping()["undelivered"], what="idle")
    assert_no_x(server.place)


def _plain(text: str) -> str:
    return text if text != "\ud800" else "\udc80\udcff"  # bytes that are no UTF-8


def assert_no_x(place: Ground) -> None:
    # Not by rglob, which stumbles over what goes away meanwhile.
    walk = ((folder, {*folders, *files}) for folder, folders, files in os.walk(place.folder))
    found = [Path(folder, "X") for folder, names in walk if "X" in names]
    found += [path for path in (Path("X"), place.repository.path / "X") if path.exists()]
    assert not found, found


REPOSITORIES = [
    "ext::sh -c touch% X",
    "ext::touch X",
    "fd::3",
    "EXT::touch X",
    "-x",
    "--upload-pack=touch X",
    "a\nb",
    "a\0b",
    "",
]


@pytest.mark.parametrize("address", REPOSITORIES)
def test_fault_30_odd_repositories(world: tuple[ServerProcess, AgentProcess], address: str) -> None:
    server, agent = world
    params = {"id": 1, "repository": address, "commit": "HEAD", "command": "touch X"}
    reply = agent.post("/build", params)
    assert reply.status == 400, reply
    reply.error()
    holds_for(lambda: not agent.ping()["running"], 0.1, "nothing runs")
    assert_no_x(server.place)


TRICKS = [
    "ssh://-oProxyCommand=touch X/x",
    "ssh://-oProxyCommand=touch${IFS}X/x.git",
    "git@-oProxyCommand=touch${IFS}X:x",
    "127.0.0.1:-oProxyCommand=touch X",
    "ssh://127.0.0.1:1/--upload-pack=touch X",
    "git://-x/x",
    "http://-oX/x",
    "file://--upload-pack=touch X",
    "./--upload-pack=touch X",
    "$(touch X)",
    "`touch X`",
    "|touch X",
    "http://127.0.0.1:1/$(touch${IFS}X)",
]


@pytest.mark.parametrize("address", TRICKS)
def test_fault_30_addresses_with_options_or_commands_in_them(place: Place, address: str) -> None:
    """What has the form of an address is given to git and to ssh: it must stay an address."""
    server = place.keep(FakeServer())
    agent = place.agent(server)
    params = {"id": 1, "repository": address, "commit": "HEAD", "command": "touch X"}
    reply = agent.post("/build", {**params, "timeout": 10})
    assert reply.status in (202, 400), reply
    if reply.status == 202:
        result = server.wait_result(1)
        assert int(result["status"]) != 0 and "checkout failed" in result["reason"]
    assert_no_x(place)


@pytest.mark.parametrize("inner", ["ext::touch X", "ext::sh -c touch% X"])
def test_fault_30_a_submodule_or_alternate_does_not_run_either(place: Place, inner: str) -> None:
    own = Repository(place.folder / "own")
    own.commit({".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = {inner}\n'}, "A submodule")
    server = place.server(repository=own.path)
    place.agent(server)
    known = server.wait_final(server.start_build())
    assert known["status"] in ("success", "failure")
    assert_no_x(place)


def test_fault_31_an_agent_started_within_another_repository(place: Place) -> None:
    other = Repository(place.folder / "other")
    git(other.path, "checkout", "--quiet", "main")
    env = {
        "GIT_DIR": str(other.path / ".git"),
        "GIT_WORK_TREE": str(other.path),
        "GIT_INDEX_FILE": str(other.path / ".git" / "index"),
        "GIT_OBJECT_DIRECTORY": str(other.path / ".git" / "objects"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.bare",
        "GIT_CONFIG_VALUE_0": "true",
    }
    before = _snapshot(other.path)
    server = place.server(env)
    place.agent(server, env)
    number = server.start_build("topic", "git rev-parse HEAD; ls; git status --porcelain")
    known = server.wait_final(number)
    assert known["status"] == "success", server.output(number)
    expected = f"{place.repository.topic}\nfile.txt\ntopic.txt\n"
    assert server.output(number, "stdout").decode() == expected
    assert _snapshot(other.path) == before


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _large(path: Path) -> Repository:
    """A repository that takes a moment to fetch and to check out."""
    own = Repository(path)
    files = {f"d{n % 50}/f{n}.txt": f"{n}\n" * 20 for n in range(3000)}
    noise = os.urandom(9_000_000)
    files.update({f"noise{n}": base64.b64encode(noise[n::4]).decode() for n in range(4)})
    own.commit(files, "Much")
    return own


@pytest.mark.parametrize(
    "word", [" clone ", " fetch ", "index-pack", " checkout ", " clean ", " reset "]
)
def test_fault_32_killed_in_the_middle_of_git(place: Place, large: Repository, word: str) -> None:
    """Killed at the first sight of this command; if it does not exist, that is no harm."""
    server = place.server(repository=large.path, max_attempts=9)
    agent = place.agent(server)
    check = "git status --porcelain --ignored; ls | wc -l; git fsck 2>&1 | grep -c -v dangling"
    number = server.start_build(command=check)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server_alone(server, number):
        if any(word in f" {line} " for line in marked(place.marker).values()):
            break
    agent.kill()
    agent.restart()
    known = server.wait_final(number)
    assert known["status"] == "success" or "grep" in check, known
    lines = server.output(number, "stdout").decode().split()
    assert lines[0] == "56", server.output(number)
    again = server.start_build("v1", "cat file.txt; ls | wc -l")
    assert server.wait_final(again)["status"] == "success"
    assert server.output(again, "stdout").split() == [b"two", b"1"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return _large(tmp_path_factory.mktemp("large") / "repository")


def server_alone(server: ServerProcess, number: int) -> bool:
    """Whether the build is still on its way (one look in twenty costs a request)."""
    server_alone.looks += 1  # type: ignore[attr-defined]
    if server_alone.looks % 20:  # type: ignore[attr-defined]
        return True
    return server.build(number)["status"] in ("queued", "running")


server_alone.looks = 0  # type: ignore[attr-defined]


def _packs(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*.pack") if p.stat().st_size]


def _objects(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("objects/??/*") if p.is_file()]


def _truncate(path: Path) -> None:
    os.chmod(path, 0o644)
    os.truncate(path, path.stat().st_size // 2)


def _cut_everything(agent: AgentProcess) -> None:
    for path in _packs(agent.data) + _objects(agent.data):
        _truncate(path)


def _lock_everything(agent: AgentProcess) -> None:
    for head in list(agent.data.rglob("HEAD")):
        if (head.parent / "objects").is_dir():
            for name in (
                "index.lock",
                "HEAD.lock",
                "packed-refs.lock",
                "shallow.lock",
                "config.lock",
            ):
                (head.parent / name).touch()


def _empty_heads(agent: AgentProcess) -> None:
    for head in list(agent.data.rglob("HEAD")):
        if (head.parent / "objects").is_dir():
            head.write_text("")


def _empty_configs(agent: AgentProcess) -> None:
    for head in list(agent.data.rglob("HEAD")):
        if (head.parent / "objects").is_dir():
            (head.parent / "config").write_text("[broken")


def _empty_index(agent: AgentProcess) -> None:
    for index in list(agent.data.rglob("index")):
        index.write_bytes(b"DIRC broken")


BREAKAGES = [_cut_everything, _lock_everything, _empty_heads, _empty_configs, _empty_index]


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("restarted", [False, True])
def test_fault_32_a_broken_mirror(place: Place, breakage: Any, restarted: bool) -> None:
    server = place.server()
    agent = place.agent(server)
    assert server.wait_final(server.start_build("v1"))["status"] == "success"
    if restarted:
        agent.kill()
    breakage(agent)
    if restarted:
        agent.restart()
    for commit, text in (("main", b"three\n"), ("light", b"one\n"), ("v1", b"two\n")):
        number = server.start_build(commit, "cat file.txt; git log -1 --format=%s >/dev/null")
        known = server.wait_final(number)
        assert known["status"] == "success", (known, server.output(number))
        assert server.output(number, "stdout") == text


class _Asking(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="secret"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def asking() -> Iterator[int]:
    """The port of a remote that asks for a password."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Asking)
    threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
    yield listener.server_address[1]
    listener.shutdown()
    listener.server_close()


def hand(agent: AgentProcess, number: int, repository: str, timeout: float) -> None:
    params = {"id": number, "repository": repository, "commit": "HEAD", "command": "echo ran"}
    wait_for(
        lambda: agent.post("/build", {**params, "timeout": timeout}).status == 202, what="accepted"
    )


@pytest.mark.parametrize("scheme", ["http", "git"])
def test_fault_33_a_remote_that_hangs(place: Place, scheme: str) -> None:
    server = place.keep(FakeServer())
    agent = place.agent(server)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x.git"
        hand(agent, 1, url, 2)
        result = server.wait_result(1, within=30)
    assert int(result["status"]) != 0 and "time" in result["reason"].lower(), result["reason"]
    wait_for(lambda: not agent.ping()["running"], what="the slot free")
    assert not [line for line in marked(place.marker).values() if "git" in line.split()[0]]
    hand(agent, 2, str(place.repository.path), 60)
    assert server.wait_result(2)["status"] == "0"


def test_fault_33_a_remote_that_asks_for_a_password(place: Place, asking: int) -> None:
    server = place.keep(FakeServer())
    agent = place.agent(server)
    hand(agent, 1, f"http://127.0.0.1:{asking}/x.git", 60)
    result = server.wait_result(1, within=30)
    assert int(result["status"]) != 0 and result["reason"]
    hand(agent, 2, str(place.repository.path), 60)
    assert server.wait_result(2)["status"] == "0"


def test_fault_33_a_remote_that_hangs_can_be_cancelled(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = place.server(repository=f"http://127.0.0.1:{silent.getsockname()[1]}/x.git")
        agent = place.agent(server)
        number = server.start_build()
        wait_for(lambda: agent.ping()["running"], what="running")
        time.sleep(0.5)
        begun = time.monotonic()
        server.post(f"/build/{number}/cancel")
        assert server.wait_final(number)["status"] == "cancelled"
        assert time.monotonic() - begun < 12
        wait_for(lambda: not agent.ping()["running"], 12, "the slot free")


LEAVE = """
set +e
echo x > left.ignored; echo x > untracked; mkdir -p deep/er; echo x > deep/er/f.ignored
mkdir readonly; echo x > readonly/file; chmod 555 readonly
mkdir -p closed/inner; echo x > closed/inner/f; chmod 000 closed
git init -q nested; git -C nested -c user.name=n -c user.email=e commit -q --allow-empty -m n
git init -q deep/nested; touch deep/nested/file
echo changed > file.txt; rm script.sh; chmod 000 .gitignore
git config core.bare true; git config core.worktree /tmp; echo '*' > .git/info/exclude
git config core.hooksPath "$PWD/hooks"; mkdir hooks .git/hooks -p
printf '#!/bin/sh\\ntouch "$PWD/hooked"' > hooks/post-checkout; chmod +x hooks/post-checkout
cp hooks/post-checkout .git/hooks/post-checkout
git config filter.evil.smudge 'sed s/t/X/'; echo '* filter=evil' > .git/info/attributes
git config core.sparseCheckout true; echo '/nothing' > .git/info/sparse-checkout
ln -s /etc/passwd link; touch -- '-rf' 'a b' "$(printf 'new\\nline')"
true
"""


def test_fault_34_what_earlier_builds_left(place: Place) -> None:
    server = place.server()
    place.agent(server)
    number = server.start_build(command=LEAVE)
    assert server.wait_final(number)["status"] == "success", server.output(number)
    for commit, text in (("main", "three"), ("light", "one"), ("main", "three")):
        look = "ls -A; cat file.txt; git status --porcelain --ignored; git rev-parse HEAD"
        number = server.start_build(commit, look)
        known = server.wait_final(number)
        assert known["status"] == "success", (known, server.output(number))
        lines = server.output(number, "stdout").decode().splitlines()
        files = [".git", ".gitignore", "file.txt"] + ["script.sh"] * (commit == "main")
        assert lines == [*files, text, known["revision"]]


def test_fault_34_a_folder_that_became_something_else(place: Place) -> None:
    """The last build removed its checkout, and left a file in its place."""
    server = place.server()
    place.agent(server)
    for damage in ('rm -rf "$PWD"; touch "$PWD"', "rm -rf .git", "rm -rf .git; git init -q ."):
        server.wait_final(server.start_build(command=damage))
        number = server.start_build(command="cat file.txt; git status --porcelain")
        known = server.wait_final(number)
        assert known["status"] == "success", (known, server.output(number))
        assert server.output(number, "stdout") == b"three\n"


def test_a_commit_that_arrived_a_second_ago(place: Place, own_repository: Repository) -> None:
    server = place.server(repository=own_repository.path)
    place.agent(server)
    assert server.wait_final(server.start_build("main"))["revision"] == own_repository.third
    new = own_repository.commit({"file.txt": "four\n"}, "Fourth")
    for typed in ("main", new, new[:10], "HEAD"):
        number = server.start_build(typed, "cat file.txt")
        assert server.wait_final(number)["revision"] == new
        assert server.output(number, "stdout") == b"four\n"
    moved = own_repository.commit(
        {"file.txt": "again\n"}, "Rewritten", "main", own_repository.first
    )
    number = server.start_build("main", "cat file.txt")
    assert server.wait_final(number)["revision"] == moved


def test_fault_49_attributes_that_a_commit_only_adds(place: Place) -> None:
    own = Repository(place.folder / "own")
    plain = own.commit({"f.txt": "text\n", "sub/f.txt": "text\n"}, "Plain")
    crlf = own.commit({"sub/.gitattributes": "*.txt text eol=crlf\n"}, "CRLF")
    server = place.server(repository=own.path)
    agent = place.agent(server)
    for commit, text in ((plain, "\n"), (crlf, "\r\n"), (plain, "\n"), (crlf, "\r\n")):
        number = server.start_build(commit, "cat sub/f.txt")
        assert server.wait_final(number)["status"] == "success"
        assert server.output(number, "stdout").decode() == f"text{text}"
    agent.kill()
    agent.restart()
    number = server.start_build(plain, "cat f.txt sub/f.txt")
    assert server.wait_final(number)["status"] == "success"
    assert server.output(number, "stdout") == b"text\ntext\n"


def test_fault_50_modes_of_tracked_folders_and_files(place: Place) -> None:
    own = Repository(place.folder / "own")
    own.commit({"sub/deep/f.txt": "text\n", "run.sh": "true\n"}, "Folders")
    server = place.server(repository=own.path)
    place.agent(server)
    look = "find . -name .git -prune -o ! -type l -exec ls -ld {} + | cut -c 1-10,60- | sort"
    number = server.start_build(command=look)
    server.wait_final(number)
    fresh = server.output(number, "stdout")
    for damage in (
        "chmod 555 sub",
        "chmod 600 file.txt run.sh",
        "chmod g+s sub/deep; chmod 777 .",
        "chmod 700 sub; chmod 666 sub/deep/f.txt",
        "touch left; chmod 444 file.txt",
    ):
        server.wait_final(server.start_build(command=damage))
        number = server.start_build(command=look)
        assert server.wait_final(number)["status"] == "success"
        modes = [line[:10] for line in server.output(number, "stdout").decode().splitlines()]
        assert modes == [line[:10] for line in fresh.decode().splitlines()], damage
