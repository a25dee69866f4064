"""A user's overrides after the blend: an OCR word list, a second-stage model for look-alikes.

A rule moves part of a row's probability to where it points, by its strength times the trust that
the rules earned on labelled rows (fitted inside the nested score, like any other weight).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import BytesIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.metrics import LOG_LOSS, Metric

TRUSTS = np.linspace(0.0, 1.0, 21)
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Rules:
    """Q rules over C classes, applied in this order.

    source    where they came from
    ids       (Q,) object array of str; an id may have several rules
    targets   (Q, C) float64, each row summing to 1: where the probability goes
    within    (Q, C) bool: the classes whose probability is moved; all of them for an override
    strength  (Q,) float64 in [0, 1]
    fixed     whether the strengths are the user's own and trust is not fitted
    """

    source: str
    ids: NDArray[np.object_]
    targets: NDArray[np.float64]
    within: NDArray[np.bool_]
    strength: NDArray[np.float64]
    fixed: bool

    def touched(self, ids: NDArray[np.object_]) -> NDArray[np.bool_]:
        """(N,) bool: which rows have a rule."""
        wanted = set(self.ids)
        return np.array([name in wanted for name in ids], dtype=bool)

    def apply(
        self, ids: NDArray[np.object_], proba: np.ndarray, trust: float = 1.0
    ) -> NDArray[np.float64]:
        """`proba` (N, C) after all rules, as a new (N, C) float64 array."""
        row_of = {name: row for row, name in enumerate(ids)}
        out = proba.astype(np.float64)
        for rule, name in enumerate(self.ids):
            if name not in row_of:
                continue
            row, within = row_of[name], self.within[rule]
            share = trust * self.strength[rule]
            mass = out[row, within].sum()
            out[row, within] *= 1.0 - share
            out[row, within] += share * mass * self.targets[rule, within]
        return out


def fit_trust(
    rules: Rules,
    ids: NDArray[np.object_],
    labels: np.ndarray,
    proba: np.ndarray,
    metric: Metric,
    row_weights: np.ndarray | None = None,
) -> float:
    """The trust of 0, 0.05, … 1 with the best `metric` of `proba` (N, C) after the rules; ties by
    log loss, then the smaller. 1 where the user gave the strengths; 0 where no row has a rule."""
    if rules.fixed:
        return 1.0
    if not rules.touched(ids).any():
        return 0.0

    def rank(trust: float) -> tuple[float, float]:
        after = rules.apply(ids, proba, trust)
        return (
            metric.loss(metric(labels, after, row_weights)),
            LOG_LOSS(labels, after, row_weights),
        )

    return float(min(TRUSTS, key=rank))


def read_rules(location: Location, classes: Sequence[str]) -> Rules:
    """Read a CSV or Parquet table with the columns id, class and optionally probability, strength.

    Without `probability` each row is an override: the image is of that class. With it, the rows of
    one id are one rule: how to divide what the blend gives to the classes named there (a model for
    a few look-alikes; all classes: a full opinion). Without `strength` every rule has strength 1
    and the trust in all of them is fitted. Raises BlendError naming the file and row.
    """
    table = _read_table(location)
    missing = [name for name in ("id", "class") if name not in table.columns]
    if missing:
        raise BlendError(
            f"{location}: expected the columns id, class (and probability, strength), "
            f"got {', '.join(map(str, table.columns))}"
        )
    if not len(table):
        raise BlendError(f"{location}: expected at least one rule, got an empty table")
    names = table["id"].astype(str).to_numpy(dtype=object)
    where = _class_indices(location, table["class"].astype(str).tolist(), classes)
    strength = _column(location, table, "strength", default=1.0)
    fixed = "strength" in table.columns
    if "probability" not in table.columns:
        targets = np.eye(len(classes))[where]
        return Rules(str(location), names, targets, np.ones_like(targets, bool), strength, fixed)
    probability = _column(location, table, "probability", default=0.0)
    return _divisions(location, names, where, probability, strength, fixed, len(classes))


def _read_table(location: Location) -> pd.DataFrame:
    data = BytesIO(location.read_bytes())
    try:
        if location.name.endswith(".parquet"):
            return pd.read_parquet(data)
        return pd.read_csv(data, dtype={"id": str, "class": str}, keep_default_na=False)
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise BlendError(f"{location}: expected a CSV or Parquet table of rules: {line}") from error


def _class_indices(
    location: Location, names: Sequence[str], classes: Sequence[str]
) -> NDArray[np.intp]:
    index = {name: i for i, name in enumerate(classes)}
    for row, name in enumerate(names):
        if name not in index:
            nearest = get_close_matches(name, classes, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise BlendError(f"{location}, row {row + 1}: no class {name!r}{hint}")
    return np.array([index[name] for name in names], dtype=np.intp)


def _column(
    location: Location, table: pd.DataFrame, name: str, default: float
) -> NDArray[np.float64]:
    if name not in table.columns:
        return np.full(len(table), default)
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
    if len(wrong):
        raise BlendError(
            f"{location}, row {wrong[0] + 1}: expected a {name} from 0 to 1, "
            f"got {table[name].iloc[wrong[0]]!r}"
        )
    return values


def _divisions(
    location: Location,
    names: NDArray[np.object_],
    where: NDArray[np.intp],
    probability: NDArray[np.float64],
    strength: NDArray[np.float64],
    fixed: bool,
    n_classes: int,
) -> Rules:
    order = list(dict.fromkeys(names))
    rule_of = {name: rule for rule, name in enumerate(order)}
    rules = np.array([rule_of[name] for name in names], dtype=np.intp)
    targets = np.zeros((len(order), n_classes))
    within = np.zeros((len(order), n_classes), dtype=bool)
    if len(set(zip(rules.tolist(), where.tolist(), strict=True))) < len(names):
        raise BlendError(f"{location}: expected every class at most once for an id, got one twice")
    targets[rules, where] = probability
    within[rules, where] = True
    sums = targets.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
    if len(wrong):
        raise BlendError(
            f"{location}, id {order[wrong[0]]!r}: expected probabilities with a sum of 1, "
            f"got {sums[wrong[0]]:.6g}"
        )
    first = np.zeros(len(order))
    first[rules[::-1]] = strength[::-1]  # of an id's first row
    ids = np.array(order, dtype=object)
    return Rules(str(location), ids, targets / sums[:, None], within, first, fixed)
