from __future__ import annotations

from tuner.work import AskPromotion, Done, Propose, StartFold, Wait


def test_work_is_a_value_and_every_kind_its_own() -> None:
    kinds = [StartFold("c0", 1), StartFold("c0", 2), Propose(), AskPromotion(), Wait(), Done()]
    assert len(set(kinds)) == len(kinds)
    assert StartFold("c0", 1) == StartFold("c0", 1)
    assert Wait() == Wait() != Done()
