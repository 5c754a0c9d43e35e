"""Upkeep: packing while nothing else runs, and the end of what nobody uses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from minici.checkout import git
from minici.checkout import upkeep as module
from minici.checkout.upkeep import Upkeep
from tests.support.checkouts import Agent, Upstream
from tests.support.harness import holds_for, wait_for


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    upstream.commit("First", file="one\n")
    return upstream


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "data")
    (agent.data / "workspaces").mkdir()
    (agent.data / "processes").mkdir()
    yield agent
    agent.close()


Start = Callable[..., Upkeep]


@pytest.fixture
def start(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the upkeep of the agent."""
    monkeypatch.setattr(module, "_REST_SECONDS", 0.1)
    monkeypatch.setattr(module, "_MOST_LOOSE_OBJECTS", 5)
    started: list[Upkeep] = []

    def start(slots: int = 2, keep: float = 3600.0) -> Upkeep:
        started.append(Upkeep(agent.data, agent.mirrors, slots, keep, dict(os.environ), None))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


def loose(agent: Agent) -> list[Path]:
    walk = os.walk(agent.mirror / "objects")
    return [Path(folder, name) for folder, _, names in walk for name in names if folder[-3] == "/"]


def test_fault_54_what_was_forced_away_is_packed_and_not_lost(
    agent: Agent, upstream: Upstream, start: Start
) -> None:
    start()
    built = []
    for number in range(12):
        (upstream.folder / "file").write_text(f"{number}\n")
        upstream.git("commit", "-q", "--amend", "-a", "-m", f"Forced {number}")
        built.append(agent.checkout(upstream.folder, "main").revision)
    wait_for(lambda: len(loose(agent)) <= 5, 20, "packed")
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "-q", "--prune=now")
    wait_for(lambda: len(list(agent.mirror.glob("objects/pack/*.pack"))) < 4, 20, "few packs")
    for number, revision in enumerate(built):
        assert agent.checkout(upstream.folder, revision).subject == f"Forced {number}"
        agent.sh("git fsck")


def test_fault_54_no_build_pays_for_upkeep(
    agent: Agent, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git's own upkeep is off, however much there is to do."""
    (tmp_path / ".gitconfig").write_text("[gc]\n\tauto = 1\n\tautoDetach = false\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for number in range(4):
        upstream.commit(f"Number {number}", file=f"{number}\n")
        agent.checkout(upstream.folder, "main")
    assert len(loose(agent)) > 9


def test_fault_54_a_build_interrupts_upkeep(
    agent: Agent, upstream: Upstream, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "nice"
    shim.write_text(
        f'#!/bin/sh\ncase "$*" in *repack*) touch {tmp_path}/packing; sleep 60;; esac\n'
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    start()
    for number in range(4):
        upstream.commit(f"Number {number}", file=f"{number}\n")
        agent.checkout(upstream.folder, "main")
    wait_for((tmp_path / "packing").exists, 20, "packing")
    begun = time.monotonic()
    assert agent.checkout(upstream.folder, "main").subject == "Number 3"
    assert time.monotonic() - begun < 15


def test_fault_57_what_was_not_used_for_long_goes(
    agent: Agent, upstream: Upstream, start: Start, tmp_path: Path
) -> None:
    other = Upstream(tmp_path / "other")
    other.commit("Other", file="other\n")
    kept = agent.checkout(other.folder, "main").revision
    revision = agent.checkout(upstream.folder, "main").revision
    long_ago = time.time() - 1000
    os.utime(agent.data / "mirrors" / f"{agent.tree.parent.name}.git", (long_ago, long_ago))
    start(keep=900)
    mirrors = agent.data / "mirrors"
    wait_for(lambda: len(list(mirrors.iterdir())) == 1, 20, "the mirror gone")
    assert not agent.tree.parent.exists() and agent.mirror.name.startswith("other-")
    assert agent.checkout(upstream.folder, revision).revision == revision
    assert agent.sh("cat file") == "one"
    assert agent.checkout(other.folder, kept).revision == kept


def test_fault_57_what_a_build_uses_stays(agent: Agent, upstream: Upstream, start: Start) -> None:
    start(keep=1)
    _, workspace = agent.slots[0]
    tree, _ = workspace.checkout(str(upstream.folder), "main", agent.git())
    holds_for(lambda: (tree / "file").exists() and agent.mirror.exists(), 3, "kept")
    workspace.release()
    folders = [agent.data / "mirrors", agent.data / "workspaces"]
    wait_for(lambda: not any(list(folder.iterdir()) for folder in folders), 20, "gone")


def test_fault_57_trees_of_slots_that_are_no_more_go(
    agent: Agent, upstream: Upstream, start: Start
) -> None:
    for slot in (0, 1):
        agent.checkout(upstream.folder, "main", slot=slot)
        (agent.tree.parent / f"{slot}.1.trash").mkdir()
    (agent.data / "mirrors" / "x.git.1.trash").mkdir()
    start(slots=1)
    wait_for(lambda: not agent.tree.exists(), 20, "the second slot's tree gone")
    left = {path.name for path in agent.tree.parent.iterdir()}
    wait_for(lambda: not (agent.data / "mirrors" / "x.git.1.trash").exists(), 20, "trash gone")
    assert left == {"0", "0.git", "0.conversion", "0.1.trash"}


def test_disk_usage_is_known_after_a_build(
    agent: Agent, upstream: Upstream, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEASURE_SECONDS", 0.5)
    upkeep = start()
    (upstream.folder / "noise").write_bytes(os.urandom(2_000_000))
    upstream.commit("Much")
    assert set(upkeep.disk_usage()) == {"mirrors", "workspaces"}
    agent.checkout(upstream.folder, "main")
    wait_for(lambda: min(upkeep.disk_usage().values()) > 1_900_000, 20, "measured")
    assert max(upkeep.disk_usage().values()) < 10_000_000


def test_disk_usage_is_not_measured_after_each_build(
    agent: Agent, upstream: Upstream, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.3)
    monkeypatch.setattr(module, "_MEASURE_SECONDS", 2.0)
    monkeypatch.setattr(git, "_DISK_USAGE", f"date >>{calls}; {git._DISK_USAGE}")

    def measured() -> list[str]:
        return calls.read_text().splitlines() if calls.exists() else []

    start()
    wait_for(lambda: len(measured()) == 2, 20, "the first measurement")
    begun = time.monotonic()
    while time.monotonic() < begun + 1.0:
        agent.checkout(upstream.folder, "main")
        time.sleep(0.2)  # each is followed by a rest
    assert len(measured()) == 2, "one for mirrors and one for trees"
    wait_for(lambda: len(measured()) == 4, 20, "measured again")
    holds_for(lambda: len(measured()) == 4, 2.5, "nothing has changed")
