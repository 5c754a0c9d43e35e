"""Submodules: `submodules = yes`, recursively, as clean as the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from minici.checkout.git import GitError
from minici.checkout.submodules import absolute_url, is_local
from tests.support.checkouts import Agent, Upstream


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "data")
    yield agent
    agent.close()


@pytest.fixture
def inner(tmp_path: Path) -> Upstream:
    inner = Upstream(tmp_path / "inner")
    inner.commit("Inner", file="inner\n")
    return inner


@pytest.fixture
def middle(tmp_path: Path, inner: Upstream) -> Upstream:
    middle = Upstream(tmp_path / "middle")
    middle.git("submodule", "--quiet", "add", "../inner", "deep/in ner")
    middle.commit("Middle", file="middle\n")
    return middle


@pytest.fixture
def outer(tmp_path: Path, middle: Upstream) -> Upstream:
    outer = Upstream(tmp_path / "outer")
    outer.git("submodule", "--quiet", "add", str(middle.folder), "middle")
    outer.commit("Outer", file="outer\n")
    return outer


ALL = "find . -name .git -prune -o -type f -print | sort"
FILES = [
    "./.gitmodules",
    "./file",
    "./middle/.gitmodules",
    "./middle/deep/in ner/file",
    "./middle/file",
]


def test_submodules_are_checked_out_recursively(
    agent: Agent, outer: Upstream, inner: Upstream
) -> None:
    agent.checkout(outer.folder, "main", submodules=True)
    assert agent.sh(ALL).split("\n") == FILES
    assert agent.sh("cat 'middle/deep/in ner/file'") == "inner"
    assert agent.sh("git status --porcelain --ignored; git submodule foreach -q true") == ""
    expected = inner.git("rev-parse", "HEAD")
    assert agent.sh("cd 'middle/deep/in ner'; git rev-parse HEAD; git status -s") == expected
    agent.checkout(outer.folder, "main")
    assert agent.sh(ALL).split("\n") == FILES[:2]
    assert agent.sh("ls -A middle") == ""


LEFTOVERS = {
    "files": "touch middle/left 'middle/deep/in ner/left'; echo x > middle/file",
    "modes": "chmod 777 middle/file 'middle/deep/in ner'; chmod 555 middle",
    "git": "rm -rf middle/.git; touch 'middle/deep/in ner/.git/left'",
    "moved on": "cd middle; git -c user.name=x -c user.email=x commit -qm x --allow-empty",
    "another": "rm -rf middle; mkdir middle; git init -q middle; touch middle/x",
    "a link": "rm -rf middle; ln -s /tmp middle",
}


@pytest.mark.parametrize("command", LEFTOVERS.values(), ids=LEFTOVERS)
def test_submodules_are_as_clean_as_the_rest(agent: Agent, outer: Upstream, command: str) -> None:
    look = f"{ALL}; find . -name .git -prune -o -printf '%m %p\\n' | sort; cat file middle/file"
    agent.checkout(outer.folder, "main", submodules=True)
    before = agent.sh(look)
    agent.sh(command)
    agent.checkout(outer.folder, "main", submodules=True)
    assert agent.sh(look) == before
    assert agent.sh("git status --porcelain --ignored; git -C middle status --porcelain") == ""


def test_what_was_fetched_is_kept(agent: Agent, outer: Upstream, inner: Upstream) -> None:
    revision = agent.checkout(outer.folder, "main", submodules=True).revision
    shutil.rmtree(inner.folder)
    agent.checkout(outer.folder, revision, submodules=True)
    assert agent.sh(ALL).split("\n") == FILES


def test_attributes_of_submodules(agent: Agent, outer: Upstream, middle: Upstream) -> None:
    middle.commit("Attributes", **{".gitattributes": "file text eol=crlf\n"})
    outer.git("-C", "middle", "fetch", "-q")
    outer.git("-C", "middle", "checkout", "-q", middle.git("rev-parse", "HEAD"))
    outer.commit("Newer")
    for commit, text in (("main", "b'middle\\r\\n'"), ("main~1", "b'middle\\n'")) * 2:
        agent.checkout(outer.folder, commit, submodules=True)
        assert repr((agent.tree / "middle/file").read_bytes()) == text


@pytest.mark.parametrize("url", ["ext::sh -c touch% X", "-x", "fd::3", "--upload-pack=touch X"])
def test_a_url_that_is_refused(agent: Agent, outer: Upstream, url: str) -> None:
    text = f'[submodule "middle"]\n\tpath = middle\n\turl = {url}\n'
    (outer.folder / ".gitmodules").write_text(text)
    outer.commit("Odd")
    with pytest.raises(GitError, match="submodule middle: a repository"):
        agent.checkout(outer.folder, "main", submodules=True)
    assert not list(agent.data.rglob("X"))
    agent.checkout(outer.folder, "main")


def test_a_submodule_that_is_gone_or_unknown(
    agent: Agent, outer: Upstream, inner: Upstream
) -> None:
    shutil.rmtree(inner.folder)
    with pytest.raises(GitError, match="submodule middle/deep/in ner: .*does not appear to be"):
        agent.checkout(outer.folder, "main", submodules=True)
    (outer.folder / ".gitmodules").unlink()
    outer.commit("Forgotten")
    with pytest.raises(GitError, match="submodule middle: there is no URL"):
        agent.checkout(outer.folder, "main", submodules=True)


def test_urls_relative_to_the_repository() -> None:
    for outer, url, expected in (
        ("https://host/a/b.git", "../c.git", "https://host/a/c.git"),
        ("https://host/a/b.git/", "../../c", "https://host/c"),
        ("git@host:a/b", "../c", "git@host:a/c"),
        ("git@host:b", "../c", "git@host:c"),
        ("/srv/b", "./c", "/srv/b/c"),
        ("/srv/b", "https://host/c", "https://host/c"),
    ):
        assert absolute_url(outer, url) == expected
    assert all(map(is_local, ("/srv/x", "x", "../x", "file:///x", "./a:b")))
    assert not any(map(is_local, ("https://h/x", "ssh://h/x", "git@h:x", "h:x")))
