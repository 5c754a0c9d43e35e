"""The figures as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.figures import Figure, Spread

_HEADS = ("", "median (least to most)", "floor", "ratio", "goal", "")


def heading(machine: Mapping[str, Any]) -> str:
    return (
        "{when}, minici {minici}, Python {python}, git {git}\n"
        "{system}, {processors} processors ({processor}), {memory_mib} MiB, "
        "load {load}, fsync {fsync_ms} ms\n"
    ).format(**machine)


def table(title: str, figures: list[Figure]) -> str:
    """One measure, in columns."""
    rows = [(title, *_HEADS[1:]), *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], ""])


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        f"  {figure.name}",
        f"{_spread(figure.value)} {figure.unit}",
        _spread(figure.floor) if figure.floor else "",
        "" if figure.ratio is None else _number(figure.ratio),
        figure.goal.text(figure.unit) if figure.goal else "",
        {None: "", True: "met", False: "MISSED"}[figure.met],
    )


def _spread(spread: Spread) -> str:
    if len(spread.values) == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.least)} to {_number(spread.most)})"


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
