"""Which rows a further member makes the mean decide otherwise, compiled.

M members, N rows, C classes; of `probs` (M, N, C) `kernels_read` has read the highest values once.
From then on a row is looked at only if its decision can change: a member changes it only if the
lead of the class on top, in the running sum, is no more than the member's highest probability less
its probability of that class. The lead is kept as a lower bound from two numbers of each chosen
member, so that the running sums of rows which stay safe are never even formed.

Sums are float64, added in the order of choice, as numpy would: rows whose lead is within SLACK of
the limit are summed up, and the first of equal classes decides, as in argmax.
"""

from __future__ import annotations

import numpy as np

from ensemble.kernels import compiled, inlined

SLACK = 1e-9  # far more than a lower bound's rounding, far less than what a float32 tells apart


@inlined(fastmath=("nnan", "nsz"))
def _largest(row: np.ndarray) -> float:
    top = row[0]
    for c in range(1, row.size):
        top = row[c] if row[c] > top else top
    return top


@inlined()
def _first(row: np.ndarray, wanted: float) -> int:
    for c in range(row.size):
        if row[c] == wanted:
            return c
    return 0


@inlined()
def _decide(row: np.ndarray) -> tuple[int, float]:
    """The first class of the highest value of `row` (C,), and its lead over the second."""
    if row.size == 1:
        return 0, np.inf
    top = _largest(row)
    place = _first(row, top)
    second = -np.inf
    if place > 0:
        second = _largest(row[:place])
    if place + 1 < row.size:
        other = _largest(row[place + 1 :])
        second = other if other > second else second
    return place, top - second


@inlined()
def _sum_up(
    n: int,
    probs: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    seen: np.ndarray,
    top: np.ndarray,
    lead: np.ndarray,
    most: np.ndarray,
) -> None:
    """Bring row n's sum up to all `size` members chosen, and with it decision and exact lead."""
    if seen[n] == size:
        return
    row = sums[n]
    if seen[n] == 0:
        row[:] = probs[order[0], n]
        seen[n] = 1
    for i in range(seen[n], size):
        added = probs[order[i], n]
        for c in range(row.size):
            row[c] += added[c]
    seen[n] = size
    place, lead[n] = _decide(row)
    if place != top[n]:
        top[n] = place
        most[n] = np.inf


@compiled()
def add_member(
    member: int,
    probs: np.ndarray,
    highest: np.ndarray,
    second: np.ndarray,
    best: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    seen: np.ndarray,
    top: np.ndarray,
    lead: np.ndarray,
    most: np.ndarray,
) -> None:
    """Put `member` into the running sum as its `size`th.

    State of rows, changed in place: `sums` (N, C) float64 and `seen` (N,) int32, how many of
    `order` (steps,) int64 are in that row of it; `top` (N,) int32, the sum's decision; `lead` (N,)
    float64, at most its true lead; `most` (N,) float64, at least what any member can close of it.
    """
    order[size - 1] = member
    for n in range(lead.size):
        high = np.float64(highest[n, member])
        if size == 1:
            top[n] = best[n, member]
            lead[n] = high - second[n, member]
            most[n] = np.inf
            seen[n] = 0
            continue
        if best[n, member] == top[n]:
            lead[n] += high - second[n, member]
        else:
            lead[n] -= high - probs[member, n, top[n]]
        if lead[n] <= SLACK:
            _sum_up(n, probs, order, size, sums, seen, top, lead, most)


@inlined()
def _decide_with(row: np.ndarray, added: np.ndarray, scratch: np.ndarray) -> int:
    for c in range(row.size):
        scratch[c] = row[c] + added[c]
    return _first(scratch, _largest(scratch))


@compiled()
def find_flips(
    removed: int,
    members: np.ndarray,
    probs: np.ndarray,
    highest: np.ndarray,
    second: np.ndarray,
    best: np.ndarray,
    order: np.ndarray,
    size: int,
    sums: np.ndarray,
    seen: np.ndarray,
    top: np.ndarray,
    lead: np.ndarray,
    most: np.ndarray,
    of_top: np.ndarray,
    flips: np.ndarray,
) -> tuple[int, int]:
    """What changes where each of `members` (m,) int64 joins the sum of `size` members, after one
    copy of `removed` leaves it (-1: none leaves, else `size` is at least 2). Fills `flips`
    (room, 3) int32 with (position in `members`, row, its new class) wherever that is not `top`.
    Returns how many there are, the first `room` of them written, and how many pairs of row and
    member had to be summed up. The rest as in `add_member`.
    """
    n_classes = probs.shape[2]
    found = 0
    summed = 0
    without = np.empty(n_classes)
    scratch = np.empty(n_classes)
    for n in range(lead.size):
        taken = np.float64(highest[n, removed]) if removed >= 0 else 0.0
        if lead[n] - taken > most[n] + SLACK:
            continue
        _sum_up(n, probs, order, size, sums, seen, top, lead, most)
        if lead[n] - taken > most[n] + SLACK:
            continue
        row, leader, margin = sums[n], int(top[n]), lead[n]
        if removed >= 0:
            for c in range(n_classes):
                without[c] = row[c] - probs[removed, n, c]
            row = without
            leader, margin = _decide(row)
        if most[n] == np.inf:
            of_top[n] = -1.0
        closable = 0.0
        for i in range(members.size):
            m = members[i]
            place = best[n, m]
            high = np.float64(highest[n, m])
            decided = leader
            if place == leader:
                if margin <= SLACK:
                    decided = _decide_with(row, probs[m, n], scratch)
                    summed += 1
            else:
                gain = high
                if high + SLACK >= margin:
                    if leader != top[n]:
                        p_leader = probs[m, n, leader]
                    else:
                        if of_top[n, m] < 0:
                            of_top[n, m] = probs[m, n, leader]
                        p_leader = of_top[n, m]
                    gain = high - p_leader
                    if gain + SLACK >= margin:
                        # Only the two classes on top matter, unless a third may reach them.
                        old, new = row[leader] + p_leader, row[place] + high
                        third = row[leader] - margin + second[n, m] + SLACK
                        if (new if new > old else old) > third:
                            if new > old or (new == old and place < leader):
                                decided = int(place)
                        else:
                            decided = _decide_with(row, probs[m, n], scratch)
                            summed += 1
                closable = gain if gain > closable else closable
            if decided != top[n]:
                if found < len(flips):
                    flips[found, 0], flips[found, 1], flips[found, 2] = i, n, decided
                found += 1
        if leader == top[n]:
            most[n] = closable
    return found, summed
