"""Every model on every fold: how much of a difference is luck of the rows."""

from __future__ import annotations

import numpy as np

from ensemble.analysis.decisions import Decisions
from ensemble.analysis.inputs import Analysed, Columns
from ensemble.analysis.per_class import class_counts
from ensemble.metrics import confusion_f1, row_log_loss


def fold_scores(given: Analysed, decisions: Decisions) -> Columns:
    """One row per model and fold, the blend first, folds ascending. Macro-F1 is over the classes
    that the fold's rows have or are taken for."""
    held_out = [(fold, np.flatnonzero(given.folds == fold)) for fold in np.unique(given.folds)]
    models, folds, rows, losses, accuracies, f1s = [], [], [], [], [], []
    for model in decisions.models():
        loss = row_log_loss(model.p_true)
        for fold, where in held_out:
            labels, decided = given.labels[where], model.decided[where]
            counts = class_counts(labels, decided, given.n_classes)
            models.append(model.name)
            folds.append(int(fold))
            rows.append(len(where))
            losses.append(float(loss[where].mean()))
            accuracies.append(float(np.mean(decided == labels)))
            f1s.append(confusion_f1(counts.true, counts.predicted, counts.correct))
    return {
        "model": models,
        "fold": folds,
        "rows": rows,
        "log_loss": losses,
        "accuracy": accuracies,
        "macro_f1": f1s,
    }
