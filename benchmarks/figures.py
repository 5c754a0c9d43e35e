"""Figures, what they are compared with, and what they should be. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Spread:
    """What was measured, one value for each time. There is at least one."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)

    def percentile(self, percent: float) -> Spread:
        """The value that so many per cent of the values do not exceed, alone."""
        ranked = sorted(self.values)
        return Spread((ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)],))

    def record(self) -> dict[str, Any]:
        return {
            "median": round(self.median, 4),
            "least": round(self.least, 4),
            "most": round(self.most, 4),
            "times": len(self.values),
            "values": [round(value, 4) for value in self.values],
        }


@dataclass(frozen=True)
class Goal:
    """A bound for a figure's median: `times` the floor's median, `plus` so much."""

    times: float = 0.0
    plus: float = 0.0
    is_least: bool = False

    def bound(self, floor: Optional[Spread]) -> float:
        return (self.times * floor.median if floor else 0.0) + self.plus

    def text(self, unit: str) -> str:
        parts = []
        if self.times:
            parts.append("floor" if self.times == 1 else f"{self.times:g} x floor")
        if self.plus or not parts:
            parts.append(f"{self.plus:g} {unit}")
        return f"{'>=' if self.is_least else '<='} {' + '.join(parts)}"


def at_most(plus: float = 0.0, times: float = 0.0) -> Goal:
    return Goal(times, plus)


def at_least(plus: float = 0.0, times: float = 0.0) -> Goal:
    return Goal(times, plus, is_least=True)


@dataclass(frozen=True)
class Figure:
    """One line of the table. `floor` is in the same unit as `value`."""

    name: str
    unit: str
    value: Spread
    floor: Optional[Spread] = None
    goal: Optional[Goal] = None

    @property
    def ratio(self) -> Optional[float]:
        """How many times the floor it is; None where there is nothing to divide by."""
        return self.value.median / self.floor.median if self.floor and self.floor.median else None

    @property
    def met(self) -> Optional[bool]:
        """Whether it is what it should be; None where nothing is asked of it."""
        if self.goal is None:
            return None
        bound = self.goal.bound(self.floor)
        return self.value.median >= bound if self.goal.is_least else self.value.median <= bound

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value.record(),
            "floor": self.floor and self.floor.record(),
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "goal": self.goal and self.goal.text(self.unit),
            "met": self.met,
        }
