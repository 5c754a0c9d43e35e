"""The way of files from a command's folder to the server: what is kept, and how it is sent."""

from __future__ import annotations

import os
import shlex
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from minici.build import AttemptId
from minici.executor.file_upload import PIECE_BYTES, FileUpload
from minici.executor.kept_files import keep_files, read_kept_files
from minici.web.client import Client, Failed
from tests.support.fakes import Call, FakeServer
from tests.support.harness import Place, wait_for


class FileServer(FakeServer):
    """A server that takes files as the contract has it."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        super().__init__()

    def answer(self, call: Call) -> Any:
        if call.path != "/notify_build_file":
            return super().answer(call)
        path, offset = call.query["path"], int(call.query["offset"])
        have = self.files.get(path, self.parts.get(path, b""))
        if path in self.files and offset + len(call.body) == len(have) and "last" in call.query:
            return 200, {"next": len(have)}
        if offset != len(have) or path in self.files:
            return 409, {"next": len(have)}
        self.parts[path] = have + call.body
        if call.query.get("last") == "1":
            self.files[path] = self.parts[path]
        return 200, {"next": len(self.parts[path])}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("left", "build", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    return tmp_path / "left", tmp_path / "build"


@pytest.fixture
def server(place: Place) -> FileServer:
    return place.keep(FileServer())


def kept(left: Path, build: Path, limit: int = 10**9) -> tuple[dict[str, bytes], dict[str, str]]:
    """What is kept, and what is left out with its reason."""
    keep_files(left, build, limit, None)
    found = read_kept_files(build)
    contents = {
        each.path: (found.folder / str(each.number)).read_bytes()[each.start :][: each.size]
        for each in found.files
    }
    assert {e.path: e.size for e in found.files} == {p: len(c) for p, c in contents.items()}
    return contents, dict(found.left_out)


def upload_of(server: FileServer, build: Path) -> FileUpload:
    client = Client(f"http://{server.address}", kept=2.0)
    return FileUpload(client, AttemptId(1, 1), read_kept_files(build))


# Keeping.


def test_rule_19_only_regular_files_are_kept(folders: tuple[Path, Path]) -> None:
    left, build = folders
    (left / "a/b").mkdir(parents=True)
    (left / "a/b/file").write_text("f")
    (left / "a-b").write_text("g")
    (left / "link").symlink_to("../outside/secret")
    (left / "folder").symlink_to("../outside")
    os.mkfifo(left / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(left / "s"))
    contents, out = kept(left, build)
    assert contents == {"a-b": b"g", "a/b/file": b"f"}
    assert list(contents) == sorted(contents), "by path"
    reasons = {"link": "a link", "folder": "a link", "pipe": "a pipe", "s": "a socket"}
    assert out == reasons
    assert os.listdir(left / "../outside") == ["secret"]


def test_rule_19_names_that_cant_be_kept_are_left_out(folders: tuple[Path, Path]) -> None:
    left, build = folders
    (left / os.fsdecode(b"caf\xe9")).write_text("x")
    deep = left
    for _ in range(5):
        deep = deep / ("d" * 200)
        deep.mkdir()
        (deep / "f").write_text("x")
    contents, out = kept(left, build)
    assert len(contents) == 4 and max(map(len, contents)) == 200 * 4 + 5
    assert "UTF-8" in out["caf\ufffd"] and any("1000 bytes" in each for each in out.values())


def test_rule_19_files_beyond_the_limits_are_left_out_and_counted(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, build = folders
    monkeypatch.setattr("minici.executor.kept_files.MOST_FILES", 3)
    for name, size in (("1", 50), ("2", 60), ("3", 40), ("4", 11)):
        (left / name).write_bytes(bytes(size))
    for number in range(150):
        (left / f"e{number:03}").touch()
    keep_files(left, build, 100, None)
    found = read_kept_files(build)
    assert [(each.path, each.size) for each in found.files] == [("1", 50), ("3", 40), ("e000", 0)]
    assert found.left_count == 151 and len(found.left_out) == 100
    assert "files_limit" in found.left_out[0][1] and "more than 3" in found.left_out[2][1]


def test_a_file_with_a_second_name_is_copied(folders: tuple[Path, Path]) -> None:
    """Or a later build could change it under the agent's hands."""
    left, build = folders
    (left / "../outside/tree").write_bytes(bytes(100_000))
    os.link(left / "../outside/tree", left / "tree")
    keep_files(left, build, 100_000, None)
    (left / "../outside/tree").write_text("later")
    (only,) = read_kept_files(build).files
    assert (build / "files" / str(only.number)).read_bytes() == bytes(100_000)


