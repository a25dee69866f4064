from __future__ import annotations

import pytest

from ensemble.class_order import depends_on_order
from ensemble.metrics import get_metric


@pytest.mark.parametrize(
    ("metric", "two", "more"),
    [
        ("log_loss", False, False),
        ("accuracy", False, False),
        ("macro_f1", False, False),
        ("auc", False, False),
        ("top_2_accuracy", False, False),
        ("quadratic_kappa", False, True),
        ("sklearn:f1", True, False),  # with more than two classes it refuses
        ("sklearn:average_precision", True, False),
        ("sklearn:f1_macro", False, False),
        ("sklearn:neg_mean_absolute_error", False, True),
    ],
)
def test_a_metric_is_tried_with_its_classes_in_another_order(
    metric: str, two: bool, more: bool
) -> None:
    assert depends_on_order(get_metric(metric), 2) is two
    assert depends_on_order(get_metric(metric), 5) is more
