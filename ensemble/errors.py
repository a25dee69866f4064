"""The one error of this package that a user can cause and repair."""

from __future__ import annotations


class BlendError(ValueError):
    """A user's mistake about stored predictions. The message is one line: what was expected, what
    came, where, and what to do next."""
