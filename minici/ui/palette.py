"""The colours of output: the palette of 256, and its classes for /static/palette.css."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

# The sixteen named colours as they look on the log's dark ground, then the standard cube
# and greys of the 256-colour palette.
_NAMED = (
    "3b4252 e5626b 7fbf7a d9b25f 6ea3e8 c58ad8 5fb8c2 cfd3da "
    "7b8496 ff8d8d a5dc9c f2d283 97c2ff e0aef0 8bdbe3 ffffff"
)
GROUND = (0x17, 0x1A, 0x21)  # static/style.css: --log
_LEVELS = (0, 95, 135, 175, 215, 255)


def _palette() -> list[tuple[int, int, int]]:
    named = [bytes.fromhex(name) for name in _NAMED.split()]
    cube = [(r, g, b) for r in _LEVELS for g in _LEVELS for b in _LEVELS]
    greys = [(level, level, level) for level in range(8, 248, 10)]
    return [(c[0], c[1], c[2]) for c in named] + cube + greys


PALETTE = _palette()


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """The contrast ratio of two colours by WCAG 2, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Sequence[int]) -> float:
    parts = [value / 255 for value in colour]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def legible(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """The colour, made lighter until it can be read on the log's ground (ratio 4.5)."""
    while contrast(colour, GROUND) < 4.5:
        colour = (_lighter(colour[0]), _lighter(colour[1]), _lighter(colour[2]))
    return colour


def _lighter(value: int) -> int:
    return value + (255 - value + 9) // 10


@cache
def palette_css() -> bytes:
    """The classes `f0` to `f255` and `b0` to `b255`, for /static/palette.css.

    Text on the log's own ground is made legible; text on a colour of its own (`on`) keeps
    the colour that the command asked for.
    """
    rules = []
    for index, colour in enumerate(PALETTE):
        rules.append(f".f{index}{{color:{_hex(legible(colour))}}}")
        rules.append(f".b{index}{{background:{_hex(colour)}}}")
        if legible(colour) != colour:
            rules.append(f".on.f{index}{{color:{_hex(colour)}}}")
    return "\n".join(rules).encode("ascii")


def _hex(colour: Sequence[int]) -> str:
    return "#" + bytes(colour).hex()


@lru_cache(maxsize=4096)
def nearest(red: int, green: int, blue: int) -> int:
    """The entry of the 6 x 6 x 6 cube or of the greys that comes closest to a colour."""
    target = (red, green, blue)
    return min(range(16, 256), key=lambda entry: _distance(PALETTE[entry], target))


def _distance(one: Sequence[int], other: Sequence[int]) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other))
