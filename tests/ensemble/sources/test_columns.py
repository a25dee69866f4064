from __future__ import annotations

import pytest

from ensemble.errors import BlendError
from ensemble.sources.columns import (
    ClassColumns,
    are_whole_numbers,
    by_size,
    class_columns,
    find_column,
    index_columns,
    need_column,
    role_columns,
    shown,
)
from ensemble.sources.options import GatherOptions

NONE = GatherOptions()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["label", "ID"], "ID"),
        (["filename", "cat"], "filename"),
        (["Image_ID", "id"], "id"),
        (["cat", "dog"], None),
    ],
)
def test_ids_are_found_by_common_names(names: list[str], expected: str | None) -> None:
    assert find_column(names, "id", NONE) == expected


def test_the_column_that_is_asked_for_goes_before_common_names() -> None:
    options = GatherOptions(id_column="key", label_column="diagnosis")
    assert find_column(["id", "key"], "id", options) == "key"
    assert find_column(["id", "cat"], "id", options) == "id"
    assert role_columns(["key", "diagnosis", "fold", "cat"], options) == {
        "key",
        "diagnosis",
        "fold",
    }


def test_a_needed_column_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(BlendError, match=r"no id column 'imge' among .*; did you mean 'image'"):
        need_column(["image", "label"], "id", GatherOptions(id_column="imge"))
    with pytest.raises(BlendError, match="no label column among 'a', 'b': call it 'label'"):
        need_column(["a", "b"], "label", NONE)


def test_columns_called_as_the_classes_are_the_classes() -> None:
    unseen = ["dog", "eel", "cat"]  # no label is an eel
    assert class_columns(["id", *unseen], unseen, {"cat", "dog"}).names == tuple(unseen)
    beside = ["cat", "dog", "confidence"]
    assert class_columns(beside, beside, {"cat", "dog"}).names == ("cat", "dog")
    assert class_columns(beside, beside, set(beside)).names == tuple(beside)


@pytest.mark.parametrize("prefix", ["proba_", "prob_", "p_", "P_"])
def test_a_prefix_tells_the_classes_from_the_rest(prefix: str) -> None:
    names = [f"{prefix}cat", f"{prefix}dog", "seconds"]
    assert class_columns(names, names, ()) == ClassColumns(tuple(names[:2]), ("cat", "dog"))


def test_numbers_from_zero_are_positions_whatever_their_order() -> None:
    names = [f"p_{i}" for i in (10, *range(10))]
    found = class_columns(names, names, ())
    assert found.names is None
    assert found.columns == tuple(f"p_{i}" for i in range(11))
    assert class_columns(["403", "404"], ["403", "404"], ()).names == ("403", "404")


def test_a_table_without_probabilities_says_which_columns_came() -> None:
    with pytest.raises(BlendError, match=r"no probabilities: .* got the columns 'id', 'pred'"):
        class_columns(["id", "pred"], ["pred"], ())


def test_only_some_of_many_names_are_shown() -> None:
    assert shown(["a", "b"]) == "'a', 'b'"
    assert shown([str(i) for i in range(20)], 2) == "'0', '1', … (20)"


def test_whole_numbers_are_sorted_by_size_and_other_names_as_text() -> None:
    assert by_size(["10", "9", "-1", "1"]) == ("-1", "1", "9", "10")
    assert by_size(["b10", "b9"]) == ("b10", "b9")
    assert by_size(["10", "9", "b"]) == ("10", "9", "b")
    assert are_whole_numbers(["-1", "10"])
    assert not are_whole_numbers(["1", "one"])


@pytest.mark.parametrize("index", ["", "Unnamed: 0", "level_0", "__index_level_0__"])
def test_row_numbers_of_pandas_are_no_class(index: str) -> None:
    names = [index, "cat", "dog"]
    assert class_columns(names, names, ()).names == ("cat", "dog")
    assert class_columns(names, names, {"cat", "dog"}).names == ("cat", "dog")
    assert class_columns(names, names, set(names)).names == tuple(names)  # some label is called so
    numbered = [index, "0", "1"]
    assert class_columns(numbered, numbered, ()) == ClassColumns(("0", "1"), None)


def test_levels_beside_each_other_are_classes() -> None:
    names = ["level_0", "level_1", "level_2"]
    assert index_columns(names) == frozenset()
    assert class_columns(names, names, ()).names == tuple(names)
