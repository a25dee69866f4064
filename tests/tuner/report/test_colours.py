from __future__ import annotations

import math

import pytest

from tuner.report.colours import STEPS, oklch, ramp, shade


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_white_and_grey_are_themselves() -> None:
    assert oklch(0.0, 0.0, 0.0) == "#000000"
    assert oklch(1.0, 0.0, 0.0) == "#ffffff"
    grey = oklch(0.5, 0.0, 0.0)
    assert grey[1:3] == grey[3:5] == grey[5:7]


def test_red_of_srgb_is_found_again() -> None:
    """Ottosson's own figures for #ff0000."""
    assert oklch(0.62796, 0.25768, 29.234) == "#ff0000"


@pytest.mark.parametrize("dark", [False, True])
def test_shades_order_themselves_in_grey_and_can_be_read(dark: bool) -> None:
    shades = ramp(dark=dark)
    assert len(shades) == STEPS
    light = [luminance(back) for back, _ in shades]
    assert light == sorted(light, reverse=not dark)
    assert min(contrast(back, ink) for back, ink in shades) >= 4.5


def test_nothing_has_no_shade_and_everything_the_last() -> None:
    assert [shade(0.0), shade(-0.2), shade(math.nan)] == [0, 0, 0]
    assert [shade(0.001), shade(0.55), shade(1.0), shade(2.0)] == [1, 6, STEPS, STEPS]
    assert shade(5.0, highest=10.0) == 6
