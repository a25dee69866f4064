"""Which rows a further member makes the mean decide otherwise, compiled.

M members, N rows, C classes, of which each row's shortlist has K (`kernels_read`). The running sum
is kept for the shortlist alone, with an upper bound for all other classes. A row is looked at only
if its decision can change: a member changes it only if the lead of the class on top is no more
than the member's highest probability less its probability of that class. Where the bound for the
other classes comes within SLACK of the top, the row is summed up over all classes.

Sums are float64, added in the order of choice, as numpy would; the first of equal classes decides,
as in argmax. Shortlists are ascending, so that first in the list is first of the classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ensemble.kernels import compiled, inlined
from ensemble.kernels_read import NOT_LISTED, Members

SLACK = 1e-9  # far more than a bound's rounding, far less than what a float32 tells apart
NO_PLACE = -1


class Rows(NamedTuple):
    """State of a bag's rows, changed in place.

    order    (room,) int64: the members in the bag, the first `size` of it
    sums     (N, K) float64: running sums of the shortlist, of the first `counted` of `order`
    bound    (N,) float64: at least the running sums of all other classes, of as many
    counted  (N,) int32: a row is brought up to date only when it matters
    top      (N,) int32: the decision, of all in the bag
    place    (N,) int32: where in the shortlist it is; -1 where the shortlist does not decide
    lead     (N,) float64: at most what the decision is ahead by
    most     (N,) float64: at least what any one member can close of a lead
    whole    (N, C) float64: running sums of all classes, of the first `seen` of `order`
    seen     (N,) int32: 0 where `whole` was not needed yet
    """

    order: np.ndarray
    sums: np.ndarray
    bound: np.ndarray
    counted: np.ndarray
    top: np.ndarray
    place: np.ndarray
    lead: np.ndarray
    most: np.ndarray
    whole: np.ndarray
    seen: np.ndarray


@inlined()
def _decide(row: np.ndarray) -> tuple[int, float, float]:
    """The first place of the highest value of `row` (K,), the value, and the second highest."""
    place = 0
    top = row[0]
    second = -np.inf
    for c in range(1, row.size):
        value = row[c]
        loser = top if value > top else value
        second = loser if loser > second else second
        place = c if value > top else place
        top = value if value > top else top
    return place, top, second


@inlined(fastmath=("nnan", "nsz"))
def _largest(row: np.ndarray, start: int, end: int, top: float) -> float:
    for c in range(start, end):
        top = row[c] if row[c] > top else top
    return top


@inlined()
def _first(row: np.ndarray) -> int:
    """argmax, of many classes."""
    top = _largest(row, 0, row.size, row[0])
    place = 0
    while row[place] != top:
        place += 1
    return place


@inlined()
def _decide_whole(row: np.ndarray) -> tuple[int, float]:
    """The first place of the highest value of `row` (C,), and what it is ahead by."""
    place = _first(row)
    second = _largest(row, 0, place, -np.inf)
    return place, row[place] - _largest(row, place + 1, row.size, second)


@inlined()
def _sum_up(n: int, size: int, of: Members, rows: Rows) -> np.ndarray:
    """Row n's running sum of all classes, (C,)."""
    total = rows.whole[n]
    for i in range(rows.seen[n], size):
        added = of.probs[rows.order[i], n]
        if i == 0:
            for c in range(total.size):
                total[c] = added[c]
        else:
            for c in range(total.size):
                total[c] += added[c]
    rows.seen[n] = size
    return total


@inlined()
def _count(n: int, size: int, of: Members, rows: Rows) -> None:
    """Bring row n up to all `size` members: its sums, its decision, its lead."""
    sums = rows.sums[n]
    for i in range(rows.counted[n], size):
        added = of.listed[n, rows.order[i]]
        for k in range(sums.size):
            sums[k] += added[k]
        rows.bound[n] += of.rest[n, rows.order[i]]
    rows.counted[n] = size
    k, ahead, second = _decide(sums)
    complete = sums.size == of.probs.shape[2]
    if complete or ahead > rows.bound[n] + SLACK:
        decided = int(of.classes[n, k])
        rows.place[n] = k
        rows.lead[n] = ahead - (second if complete else max(second, rows.bound[n]))
    else:
        decided, rows.lead[n] = _decide_whole(_sum_up(n, size, of, rows))
        rows.place[n] = NO_PLACE
    if decided != rows.top[n]:
        rows.top[n], rows.most[n] = decided, np.inf


@inlined()
def _of_listed(
    row: np.ndarray,
    others: float,
    classes: np.ndarray,
    added: np.ndarray,
    rest: float,
    complete: bool,
) -> tuple[bool, int]:
    """Whether the shortlist decides for sums `row` (K,), at most `others` elsewhere, with a member
    of `added` (K,), at most `rest` elsewhere; and the class."""
    at = 0
    ahead = row[0] + added[0]
    for k in range(1, row.size):
        value = row[k] + added[k]
        at = k if value > ahead else at
        ahead = value if value > ahead else ahead
    return complete or ahead > others + rest + SLACK, int(classes[at])


@inlined()
def _of_two(
    total: np.ndarray,
    leader: int,
    margin: float,
    p_leader: float,
    classes: np.ndarray,
    added: np.ndarray,
    best: int,
    rest: float,
) -> tuple[bool, int]:
    """Whether the leader of sums `total` (C,) or the member's own decision surely wins, and which:
    all other classes are `margin` behind the one, and get no more than the member's second
    highest probability."""
    if best == NOT_LISTED or classes[best] == leader:
        return False, leader
    second = np.float64(rest)
    for k in range(added.size):
        if k != best and added[k] > second:
            second = np.float64(added[k])
    rival = int(classes[best])
    old, new = total[leader] + p_leader, total[rival] + added[best]
    sure = max(old, new) > total[leader] - margin + second + SLACK
    wins = new > old or (new == old and rival < leader)
    return sure, rival if wins else leader


