from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.seeds import derive_seed

PARTS = st.lists(st.one_of(st.integers(), st.text(max_size=8)), max_size=4)


@settings(deadline=None, max_examples=50)
@given(PARTS)
def test_a_seed_is_a_non_negative_int_below_two_to_31(parts: list[object]) -> None:
    assert 0 <= derive_seed(*parts) < 2**31


def test_equal_parts_give_equal_seeds_in_another_process() -> None:
    code = "from trainables.seeds import derive_seed; print(derive_seed('fold', 3, 0.5))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derive_seed("fold", 3, 0.5)


def test_parts_do_not_run_into_each_other() -> None:
    seeds = {derive_seed("a", "bc"), derive_seed("ab", "c"), derive_seed("abc"), derive_seed(1)}
    seeds |= {derive_seed("1"), derive_seed()}
    assert len(seeds) == 6
