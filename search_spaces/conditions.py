"""Which facts hold under which choices of group members: the rows that a person reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

Choices = Mapping[str, str]


@dataclass(frozen=True)
class SpaceRow:
    """`key` is `description` (a range, choices, or one value) where `condition` holds; an empty
    condition is always."""

    key: str
    description: str
    condition: str = ""


def combinations(groups: Mapping[str, Sequence[str]], limit: int) -> tuple[dict[str, str], ...]:
    """Every combination of members; where there are more than `limit`, enough of them that each
    pair of members comes together once, the other groups at their first member."""
    names = sorted(groups)
    if prod(len(groups[name]) for name in names) <= limit:
        product = itertools.product(*(groups[name] for name in names))
        return tuple(dict(zip(names, members, strict=True)) for members in product)
    first = {name: groups[name][0] for name in names}
    pairs = (
        {**first, one: a, other: b}
        for one, other in itertools.combinations(names, 2)
        for a in groups[one]
        for b in groups[other]
    )
    alone = ({**first, name: member} for name in names for member in groups[name])
    unique = {tuple(choices.values()): choices for choices in (*alone, *pairs)}
    return tuple(unique.values())


def rows(facts: Sequence[tuple[Choices, Mapping[str, str]]]) -> tuple[SpaceRow, ...]:
    """`facts`: for each combination of choices, what each key is. Equal facts become one row."""
    held: dict[tuple[str, str], list[Choices]] = {}
    for choices, values in facts:
        for key, text in values.items():
            held.setdefault((key, text), []).append(choices)
    everything = [choices for choices, _ in facts]
    order = {key: place for place, key in enumerate(dict.fromkeys(key for key, _ in held))}
    found = [
        SpaceRow(key, text, condition(where, everything)) for (key, text), where in held.items()
    ]
    return tuple(sorted(found, key=lambda row: order[row.key]))


def condition(where: Sequence[Choices], everywhere: Sequence[Choices]) -> str:
    """`backbone=a or b, loss=focal`: the members that all of `where` have in common and that
    `everywhere` goes beyond."""
    if len(where) == len(everywhere):
        return ""
    parts = []
    for group in everywhere[0]:
        here = list(dict.fromkeys(choices[group] for choices in where))
        if len(here) < len({choices[group] for choices in everywhere}):
            parts.append(f"{group}={' or '.join(here)}")
    return ", ".join(parts)