def test_a_folder_that_was_replaced_by_a_link_has_no_files(folders: tuple[Path, Path]) -> None:
    left, build = folders
    left.rmdir()
    left.symlink_to(left / "../outside")
    assert kept(left, build) == ({}, {"MINICI_ARTIFACTS": "a link"})


@pytest.mark.parametrize("there", [False, True])
def test_without_files_nothing_is_written(folders: tuple[Path, Path], there: bool) -> None:
    left, build = folders
    if not there:
        left.rmdir()
    assert kept(left, build) == ({}, {}) and os.listdir(build) == []


# Sending.


def test_files_go_in_pieces_of_1_mib(folders: tuple[Path, Path], server: FileServer) -> None:
    left, build = folders
    data = os.urandom(2 * PIECE_BYTES + 5)
    (left / "a b+c&d").write_bytes(data)
    (left / "empty").touch()
    keep_files(left, build, 10**9, None)
    upload_of(server, build).send()
    assert server.files == {"a b+c&d": data, "empty": b""}
    sizes = [len(call.body) for call in server.calls if call.query["path"] != "empty"]
    assert sizes == [PIECE_BYTES, PIECE_BYTES, 5]


@pytest.mark.parametrize("have", [0, 7, PIECE_BYTES + 5])
def test_a_file_goes_on_exactly_where_the_server_has_it(
    folders: tuple[Path, Path], server: FileServer, have: int
) -> None:
    left, build = folders
    data = os.urandom(PIECE_BYTES + 5)
    (left / "f").write_bytes(data)
    keep_files(left, build, 10**9, None)
    server.parts["f"] = data[:have]
    upload_of(server, build).send()
    assert server.files["f"] == data
    offsets = [int(call.query["offset"]) for call in server.calls]
    assert offsets == ([0, PIECE_BYTES] if have == 0 else [0, have])


def test_what_was_sent_is_not_sent_again(folders: tuple[Path, Path], server: FileServer) -> None:
    left, build = folders
    for name in "abc":
        (left / name).write_text(name)
    keep_files(left, build, 10**9, None)
    server.script("/notify_build_file", (503, {"error": "full"}))
    upload = upload_of(server, build)
    with pytest.raises(Failed):
        upload.send()
    upload.send()
    assert server.files == {"a": b"a", "b": b"b", "c": b"c"}
    assert len(server.calls) == 4
    upload_of(server, build).send()  # as the agent's next life does: one call each
    assert len(server.calls) == 7


@pytest.mark.parametrize(("status", "word"), [(413, "files_limit"), (400, "no path"), (409, "x")])
def test_rule_19_a_file_that_the_server_refuses_is_named(
    folders: tuple[Path, Path], server: FileServer, status: int, word: str
) -> None:
    left, build = folders
    for name in "ab":
        (left / name).write_text(name)
    keep_files(left, build, 10**9, None)

    def refuse(call: Call) -> Any:
        refused = call.query["path"] == "a"
        return (status, {"error": word}) if refused else FileServer.answer(server, call)

    server.script_always("/notify_build_file", refuse)
    upload = upload_of(server, build)
    upload.send()
    assert server.files == {"b": b"b"}
    named, count = upload.left_out()
    assert count == 1 and named[0][0] == "a" and word in named[0][1]


# With a real agent.


def build_files(place: Place, server: FakeServer, command: str, **params: Any) -> Any:
    agent = place.agent(server)
    server.wait_agent()
    order = {"id": 1, "repository": place.repository.path, "commit": "HEAD", "command": command}
    assert agent.post("/build", {**order, **params}).status == 202
    return agent


