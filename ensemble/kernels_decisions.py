"""Which rows a further member makes the mean decide otherwise, compiled.

M members, N rows, C classes, of which each row's shortlist has K (`kernels_read`). The running sum
is kept for the shortlist alone, with an upper bound for all other classes. A row is looked at only
if its decision can change: a member changes it only if the lead of the class on top is no more
than the member's highest probability less its probability of that class. Where the bound for the
other classes comes within SLACK of the top, the row is summed up over all classes.

Sums are float64, added in the order of choice, as numpy would; the first of equal classes decides,
as in argmax. Shortlists are ascending, so that first in the list is first of the classes.

State of a bag's rows, changed in place, besides `order` (room,) int64, the members in it:

sums   (N, K) float64: the running sum of the shortlist, of the first `counted` of `order`
bound  (N,) float64: of all other classes, at least their running sums, of as many
counted (N,) int32: a row is brought up to date only when it matters
top    (N,) int32: the decision
place  (N,) int32: where in the shortlist it is; -1 where the shortlist does not decide
lead   (N,) float64: at most what the decision is ahead by, with all of `order`
most   (N,) float64: at least what any one member can close of a lead
whole  (N, C) float64: running sums of all classes of those rows that needed them
seen   (N,) int32: how many of `order` are in that row of `whole`; 0: nothing there yet
"""

from __future__ import annotations

import numpy as np

from ensemble.kernels import compiled, inlined
from ensemble.kernels_read import NOT_LISTED

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


@inlined()
def _count(
    n: int,
    probs: np.ndarray,
    classes: np.ndarray,
    listed: np.ndarray,
    rest: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    bound: np.ndarray,
    counted: np.ndarray,
    top: np.ndarray,
    place: np.ndarray,
    lead: np.ndarray,
    most: np.ndarray,
    whole: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Bring row n up to all `size` members: its sums, its decision, its lead."""
    row, n_listed, n_classes = sums[n], classes.shape[1], probs.shape[2]
    for i in range(counted[n], size):
        added = listed[n, order[i]]
        for k in range(n_listed):
            row[k] += added[k]
        bound[n] += rest[n, order[i]]
    counted[n] = size
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


@inlined()
def _of_listed(
    row: np.ndarray,
    others: float,
    classes: np.ndarray,
    added: np.ndarray,
    rest: float,
    n_classes: int,
) -> tuple[bool, int]:
    """Whether the shortlist decides for sums `row` (K,), at most `others` elsewhere, with a member
    of `added` (K,), at most `rest` elsewhere; and the class."""
    at = 0
    ahead = row[0] + added[0]
    for k in range(1, row.size):
        value = row[k] + added[k]
        at = k if value > ahead else at
        ahead = value if value > ahead else ahead
    return row.size == n_classes or ahead > others + rest + SLACK, int(classes[at])


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


@compiled()
def decisions_alone(
    members: np.ndarray, probs: np.ndarray, classes: np.ndarray, best: np.ndarray
) -> np.ndarray:
    """(m, N) int32: what each of `members` decides alone."""
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
def add_member(
    member: int,
    probs: np.ndarray,
    classes: np.ndarray,
    listed: np.ndarray,
    best: np.ndarray,
    highest: np.ndarray,
    rest: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    bound: np.ndarray,
    counted: np.ndarray,
    top: np.ndarray,
    place: np.ndarray,
    lead: np.ndarray,
    most: np.ndarray,
    whole: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Put `member` into the bag as its `size`th."""
    order[size - 1] = member
    for n in range(len(sums)):
        if size == 1:
            for k in range(classes.shape[1]):
                sums[n, k] = 0.0
            bound[n] = lead[n] = 0.0
            counted[n] = seen[n] = 0
            top[n] = place[n] = NO_PLACE
        if place[n] != NO_PLACE:
            if best[n, member] == place[n]:
                continue  # its lead only grows
            lead[n] -= np.float64(highest[n, member]) - listed[n, member, place[n]]
            if lead[n] > SLACK:
                continue
        _count(
            n, probs, classes, listed, rest, order, size,
            sums, bound, counted, top, place, lead, most, whole, seen,
        )  # fmt: skip


@compiled()
def find_flips(
    removed: int,
    members: np.ndarray,
    probs: np.ndarray,
    classes: np.ndarray,
    listed: np.ndarray,
    best: np.ndarray,
    highest: np.ndarray,
    rest: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    bound: np.ndarray,
    counted: np.ndarray,
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
    found = listed_pairs = whole_pairs = 0
    without_listed = np.empty(n_listed)
    without = np.empty(n_classes)
    scratch = np.empty(n_classes)
    for n in range(len(sums)):
        taken = np.float64(highest[n, removed]) if removed >= 0 else 0.0
        if lead[n] - taken > most[n] + SLACK:
            continue
        if counted[n] < size:
            _count(
                n, probs, classes, listed, rest, order, size,
                sums, bound, counted, top, place, lead, most, whole, seen,
            )  # fmt: skip
            if lead[n] - taken > most[n] + SLACK:
                continue
        row, others, k, leader, margin = sums[n], bound[n], int(place[n]), int(top[n]), lead[n]
        total = whole[n]  # up to date where the shortlist does not decide
        if removed >= 0:
            for c in range(n_listed):
                without_listed[c] = row[c] - listed[n, removed, c]
            row = without_listed
            others -= rest[n, removed]
            k, ahead, second = _decide(row)
            leader = int(classes[n, k])
            margin = ahead - (second if n_listed == n_classes else max(second, others))
            if n_listed < n_classes and ahead <= others + SLACK:
                total = _sum_up(n, probs, order, size, whole, seen)
                for c in range(n_classes):
                    without[c] = total[c] - probs[removed, n, c]
                total = without
                leader, margin = _decide_whole(total)
                k = NO_PLACE
        in_whole = k == NO_PLACE
        if in_whole:
            for c in range(n_listed):
                k = c if classes[n, c] == leader else k
        closable = 0.0
        for i in range(members.size):
            m = members[i]
            decided = leader
            if best[n, m] != k or margin <= SLACK or k == NO_PLACE:
                high = np.float64(highest[n, m])
                p_leader = np.float64(probs[m, n, leader] if k == NO_PLACE else listed[n, m, k])
                closable = max(closable, high - p_leader)
                if high - p_leader + SLACK >= margin:
                    listed_pairs += 1
                    if in_whole:
                        sure, decided = _of_two(
                            total,
                            leader,
                            margin,
                            p_leader,
                            classes[n],
                            listed[n, m],
                            best[n, m],
                            rest[n, m],
                        )
                    else:
                        sure, decided = _of_listed(
                            row, others, classes[n], listed[n, m], rest[n, m], n_classes
                        )
                    if not sure:
                        whole_pairs += 1
                        base = _sum_up(n, probs, order, size, whole, seen)
                        for c in range(n_classes):
                            scratch[c] = base[c]
                        if removed >= 0:
                            for c in range(n_classes):
                                scratch[c] -= probs[removed, n, c]
                        for c in range(n_classes):
                            scratch[c] += probs[m, n, c]
                        decided = _first(scratch)
            if decided != top[n]:
                if found < len(flips):
                    flips[found, 0], flips[found, 1], flips[found, 2] = i, n, decided
                found += 1
        if leader == top[n]:
            most[n] = closable
    return found, listed_pairs, whole_pairs
