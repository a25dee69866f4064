from __future__ import annotations

import json

import numpy as np
import pytest

from ensemble.blender_file import parameters_of, plain_classes, plain_parameters, read_classes
from ensemble.errors import BlendError


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["cat", "élan"]),
        np.array([-3, 2**62]),
        np.array([1.5, 2.0], dtype=np.float32),
        np.array([False, True]),
        np.array(["a", "b"], dtype=object),
        np.array([7], dtype=np.uint8),
    ],
)
def test_classes_survive_json_with_their_dtype(classes: np.ndarray) -> None:
    read = read_classes(json.loads(json.dumps(plain_classes(classes))))
    assert read.dtype == classes.dtype
    assert read.tolist() == classes.tolist()


@pytest.mark.parametrize(
    "classes", [np.array(["2024-01-01"], dtype="datetime64[D]"), np.array([b"a", None])]
)
def test_other_labels_are_refused(classes: np.ndarray) -> None:
    with pytest.raises(ValueError, match="numbers or text"):
        plain_classes(classes)


def test_a_dtype_from_a_file_is_not_trusted() -> None:
    with pytest.raises(BlendError, match="numbers or text"):
        read_classes({"dtype": "V8", "values": ["a"]})


def test_parameters_survive_json() -> None:
    parameters = {"methods": ("convex", "greedy"), "l2": np.float64(0.5), "n_members": None}
    plain = json.loads(json.dumps(plain_parameters(parameters)))
    assert parameters_of(plain) == {"methods": ("convex", "greedy"), "l2": 0.5, "n_members": None}


def test_a_generator_among_the_parameters_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="random_state: expected a number, text or None"):
        plain_parameters({"random_state": np.random.RandomState(0)})
