"""The single door for seeds: every random choice derives its seed from named parts."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on the `repr` of every part and on nothing else.

    Equal parts give the same seed in every process and on every machine, so parts must be values
    whose `repr` is stable (numbers, strings, tuples of them).
    """
    text = "\x1f".join(repr(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF
