from __future__ import annotations

import errno
import json

import pytest

from ensemble.errors import BlendError
from trainables.errors import DataError, UnreadableImageError
from trainables.failure import DivergedError, Failure, describe, no_space_message
from trainables.optim import OptimizerError
from trainables.precision import PrecisionError
from trainables.recipe import BackboneError, WeightsNotHereError


def raised(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException as caught:
        return describe(caught)


def test_a_diverged_run_would_diverge_again() -> None:
    failure = raised(DivergedError("training loss is nan in epoch 2 (lr 0.5)"))
    assert failure.kind == "diverged"
    assert failure.message == "training loss is nan in epoch 2 (lr 0.5)"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_search_with_what_to_do(number: int) -> None:
    failure = raised(OSError(number, "No space left on device", "runs/a/oof/fold=0.parquet"))
    assert failure.kind == "fatal"
    assert failure.message == (
        "cannot write runs/a/oof/fold=0.parquet: No space left on device; "
        "free some space, then go on with `foldblend search --resume RUN`"
    )


@pytest.mark.parametrize(
    "error",
    [
        DataError("data.path=x: no such file"),
        UnreadableImageError("a.jpg", "the file is empty"),
        WeightsNotHereError("backbone.name=x: pretrained weights cannot be loaded"),
        BlendError("expected ids"),
    ],
)
def test_a_mistake_in_the_set_up_ends_the_search_with_its_own_line(error: Exception) -> None:
    failure = raised(error)
    assert (failure.kind, failure.message) == ("fatal", str(error))


@pytest.mark.parametrize(
    "error",
    [
        BackboneError("backbone.grad_checkpointing=true: timm cannot do that for x"),
        OptimizerError("optimizer.name=fusedadamw: APEX and CUDA required"),
        PrecisionError("train.precision=fp16 needs a GPU"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused_alone(error: Exception) -> None:
    failure = raised(error)
    assert (failure.kind, failure.message) == ("refused", str(error))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory.\n Tried to allocate 2 GiB"),
        OSError(errno.EIO, "Input/output error"),
        ValueError("surprising"),
        MemoryError(),
    ],
)
def test_anything_else_may_succeed_when_tried_again(error: Exception) -> None:
    failure = raised(error)
    assert failure.kind == "crash"
    assert failure.message.startswith(type(error).__name__)
    assert "\n" not in failure.message
    assert "test_failure.py" in failure.traceback


def test_a_very_long_message_is_cut() -> None:
    assert len(raised(RuntimeError("x" * 10_000)).message) == 500


def test_a_failure_travels_as_plain_values() -> None:
    failure = raised(RuntimeError("lost"))
    assert Failure.from_dict(json.loads(json.dumps(failure.to_dict()))) == failure


def test_a_full_disk_without_a_file_name_still_says_where() -> None:
    message = no_space_message(OSError(errno.ENOSPC, "No space left on device"))
    assert message.startswith("cannot write the run directory: No space left on device; ")