@pytest.mark.parametrize("status", [0, 3])
def test_rule_19_files_come_before_the_result(
    place: Place, server: FileServer, status: int
) -> None:
    left = 'cd "$MINICI_ARTIFACTS"; mkdir -p a/b; echo x >a/b/c; ln -s c a/l; chmod 500 a'
    command = f"{left}; exit {status}"
    agent = build_files(place, server, command)
    result = server.wait_result(1)
    assert server.files == {"a/b/c": b"x\n"} and result["status"] == str(status)
    paths = [call.path for call in server.calls if "build" in call.path]
    assert paths.index("/notify_build_file") < paths.index("/notify_build_result")
    assert result["files_left_out"] == "1" and '"a/l"' in result["files_left_out_names"]
    wait_for(lambda: not list((Path(agent.sections["agent"]["data"]) / "outbox").iterdir()))


def test_rule_19_where_the_server_keeps_no_files_the_result_is_delivered(place: Place) -> None:
    server = place.keep(FakeServer())
    server.script_always("/notify_build_file", (404, {"error": "no such path"}))
    build_files(
        place, server, 'cd "$MINICI_ARTIFACTS"; for n in 1 2 3 4 5 6 7 8 9; do echo >$n; done'
    )  # type: ignore[arg-type]
    assert server.wait_result(1)["status"] == "0"
    assert "files_left_out" not in server.results[0]


def test_rule_19_files_of_an_attempt_that_moved_on_are_dropped_and_not_its_result(
    place: Place, server: FileServer
) -> None:
    server.script_always("/notify_build_file", (410, {"error": "it moved on"}))
    build_files(place, server, 'echo x >"$MINICI_ARTIFACTS/x"')
    assert server.wait_result(1)["status"] == "0"


def test_rule_19_files_outlive_a_killed_agent(place: Place, server: FileServer) -> None:
    server.script_always("/notify_build_file", (503, {"error": "full"}))
    command = 'head -c 3000000 /dev/zero >"$MINICI_ARTIFACTS/big"; echo s >"$MINICI_ARTIFACTS/s"'
    agent = build_files(place, server, command)
    server.wait_call("/notify_build_file", 3)
    assert server.results == []
    agent.kill()
    server.script_always("/notify_build_file", None)
    agent.restart()
    server.wait_result(1)
    assert server.files == {"big": bytes(3_000_000), "s": b"s\n"}


def test_rule_19_the_limit_of_the_order_counts(place: Place, server: FileServer) -> None:
    command = 'cd "$MINICI_ARTIFACTS"; echo 12345 >a; echo 1234567 >b; echo 1 >c'
    build_files(place, server, command, files_limit=9)
    result = server.wait_result(1)
    assert server.files == {"a": b"12345\n", "c": b"1\n"}
    assert '"b"' in result["files_left_out_names"] and result["status"] == "0"


def test_delivery_of_files_does_not_hold_up_the_next_build(
    place: Place, server: FileServer
) -> None:
    server.script_always("/notify_build_file", (503, {"error": "full"}))
    agent = build_files(place, server, 'echo x >"$MINICI_ARTIFACTS/x"')
    server.wait_call("/notify_build_file")
    order = {"id": 2, "repository": place.repository.path, "commit": "HEAD"}
    ran = place.folder / "ran"
    wait_for(
        lambda: (
            agent.post("/build", {**order, "command": f"touch {shlex.quote(str(ran))}"}).status
            == 202
        )
    )
    wait_for(ran.exists)
    assert server.results == []
    server.script_always("/notify_build_file", None)
    server.wait_result(2)


def test_an_agent_stops_in_time_with_files_under_way(place: Place, server: FileServer) -> None:
    server.script_always("/notify_build_file", "hang")
    agent = build_files(place, server, 'echo x >"$MINICI_ARTIFACTS/x"')
    server.wait_call("/notify_build_file")
    assert agent.stop(number=signal.SIGTERM, within=10) == 0
