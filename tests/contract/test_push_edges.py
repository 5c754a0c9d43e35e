"""Rules 16 and 17 at their edges: names and kinds of refs, several projects, many callers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.test_looks import A, B, Remote, watching
from tests.contract.test_pushes import (
    SECRET,
    builds_of,
    call_webhook,
    pushed_to,
    refs_file,
    signed,
    wait_for_builds,
    wait_for_look,
)
from tests.support.harness import ROOT, Place, ServerProcess, holds_for, wait_for
from tests.support.http_client import raw, status_of
from tests.support.repositories import Repository, git

# All legal for git: names that others take for options, hashes, refs, markup, or escapes.
NAMES = (
    "-x",
    "--upload-pack=touch",
    "HEAD",
    "refs/heads/main",
    "heads/main",
    "0123456789" * 4,
    "a&b=c;d%2F#e",
    '<b>"quoted"\'s</b>',
    "$(id)`id`",
    "ветка/ещё",
    "right\u202eleft",
    "line\u2028end",
    "@",
    "x" * 200,
    "/".join(["deep" * 50] * 7),
)


def annotate(repository: Repository, name: str, target: str, message: str) -> None:
    words = ["-c", "user.name=T", "-c", "user.email=t@t", "tag", "-f", "-a", "-m", message]
    git(repository.path, *words, name, target)


def wait_for_ref(server: ServerProcess, ref: str, revision: object) -> None:
    """Wait until a look has remembered a ref at its place; None where it is deleted."""
    wait_for(lambda: refs_file(server)["refs"].get(ref) == revision, 20, f"{ref} at {revision}")


# Names and kinds of refs.


def test_rule_16_branches_of_any_legal_name_are_built(
    place: Place, own_repository: Repository
) -> None:
    command = 'printf "%s\\n" "$MINICI_BRANCH" "$MINICI_REF"; cat file.txt'
    server = pushed_to(place, own_repository, command=command)
    place.agent(server, slots=2)
    for name in NAMES:
        git(own_repository.path, "update-ref", f"refs/heads/{name}", own_repository.second)
    found = wait_for_builds(server, len(NAMES))
    assert sorted(each["ref"] for each in found) == sorted(f"refs/heads/{each}" for each in NAMES)
    for each in found:
        name = each["ref"][len("refs/heads/") :]
        assert each["commit"] == name
        assert server.wait_final(each["id"])["status"] == "success", name
        assert server.output(each["id"]).decode() == f"{name}\n{each['ref']}\ntwo\n"
    for path in ("/", "/?branch=%3Cb%3E%22quoted%22%27s%3C%2Fb%3E", "/feed.atom"):
        page = server.get(path)
        assert page.status == 200 and "<b>" not in page.text
    assert len(builds_of(server, "&branch=right%E2%80%AEleft")) == 1


def test_rule_16_a_branch_that_is_renamed_in_its_case_alone_is_a_new_one(place: Place) -> None:
    remote = place.keep(Remote())
    remote.refs = {"refs/heads/Topic": A, "refs/heads/topic": B}
    server = watching(place, remote, branches="topic Topic TOPIC")
    remote.refs = {"refs/heads/TOPIC": A, "refs/heads/topic": B}
    (build,) = wait_for_builds(server, 1)
    assert (build["ref"], build["revision"]) == ("refs/heads/TOPIC", A)
    wait_for(lambda: refs_file(server, "x")["refs"] == remote.refs, 20, "both")


def test_rule_16_tags_count_by_their_commit_whatever_becomes_of_them(
    place: Place, own_repository: Repository
) -> None:
    """Made anew at the same commit, of another kind or with other words, a tag has not moved."""
    server = pushed_to(place, own_repository, branches="none", tags="*", supersede="running")
    first, second = own_repository.first, own_repository.second
    git(own_repository.path, "tag", "v5", first)
    wait_for_ref(server, "refs/tags/v5", first)
    annotate(own_repository, "v5", first, "the same commit")
    annotate(own_repository, "v5", first, "and again")
    annotate(own_repository, "v6", "v5", "a tag of a tag")
    wait_for_ref(server, "refs/tags/v6", first)
    git(own_repository.path, "tag", "--delete", "v5")
    wait_for_ref(server, "refs/tags/v5", None)
    annotate(own_repository, "v5", first, "there again")
    wait_for_ref(server, "refs/tags/v5", first)
    annotate(own_repository, "v5", second, "moved")
    wait_for_ref(server, "refs/tags/v5", second)
    found = [(each["event"], each["commit"], each["revision"]) for each in builds_of(server)]
    places = [("v5", first), ("v6", first), ("v5", first), ("v5", second)]
    assert found == [("tag", name, revision) for name, revision in places]


def test_rule_16_what_head_names_and_what_is_no_branch_starts_nothing(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, tags="*")
    git(own_repository.path, "symbolic-ref", "HEAD", "refs/heads/topic")
    for ref in ("refs/pull/7/head", "refs/notes/commits", "refs/remotes/origin/x", "refs/stash"):
        git(own_repository.path, "update-ref", ref, own_repository.second)
    own_repository.commit({"file.txt": "1\n"}, "One")
    (build,) = wait_for_builds(server, 1)
    assert build["ref"] == "refs/heads/main"
    assert all(ref.startswith(("refs/heads/", "refs/tags/")) for ref in refs_file(server)["refs"])


def test_rule_16_a_repository_that_appears_later_has_its_first_look_then(
    place: Place, own_repository: Repository
) -> None:
    """It was not empty before: nobody knows what it was."""
    hidden = own_repository.path.with_name("hidden")
    own_repository.path.rename(hidden)
    keys = {"repository": own_repository.url, "command": "true", "branches": "*", "poll": "0.2s"}
    server = place.server(**keys)
    wait_for(lambda: "can't be listed" in server.log(), 20, "a look that fails")
    hidden.rename(own_repository.path)
    server.post("/api/poll")
    wait_for_look(server)
    revision = own_repository.commit({"file.txt": "1\n"}, "One")
    assert [each["revision"] for each in wait_for_builds(server, 1)] == [revision]


# Several projects.


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The address of a repository whose host accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"git://127.0.0.1:{listener.getsockname()[1]}/deaf"


def test_rule_16_a_repository_that_never_answers_delays_no_other(
    place: Place, own_repository: Repository
) -> None:
    keys = {"command": "true", "branches": "*", "poll": "0.2s"}
    with deaf() as address:
        server = place.configure_server(repository=own_repository.url, **keys)
        server.sections["project deaf"] = {"repository": address, **keys}
        server.start()
        wait_for_look(server)
        revision = own_repository.commit({"file.txt": "1\n"}, "One")
        assert [each["revision"] for each in wait_for_builds(server, 1)] == [revision]
        assert server.post("/api/poll?project=deaf").status == 202
        server.stop()


def test_projects_of_one_repository_each_build_a_push_from_one_mirror(
    place: Place, own_repository: Repository
) -> None:
    keys = {"branches": "*", "poll": "0.2s", "supersede": "running"}
    server = place.configure_server(repository=own_repository.url, command="echo 1", **keys)
    server.sections["project lint"] = {"command": "echo 2", **keys}
    server.start()
    for project in ("repository", "lint"):
        wait_for_look(server, project)
    agent = place.agent(server)
    revision = own_repository.commit({"file.txt": "1\n"}, "One")
    found = [server.wait_final(each["id"]) for each in wait_for_builds(server, 2)]
    assert {each["revision"] for each in found} == {revision}
    outputs = {each["project"]: server.output(each["id"]) for each in found}
    assert outputs == {"repository": b"1\n", "lint": b"2\n"}
    assert len(list((agent.data / "mirrors").iterdir())) == 1


def test_the_pages_of_a_project_name_its_repository(
    place: Place, own_repository: Repository
) -> None:
    server = place.configure_server(repository="https://git.example/tides.git", name="tides")
    server.sections["project moon"] = {"repository": "https://ada:word@git.example/moon.git"}
    server.start()
    number = server.post(
        "/api/builds", {"project": "moon", "commit": "main", "command": "true"}
    ).json()["id"]
    for path in ("/?project=moon", f"/build/{number}"):
        page = server.get(path).text
        assert "git.example/moon.git" in page, path
        assert "tides.git" not in page and "word@" not in page, path
    assert "tides.git" in server.get("/").text


def test_a_project_under_a_new_name_begins_anew(place: Place, own_repository: Repository) -> None:
    server = place.configure_server(repository=str(place.repository.path))
    keys = {"repository": own_repository.url, "command": "true", "branches": "*", "poll": "0.2s"}
    server.sections["project old"] = keys
    server.start()
    wait_for_look(server, "old")
    own_repository.commit({"file.txt": "1\n"}, "One")
    wait_for_builds(server, 1)
    server.stop()
    server.sections["project new"] = server.sections.pop("project old")
    own_repository.commit({"file.txt": "2\n"}, "Two")
    server.restart()
    wait_for_look(server, "new")
    own_repository.commit({"file.txt": "3\n"}, "Three")
    found = wait_for_builds(server, 2)
    assert [each["project"] for each in found] == ["old", "new"]
    assert {each["status"] for each in found} == {"queued"}, "no build of another project ends"


# Many callers, and wrong ones.


def test_rule_16_hooks_and_looks_at_once_start_no_place_twice(
    place: Place, own_repository: Repository
) -> None:
    server = pushed_to(place, own_repository, webhook_secret=SECRET, supersede="no", tags="*")
    done = threading.Event()

    def call(number: int) -> None:
        while not done.is_set():
            if number % 2:
                assert call_webhook(server, "repository", signed(b"{}")) == 202
            else:
                assert server.post("/api/poll").status == 202

    expected = []
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(call, number) for number in range(6)]
        try:
            for number in range(12):
                revision = own_repository.commit({"file.txt": f"{number}\n"}, "One", f"b{number}")
                git(own_repository.path, "tag", f"t{number}", revision)
                expected += [
                    (f"refs/heads/b{number}", revision),
                    (f"refs/tags/t{number}", revision),
                ]
            wait_for_builds(server, len(expected))
            holds_for(lambda: len(builds_of(server)) == len(expected), 0.5, "no more builds")
        finally:
            done.set()
        for each in calls:
            each.result()
    found = [(each["ref"], each["revision"]) for each in builds_of(server)]
    assert sorted(found) == sorted(expected)


def test_webhooks_that_are_none_change_nothing(place: Place, own_repository: Repository) -> None:
    server = pushed_to(place, own_repository, poll="1h", webhook_secret=SECRET)
    own_repository.commit({"file.txt": "1\n"}, "One")
    for method, path, headers, status in (
        ("POST", "/webhook/", signed(b"{}"), 404),
        ("POST", "/webhook/REPOSITORY", signed(b"{}"), 404),
        ("POST", "/webhook/repository/", signed(b"{}"), 404),
        ("POST", "/webhook/repository%2F..", signed(b"{}"), 404),
        ("GET", "/webhook/repository", {}, 405),
        ("PUT", "/webhook/repository", signed(b"{}"), 405),
        ("POST", "/webhook/repository", {"Authorization": f"Bearer {SECRET}x"}, 401),
        ("POST", "/webhook/repository", {"Authorization": f"Basic {SECRET}"}, 401),
        ("POST", "/webhook/repository?secret=webhook+word", {}, 401),
    ):
        body = b"{}" if method != "GET" else None
        assert server.request(method, path, body, headers).status == status, (method, path)
    head = f"POST /webhook/repository HTTP/1.1\r\nHost: {server.address}\r\n"
    assert status_of(raw(server.port, f"{head}Content-Length: 40000000\r\n\r\n".encode())) == 413
    holds_for(lambda: builds_of(server) == [], 0.5, "nothing is looked at")
    assert call_webhook(server, "repository", signed(b"{}")) == 202
    wait_for_builds(server, 1)
    assert SECRET not in server.log()


def test_a_large_webhook_is_checked_to_its_end(place: Place, own_repository: Repository) -> None:
    """Of the 25 MB that GitHub sends at most, only a part is in memory at a time."""
    server = pushed_to(place, own_repository, poll="1h", webhook_secret=SECRET)
    body = b'{"commits": "' + b"x" * 25_000_000 + b'"}'
    own_repository.commit({"file.txt": "1\n"}, "One")
    assert call_webhook(server, "repository", signed(body), body[:-1] + b"]") == 401
    assert call_webhook(server, "repository", signed(body), body) == 202
    wait_for_builds(server, 1)


@pytest.mark.parametrize("query", ["", "?project=repository"])
def test_the_button_that_looks_now_shows_the_same_list(
    place: Place, own_repository: Repository, query: str
) -> None:
    server = pushed_to(place, own_repository, poll="1h")
    own_repository.commit({"file.txt": "1\n"}, "One")
    kept = {"project": "repository", "branch": "main", "status": "queued", "text": "a b"}
    reply = server.post("/poll", kept if query else {})
    assert (reply.status, reply.header("Location")) == (
        303,
        "/?status=queued&text=a+b&project=repository&branch=main" if query else "/",
    )
    wait_for_builds(server, 1)
    assert server.post("/poll", {"status": "perhaps"}).status == 400


def test_the_example_for_a_bare_repository_tells_of_a_push(
    place: Place, own_repository: Repository
) -> None:
    """git push, the hook, curl, the webhook, the look: four lines, and no waiting for `poll`."""
    bare, word = place.folder / "bare.git", place.folder / "word"
    git(place.folder, "clone", "--quiet", "--bare", own_repository.url, str(bare))
    word.write_text(f"{SECRET}\n")
    server = place.server(
        repository=str(bare), command="true", branches="*", poll="1h", webhook_secret=SECRET
    )
    wait_for_look(server, "bare")
    script = (ROOT / "examples" / "hooks" / "post-receive").read_text()
    assert len(script.splitlines()) == 4
    for given, own in (
        ("/etc/minici/webhook-secret", str(word)),
        ("http://127.0.0.1:8000/webhook/project", f"http://{server.address}/webhook/bare"),
    ):
        assert script.count(given) == 1
        script = script.replace(given, own)
    hook = bare / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(script)
    hook.chmod(0o755)
    revision = own_repository.commit({"file.txt": "1\n"}, "One")
    said = git(own_repository.path, "push", str(bare), "main", "v1:refs/tags/v2")
    assert [each["revision"] for each in wait_for_builds(server, 1)] == [revision], said
