"""The object store of the blend's tests, for runs that lie on one, and a search to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ensemble.conftest import s3_endpoint

if TYPE_CHECKING:
    from tests.tuner.make_believe import Search

__all__ = ["s3_endpoint"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search of make-believe fold runs that nothing went wrong in."""
    from tests.tuner.make_believe import Search, small_study  # most tests here need no torch

    search = Search(tmp_path_factory.mktemp("undisturbed"), small_study())
    search.run()
    return search
