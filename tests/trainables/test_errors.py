from __future__ import annotations

import pickle

from trainables.errors import DataError, DataProblems, Problem, UnreadableImageError, nearest

BAD = Problem("unreadable image", "a.jpg", "cut off")
TWICE = Problem("duplicate id", "7", "rows 1, 2 have this id, expected one")
SMALL = Problem("small class", "cat", "in 2 images, fewer than 5 folds need")


def test_the_message_counts_every_kind_and_shows_the_first_in_one_line() -> None:
    message = str(DataProblems([BAD, BAD, BAD, TWICE, SMALL, SMALL]))
    assert message == (
        "6 problems in the data: 3 unreadable images, 1 duplicate id, 2 small classes; "
        "first: a.jpg: cut off; fix them (data.on_bad_image=drop leaves out the bad training "
        "images)"
    )


def test_dropping_is_offered_only_where_it_helps() -> None:
    assert str(DataProblems([BAD])).endswith("fix them or set data.on_bad_image=drop")
    assert str(DataProblems([TWICE])).endswith("expected one; fix them")


def test_problems_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DataProblems([BAD, TWICE])))
    assert isinstance(error, DataError)
    assert error.problems == (BAD, TWICE)
    assert str(pickle.loads(pickle.dumps(UnreadableImageError("a", "b")))) == "a: b"


def test_the_nearest_name_is_found_in_any_case() -> None:
    assert nearest("targt", ["ID", "Target"]) == "; did you mean Target?"
    assert nearest("xyz", ["ID", "Target"]) == ""
