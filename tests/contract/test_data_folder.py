"""Section 4 of the contract: the data folder of the server."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import CRASH_HOOK, ROOT, Place, wait_for


def hooked(place: Place, data: Path, control: Path) -> dict[str, str]:
    """The environment for a server whose steps on the disk are traced."""
    control.mkdir(exist_ok=True)
    return {
        "PYTHONPATH": f"{CRASH_HOOK}:{ROOT}",
        "TEST_CRASH": str(control),
        "TEST_CRASH_UNDER": str(data),
    }


def test_the_folder_is_laid_out_as_written(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build(command="one")
    build = agent.wait_build()
    server.start_build(command="two")
    data = server.data
    assert (data / "counter").read_text().strip() == "2"
    assert (data / "lock").exists()
    assert sorted(p.name for p in (data / "unfinished").iterdir()) == ["1", "2"]
    assert all(p.stat().st_size == 0 for p in (data / "unfinished").iterdir())
    agent.output(build, "stdout", 0, b"out")
    agent.output(build, "stderr", 0, b"err")
    agent.result(build, 0, "more", stdout_offset=3, stderr_offset=3)
    record = json.loads((data / "builds" / "1" / "build.json").read_text())
    assert record["id"] == 1 and record["command"] == "one" and record["status"] == "success"
    attempt = data / "builds" / "1" / "1"
    assert (attempt / "stdout").read_bytes() == b"outmore"
    assert (attempt / "stderr").read_bytes() == b"err"
    assert (attempt / "timeline").stat().st_size > 0
    wait_for(lambda: not (data / "unfinished" / "1").exists(), what="build 1 finished")
    wait_for((data / "agents.json").exists, what="agents.json")
    assert "fake" in json.dumps(json.loads((data / "agents.json").read_text()))


def test_bytes_stand_as_they_came(place: Place) -> None:
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    data = bytes(range(256)) * 3
    agent.output(agent.wait_build(), "stdout", 0, data)
    agent.result(agent.wait_build(), 0, "", stdout_offset=len(data))
    assert (server.data / "builds" / "1" / "1" / "stdout").read_bytes() == data
    assert server.output(1) == data


def test_the_counter_is_replaced_atomically(place: Place) -> None:
    """Never opened for writing under its own name."""
    data = place.folder / "data"
    control = place.folder / "control"
    server = place.server(hooked(place, data, control), data=data)
    (control / "trace").touch()
    server.start_build()
    steps = (control / "trace").read_text().splitlines()
    assert f"open {data}/counter" not in steps
    assert any(step.startswith(f"rename {data}/counter") for step in steps), steps
    record = f"{data}/builds/1/build.json"
    assert f"open {record}" not in steps


def test_a_build_is_synced_before_the_answer(place: Place) -> None:
    """Rule 2: every written file, and every folder with a new name in it, before the send."""
    data = place.folder / "data"
    control = place.folder / "control"
    server = place.server(hooked(place, data, control), data=data)
    (control / "trace").touch()
    server.start_build()
    lines = (control / "trace").read_text().splitlines()
    (control / "trace").unlink()
    answer = next(n for n, line in enumerate(lines) if line.startswith("send HTTP/1.1 2"))
    assert_synced(lines[:answer], data)
    assert f"fsync {data}/unfinished" in lines[:answer]
    assert f"fsync {data}/builds" in lines[:answer]


def test_a_result_is_synced_before_the_answer(place: Place) -> None:
    data = place.folder / "data"
    control = place.folder / "control"
    server = place.server(hooked(place, data, control), data=data)
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"a piece before")
    time.sleep(0.5)  # until what follows /build has been written too
    (control / "trace").touch()
    assert agent.result(build, 0, "and the rest", "err", stdout_offset=14).status == 200
    lines = (control / "trace").read_text().splitlines()
    (control / "trace").unlink()
    answer = next(n for n, line in enumerate(lines) if line.startswith("send HTTP/1.1 2"))
    assert_synced(lines[:answer], data)
    attempt = f"{data}/builds/1/1"
    assert f"fsync {attempt}/stdout" in lines[:answer]
    assert f"fsync {attempt}/stderr" in lines[:answer]
    assert any(line.startswith(f"rename {data}/builds/1/") for line in lines[:answer])


def assert_synced(lines: list[str], data: Path) -> None:
    """Each step that changes the disk is followed by an fsync of the file or its folder."""
    for number, line in enumerate(lines):
        kind, path = line.split(" ", 1)
        after = lines[number + 1 :]
        if kind == "write":
            assert f"fsync {path}" in after, (line, lines)
        elif kind in ("rename", "mkdir"):
            assert f"fsync {Path(path).parent}" in after, (line, lines)


def bury(data: Path, numbers: range) -> None:
    """Kept builds whose records can't be read without hanging for ever: nobody writes there."""
    for number in numbers:
        folder = data / "builds" / str(number)
        folder.mkdir()
        os.mkfifo(folder / "build.json")


def test_a_starting_server_reads_only_the_unfinished(place: Place) -> None:
    server = place.server()
    for _ in range(3):
        server.start_build()
    server.kill()
    bury(server.data, range(4, 2_004))
    begun = time.monotonic()
    server.restart()
    assert time.monotonic() - begun < 10
    assert [server.build(n)["status"] for n in (1, 2, 3)] == ["queued"] * 3
    assert server.start_build() == 2_004


def test_the_newest_page_opens_only_its_builds(place: Place) -> None:
    server = place.server()
    server.kill()
    bury(server.data, range(1, 2_001))
    server.restart()
    newest = [server.start_build() for _ in range(110)]
    assert [b["id"] for b in server.api("/builds?limit=10")["builds"]] == newest[:-11:-1]
    page = server.get("/")
    assert page.status == 200 and f"build/{newest[-1]}" in page.text


@pytest.mark.parametrize("stream", ["stdout", "timeline"])
@pytest.mark.parametrize("damage", ["cut", "longer"])
def test_a_stream_cut_or_torn_by_a_crash_costs_nothing_acknowledged_twice(
    place: Place, stream: str, damage: str
) -> None:
    """The server says from where to send again; in the end the stream is exact."""
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    agent.output(build, "stdout", 0, b"0123456789\n")
    agent.output(build, "stderr", 0, b"err")
    server.kill()
    path = server.data / "builds" / "1" / "1" / stream
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "cut" else content + b"\x00\xffgarb")
    server.restart()
    whole = b"0123456789\nand more"
    reply = agent.output(build, "stdout", 11, whole[11:])
    if reply.status == 409:
        place_ = reply.json()["next"]
        assert 0 <= place_ <= 11
        assert agent.output(build, "stdout", place_, whole[place_:]).status == 200
    assert agent.result(build, 0, "", "err", stdout_offset=len(whole)).status == 200
    assert server.output(1, "stdout") == whole
    assert server.output(1, "stderr") == b"err"
    assert sorted(server.output(1)) == sorted(whole + b"err")
