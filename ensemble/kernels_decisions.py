"""Which rows a further member makes the mean decide otherwise, compiled.

M members, N rows, C classes, of which each row's shortlist has K (`kernels_read`). The running sum
is kept for the shortlist alone, with an upper bound for all other classes. A row is looked at only
if its decision can change: a member changes it only if the lead of the class on top is no more
than the member's highest probability less its probability of that class. Where the bound for the
other classes comes within SLACK of the top, the row is summed up over all classes.

Sums are float64, added in the order of choice, as numpy would; the first of equal classes decides,
as in argmax. Shortlists are ascending, so that first in the list is first of the classes.

The functions are long and flat on purpose: numba counts references for every slice, every field of
a tuple, and every array handed to another function, and in the inner loops that took most of the
time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ensemble.kernels import compiled, inlined
from ensemble.kernels_read import GRADES, NOT_LISTED, Members

SLACK = 1e-9  # far more than a bound's rounding, far less than what a float32 tells apart
NO_PLACE = -1
_GRADE = 1.0 / GRADES  # its rounding is far below SLACK


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


@compiled()
def decisions_alone(members: np.ndarray, of: Members) -> np.ndarray:
    """(m, N) int32: what each of `members` (m,) uintp decides alone."""
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
def start_rows(rows: Rows) -> None:
    """Make the bag empty, whatever `rows` held before."""
    _, sums, bound, counted, top, place, _, most, _, seen = rows
    for n in range(len(top)):
        for k in range(sums.shape[1]):
            sums[n, k] = 0.0
        bound[n], most[n] = 0.0, np.inf
        counted[n] = seen[n] = 0
        top[n] = place[n] = NO_PLACE


@compiled()
def add_member(member: int, size: int, of: Members, rows: Rows, stale: np.ndarray) -> int:
    """Put `member` into the bag as its `size`th. Fills `stale` (N,) int32 with the rows whose
    decision that may change, for `bring_up`, and returns how many they are."""
    _, _, listed, best, _, _, rest, _ = of
    order, _, _, _, _, place, lead, _, _, _ = rows
    order[size - 1] = member
    found = 0
    for n in range(len(place)):
        k = place[n]
        if k != NO_PLACE:
            other = best[n, member]
            if other == k:
                continue  # its lead only grows
            high = rest[n, member] if other == NOT_LISTED else listed[n, member, other]
            lead[n] -= np.float64(high) - listed[n, member, k]
            if lead[n] > SLACK:
                continue
        stale[found] = n
        found += 1
    return found


@compiled()
def bring_up(stale: np.ndarray, size: int, of: Members, rows: Rows) -> None:
    """Count all `size` members in these rows: sums, decisions, leads."""
    probs, classes, listed, _, _, _, rest, _ = of
    order, sums, bound, counted, top, place, lead, most, whole, seen = rows
    n_listed, n_classes = classes.shape[1], probs.shape[2]
    complete = n_listed == n_classes
    for j in range(stale.size):
        n = np.uintp(stale[j])
        if counted[n] == size:
            continue
        for i in range(counted[n], size):
            m = np.uintp(order[i])
            for c in range(n_listed):
                sums[n, c] += listed[n, m, c]
            if not complete:
                bound[n] += rest[n, m]
        counted[n] = size
        k, ahead, second = 0, sums[n, 0], -np.inf
        for c in range(1, n_listed):
            value = sums[n, c]
            loser = ahead if value > ahead else value
            second = loser if loser > second else second
            k = c if value > ahead else k
            ahead = value if value > ahead else ahead
        if complete or ahead > bound[n] + SLACK:
            decided = int(classes[n, k])
            place[n] = k
            lead[n] = ahead - (second if complete else max(second, bound[n]))
        else:
            for i in range(seen[n], size):
                m = np.uintp(order[i])
                for c in range(n_classes):
                    whole[n, c] = probs[m, n, c] + (whole[n, c] if i > 0 else 0.0)
            seen[n] = size
            decided, lead[n] = _decide_whole(whole[n])
            place[n] = NO_PLACE
        if decided != top[n]:
            top[n], most[n] = decided, np.inf


@compiled()
def open_rows(removed: int, of: Members, rows: Rows, found: np.ndarray) -> int:
    """Fill `found` (N,) int32 with the rows that some member may decide otherwise, once one copy
    of `removed` is gone (-1: nobody). Returns how many."""
    highest, lead, most = of.highest, rows.lead, rows.most
    size = 0
    for n in range(len(lead)):
        taken = highest[n, removed] / GRADES if removed >= 0 else 0.0
        found[size] = n
        size += lead[n] - taken <= most[n] + SLACK
    return size


@compiled()
def find_flips(
    opened: np.ndarray,
    members: np.ndarray,
    removed: int,
    size: int,
    of: Members,
    rows: Rows,
    flips: np.ndarray,
    found: int,
    unsure: np.ndarray,
    n_unsure: int,
) -> tuple[int, int, int, int]:
    """What changes in the rows `opened`, brought up, where each of `members` (m,) uintp joins the
    bag of `size` members, after one copy of `removed` leaves it (-1: nobody leaves, else `size` is
    at least 2).

    Appends to the `found` of `flips` (room, 3) int32: position in `members`, row, and its new
    class, wherever that is not `top`; and to the `n_unsure` of `unsure` (room, 2) int32: position
    and row, for `decide_whole`. Stops before a row for which there may be no room. Returns how
    many rows are done, how many flips and how many unsure there are, and how many pairs of row and
    member had to be looked at."""
    probs, classes, listed, best, highest, seconds, rest, _ = of
    order, all_sums, bound, _, top, places, lead, most, whole, seen = rows
    n_listed, n_classes = classes.shape[1], probs.shape[2]
    complete = n_listed == n_classes
    looked_at = 0
    sums, total = np.empty(n_listed), np.empty(n_classes)
    least = np.empty(NOT_LISTED + 1, np.int64)
    picked, of_leader = np.empty(members.size, np.uintp), np.empty(members.size)
    for j in range(opened.size):
        if min(len(flips) - found, len(unsure) - n_unsure) < members.size:
            return j, found, n_unsure, looked_at
        n = np.uintp(opened[j])  # unsigned: numba asks of no index whether it is negative
        # 1. The leader without `removed`, its margin, and how far each listed class is behind.
        k, leader, margin = int(places[n]), int(top[n]), lead[n]
        others = -np.inf if complete else bound[n]
        for c in range(n_listed):
            sums[c] = all_sums[n, c]
        if removed >= 0:
            others -= rest[n, removed]
            k, ahead, second = 0, -np.inf, others
            for c in range(n_listed):
                value = sums[c] - listed[n, removed, c]
                sums[c] = value
                loser = ahead if value > ahead else value
                second = loser if loser > second else second
                k = c if value > ahead else k
                ahead = value if value > ahead else ahead
            leader, margin = int(classes[n, k]), ahead - second
            k = k if complete or ahead > others + SLACK else NO_PLACE
        by_list = k != NO_PLACE
        if not by_list:
            for i in range(seen[n], size):
                for c in range(n_classes):
                    whole[n, c] = probs[order[i], n, c] + (whole[n, c] if i > 0 else 0.0)
            seen[n] = size
            for c in range(n_classes):
                total[c] = whole[n, c] - (probs[removed, n, c] if removed >= 0 else 0.0)
            if removed >= 0:
                leader, margin = _decide_whole(total)
            for c in range(n_listed):
                sums[c] = total[classes[n, c]]
                k = c if classes[n, c] == leader else k  # it may be in the list all the same
        ahead = sums[k] if k != NO_PLACE else total[leader]
        for c in range(n_listed):  # what a member must give to each class, in grades
            least[c] = math.floor((ahead - sums[c] - SLACK) * GRADES)
        least_second = math.floor((min(margin, 2.0) - SLACK) * GRADES)  # inf with one class
        least[NOT_LISTED] = least_second
        # 2. Members that may change the decision. No branches: they cannot be predicted.
        near = margin <= SLACK
        closable, n_picked = np.int64(0), 0
        for i in range(np.uintp(members.size)):
            m = members[i]
            place, high = best[n, m], np.int64(highest[n, m])
            rival = place != k
            closable = high if rival and high > closable else closable
            picked[n_picked] = i
            reaches = (high >= least[place]) | (seconds[n, m] >= least_second)
            n_picked += near | (rival & reaches)
        looked_at += n_picked
        # 3. What they give to the leader: reads that wait for memory, all at once.
        for i in range(n_picked):
            m = members[picked[i]]
            of_leader[i] = probs[m, n, leader] if k == NO_PLACE else listed[n, m, k]
        # 4. The decision, of two classes if no third can reach them, else of the list.
        for i in range(n_picked):
            m = members[picked[i]]
            place, third = best[n, m], seconds[n, m] * _GRADE
            old, new, rival = ahead + of_leader[i], -np.inf, leader
            if place != NOT_LISTED:
                new, rival = sums[place] + listed[n, m, place], int(classes[n, place])
            decided = rival if new > old or (new == old and rival < leader) else leader
            if max(new, old) <= ahead - margin + third + SLACK:
                at, most_of_list = 0, -np.inf
                for c in range(n_listed):
                    value = sums[c] + listed[n, m, c]
                    at = c if value > most_of_list else at
                    most_of_list = value if value > most_of_list else most_of_list
                decided = int(classes[n, at])
                if not by_list or most_of_list <= others + rest[n, m] + SLACK:
                    unsure[n_unsure, 0], unsure[n_unsure, 1] = picked[i], n
                    n_unsure += 1
                    continue
            flips[found, 0], flips[found, 1], flips[found, 2] = picked[i], n, decided
            found += decided != top[n]
        # 5. With `removed` gone, those that were not looked at may still leave another on top.
        if leader == top[n]:
            most[n] = closable / GRADES
        else:
            at = 0
            for i in range(members.size):
                if at < n_picked and picked[at] == i:
                    at += 1
                    continue
                flips[found, 0], flips[found, 1], flips[found, 2] = i, n, leader
                found += 1
    return opened.size, found, n_unsure, looked_at


@compiled()
def decide_whole(
    unsure: np.ndarray,
    members: np.ndarray,
    removed: int,
    size: int,
    of: Members,
    rows: Rows,
    flips: np.ndarray,
    found: int,
) -> int:
    """Decide over all classes for the pairs `unsure` (u, 2), and append to the `found` flips, which
    must have room for all. Returns how many there are then."""
    probs = of.probs
    order, _, _, _, top, _, _, _, whole, seen = rows
    n_classes = probs.shape[2]
    total = np.empty(n_classes)
    for j in range(len(unsure)):
        m, n = members[unsure[j, 0]], np.uintp(unsure[j, 1])
        for i in range(seen[n], size):
            for c in range(n_classes):
                whole[n, c] = probs[order[i], n, c] + (whole[n, c] if i > 0 else 0.0)
        seen[n] = size
        if removed >= 0:
            for c in range(n_classes):
                total[c] = (whole[n, c] - probs[removed, n, c]) + probs[m, n, c]
        else:
            for c in range(n_classes):
                total[c] = whole[n, c] + probs[m, n, c]
        decided = _first(total)
        flips[found, 0], flips[found, 1], flips[found, 2] = unsure[j, 0], n, decided
        found += decided != top[n]
    return found