@inlined()
def _of_all(
    n: int, member: int, removed: int, size: int, of: Members, rows: Rows, scratch: np.ndarray
) -> int:
    """The decision over all classes of the row with `member` added, `removed` gone."""
    total = _sum_up(n, size, of, rows)
    for c in range(scratch.size):
        scratch[c] = total[c]
    if removed >= 0:
        left = of.probs[removed, n]
        for c in range(scratch.size):
            scratch[c] -= left[c]
    added = of.probs[member, n]
    for c in range(scratch.size):
        scratch[c] += added[c]
    return _first(scratch)


@compiled()
def decisions_alone(members: np.ndarray, of: Members) -> np.ndarray:
    """(m, N) int32: what each of `members` (m,) int64 decides alone."""
    decided = np.empty((members.size, len(of.classes)), np.int32)
    for n in range(len(of.classes)):
        for i in range(members.size):
            place = of.best[n, members[i]]
            if place == NOT_LISTED:
                decided[i, n] = _first(of.probs[members[i], n])
            else:
                decided[i, n] = of.classes[n, place]
    return decided


@compiled()
def add_member(member: int, size: int, of: Members, rows: Rows) -> None:
    """Put `member` into the bag as its `size`th; as its first, whatever `rows` held before."""
    rows.order[size - 1] = member
    for n in range(len(rows.top)):
        if size == 1:
            for k in range(rows.sums.shape[1]):
                rows.sums[n, k] = 0.0
            rows.bound[n] = 0.0
            rows.counted[n] = rows.seen[n] = 0
            rows.top[n] = rows.place[n] = NO_PLACE
        k = rows.place[n]
        if k != NO_PLACE:
            if of.best[n, member] == k:
                continue  # its lead only grows
            rows.lead[n] -= np.float64(of.highest[n, member]) - of.listed[n, member, k]
            if rows.lead[n] > SLACK:
                continue
        _count(n, size, of, rows)


@compiled()
def find_flips(
    members: np.ndarray, removed: int, size: int, of: Members, rows: Rows, flips: np.ndarray
) -> tuple[int, int, int]:
    """What changes where each of `members` (m,) int64 joins the bag of `size` members, after one
    copy of `removed` leaves it (-1: none leaves, else `size` is at least 2). Fills `flips`
    (room, 3) int32 with (position in `members`, row, its new class) wherever that is not `top`.
    Returns how many there are, the first `room` of them written, and of how many pairs of row and
    member the sum had to be looked at, over the shortlist and over all classes."""
    n_listed, n_classes = rows.sums.shape[1], of.probs.shape[2]
    complete = n_listed == n_classes
    found = listed_pairs = whole_pairs = 0
    without_listed = np.empty(n_listed)
    without = np.empty(n_classes)
    scratch = np.empty(n_classes)
    for n in range(len(rows.top)):
        taken = np.float64(of.highest[n, removed]) if removed >= 0 else 0.0
        if rows.lead[n] - taken > rows.most[n] + SLACK:
            continue
        if rows.counted[n] < size:
            _count(n, size, of, rows)
            if rows.lead[n] - taken > rows.most[n] + SLACK:
                continue
        sums, others, classes = rows.sums[n], rows.bound[n], of.classes[n]
        total = rows.whole[n]  # up to date where the shortlist does not decide
        k, leader, margin = int(rows.place[n]), int(rows.top[n]), rows.lead[n]
        if removed >= 0:
            for c in range(n_listed):
                without_listed[c] = sums[c] - of.listed[n, removed, c]
            sums = without_listed
            others -= of.rest[n, removed]
            k, ahead, second = _decide(sums)
            leader, margin = int(classes[k]), ahead - (second if complete else max(second, others))
            if not complete and ahead <= others + SLACK:
                total = _sum_up(n, size, of, rows)
                for c in range(n_classes):
                    without[c] = total[c] - of.probs[removed, n, c]
                total = without
                leader, margin = _decide_whole(total)
                k = NO_PLACE
        by_list = k != NO_PLACE
        if not by_list:  # the decision may be in the list all the same
            for c in range(n_listed):
                k = c if classes[c] == leader else k
        closable = 0.0
        for i in range(members.size):
            m = members[i]
            decided = leader
            if k == NO_PLACE or of.best[n, m] != k or margin <= SLACK:
                listed = of.listed[n, m]
                p_leader = np.float64(of.probs[m, n, leader] if k == NO_PLACE else listed[k])
                gain = of.highest[n, m] - p_leader
                closable = gain if gain > closable else closable
                if gain + SLACK >= margin:
                    listed_pairs += 1
                    rest = np.float64(of.rest[n, m])
                    if by_list:
                        sure, decided = _of_listed(sums, others, classes, listed, rest, complete)
                    else:
                        sure, decided = _of_two(
                            total, leader, margin, p_leader, classes, listed, of.best[n, m], rest
                        )
                    if not sure:
                        whole_pairs += 1
                        decided = _of_all(n, m, removed, size, of, rows, scratch)
            if decided != rows.top[n]:
                if found < len(flips):
                    flips[found, 0], flips[found, 1], flips[found, 2] = i, n, decided
                found += 1
        if leader == rows.top[n]:
            rows.most[n] = closable
    return found, listed_pairs, whole_pairs
