"""Servers and agents that end at the n-th step on their disk, or find no space on it.

See crash/sitecustomize.py, which does it from inside the process, and stands outside the package.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from tests.support.harness import CRASH_HOOK, ROOT, Minici, Place, wait_for

CRASHED = 77


class Crash(BaseException):
    """Within the test's own process, instead of a kill."""


def crash_at(
    patch: pytest.MonkeyPatch, last: int, names: Sequence[str], *, dead: bool = False
) -> None:
    """Raise Crash instead of the call of this number, among all of these functions of `os`.

    With `dead`, also instead of each call after it: what a killed process would clean up stays.
    """
    steps = itertools.count(1)
    for name in names:
        real = getattr(os, name)

        def counted(*args: Any, real: Any = real, **options: Any) -> Any:
            step = next(steps)
            if step == last or (dead and step > last):
                raise Crash
            return real(*args, **options)

        patch.setattr(os, name, counted)


class Hook:
    """What a process with the hook is told, and the environment that it is started with."""

    def __init__(self, place: Place, under: Path, name: str = "control") -> None:
        self.folder = place.folder / name
        self.folder.mkdir()
        self.env = {
            "PYTHONPATH": f"{CRASH_HOOK}:{ROOT}",
            "TEST_CRASH": str(self.folder),
            "TEST_CRASH_UNDER": str(under),
        }

    def arm(self, steps: int) -> None:
        """End the process at this step from now on."""
        temporary = self.folder / "arm.tmp"
        temporary.write_text(str(steps))
        temporary.rename(self.folder / "arm")

    def disarm(self) -> None:
        (self.folder / "arm").unlink(missing_ok=True)

    def no_space(self) -> None:
        (self.folder / "full").touch()

    def space(self) -> None:
        (self.folder / "full").unlink()

    def trace(self) -> None:
        (self.folder / "trace").touch()

    def traced(self) -> list[str]:
        """The steps since `trace`, which ends here."""
        lines = (self.folder / "trace").read_text(encoding="utf-8").splitlines()
        (self.folder / "trace").unlink()
        return lines


def crash_at_every_step(
    hook: Hook,
    process: Minici,
    act: Callable[[int], bool],
    check: Callable[[int, bool], None],
    prepare: Optional[Callable[[int], None]] = None,
    at_most: int = 400,
) -> int:
    """End `process` at step 1, 2, 3 ... of `act`, until it gets through; return how many.

    `prepare` comes before each, with the process whole. `act` returns whether it got through: it
    catches what the end of the process does to it. `check` comes after each, the process started
    again where it had ended, with what `act` said.
    """
    for step in range(1, at_most):
        if prepare is not None:
            prepare(step)
        hook.arm(step)
        through = act(step)
        if through and process.alive and not _dying(process):
            process.kill()
            hook.disarm()
            process.restart()
            check(step, True)
            return step - 1
        assert process.wait_end() == CRASHED, process.log()[-2000:]
        hook.disarm()
        process.restart()
        check(step, through)
    raise AssertionError(f"still crashing at step {at_most}")


def _dying(process: Minici) -> bool:
    """Whether it still ends by itself: a step may come after the answer."""
    try:
        wait_for(lambda: not process.alive, 0.3)
    except AssertionError:
        return False
    return True
