"""The whole suite, some files at a time: `python -m tests [options of pytest]`.

The tests wait much more than they compute, for processes, pings and time-outs, so several files
go side by side even on two cores. Each is a pytest of its own; the last line counts them all.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SIDE_BY_SIDE = 4
NOTHING_COLLECTED = 5  # pytest's exit status: every test of the file was deselected
IGNORE = "--ignore-glob="

# The slowest first, so that none of them is left over at the end.
SLOWEST = (
    "faults/test_server_away contract/test_life_of_a_build ui/test_browser "
    "contract/test_life_on_an_agent chaos/test_chaos web/test_exhaustion web/test_fuzz "
    "faults/test_http faults/test_crash_points test_agent ui/test_browser_output "
    "contract/test_start contract/test_agent_calls contract/test_data_folder "
    "checkout/test_checkout contract/test_people process/test_command"
).split()
FEWEST = 60  # files: a pattern that finds fewer does not find the suite


def name_of(path: Path) -> str:
    """The name of a file of tests: its path below `tests`, without the ending."""
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def files(ignored: Sequence[str]) -> list[Path]:
    """The files of the suite but for those that fit a pattern, the slowest first."""
    found = list(FOLDER.rglob("test_*.py"))
    assert len(found) >= FEWEST, f"{FOLDER} has only {len(found)} files of tests"
    wanted = [
        path
        for path in found
        if not any(fnmatch.fnmatch(str(path), pattern) for pattern in ignored)
    ]
    order = {name: place for place, name in enumerate(SLOWEST)}
    assert set(order) <= set(map(name_of, found)), "SLOWEST names files that are not there"
    return sorted(wanted, key=lambda path: (order.get(name_of(path), len(order)), str(path)))


def play(path: Path, options: Sequence[str]) -> tuple[int, str]:
    """Run one file; its exit status, and what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(path)]
    done = subprocess.run(
        command,
        cwd=FOLDER.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "COLUMNS": "120"},
        check=False,
    )
    return done.returncode, done.stdout


def counts(output: str) -> Counter[str]:
    """What pytest's last line counts."""
    lines = [line for line in output.splitlines() if re.search(r" in [0-9.]+s", line)]
    found = re.findall(
        r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)", (lines or [""])[-1]
    )
    return Counter({kind.rstrip("s") if "error" in kind else kind: int(n) for n, kind in found})


def told(path: Path, output: str) -> Counter[str]:
    """Say what a file's tests came to, and return it."""
    found = counts(output)
    print(f"{name_of(path)}: {', '.join(f'{n} {kind}' for kind, n in found.items())}", flush=True)
    return found


def results(
    paths: Sequence[Path], options: Sequence[str], at_a_time: int
) -> Iterator[tuple[Path, int, str]]:
    with ThreadPoolExecutor(at_a_time) as pool:
        waiting = {pool.submit(play, path, options): path for path in paths}
        for done in as_completed(waiting):
            yield (waiting[done], *done.result())


def main(arguments: Sequence[str]) -> int:
    begun = time.monotonic()
    ignored = [each[len(IGNORE) :] for each in arguments if each.startswith(IGNORE)]
    options = [each for each in arguments if not each.startswith(IGNORE)]
    total: Counter[str] = Counter()
    paths = files(ignored)
    again: list[Path] = []
    for path, status, output in results(paths, options, SIDE_BY_SIDE):
        if status in (0, NOTHING_COLLECTED):
            total += told(path, output)
        else:
            print(f"{'=' * 30} {name_of(path)}\n{output}", flush=True)
            again.append(path)
    # What fails beside others is played once more by itself: it is named, whatever comes of it.
    bad = []
    for path, status, output in results(again, options, 1):
        total += told(path, output)
        if status in (0, NOTHING_COLLECTED):
            print(f"UNSTEADY: {name_of(path)} failed beside others and passed by itself: mend it")
        else:
            print(f"{'=' * 30} {name_of(path)}, by itself\n{output}", flush=True)
            bad.append(name_of(path))
    if bad:
        print(f"failed: {', '.join(sorted(bad))}")
    print(f"after {time.monotonic() - begun:.0f} s, {SIDE_BY_SIDE} files at a time:")
    failed = (
        total["failed"] + total["error"] + (0 if total["failed"] + total["error"] else len(bad))
    )
    skipped = total["skipped"] + total["xfailed"]
    print(f"{total['passed']} passed, {failed} failed, {skipped} skipped")
    return 1 if bad or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
