from __future__ import annotations

import pytest

from ensemble.analysis.row_table import rows
from ensemble.analysis.tables import as_table
from tests.ensemble.analysis.made import decided


def test_rows_by_hand() -> None:
    made = decided([0, 1], {"a": [0, 0], "b": [0, 1]}, blend=[0, 2], folds=[1, 0])
    first, second = as_table("rows", rows(*made)).to_pylist()
    assert first == {
        "id": "r0",
        "label": "ant",
        "fold": 1,
        "blend_class": "ant",
        "p_label": first["p_blend_class"],
        "p_blend_class": pytest.approx(0.7),
        "correct": True,
        "members_right": 2,
    }
    assert (second["blend_class"], second["correct"], second["members_right"]) == ("cat", False, 1)
    assert second["p_label"] == pytest.approx(0.15)
