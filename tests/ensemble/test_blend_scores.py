from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ensemble.blend_scores import JudgedScore, NestedScores, Score, SingleScore, scores_from

SCORES = NestedScores(
    JudgedScore(0.3, 0.2, 0.4, Score(0.31, 0.2, 0.4)),
    SingleScore(0.5, None, None, Score(0.51, None, None), "c1"),
    JudgedScore(-0.2, -0.3, -0.1, Score(-0.2, -0.3, -0.1)),
)


def test_scores_come_back_from_plain_values() -> None:
    plain = json.loads(json.dumps(asdict(SCORES)))
    assert scores_from(plain) == SCORES


@pytest.mark.parametrize("missing", ["blend", "best_single", "difference"])
def test_a_score_that_is_missing_is_an_error(missing: str) -> None:
    plain = {name: value for name, value in asdict(SCORES).items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        scores_from(plain)
