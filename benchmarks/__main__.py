"""`python -m benchmarks [NAMES] [--json FILE] [--quick]`: measure, and print a table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

from benchmarks import (
    changes,
    cost,
    crowd,
    files,
    history,
    least,
    live,
    machine,
    output,
    pushes,
    rate,
    report,
    scale,
    size,
    turn,
)
from benchmarks.figures import Figure
from benchmarks.ground import Ground
from benchmarks.interrupts import interrupts


@dataclass(frozen=True)
class Measure:
    """`seconds` is the longest it may take; it fails beyond that."""

    title: str
    measure: Callable[[Ground], Iterator[Figure]]
    seconds: int


MEASURES = {
    "cost": Measure("a build's cost", cost.measure, 240),
    "rate": Measure("builds a second", rate.measure, 600),
    "least": Measure("the least, in processor time a build", least.measure, 120),
    "queue": Measure("the queue", turn.measure, 240),
    "output": Measure("output", output.measure, 900),
    "live": Measure("live", live.measure, 180),
    "files": Measure("files", files.measure, 600),
    "changes": Measure("what is new in an output", changes.measure, 300),
    "history": Measure("history, against 100 builds", history.measure, 600),
    "agents": Measure("a thousand agents", crowd.measure, 240),
    "scale": Measure("one server's share", scale.measure, 240),
    "pushes": Measure("pushes", pushes.measure, 600),
    "size": Measure("size", size.measure, 120),
}


class OutOfTime(Exception):
    """A measure took longer than it may."""


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Raise OutOfTime within the block after so many seconds. For the main thread."""

    def ring() -> None:
        raise OutOfTime(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupts.handler(ring))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def take(names: Sequence[str], folder: Optional[Path], quick: bool) -> tuple[dict[str, Any], bool]:
    """Measure, and print as it goes; the whole as data, and whether all could be measured."""
    with Ground(folder, quick) as ground:
        found: dict[str, Any] = {"machine": machine.describe(ground.folder), "measures": {}}
    print(report.heading(found["machine"]), flush=True)
    complete = True
    for name in names:
        measure, figures, error = MEASURES[name], [], None
        begun = time.monotonic()
        try:
            with Ground(folder, quick) as ground, bounded(measure.seconds):
                for figure in measure.measure(ground):
                    figures.append(figure)
        except Exception as problem:
            error, complete = f"{type(problem).__name__}: {problem}", False
        print(report.table(measure.title, figures), flush=True)
        if error:
            print(f"  {name}: {error}\n", file=sys.stderr, flush=True)
        found["measures"][name] = {
            "title": measure.title,
            "seconds": round(time.monotonic() - begun, 1),
            "figures": [figure.record() for figure in figures],
            "error": error,
        }
    return found, complete


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Returns the exit status: 0 when everything could be measured, goals met or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, too")
    parser.add_argument("--quick", action="store_true", help="a look: few repetitions")
    parser.add_argument("--folder", type=Path, help="where files are written")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in MEASURES]
    if unknown:
        parser.error(f"no measure {unknown[0]}; there are {', '.join(MEASURES)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts.handler(partial(sys.exit, 128 + number)))
    found, complete = take(given.names or list(MEASURES), given.folder, given.quick)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
