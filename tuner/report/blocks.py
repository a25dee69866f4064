"""What a section of the page is made of. The templates draw these and know nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

Text = str | Markup  # a str is escaped where it is drawn


@dataclass(frozen=True)
class Paragraph:
    """`tone`: what to read first (lead), a caveat (warning), or why something is not here."""

    kind: ClassVar[str] = "paragraph"
    text: Text
    tone: Literal["plain", "lead", "warning", "empty"] = "plain"


@dataclass(frozen=True)
class Figure:
    """A chart, and what to read from it."""

    kind: ClassVar[str] = "figure"
    chart: Markup
    reading: Text
    title: str = ""


@dataclass(frozen=True)
class Card:
    """A number to see first. `quiet`: one that must not be quoted."""

    label: str
    value: str
    below: Text
    quiet: bool = False


@dataclass(frozen=True)
class Cards:
    kind: ClassVar[str] = "cards"
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Column:
    """`align`: numbers right, in tabular figures; prose may take several lines. `wide`: left out on
    a phone."""

    title: str
    align: Literal["text", "number", "prose"] = "number"
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """The first `shown` rows stand open, the others in a fold. `strong`: rows that stand out."""

    kind: ClassVar[str] = "table"
    label: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Text, ...], ...]
    shown: int = 12
    reading: Text = ""
    strong: frozenset[int] = frozenset()

    @property
    def is_folded(self) -> bool:
        """One or two rows are no reason to fold."""
        return len(self.rows) > self.shown + 2

    @property
    def open_rows(self) -> Sequence[tuple[Text, ...]]:
        return self.rows[: self.shown] if self.is_folded else self.rows

    @property
    def folded_rows(self) -> Sequence[tuple[Text, ...]]:
        return self.rows[self.shown :] if self.is_folded else ()


@dataclass(frozen=True)
class Picture:
    """`source`: a data URI, None where the image cannot be shown."""

    source: str | None
    name: str
    lines: tuple[Text, ...]


@dataclass(frozen=True)
class Gallery:
    """Tiles of one picture or several beside each other, with text below."""

    kind: ClassVar[str] = "gallery"
    label: str
    tiles: tuple[tuple[Picture, ...], ...]
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True)
class Facts:
    kind: ClassVar[str] = "facts"
    pairs: tuple[tuple[str, Text], ...]


Block = Paragraph | Figure | Cards | Table | Gallery | Facts


@dataclass(frozen=True)
class Section:
    """`anchor`: what the table of contents points to."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


def missing(text: Text) -> tuple[Block, ...]:
    """In place of a chart that cannot be drawn: why."""
    return (Paragraph(text, "empty"),)
