"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

NOTHING = "–"
NARROW = "\u202f"  # a thin space that does not break


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def score(value: float | None) -> str:
    """A metric's value, with the digits that the terminal shows."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def signed(value: float | None) -> str:
    """With its sign, and a true minus."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:+.4f}".replace("-", "−")


def share(value: float | None, digits: int = 0) -> str:
    """0.123 as 12 %; what is there but rounds to nothing is said to be so."""
    if value is None or not math.isfinite(value):
        return NOTHING
    least = 10.0 ** -(digits + 2)
    if 0 < value < least / 2:
        return f"<{100 * least:.{digits}f}{NARROW}%"
    return f"{100 * value:.{digits}f}{NARROW}%"


def weight(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NOTHING
    return "0" if value == 0 else f"{value:.3f}"


def count(value: float) -> str:
    """Thousands apart from each other by a thin space that does not break."""
    return f"{value:,.0f}".replace(",", NARROW)


def counted(value: int, noun: str, plural: str = "") -> str:
    """1 image, 2 images, 3 classes."""
    several = plural or noun + ("es" if noun.endswith("s") else "s")
    return f"{count(value)} {noun if value == 1 else several}"


def interval(low: float | None, high: float | None) -> str:
    """Empty where there is none."""
    if low is None or high is None:
        return ""
    return f"{score(low)} to {score(high)}"


def tick(value: float, step: float) -> str:
    """An axis' label with the digits that its step needs."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return f"{value:.{digits}f}".replace("-", "−")


def listed(words: Sequence[str], most: int = 8) -> str:
    """a, b and c; what is beyond `most` is counted."""
    shown = list(words[:most])
    if len(words) > most:
        shown.append(f"{len(words) - most} more")
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
