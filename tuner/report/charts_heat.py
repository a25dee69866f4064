"""Heat maps as tables: every cell has its number, and a shade that says it again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from tuner.report.colours import shade

UPRIGHT_CHARACTERS = 3  # of a column's name; longer ones are turned


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    *,
    label: str,
    row_title: str,
    column_title: str,
    highest: float = 1.0,
) -> Markup:
    """`values`, `texts`: one list a row. Shades run from 0 to `highest`; NaN has none. On the
    diagonal of a square map (the same names on both sides) cells have a frame."""
    same = list(rows) == list(columns)
    lengthy = any(len(name) > UPRIGHT_CHARACTERS for name in columns)
    turned = Markup(' class="turned"') if lengthy else Markup("")
    head = Markup("").join(
        Markup('<th scope="col" title="{1}"><span{0}>{1}</span></th>').format(turned, name)
        for name in columns
    )
    body = Markup("").join(
        Markup('<tr><th scope="row" title="{0}">{0}</th>{1}</tr>').format(
            name, _cells(values[at], texts[at], highest, at if same else -1)
        )
        for at, name in enumerate(rows)
    )
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table class="heat">'
        '<thead><tr><th class="corner">{} ↓ &nbsp;{} →</th>{}</tr></thead><tbody>{}</tbody></table>'
        "</div>"
    ).format(label, row_title, column_title, head, body)


def _cells(values: Sequence[float], texts: Sequence[str], highest: float, diagonal: int) -> Markup:
    return Markup("").join(
        Markup('<td class="{}">{}</td>').format(_classes(value, highest, at == diagonal), text)
        for at, (value, text) in enumerate(zip(values, texts, strict=True))
    )


def _classes(value: float, highest: float, on_diagonal: bool) -> str:
    step = 0 if math.isnan(value) else shade(value, highest)
    return f"h{step} d" if on_diagonal else f"h{step}"
