"""The benchmarks run, say what they measured on what, and leave nothing behind.

How fast anything is does not matter here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import least, report, repositories
from benchmarks.caller import Caller
from benchmarks.figures import Figure, Spread, at_least, at_most
from benchmarks.ground import Ground
from benchmarks.interrupts import interrupts
from benchmarks.recorded import Recorded
from benchmarks.repositories import SMALL, Loop
from benchmarks.skeleton import Outbox, Records
from tests.support.harness import ROOT, wait_for

WORDS = [sys.executable, "-m", "benchmarks"]
TIMES = Spread((4.0, 1.0, 9.0))


def running_in(folder: Path) -> list[int]:
    """The processes that were started in a folder (none is seen where there is no /proc)."""
    found: list[int] = []
    if not os.path.isdir("/proc"):
        return found
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(str(folder)):
                found.append(int(pid))
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.slow
def test_a_quick_run_measures_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder, target = tmp_path / "ground", tmp_path / "figures.json"
    folder.mkdir()
    words = [
        *WORDS,
        "cost",
        "least",
        "queue",
        "size",
        "--quick",
        "--folder",
        folder,
        "--json",
        target,
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert not list(folder.iterdir())
    assert not running_in(folder)
    found = json.loads(target.read_text(encoding="utf-8"))
    assert {"python", "git", "minici", "system", "processors", "when"} <= set(found["machine"])
    assert list(found["measures"]) == ["cost", "least", "queue", "size"]
    for measure in found["measures"].values():
        assert measure["error"] is None
        for figure in measure["figures"]:
            assert figure["name"] in done.stdout
            assert figure["value"]["values"], figure
    skeleton = found["measures"]["least"]["figures"][-1]
    assert skeleton["name"] == "a skeleton, one agent of two slots, 40 starts"
    for figure in (skeleton, *found["measures"]["cost"]["figures"]):
        assert figure["floor"]["median"] > 0, figure
        assert figure["ratio"] == pytest.approx(
            figure["value"]["median"] / figure["floor"]["median"], rel=0.01
        )


@pytest.mark.parametrize(
    ("name", "process", "number"),
    [
        ("cost", "agent", signal.SIGINT),
        pytest.param("least", "calls", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("least", "skeleton-agent", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_ended_leaves_nothing_behind(
    name: str, process: str, number: int, tmp_path: Path
) -> None:
    words = [*WORDS, name, "--folder", tmp_path]
    running = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    what = f"the process {process} of the benchmark"
    wait_for(lambda: list(tmp_path.glob(f"*/{process}*.log")), within=100, what=what)
    running.send_signal(number)
    assert running.wait(60) == 128 + number
    assert not list(tmp_path.iterdir())
    assert not running_in(tmp_path)


def test_what_is_being_started_when_the_end_comes_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def launch(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = Popen(*words, **options)
        started.append(process)
        signal.raise_signal(signal.SIGUSR1)
        return process

    Popen, started = subprocess.Popen, []
    before = signal.signal(signal.SIGUSR1, interrupts.handler(sys.exit))
    monkeypatch.setattr(subprocess, "Popen", launch)
    try:
        with pytest.raises(SystemExit), Ground(tmp_path) as ground:
            ground.python("sleeper", ground.folder, "-c", "import time; time.sleep(999)")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [process.poll() for process in started] == [-signal.SIGTERM]
    assert not list(tmp_path.iterdir())


def test_an_unknown_measure_is_named(tmp_path: Path) -> None:
    words = [*WORDS, "cost", "speed", "--folder", tmp_path]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "speed" in done.stderr and "queue" in done.stderr


def test_a_measure_that_fails_or_takes_too_long_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(ground: Ground) -> Iterator[Figure]:
        yield Figure("the first", "ms", TIMES)
        raise RuntimeError("no more")

    def hangs(ground: Ground) -> Iterator[Figure]:
        yield Figure("the last", "ms", TIMES)
        signal.pause()

    measures = {
        "breaks": benchmarks.Measure("it breaks", breaks, 60),
        "hangs": benchmarks.Measure("it hangs", hangs, 1),
    }
    monkeypatch.setattr(benchmarks, "MEASURES", measures)
    found, complete = benchmarks.take(list(measures), tmp_path, quick=True)
    assert not complete
    assert found["measures"]["breaks"]["error"] == "RuntimeError: no more"
    assert found["measures"]["hangs"]["error"] == "OutOfTime: not done within 1 s"
    printed = capsys.readouterr()
    assert "the first" in printed.out and "the last" in printed.out
    assert "no more" in printed.err
    assert not list(tmp_path.iterdir())


def test_the_skeleton_does_all_builds_that_are_given_to_it(tmp_path: Path) -> None:
    with Ground(tmp_path) as ground:
        repository = repositories.make(ground, SMALL)
        server, agent = least.start_skeleton(
            ground, [Loop(ground, repository).tree for _ in range(2)]
        )
        seen = ground.folder / "seen"
        commits = [repository.commit(index) for index in range(11)]
        with Recorded(server) as recorded, Caller(server) as caller:
            command = f"git rev-parse HEAD >>{seen}"
            numbers = [caller.start(commit, command) for commit in commits]
            recorded.wait_all()
        assert numbers == list(range(1, 12))
        assert sorted(seen.read_text().split()) == sorted(commits)
        records = server.data.glob("builds/*/build.json")
        assert sorted(int(record.parent.name) for record in records) == numbers
        wait_for(lambda: not list(agent.data.iterdir()), what="an empty outbox")
        assert not agent.log()
    assert not running_in(tmp_path)


def test_a_build_of_the_skeleton_takes_13_fsyncs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    records, outbox = Records(f"{tmp_path}/server"), Outbox(f"{tmp_path}/agent")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    counts = []
    for act in (lambda _: records.add(), records.attempt, outbox.put, records.finish, outbox.drop):
        act(1)
        counts.append(len(synced))
        synced.clear()
    assert counts == [6, 2, 3, 2, 0]
    assert not list((tmp_path / "server" / "unfinished").iterdir())
    assert not list((tmp_path / "agent").iterdir())


def test_goals_are_for_the_median() -> None:
    floor = Spread((2.0,))
    assert Figure("", "ms", TIMES, floor, at_most(times=2.0)).met
    assert not Figure("", "ms", TIMES, floor, at_most(times=1.9)).met
    assert Figure("", "ms", TIMES, floor, at_most(times=1.0, plus=2.0)).met
    assert Figure("", "ms", TIMES, floor, at_least(times=2.0)).met
    assert not Figure("", "ms", TIMES, floor, at_least(times=2.1)).met
    assert Figure("", "ms", TIMES, floor).met is None
    assert Figure("", "ms", TIMES, floor).ratio == 2.0
    assert Figure("", "ms", TIMES).ratio is None


def test_goals_are_said_in_words() -> None:
    assert at_most(times=1.5).text("ms") == "<= 1.5 x floor"
    assert at_most(times=1.0, plus=11.0).text("ms") == "<= floor + 11 ms"
    assert at_most(plus=300.0).text("ms") == "<= 300 ms"
    assert at_least(times=0.5).text("a second") == ">= 0.5 x floor"


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    hundred = Spread.of(range(100, 0, -1))
    assert hundred.percentile(99).values == (99,)
    assert hundred.percentile(50).values == (50,)
    assert Spread((7.0,)).percentile(99).values == (7.0,)


def test_the_table_has_a_line_for_each_figure() -> None:
    figures = [
        Figure("one way", "ms", TIMES, Spread((2.0, 2.0)), at_most(times=1.5)),
        Figure("another", "lines", Spread((12345.0,))),
    ]
    lines = report.table("Ways", figures).splitlines()
    assert len(lines) == 4
    one = "  one way", "4.00 (1.00 to 9.00) ms", "2.00 (2.00 to 2.00)", "2.00", "<= 1.5 x floor"
    assert [cell for cell in one if cell in lines[2]] == list(one)
    assert lines[2].endswith("MISSED")
    assert lines[3].endswith("12345 lines")
