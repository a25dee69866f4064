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
    sums: np.ndarray,
    others: float,
    classes: np.ndarray,
    listed: np.ndarray,
    rest: np.ndarray,
    n: int,
    m: int,
) -> tuple[bool, int]:
    """Whether the shortlist decides for `sums` (K,), at most `others` elsewhere, with member m
    added; and the class."""
    at = 0
    ahead = sums[0] + listed[n, m, 0]
    for k in range(1, sums.size):
        value = sums[k] + listed[n, m, k]
        at = k if value > ahead else at
        ahead = value if value > ahead else ahead
    return ahead > others + rest[n, m] + SLACK, int(classes[n, at])


@inlined()
def _sum_without(
    n: int, removed: int, size: int, of: Members, rows: Rows, total: np.ndarray
) -> None:
    """total (C,) = row n's running sum of all classes, without one copy of `removed`."""
    whole = _sum_up(n, size, of, rows)
    for c in range(total.size):
        total[c] = whole[c]
    if removed >= 0:
        left = of.probs[removed, n]
        for c in range(total.size):
            total[c] -= left[c]


@compiled()
def decisions_alone(members: np.ndarray, of: Members) -> np.ndarray:
    """(m, N) int32: what each of `members` (m,) int64 decides alone."""
    probs, classes, best = of.probs, of.classes, of.best
    decided = np.empty((members.size, len(classes)), np.int32)
    for n in range(len(classes)):
        for i in range(members.size):
            place = best[n, members[i]]
            if place == NOT_LISTED:
                decided[i, n] = _first(probs[members[i], n])
            else:
                decided[i, n] = classes[n, place]
    return decided


@compiled()
def add_member(member: int, size: int, of: Members, rows: Rows) -> None:
    """Put `member` into the bag as its `size`th; as its first, whatever `rows` held before."""
    listed, best, highest = of.listed, of.best, of.highest
    place, lead = rows.place, rows.lead
    rows.order[size - 1] = member
    for n in range(len(place)):
        if size == 1:
            for k in range(listed.shape[2]):
                rows.sums[n, k] = 0.0
            rows.bound[n] = 0.0
            rows.counted[n] = rows.seen[n] = 0
            rows.top[n] = place[n] = NO_PLACE
        k = place[n]
        if k != NO_PLACE:
            if best[n, member] == k:
                continue  # its lead only grows
            lead[n] -= np.float64(highest[n, member]) - listed[n, member, k]
            if lead[n] > SLACK:
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
    member member the sums had to be looked at, and of those, summed up over all classes."""
    # Fields of tuples and slices of arrays are counted references: not in the inner loop.
    probs, classes, listed, best, highest, seconds, rest, _ = of
    top, lead, most = rows.top, rows.lead, rows.most
    n_listed, n_classes = classes.shape[1], probs.shape[2]
    complete = n_listed == n_classes
    found = looked_at = summed_up = 0
    sums, total, scratch = np.empty(n_listed), np.empty(n_classes), np.empty(n_classes)
    behind = np.zeros(NOT_LISTED + 1)
    for n in range(len(top)):
        taken = np.float64(highest[n, removed]) if removed >= 0 else 0.0
        if lead[n] - taken > most[n] + SLACK:
            continue
        if rows.counted[n] < size:
            _count(n, size, of, rows)
            if lead[n] - taken > most[n] + SLACK:
                continue
        others = -np.inf if complete else rows.bound[n]
        k, leader, margin = int(rows.place[n]), int(top[n]), lead[n]
        for c in range(n_listed):
            sums[c] = rows.sums[n, c]
        if removed >= 0:
            for c in range(n_listed):
                sums[c] -= listed[n, removed, c]
            others -= rest[n, removed]
            k, ahead, second = _decide(sums)
            leader, margin = int(classes[n, k]), ahead - max(second, others)
            k = k if ahead > others + SLACK else NO_PLACE
        by_list = k != NO_PLACE
        if not by_list:
            _sum_without(n, removed, size, of, rows, total)
            leader, margin = _decide_whole(total)
            for c in range(n_listed):  # the decision may be in the list all the same
                k = c if classes[n, c] == leader else k
                sums[c] = total[classes[n, c]]
        ahead = sums[k] if by_list else total[leader]
        for c in range(n_listed):
            behind[c] = ahead - sums[c]
        behind[NOT_LISTED] = margin
        closable = 0.0
        for i in range(members.size):
            m = members[i]
            place = best[n, m]
            decided = leader
            if place != k or margin <= SLACK:
                high, second = np.float64(highest[n, m]), np.float64(seconds[n, m])
                closable = high if high > closable else closable
                if high + SLACK >= behind[place] or second + SLACK >= margin:
                    looked_at += 1
                    old = ahead + (probs[m, n, leader] if k == NO_PLACE else listed[n, m, k])
                    new = old if place in (NOT_LISTED, k) else sums[place] + high
                    # All other classes are `margin` behind and get no more than the second.
                    third = ahead - margin + (high if place == NOT_LISTED else second) + SLACK
                    if (new if new > old else old) > third:
                        rival = leader if place == NOT_LISTED else int(classes[n, place])
                        decided = rival if new > old or (new == old and rival < leader) else leader
                    else:
                        sure = False
                        if by_list:
                            sure, decided = _of_listed(sums, others, classes, listed, rest, n, m)
                        if not sure:
                            summed_up += 1
                            if by_list:
                                _sum_without(n, removed, size, of, rows, total)
                            for c in range(n_classes):
                                scratch[c] = total[c] + probs[m, n, c]
                            decided = _first(scratch)
            if decided != top[n]:
                if found < len(flips):
                    flips[found, 0], flips[found, 1], flips[found, 2] = i, n, decided
                found += 1
        if leader == top[n]:
            most[n] = closable
    return found, looked_at, summed_up
