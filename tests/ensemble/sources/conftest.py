"""Members, and a table of their labels as another program would have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.predictions import Predictions
from tests.ensemble.sources.made import label_frame, members


@pytest.fixture
def made() -> dict[str, Predictions]:
    return members()


@pytest.fixture
def labels(tmp_path: Path, made: dict[str, Predictions]) -> str:
    label_frame(made["c0"]).to_csv(tmp_path / "y.csv", index=False)
    return str(tmp_path / "y.csv")
