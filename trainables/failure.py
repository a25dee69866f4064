"""Why a fold run ended without a result, as a value that travels from worker to driver."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from ensemble.errors import BlendError
from trainables.errors import DataError
from trainables.optim import OptimizerError
from trainables.precision import PrecisionError
from trainables.recipe import BackboneError, WeightsNotHereError

Kind = Literal["crash", "lost", "diverged", "refused", "fatal"]
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# What lies outside of the configurations: it can be put right, and then the search goes on.
_SETUP_ERRORS = (DataError, WeightsNotHereError, BlendError)
# What is wrong with one configuration alone: others may be sound.
_REFUSALS = (BackboneError, OptimizerError, PrecisionError)


class DivergedError(ArithmeticError):
    """The loss is no longer a number: training the same again would end the same."""


@dataclass(frozen=True)
class Failure:
    """`crash` may succeed when tried again, `lost` ended for its machine's sake (it went away, or
    cannot read the images) and is no fault of the fold run, `diverged` would end the same again,
    `refused` is a configuration that cannot be built as it is, while others may be sound, `fatal`
    is a fault of the set-up that would hit every fold run, so the search ends with `message` as its
    one line, to be resumed when it is put right."""

    kind: Kind
    message: str
    traceback: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, str]) -> Failure:
        return cls(**values)  # type: ignore[arg-type]


def describe(error: BaseException) -> Failure:
    """The failure that an exception in a fold run means."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, DivergedError):
        return Failure("diverged", str(error), trace)
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return Failure("fatal", no_space_message(error), trace)
    if isinstance(error, _SETUP_ERRORS):
        return Failure("fatal", str(error), trace)
    if isinstance(error, _REFUSALS):
        return Failure("refused", str(error), trace)
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure("crash", line[:500], trace)


def no_space_message(error: OSError) -> str:
    """One line for a full (or read-only) disk."""
    where = error.filename or "the run directory"
    return (
        f"cannot write {where}: {error.strerror or error}; "
        "free some space, then go on with `foldblend search --resume RUN`"
    )
