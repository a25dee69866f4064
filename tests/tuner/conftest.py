"""The object store of the blend's tests, for runs that lie on one."""

from __future__ import annotations

from tests.ensemble.conftest import s3_endpoint

__all__ = ["s3_endpoint"]
