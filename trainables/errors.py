"""What can be wrong with a user's data, as values and as one-line errors."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# Problems that `data.on_bad_image=drop` takes care of: the row goes, the rest is sound.
DROPPABLE = frozenset({"missing image", "empty image", "unreadable image"})


class DataError(ValueError):
    """A mistake in the user's data or data settings: one line that says what to do next."""


class UnreadableImageError(DataError):
    """One image that cannot be decoded; `where` names it, `reason` says why."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)  # the arguments, so that it can be pickled
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class UnreachableError(DataError):
    """A store that cannot be reached or refuses: it says nothing about the file asked for, so no
    image is dropped for it, and another try or another machine may succeed."""


class OtherImagesError(DataError):
    """The images are not those that the run was begun with."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the data. `kind` is a singular noun ("duplicate id"), `where` the image,
    id, class or column it is about, `detail` what was found and expected."""

    kind: str
    where: str
    detail: str


class DataProblems(DataError):  # noqa: N818 (it is the list of problems)
    """Every problem of a data set, found in one pass."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        number = len(self.problems)
        if not number:
            return "no problems in the data"
        first = self.problems[0]
        counts = Counter(problem.kind for problem in self.problems)
        kinds = ", ".join(_count(kind, count) for kind, count in counts.items())
        return (
            f"{_count('problem', number)} in the data: {kinds}; "
            f"first: {first.where}: {first.detail}; {self._remedy()}"
        )

    def _remedy(self) -> str:
        droppable = [problem.kind in DROPPABLE for problem in self.problems]
        if all(droppable):
            return "fix them or set data.on_bad_image=drop"
        if any(droppable):
            return "fix them (data.on_bad_image=drop leaves out the bad training images)"
        return "fix them"


def nearest(name: str, options: Iterable[str]) -> str:
    """ "; did you mean …?" with the closest of `options`, or nothing when none is close."""
    by_folded = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), list(by_folded), n=1)
    return f"; did you mean {by_folded[found[0]]}?" if found else ""


def _count(noun: str, number: int) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
