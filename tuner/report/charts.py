"""Rows of dots and bars: numbers in, markup out. Positions are shares of the width, so that text
keeps its size on every screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tuner.report.numbers import tick

MAX_TICKS = 5

# One shape for every word, so that no meaning hangs on colour. Drawn in a box of 12 x 12.
SHAPES = {
    "member": "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z",
    "promoted": "M6 .8L11.4 10.6H.6z",
    "pruned": "M2 2L10 10M10 2L2 10",
    "failed": "M1.5 1.5h9v9h-9z",
    "stopped": "M6 .8L11.2 6L6 11.2L.8 6z",
    "finished": "M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9z",
    "running": "M2 1L11 6L2 11z",
    "retried": "M2 2h8v8h-8z",
}


@dataclass(frozen=True)
class Scale:
    """An axis, straight or logarithmic (then `low` is above 0)."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """low..high as 0..100; values outside as its ends."""
        return min(100.0, max(0.0, self.place(value)))

    def place(self, value: float) -> float:
        """low..high as 0..100, and on beyond. 50 where the axis has no length."""
        if not self.log:
            low, high = self.low, self.high
        elif value <= 0:
            return -math.inf
        else:
            low, high, value = math.log(self.low), math.log(self.high), math.log(value)
        return 50.0 if high <= low else 100.0 * (value - low) / (high - low)

    def ticks(self, most: int = MAX_TICKS) -> tuple[tuple[float, str], ...]:
        """At most about `most` round values within, with their labels."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        step = nice_step(self.high - self.low, most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [number * step for number in range(first, last + 1)]
        return tuple((value, tick(value, step)) for value in values)


def _log_ticks(low: float, high: float, most: int) -> tuple[tuple[float, str], ...]:
    """1, 2 and 5 times powers of ten; the powers alone, or every other, where those are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 4)):
        values = [f * 10.0**p for p in range(first, last + 1, every) for f in factors]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= most:
            break
    return tuple((value, f"{value:g}") for value in inside)


def scale_of(values: Iterable[float], pad: float = 0.06) -> Scale:
    """Around all finite values, with some air; 0 to 1 where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Scale(0.0, 1.0)
    low, high = min(finite), max(finite)
    air = pad * (high - low) or max(abs(low) * pad, 1e-3)
    return Scale(low - air, high + air)


def nice_step(width: float, most: int) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten with at most `most` ticks."""
    if width <= 0 or not math.isfinite(width):
        return 1.0
    rough = width / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next((m * power for m in (1.0, 2.0, 5.0) if m * power >= rough), 10.0 * power)


def glyph(word: str) -> Markup:
    """The little shape of a word, before the word itself."""
    return Markup(
        '<svg class="glyph k-{}" viewBox="0 0 12 12" aria-hidden="true"><path d="{}"/></svg>'
    ).format(word, SHAPES.get(word, SHAPES["finished"]))


def mark(word: str, left: float, top: float, title: str = "") -> Markup:
    """A shape on a plot, at shares of its width and height."""
    about = Markup("<title>{}</title>").format(title) if title else ""
    return Markup(
        '<svg class="mark k-{}" style="left:{:.1f}%;top:{:.1f}%" viewBox="0 0 12 12">{}'
        '<path d="{}"/></svg>'
    ).format(word, left, top, about, SHAPES[word])


# --- dots with whiskers -------------------------------------------------------------------------


@dataclass(frozen=True)
class Dot:
    """A value with its interval. `style`: a class: "first", "second" or "quiet"."""

    label: str
    value: float
    low: float | None
    high: float | None
    text: str
    style: str = "first"


def intervals(dots: Sequence[Dot], label: str) -> Markup:
    """One row a dot over a common axis."""
    ends = [v for dot in dots for v in (dot.value, dot.low, dot.high) if v is not None]
    scale = scale_of(ends)
    rows = Markup("").join(_interval_row(dot, scale) for dot in dots)
    return Markup('<div class="dots" role="group" aria-label="{}">{}{}</div>').format(
        label, rows, _axis(scale)
    )


def _interval_row(dot: Dot, scale: Scale) -> Markup:
    whisker = Markup("")
    if dot.low is not None and dot.high is not None:
        left, right = scale.share(dot.low), scale.share(dot.high)
        whisker = Markup('<i class="whisker" style="left:{:.2f}%;width:{:.2f}%"></i>').format(
            left, right - left
        )
    return Markup(
        '<div class="dot-row {}"><span class="dot-label">{}</span><span class="track" '
        'aria-hidden="true">{}<i class="dot" style="left:{:.2f}%"></i></span>'
        '<span class="dot-value">{}</span></div>'
    ).format(dot.style, dot.label, whisker, scale.share(dot.value), dot.text)


def _axis(scale: Scale) -> Markup:
    labels = Markup("").join(
        Markup('<span style="left:{:.2f}%">{}</span>').format(scale.share(value), text)
        for value, text in scale.ticks()
    )
    return Markup(
        '<div class="dot-row axis" aria-hidden="true"><span class="dot-label"></span>'
        '<span class="track">{}</span><span class="dot-value"></span></div>'
    ).format(labels)


# --- two values of the same thing ---------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two shares of 0 to 1 to compare."""

    label: str
    first: float
    second: float | None
    text: str


