"""Colours that the colour-blind tell apart, and ramps whose steps look equal.

Categories: Okabe and Ito, "Color universal design", 2008. Ramps: equal steps of lightness in OKLab
(Ottosson 2020), one hue, so that they also order themselves in grey.
"""

from __future__ import annotations

import math

OKABE_ITO = {
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "green": "#009e73",
    "yellow": "#f0e442",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "purple": "#cc79a7",
}
STEPS = 10  # shades of a heat map; a share of 0 has none
HUE_DEGREES = 250.0

# Lightness and chroma at the two ends: little to much.
_LIGHT_PAGE = ((0.965, 0.014), (0.36, 0.105))
_DARK_PAGE = ((0.29, 0.03), (0.90, 0.055))
_INK_TURNS_AT = 0.575  # OKLab lightness on which black and white text read equally well


def oklch(lightness: float, chroma: float, hue_degrees: float) -> str:
    """`lightness` 0 to 1, `chroma` from 0 on: the sRGB colour as #rrggbb, clipped to the gamut."""
    a = chroma * math.cos(math.radians(hue_degrees))
    b = chroma * math.sin(math.radians(hue_degrees))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short
    return "#" + "".join(f"{_channel(value):02x}" for value in (red, green, blue))


def ramp(*, dark: bool = False) -> tuple[tuple[str, str], ...]:
    """STEPS pairs of (background, ink), little to much, for a light or a dark page."""
    (first, pale), (last, rich) = _DARK_PAGE if dark else _LIGHT_PAGE
    shades = []
    for step in range(STEPS):
        part = step / (STEPS - 1)
        lightness = first + part * (last - first)
        shade = oklch(lightness, pale + part * (rich - pale), HUE_DEGREES)
        shades.append((shade, "#000000" if lightness > _INK_TURNS_AT else "#ffffff"))
    return tuple(shades)


def shade(value: float, highest: float = 1.0) -> int:
    """The step of the ramp, 1 to STEPS, for a value of 0 to `highest`; 0 for nothing at all."""
    if not math.isfinite(value) or value <= 0 or highest <= 0:
        return 0
    return min(STEPS, 1 + int(STEPS * value / highest))


def _channel(linear: float) -> int:
    linear = min(1.0, max(0.0, linear))
    value = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * value)
