"""A user's mistake, told in one line."""

from __future__ import annotations


class UserError(ValueError):
    """What was expected, what came, where, and what to do next. The command line prints it
    without a traceback and exits with code 2."""