def pairs(rows: Sequence[Pair], label: str) -> Markup:
    """A filled dot for the first value, a hollow diamond for the second, a line between."""
    return Markup('<div class="dots" role="group" aria-label="{}">{}{}</div>').format(
        label, Markup("").join(map(_pair_row, rows)), _axis(Scale(0.0, 1.0))
    )


def _pair_row(row: Pair) -> Markup:
    scale = Scale(0.0, 1.0)
    first, other = scale.share(row.first), Markup("")
    if row.second is not None:
        second = scale.share(row.second)
        other = Markup(
            '<i class="whisker thin" style="left:{:.1f}%;width:{:.1f}%"></i>'
            '<i class="diamond" style="left:{:.1f}%"></i>'
        ).format(min(first, second), abs(first - second), second)
    return Markup(
        '<div class="dot-row first"><span class="dot-label">{}</span>'
        '<span class="track" aria-hidden="true"><i class="dot" style="left:{:.1f}%"></i>{}</span>'
        '<span class="dot-value">{}</span></div>'
    ).format(row.label, first, other, row.text)


# --- bars ---------------------------------------------------------------------------------------


def weight_bar(value: float, low: float | None, high: float | None, highest: float) -> Markup:
    """A bar from 0 with a whisker from `low` to `high`, to stand in a table's cell."""
    scale = Scale(0.0, highest)
    whisker = Markup("")
    if low is not None and high is not None:
        left, right = scale.share(low), scale.share(high)
        whisker = Markup('<i class="whisker" style="left:{:.1f}%;width:{:.1f}%"></i>').format(
            left, right - left
        )
    return Markup(
        '<span class="bar" aria-hidden="true"><i class="fill" style="width:{:.1f}%"></i>{}</span>'
    ).format(scale.share(value), whisker)


@dataclass(frozen=True)
class Part:
    """A piece of a stacked bar. `style`: its class, which gives it colour and hatching."""

    style: str
    value: float
    title: str


def stacked(rows: Sequence[tuple[str, Sequence[Part], str]], label: str) -> Markup:
    """(name, parts, text) a row; all bars to one scale."""
    longest = max((sum(part.value for part in parts) for _, parts, _ in rows), default=0.0)
    drawn = Markup("").join(
        Markup(
            '<div class="dot-row"><span class="dot-label">{}</span>'
            '<span class="stack">{}</span><span class="dot-value">{}</span></div>'
        ).format(name, Markup("").join(_part(part, longest) for part in parts), text)
        for name, parts, text in rows
    )
    return Markup('<div class="dots" role="group" aria-label="{}">{}</div>').format(label, drawn)


def _part(part: Part, longest: float) -> Markup:
    if part.value <= 0 or longest <= 0:
        return Markup("")
    return Markup('<i class="part o-{}" style="width:{:.2f}%" title="{}"></i>').format(
        part.style, 100.0 * part.value / longest, part.title
    )


def legend(entries: Iterable[tuple[Markup, str]]) -> Markup:
    """(symbol, words) beside each other."""
    items = Markup("").join(Markup("<li>{}{}</li>").format(*entry) for entry in entries)
    return Markup('<ul class="legend">{}</ul>').format(items)


def swatch(style: str) -> Markup:
    return Markup('<i class="part swatch o-{}" aria-hidden="true"></i>').format(style)
