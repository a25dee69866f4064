"""Studies that several tests read, composed once."""

from __future__ import annotations

import pytest

from search_spaces.space import Study, load_study


@pytest.fixture(scope="session")
def digits() -> Study:
    return load_study(["experiment=digits"])
