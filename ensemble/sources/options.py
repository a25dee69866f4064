"""How predictions of other programs are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GatherOptions:
    """Column names left None are found by their common names.

    labels         CSV or Parquet with id, label and maybe fold, group and weight
    id_column …    what the columns are called, where they are not called as usual
    test           files or folders of test predictions, matched to members by name
    folds, seed    of the folds that are made where none are given
    normalise      divide rows by their sum where it is not 1, instead of refusing them
    """

    labels: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    fold_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    test: tuple[str, ...] = ()
    folds: int = 5
    seed: int = 0
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds: expected at least 2, got {self.folds}")
