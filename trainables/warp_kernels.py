"""From stored squares to the network's input in one pass over the output, compiled.

Legend: N stored squares of S x S pixels, n images of T x T pixels (`size`), 3 channels, innermost.
Some rows of an image are sampled, coloured, normalised and erased at once, in the processor's
first cache; two images are mixed while the second one holds them.

Sampling. Axis-aligned images (also flipped ones, and quarter turns, after transposing) are sampled
along y, then along x: bilinear, and where the image shrinks by more than `SHARP`, with a triangle
as wide as the shrinking asks for, as Pillow's antialiased bilinear. Other images are bilinear, from
a copy halved by means of 2 x 2 until the rest shrinks by no more than `SHARP`. A pixel whose centre
is outside of the square is `fill`; inside, the outermost pixels go on.

Colour. brightness b, contrast k, saturation s, in this order, with the mean grey M before:
x to s k b x + (1 - s) k b grey(x) + (1 - k) b M, clipped to [0, 255] once at the end. torchvision's
ColorJitter shuffles the three and clips after each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ensemble.kernels import compiled, inlined

Array = np.ndarray
FAST = ("contract", "nnan", "nsz")
SHARP = 1.5
# Centres may miss the edge by so much of a source pixel and count as inside: rounding.
EDGE = 1e-3
RED, GREEN, BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)

COPY, AXIS, GENERAL = range(3)
PAD = 4  # at both ends of a row, for the colour matrix
BLOCK = 1400  # pixels sampled, then finished: not row by row, as every call counts references

# What is decided about an image.
KIND, TURNED, SIDE, HALVINGS, X_TAPS, X_LOW, X_HIGH = range(7)
Y_TAPS, Y_LOW, Y_HIGH, LEFT, SPAN, GREY = range(7, 13)


class Scratch(NamedTuple):
    """What one image needs while it is made.

    plan: see above; first, weight: (2, T) and (2, T * S), which source pixels make an output pixel
    along x and y; copy: (S * S * 3,) a transposed or halved square; packed: (S * S,) see `_pack`;
    line: a row before it is sampled along x; block: (B, 3T + 2 * PAD) some rows after; table: see
    `_plan_colour`"""

    plan: Array
    first: Array
    weight: Array
    copy: Array
    packed: Array
    line: Array
    block: Array
    table: Array


@inlined()
def _scratch(side: int, size: int, scale: Array, offset: Array) -> Scratch:
    table = np.zeros((8, size * 3), np.float32)
    for i in range(size * 3):
        table[6, i] = offset[i % 3]
        table[7, i] = np.float32(255.0) * scale[i % 3] + offset[i % 3]
    return Scratch(
        np.zeros(13, np.int64),
        np.zeros((2, size), np.int64),
        np.empty((2, size * side), np.float32),
        np.empty(side * side * 3, np.uint8),
        np.empty(side * side, np.uint64),
        np.zeros(side * 3, np.float32),
        np.zeros((max(1, BLOCK // size), size * 3 + 2 * PAD), np.float32),
        table,
    )


@inlined(fastmath=FAST)
def _taps(
    gain: float, offset: float, size: int, side: int, first: Array, weight: Array
) -> tuple[int, int, int]:
    """Which source pixels make each output pixel along one axis, and with which weights.

    Output o is at gain * (o + 0.5) / size + offset, a fraction of `side`. Fills `first` (T,) and
    `weight` (T * taps,); returns taps and the range of outputs that are inside."""
    shrink = abs(gain) * side / size
    support = shrink if shrink > SHARP else 1.0
    taps = min(side, int(np.ceil(2.0 * support - EDGE)))
    low, high = size, 0
    for o in range(size):
        centre = (gain * (o + 0.5) / size + offset) * side
        if centre < -EDGE or centre > side + EDGE:
            continue
        low, high = min(low, o), o + 1
        start = min(max(0, int(centre - support + 0.5)), side - taps)
        first[o] = start
        mine, total = weight[o * taps : (o + 1) * taps], np.float32(0.0)
        for j in range(taps):
            mine[j] = max(0.0, 1.0 - abs(start + j + 0.5 - centre) / support)
            total += mine[j]
        mine /= total
    return taps, low, high


@inlined(fastmath=FAST)
def _blend_rows(
    source: Array, start: int, stride: int, weight: Array, at: int, taps: int, span: int,
    line: Array,
) -> None:  # fmt: skip
    """line[i] = sum over j of weight[at + j] * source[start + j * stride + i]."""
    a, w0 = source[start : start + span], weight[at]
    if taps == 2:
        b = source[start + stride : start + stride + span]
        w1 = weight[at + 1]
        for i in range(span):
            line[i] = np.float32(a[i]) * w0 + np.float32(b[i]) * w1
        return
    for i in range(span):
        line[i] = np.float32(a[i]) * w0
    for j in range(1, taps):
        b = source[start + j * stride : start + j * stride + span]
        w1 = weight[at + j]
        for i in range(span):
            line[i] += np.float32(b[i]) * w1


@inlined(fastmath=FAST)
def _blend_columns(
    line: Array, first: Array, weight: Array, taps: int, low: int, high: int, row: Array
) -> None:
    """The same along x, for three channels. Unsigned indices: numba need not ask whether they
    count from the end."""
    for o in range(low, high):
        p, q, w = np.uint64(first[o]), np.uint64(PAD + 3 * o), np.uint64(o * taps)
        w0, w1 = weight[w], weight[w + np.uint64(1)]
        for c in range(3):
            a, b = line[p + np.uint64(c)], line[p + np.uint64(c + 3)]
            row[q + np.uint64(c)] = a * w0 + b * w1
    for o in range(low, high if taps > 2 else low):
        for j in range(2, taps):
            p, q = np.uint64(first[o] + 3 * j), np.uint64(PAD + 3 * o)
            w0 = weight[np.uint64(o * taps + j)]
            for c in range(3):
                row[q + np.uint64(c)] += line[p + np.uint64(c)] * w0


@inlined()
def _pack(source: Array, packed: Array) -> None:
    """Three channels in one number, 21 bits each: weighted by one product (`_sample_general`)."""
    for i in range(packed.shape[0]):
        p, bits = np.uint64(3 * i), np.uint64(21)
        green, blue = np.uint64(source[p + np.uint64(1)]), np.uint64(source[p + np.uint64(2)])
        packed[i] = source[p] | ((green | (blue << bits)) << bits)


@inlined(fastmath=FAST)
def _sample_general(
    packed: Array, side: int, scale: float, m: Array, y: int, size: int, fill: np.float32,
    row: Array,
) -> None:  # fmt: skip
    """One row of a rotated or sheared image from `packed` (side * side,) uint64. `scale`: source
    pixels per unit of the matrix. Weights are whole numbers that sum to 8192, so that three times
    21 bits hold the sums: good to a tenth of a grey level."""
    one, two, v = np.uint64(1), np.uint64(2), (y + 0.5) / size
    x0 = np.float32((m[0, 0] * 0.5 / size + m[0, 1] * v + m[0, 2]) * scale - 0.5)
    y0 = np.float32((m[1, 0] * 0.5 / size + m[1, 1] * v + m[1, 2]) * scale - 0.5)
    dx, dy = np.float32(m[0, 0] * scale / size), np.float32(m[1, 0] * scale / size)
    low, high = np.float32(-0.5 - EDGE), np.float32(scale - 0.5 + EDGE)
    last, zero, whole = np.float32(side - 1), np.float32(0.0), np.float32(8192.0)
    before_last, half = np.int32(side - 2), np.float32(0.5)
    stride, mask, share = np.uint64(side), np.uint64((1 << 21) - 1), np.float32(1.0 / 8192.0)
    for o in range(size):
        q = np.uint64(PAD + 3 * o)
        sx, sy = x0 + np.float32(o) * dx, y0 + np.float32(o) * dy
        if sx < low or sx > high or sy < low or sy > high:
            row[q] = row[q + one] = row[q + two] = fill
            continue
        sx, sy = min(max(sx, zero), last), min(max(sy, zero), last)
        ix, iy = min(np.int32(sx), before_last), min(np.int32(sy), before_last)
        fx, fy = sx - np.float32(ix), sy - np.float32(iy)
        w11 = np.int32(fx * fy * whole + half)
        right, down = np.int32(fx * whole + half), np.int32(fy * whole + half)
        w01, w10 = right - w11, down - w11
        w00 = max(np.int32(8192) - right - w10, np.int32(0))  # -1 after unlucky rounding
        a = np.uint64(iy) * stride + np.uint64(ix)
        b = a + stride
        value = packed[a] * np.uint64(w00) + packed[a + one] * np.uint64(w01)
        value += packed[b] * np.uint64(w10) + packed[b + one] * np.uint64(w11)
        row[q] = np.float32(np.int32(value & mask)) * share
        row[q + one] = np.float32(np.int32((value >> np.uint64(21)) & mask)) * share
        row[q + two] = np.float32(np.int32(value >> np.uint64(42))) * share


@inlined()
def _halve(source: Array, side: int, copy: Array) -> int:
    """Means of 2 x 2, rounded. `copy` may be `source`: what is written has been read."""
    half = side // 2
    for y in range(half):
        for x in range(half):
            p, q = np.uint64((2 * y * side + 2 * x) * 3), np.uint64((y * half + x) * 3)
            for c in range(3):
                i = p + np.uint64(c)
                j = i + np.uint64(3 * side)
                four = source[i] + source[i + np.uint64(3)] + source[j] + source[j + np.uint64(3)]
                copy[q + np.uint64(c)] = np.uint8((four + 2) >> 2)
    return half


@inlined(fastmath=FAST)
def _plan_geometry(square: Array, side: int, m: Array, size: int, s: Scratch) -> None:
    """Decide how an image (`square`: S*S*3, `m`: its matrix) is sampled, and prepare it."""
    plan, first = s.plan, s.first[0]
    x_gain, x_offset, y_gain, y_offset = m[0, 0], m[0, 2], m[1, 1], m[1, 2]
    plan[KIND], plan[TURNED], plan[SIDE], plan[HALVINGS] = AXIS, 0, side, 0
    if m[0, 1] != 0.0 or m[1, 0] != 0.0:
        if m[0, 0] != 0.0 or m[1, 1] != 0.0:
            plan[KIND] = GENERAL
            shrink = np.sqrt(abs(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])) * side / size
            while shrink > SHARP and plan[SIDE] >= 4:
                plan[SIDE] = _halve(s.copy if plan[HALVINGS] else square, plan[SIDE], s.copy)
                plan[HALVINGS] += 1
                shrink *= 0.5
            _pack(s.copy if plan[HALVINGS] else square, s.packed[: plan[SIDE] ** 2])
            return
        copied = s.copy.reshape((side, side, 3))
        copied[:] = square.reshape((side, side, 3)).transpose((1, 0, 2))
        plan[TURNED] = 1
        x_gain, x_offset, y_gain, y_offset = m[1, 0], m[1, 2], m[0, 1], m[0, 2]
    elif side == size and x_gain == 1.0 and x_offset == 0.0 and y_gain == 1.0 and y_offset == 0.0:
        plan[KIND] = COPY
        return
    taps, low, high = _taps(y_gain, y_offset, size, side, s.first[1], s.weight[1])
    plan[Y_TAPS], plan[Y_LOW], plan[Y_HIGH] = taps, low, high
    taps, low, high = _taps(x_gain, x_offset, size, side, first, s.weight[0])
    plan[X_TAPS], plan[X_LOW], plan[X_HIGH] = taps, low, high
    if high > low:
        left, right = min(first[low], first[high - 1]), max(first[low], first[high - 1]) + taps
        plan[LEFT], plan[SPAN] = left * 3, (right - left) * 3
        for o in range(low, high):
            first[o] = (first[o] - left) * 3


@inlined(fastmath=FAST)
def _sample_rows(
    square: Array, side: int, m: Array, y0: int, y1: int, size: int, fill: np.float32, s: Scratch
) -> None:
    """Rows y0 to y1 of an image before colour, into `s.block`[:, PAD : PAD + 3T]."""
    plan, block = s.plan, s.block
    if plan[KIND] == COPY:
        for y in range(y0, y1):
            whole, row = square[y * size * 3 : (y + 1) * size * 3], block[y - y0, PAD:]
            for i in range(3 * size):
                row[i] = np.float32(whole[i])
        return
    if plan[KIND] == GENERAL:
        scale = side * 0.5 ** plan[HALVINGS]
        for y in range(y0, y1):
            _sample_general(s.packed, plan[SIDE], scale, m, y, size, fill, block[y - y0])
        return
    first, weight, line = s.first, s.weight, s.line
    source = s.copy if plan[TURNED] else square
    left, span, x_taps, y_taps = plan[LEFT], plan[SPAN], plan[X_TAPS], plan[Y_TAPS]
    for y in range(y0, y1):
        row, low, high = block[y - y0], plan[X_LOW], plan[X_HIGH]
        if y < plan[Y_LOW] or y >= plan[Y_HIGH] or low >= high:
            low, high = size, size
        else:
            start = first[1, y] * side * 3 + left
            _blend_rows(source, start, side * 3, weight[1], y * y_taps, y_taps, span, line)
            _blend_columns(line, first[0], weight[0], x_taps, low, high, row)
        for i in range(PAD, PAD + 3 * low):
            row[i] = fill
        for i in range(PAD + 3 * high, PAD + 3 * size):
            row[i] = fill


@inlined()
def _mean_grey(square: Array, side: int, box: Array, step: int) -> np.float32:
    total = 0
    for y in range(box[0], box[2]):
        for x in range(box[1], box[3]):
            p = np.uint64((y * side + x) * step * 3)
            total += 299 * square[p] + 587 * square[p + np.uint64(1)]
            total += 114 * square[p + np.uint64(2)]
    return np.float32(total / (1000 * (box[2] - box[0]) * (box[3] - box[1])))


@inlined(fastmath=FAST)
def _plan_colour(
    square: Array, side: int, factors: Array, box: Array, step: int, scale: Array, offset: Array,
    s: Scratch,
) -> None:  # fmt: skip
    """Fill `s.table` (8, 3T): what each of five neighbours in a row gives to a value (mixing three
    channels is a band matrix of width five), what is added, and the bounds."""
    bright, contrast, colourful = factors[0], factors[1], factors[2]
    unit, added, size = np.float32(1.0), np.float32(0.0), s.first.shape[1]
    if contrast != unit:
        added = (unit - contrast) * bright * _mean_grey(square, side, box, step)
    own, grey = colourful * contrast * bright, (unit - colourful) * contrast * bright
    s.plan[GREY] = 1 if colourful != unit else 0
    for c in range(3):
        for d in range(max(0, 2 - c), min(5, 5 - c)):
            of = c + d - 2
            share = grey * (RED if of == 0 else GREEN if of == 1 else BLUE)
            share = (share + own if d == 2 else share) * scale[c]
            for x in range(size):
                s.table[d, 3 * x + c] = share
        for x in range(size):
            s.table[5, 3 * x + c] = added * scale[c] + offset[c]


@inlined(fastmath=FAST)
def _finish_rows(s: Scratch, erase: Array, blank: Array, y0: int, out: Array) -> None:
    """Colour, normalise, clip and erase rows y0 on: `out` (rows, 3T)."""
    table = s.table
    own, added, low, high = table[2], table[5], table[6], table[7]
    ta, tb, td, te = table[0], table[1], table[3], table[4]
    for r in range(out.shape[0]):
        row, into = s.block[r], out[r]
        m = into.shape[0]
        middle = row[PAD : PAD + m]
        if s.plan[GREY]:
            a, b, d, e = row[PAD - 2 :], row[PAD - 1 :], row[PAD + 1 :], row[PAD + 2 :]
            for i in range(m):
                value = a[i] * ta[i] + b[i] * tb[i] + d[i] * td[i] + e[i] * te[i]
                value += middle[i] * own[i] + added[i]
                into[i] = min(max(value, low[i]), high[i])
        else:
            for i in range(m):
                into[i] = min(max(middle[i] * own[i] + added[i], low[i]), high[i])
        if erase[0] <= y0 + r < erase[2]:
            for x in range(erase[1], erase[3]):
                for c in range(3):
                    into[3 * x + c] = blank[c]


@inlined(fastmath=FAST)
def _mix(a: Array, b: Array, lam: np.float32, box: Array) -> None:
    """Two finished images (T, 3T), while a cache holds them: `lam` of its own within `box`."""
    for y in range(box[0], box[2]):
        one, two = a[y, 3 * box[1] : 3 * box[3]], b[y, 3 * box[1] : 3 * box[3]]
        for i in range(one.shape[0]):
            p, q = one[i], two[i]
            one[i] = q + (p - q) * lam
            two[i] = p + (q - p) * lam


@compiled(fastmath=FAST)
def render_floats(
    pixels: Array, rows: Array, matrix: Array, colour: Array, erase: Array, boxes: Array, step: int,
    scale: Array, offset: Array, fill: np.float32, pairs: Array, lam: np.float32, box: Array,
    out: Array, start: int, stop: int,
) -> None:  # fmt: skip
    """Fill images `pairs[start:stop]` of `out`.

    pixels (N, S, S, 3) uint8; rows (n,) int64 of them; matrix (n, 2, 3), colour (n, 3), erase
    (n, 4): see Draws; boxes (n, 4), step: see grey_boxes; a value x becomes x * scale + offset
    (both (3,) float32, scale > 0), erased ones 0; pairs (m, 2) int64: images mixed with each
    other, the same one twice where it stays alone; lam: an image's own share within box (4,)
    int64 y0, x0, y1, x1; out (n, T, T * 3) float32."""
    side, size = pixels.shape[1], out.shape[1]
    s, blank = _scratch(side, size, scale, offset), np.zeros(3, np.float32)
    for p in range(start, stop):
        first, second = pairs[p, 0], pairs[p, 1]
        for k in range(1 if first == second else 2):
            i = pairs[p, k]
            square = pixels[rows[i]].reshape(-1)
            _plan_geometry(square, side, matrix[i], size, s)
            _plan_colour(square, side, colour[i], boxes[i], step, scale, offset, s)
            for y in range(0, size, len(s.block)):
                end = min(y + len(s.block), size)
                _sample_rows(square, side, matrix[i], y, end, size, fill, s)
                _finish_rows(s, erase[i], blank, y, out[i, y:end])
        if first != second:
            _mix(out[first], out[second], lam, box)


@compiled(fastmath=FAST)
def render_bytes(
    pixels: Array, rows: Array, matrix: Array, colour: Array, erase: Array, boxes: Array, step: int,
    fill: np.float32, blank: Array, out: Array, start: int, stop: int,
) -> None:  # fmt: skip
    """The same for images `start` to `stop` of `out` (n, T, T * 3) uint8: nothing is normalised or
    mixed, what is erased becomes `blank` (3,) float32."""
    side, size = pixels.shape[1], out.shape[1]
    scale, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    s = _scratch(side, size, scale, offset)
    done = np.empty((len(s.block), size * 3), np.float32)
    for i in range(start, stop):
        square = pixels[rows[i]].reshape(-1)
        _plan_geometry(square, side, matrix[i], size, s)
        _plan_colour(square, side, colour[i], boxes[i], step, scale, offset, s)
        for y in range(0, size, len(done)):
            end = min(y + len(done), size)
            _sample_rows(square, side, matrix[i], y, end, size, fill, s)
            _finish_rows(s, erase[i], blank, y, done[: end - y])
            for r in range(end - y):
                for x in range(size * 3):
                    out[i, y + r, x] = np.uint8(np.int32(done[r, x] + np.float32(0.5)))
