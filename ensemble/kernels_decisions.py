"""Which rows a further member makes the mean decide otherwise, compiled.

M members, N rows, C classes, of which each row's shortlist has K (`kernels_read`). The running sum
is kept for the shortlist alone, with an upper bound for all other classes. A row is looked at only
if its decision can change: a member changes it only if the lead of the class on top is no more
than the member's highest probability less its probability of that class. Where the bound for the
other classes comes within SLACK of the top, the row is summed up over all classes.

Sums are float64, added in the order of choice, as numpy would; the first of equal classes decides,
as in argmax. Shortlists are ascending, so that first in the list is first of the classes.

State of a bag's rows, changed in place, besides `order` (room,) int64, the members in it:

sums   (N, K) float64: the running sum of the shortlist
bound  (N,) float64: of all other classes, at least their running sums
top    (N,) int32: the decision
place  (N,) int32: where in the shortlist it is; -1 where the shortlist does not decide
lead   (N,) float64: at most what the decision is ahead by
most   (N,) float64: at least what any one member can close of a lead
whole  (N, C) float64: running sums of all classes of those rows that needed them
seen   (N,) int32: how many of `order` are in that row of `whole`; 0: nothing there yet
"""

from __future__ import annotations

import numpy as np

from ensemble.kernels import compiled, inlined

SLACK = 1e-9  # far more than a bound's rounding, far less than what a float32 tells apart
NO_PLACE = -1


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
def _sum_up(
    n: int, probs: np.ndarray, order: np.ndarray, size: int, whole: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Row n's running sum of all classes, (C,)."""
    row = whole[n]
    for i in range(seen[n], size):
        added = probs[order[i], n]
        if i == 0:
            for c in range(row.size):
                row[c] = added[c]
        else:
            for c in range(row.size):
                row[c] += added[c]
    seen[n] = size
    return row


@compiled()
def decisions_alone(
    members: np.ndarray,
    probs: np.ndarray,
    classes: np.ndarray,
    listed: np.ndarray,
    highest: np.ndarray,
    rest: np.ndarray,
) -> np.ndarray:
    """(m, N) int32: what each of `members` decides alone."""
    decided = np.empty((members.size, len(classes)), np.int32)
    for n in range(len(classes)):
        for i in range(members.size):
            m = members[i]
            high = highest[n, m]
            if high <= rest[n, m]:
                decided[i, n] = _first(probs[m, n])
                continue
            k = 0
            while listed[n, m, k] != high:
                k += 1
            decided[i, n] = classes[n, k]
    return decided


@compiled()
def add_member(
    member: int,
    probs: np.ndarray,
    classes: np.ndarray,
    listed: np.ndarray,
    rest: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    bound: np.ndarray,
    top: np.ndarray,
    place: np.ndarray,
    lead: np.ndarray,
    most: np.ndarray,
    whole: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Put `member` into the bag as its `size`th."""
    order[size - 1] = member
    n_listed, n_classes = classes.shape[1], probs.shape[2]
    for n in range(len(sums)):
        row = sums[n]
        if size == 1:
            seen[n] = 0
            bound[n] = 0.0
            top[n] = -1
            for k in range(n_listed):
                row[k] = 0.0
        for k in range(n_listed):
            row[k] += listed[n, member, k]
        bound[n] += rest[n, member]
        k, best, second = _decide(row)
        if n_listed == n_classes or best > bound[n] + SLACK:
            decided = int(classes[n, k])
            place[n] = k
            lead[n] = best - (second if n_listed == n_classes else max(second, bound[n]))
        else:
            decided, lead[n] = _decide_whole(_sum_up(n, probs, order, size, whole, seen))
            place[n] = NO_PLACE
        if decided != top[n]:
            top[n], most[n] = decided, np.inf


@compiled()
def find_flips(
    removed: int,
    members: np.ndarray,
    probs: np.ndarray,
    classes: np.ndarray,
    listed: np.ndarray,
    highest: np.ndarray,
    rest: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    bound: np.ndarray,
    top: np.ndarray,
    place: np.ndarray,
    lead: np.ndarray,
    most: np.ndarray,
    whole: np.ndarray,
    seen: np.ndarray,
    flips: np.ndarray,
) -> tuple[int, int, int]:
    """What changes where each of `members` (m,) int64 joins the bag of `size` members, after one
    copy of `removed` leaves it (-1: none leaves, else `size` is at least 2). Fills `flips`
    (room, 3) int32 with (position in `members`, row, its new class) wherever that is not `top`.
    Returns how many there are, the first `room` of them written, and how many pairs of row and
    member had to be added up: over the shortlist, and over all classes."""
    n_listed, n_classes = classes.shape[1], probs.shape[2]
    partial = n_listed < n_classes
    found = short_sums = whole_sums = 0
    short_without = np.empty(n_listed)
    without = np.empty(n_classes)
    scratch = np.empty(n_classes)
    for n in range(len(sums)):
        taken = np.float64(highest[n, removed]) if removed >= 0 else 0.0
        if lead[n] - taken > most[n] + SLACK:
            continue
        row, others, k, leader, margin = sums[n], bound[n], int(place[n]), int(top[n]), lead[n]
        if removed >= 0:
            for c in range(n_listed):
                short_without[c] = row[c] - listed[n, removed, c]
            row = short_without
            others -= rest[n, removed]
            k, best, second = _decide(row)
            leader = int(classes[n, k])
            margin = best - (max(second, others) if partial else second)
            if partial and best <= others + SLACK:
                k = NO_PLACE
        in_whole = k == NO_PLACE
        if in_whole:
            base = _sum_up(n, probs, order, size, whole, seen)
            if removed >= 0:
                for c in range(n_classes):
                    without[c] = base[c] - probs[removed, n, c]
                leader, margin = _decide_whole(without)
            for c in range(n_listed):
                k = c if classes[n, c] == leader else k
        closable = 0.0
        for i in range(members.size):
            m = members[i]
            p_leader = listed[n, m, k] if k != NO_PLACE else probs[m, n, leader]
            gain = np.float64(highest[n, m]) - p_leader
            closable = gain if gain > closable else closable
            decided = leader
            if gain + SLACK >= margin:
                unsure = in_whole
                if not in_whole:
                    short_sums += 1
                    at = 0
                    best = row[0] + listed[n, m, 0]
                    for c in range(1, n_listed):
                        value = row[c] + listed[n, m, c]
                        at = c if value > best else at
                        best = value if value > best else best
                    decided = int(classes[n, at])
                    unsure = partial and best <= others + rest[n, m] + SLACK
                if unsure:
                    whole_sums += 1
                    base = _sum_up(n, probs, order, size, whole, seen)
                    added = probs[m, n]
                    if removed >= 0:
                        left = probs[removed, n]
                        for c in range(n_classes):
                            scratch[c] = (base[c] - left[c]) + added[c]
                    else:
                        for c in range(n_classes):
                            scratch[c] = base[c] + added[c]
                    decided = _first(scratch)
            if decided != top[n]:
                if found < len(flips):
                    flips[found, 0], flips[found, 1], flips[found, 2] = i, n, decided
                found += 1
        if leader == top[n]:
            most[n] = closable
    return found, short_sums, whole_sums
