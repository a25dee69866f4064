"""The analysis tables that the page draws: each as rows, or the reason why it is not there."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ensemble.analysis.inputs import BLEND
from ensemble.analysis.tables import FOLDER
from ensemble.files import Location

__all__ = ["BLEND", "COLUMNS", "FOLDER", "NO_EVIDENCE", "Evidence", "Row", "read_evidence"]

# The columns that the page reads; a table may have more.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "per_class": ("model", "class", "rows", "recall", "precision", "f1"),
    "confused_pairs": ("model", "true_class", "predicted_class", "count", "share"),
    "confusion": ("true_class", "predicted_class", "count"),
    "best_member": ("class", "member", "recall", "blend_recall"),
    "agreement": ("member_a", "member_b", "agreement", "error_correlation", "both_wrong"),
    "members": ("name", "accuracy", "macro_f1", "ece", "decided_alone"),
    "suspects": ("id", "label", "suggested", "p_label", "p_suggested", "members_wrong", "members"),
    "mergeable": ("class_a", "class_b", "rows_a", "rows_b", "a_as_b", "b_as_a", "mutual", "auc"),
    "reliability": ("model", "low", "high", "confidence", "accuracy", "rows"),
    "reliability_before": ("low", "high", "confidence", "accuracy", "rows"),
    "fold_scores": ("model", "fold", "rows", "log_loss", "accuracy", "macro_f1"),
    "duplicates": ("id_a", "id_b", "label_a", "label_b", "distance", "same_label"),
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evidence:
    """`tables`: what could be read. `problems`: by name, why a file that is there could not."""

    tables: Mapping[str, pa.Table]
    problems: Mapping[str, str]

    def rows(self, name: str, model: str | None = None) -> list[Row]:
        """The rows in order as plain values, [] where there is no table; of `model` alone where
        given."""
        table = self.tables.get(name)
        if table is None:
            return []
        if model is not None and "model" in table.column_names:
            table = table.filter(pc.equal(table["model"], model))
        return list(table.select(list(COLUMNS[name])).to_pylist())

    def why_missing(self, name: str) -> str:
        """A sentence for a table without rows."""
        if name in self.problems:
            return f"{FOLDER}/{name}.parquet cannot be read: {self.problems[name]}"
        if name in self.tables:
            return f"The analysis found nothing to list here ({FOLDER}/{name}.parquet is empty)."
        if name == "duplicates":
            return (
                f"There is no {FOLDER}/{name}.parquet: images that look alike are only sought on a "
                "machine that has decoded them."
            )
        return (
            f"There is no {FOLDER}/{name}.parquet: this part of the analysis needs a blend over "
            "whole probabilities, and is written with it."
        )


NO_EVIDENCE = Evidence({}, {})


def read_evidence(root: Location) -> Evidence:
    """Every table of COLUMNS that the run at `root` has. Never fails: a damaged file is one of
    the `problems`."""
    tables: dict[str, pa.Table] = {}
    problems: dict[str, str] = {}
    for name, columns in COLUMNS.items():
        location = root / FOLDER / f"{name}.parquet"
        try:
            tables[name] = _read(location, columns)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, pa.ArrowException) as error:
            problems[name] = " ".join(str(error).split())[:160]
    return Evidence(tables, problems)


def _read(location: Location, columns: Sequence[str]) -> pa.Table:
    table = pq.read_table(io.BytesIO(location.read_bytes()))
    lacking = [name for name in columns if name not in table.column_names]
    if lacking:
        raise ValueError(f"expected a column {lacking[0]!r}, got {', '.join(table.column_names)}")
    return table.select(list(columns))
