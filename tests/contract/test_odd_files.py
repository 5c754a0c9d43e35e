"""What a command may leave in `MINICI_ARTIFACTS` that is odd, from the command to the reader."""

from __future__ import annotations

import io
import tarfile
from urllib.parse import quote

import pytest

from tests.support.fakes import FakeAgent
from tests.support.harness import Place, ServerProcess

# Run by the build, in its checkout.
LEAVE = """\
import os, socket
outside = os.path.abspath("outside")
open(outside, "w").write("outside")
os.chdir(os.environ["MINICI_ARTIFACTS"])
def leave(name, content):
    if os.path.dirname(name):
        os.makedirs(os.path.dirname(name), exist_ok=True)
    open(name, "wb").write(content)
for name in NAMES:
    leave(name, name.encode())
os.symlink("/etc/passwd", "link")
os.symlink("/etc", "folder-link")
os.symlink("nothing", "dangling")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
os.link(outside, "second name")
os.link("plain", "second plain")
leave("sparse", b"")
os.truncate("sparse", 10 * 2**30)
leave("no one may read", b"secret")
os.chmod("no one may read", 0)
leave("closed/inside", b"inside")
os.chmod("closed", 0)
os.makedirs("empty/folder")
leave(b"caf\\xe9", b"latin")
leave("n" * 255, b"long")
"""
NAMES = [
    "plain",
    "with space",
    "Größe/файл.txt",
    "'single' \"double\" `back`",
    "two\nlines",
    "-rf",
    "--checkpoint-action=exec=sh",
    "a&b=c;d#e?f%41+g",
    "back\\slash",
    "...",
    "<script>alert(1)</script>.html",
    "\u202egpj.exe",
    "d/" * 400 + "deep",
]
MORE = {
    "second name": b"outside",
    "second plain": b"plain",
    "no one may read": b"secret",
    "closed/inside": b"inside",
    "n" * 255: b"long",
}
LEFT_OUT = {"link", "folder-link", "dangling", "pipe", "socket", "sparse", "caf\ufffd"}


def test_rule_19_whatever_a_command_leaves_comes_whole_or_is_named(place: Place) -> None:
    program = place.folder / "leave.py"
    program.write_text(f"NAMES = {NAMES!r}\n{LEAVE}")
    server = place.server(files_limit="1M")
    place.agent(server)
    number = server.start_build("HEAD", f"python3 {program}")
    build = server.wait_final(number)
    assert build["status"] == "success", server.output(number)
    expected = {**{name: name.encode() for name in NAMES}, **MORE}
    sizes = {each["path"]: each["bytes"] for each in build["files"]}
    assert sizes == {path: len(content) for path, content in expected.items()}
    for path, content in expected.items():
        reply = server.get(f"/build/{number}/files/{quote(path, safe='')}")
        assert (reply.status, reply.body) == (200, content), path
        disposition = reply.header("Content-Disposition")
        assert disposition.startswith("attachment; ") and disposition.isprintable(), path
    assert build["files_left_out"] == len(LEFT_OUT)
    for language in ("en", "ru"):
        page = server.get(f"/build/{number}", {"Accept-Language": language}).text
        assert all(f"<code>{name}</code>" in page for name in LEFT_OUT), page
        assert "<script>alert" not in page
    archive = server.get(f"/build/{number}/files.tar")
    with tarfile.open(fileobj=io.BytesIO(archive.body)) as tar:
        found = {each.name: each for each in tar}
        assert all(each.isreg() and each.mode == 0o644 for each in found.values())
        contents = {name: tar.extractfile(each) for name, each in found.items()}
        assert {name: file and file.read() for name, file in contents.items()} == expected


@pytest.fixture
def hundred(place: Place) -> ServerProcess:
    """A server with a build that has a file of a hundred bytes, and an empty one."""
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    assert agent.file(build, "page.html", 0, bytes(range(100)), last=True).status == 200
    assert agent.file(build, "icon.svg", 0, b"", last=True).status == 200
    agent.result(build)
    return server


@pytest.mark.parametrize(
    ("wanted", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-", 206, 10, 100),
        ("bytes=-7", 206, 93, 100),
        ("bytes=90-1000", 206, 90, 100),
        ("bytes=-1000", 206, 0, 100),
        ("bytes=100-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=5-4", 200, 0, 100),
        ("bytes=0-1,5-6", 200, 0, 100),
        ("lines=1-2", 200, 0, 100),
        ("bytes=x", 200, 0, 100),
    ],
)
def test_ranges_of_a_file(
    hundred: ServerProcess, wanted: str, status: int, start: int, end: int
) -> None:
    reply = hundred.get("/build/1/files/page.html", {"Range": wanted})
    assert reply.status == status
    if status == 206:
        assert reply.header("Content-Range") == f"bytes {start}-{end - 1}/100"
    if status == 416:
        assert reply.header("Content-Range") == "bytes */100"
    else:
        assert reply.body == bytes(range(100))[start:end]


def test_a_file_and_the_archive_by_head(hundred: ServerProcess) -> None:
    for path in ("/build/1/files/page.html", "/build/1/files/icon.svg", "/build/1/files.tar"):
        whole, head = hundred.get(path), hundred.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.header("Content-Length") == str(len(whole.body))
        for name in ("Content-Type", "Content-Disposition", "X-Content-Type-Options"):
            assert head.header(name) == whole.header(name) != "", name
        assert "sandbox" in whole.header("Content-Security-Policy"), path
        assert hundred.post(path).status == 405


def test_a_build_without_files_is_as_it_was(place: Place) -> None:
    """Nothing in its JSON, in its folders or at its addresses is of files or of hooks."""
    server = place.server()
    agent = place.agent(server)
    build = server.wait_final(server.start_build("HEAD", 'ls -a "$MINICI_ARTIFACTS"'))
    assert build["files"] == [] and build["files_left_out"] == build["file_count"] == 0
    assert server.output(1).split() == [b".", b".."]
    folder = {each.name for each in (server.data / "builds/1/1").iterdir()}
    assert folder <= {"stdout", "stderr", "timeline", "checkout"}
    assert not (server.data / "hooks").exists()
    assert "/notify_build_file" not in server.log() + agent.log()
    assert server.get("/build/1/files.tar").status == 404
