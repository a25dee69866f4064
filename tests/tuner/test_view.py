from __future__ import annotations

from dataclasses import replace

import pytest

from ensemble.blend_value import AppliedRules, Stability, Stage
from tests.tuner.made_runs import made_blend, text_of
from tests.tuner.simulation import World, rules
from tuner import events as ev
from tuner.race import Race
from tuner.view import (
    OPTIMISTIC,
    blend_view,
    duration,
    leaderboard,
    members_view,
    number,
    problems_view,
    race_view,
    short,
    short_names,
)


@pytest.fixture(scope="module")
def race() -> Race:
    return World(Race(rules()), fail={("c1", 0): 9}).run().race


def line_with(text: str, start: str) -> list[str]:
    """The words of the line that begins so."""
    return next(line.split() for line in text.splitlines() if line.startswith(start))


def test_the_live_table_has_a_row_for_every_backbone(race: Race) -> None:
    text = text_of(race_view(race, slots=2, elapsed=None))
    header = " ".join(line_with(text, "backbone"))
    assert header == "backbone tried running pruned promoted members failed best log_loss"
    assert line_with(text, "beta")[1] == "3"
    assert line_with(text, "beta")[6] == "1"


def test_the_totals_line_counts_and_names_the_budget(race: Race) -> None:
    text = text_of(race_view(race, slots=2, elapsed=125.0))
    spent = race.fold_epochs_spent
    assert f"configurations 9 of 9 · fold-epochs {spent} of {spent} · members 3 of 3" in text
    assert "failures 3 · 2 min 05 s" in text
    assert "left" not in text


def test_a_running_race_says_how_long_it_will_take() -> None:
    race = Race(rules())
    race.apply(ev.Proposed("c0", 0, "alpha", 4))
    race.apply(ev.Started("c0", 0))
    race.apply(ev.Reported("c0", 0, 1, {"log_loss": 0.5, "seconds": 4.0}))
    text = text_of(race_view(race, slots=2, elapsed=4.0))
    assert "4 s, about 1 min 58 s left" in text
    assert "failures" not in text


def test_an_empty_race_can_be_drawn() -> None:
    assert "configurations 0 of 9" in text_of(race_view(Race(rules()), slots=1, elapsed=0.0))


def test_a_race_without_a_bound_shows_counts_alone() -> None:
    text = text_of(race_view(Race(rules(configurations=None)), slots=1, elapsed=None))
    assert "configurations 0 · fold-epochs 0 · members 0 of 3" in text


def test_the_leaderboard_lists_members_first_and_reasons(race: Race) -> None:
    text = text_of(leaderboard(race, {}))
    rows = [line.split() for line in text.splitlines()[1:10]]
    assert [row[2] for row in rows[:3]] == ["member"] * 3
    assert "fold 0: out of luck" in text
    assert "mean: log_loss over the finished folds" in text
    assert "*" not in text


def test_an_optimistic_score_is_marked_and_explained(race: Race) -> None:
    best = race.members[0]
    text = text_of(leaderboard(race, {best: {"train": {"keep": "best"}}}))
    row = line_with(text, f"{best} ")
    assert row[3].endswith("*")
    assert row[4].endswith("*")
    assert OPTIMISTIC in text
    assert text.count("*") == 3


def test_without_a_marked_row_there_is_no_footnote(race: Race) -> None:
    text = text_of(leaderboard(race, {"c1": {"train": {"keep": "best"}}}))
    assert "optimistic" not in text


def test_weights_stand_beside_the_members_of_the_blend(race: Race) -> None:
    blend = made_blend(race.members[:2])
    text = text_of(leaderboard(race, {}, blend))
    assert line_with(text, f"{race.members[0]} ")[6] == "0.500"
    assert len(line_with(text, f"{race.members[2]} ")) == 6


def test_a_long_leaderboard_says_where_the_rest_is(race: Race) -> None:
    text = text_of(leaderboard(race, {}, limit=4))
    assert "(+5 more in fold_runs.parquet)" in text


def test_an_error_with_brackets_is_shown_as_it_is() -> None:
    race = Race(rules(max_failures=0))
    race.apply(ev.Proposed("c0", 0, "alpha", 4))
    race.apply(ev.Started("c0", 0))
    race.apply(ev.Failed("c0", 0, "KeyError: [bold] [/data/x.jpg]"))
    assert "fold 0: KeyError: [bold] [/data/x.jpg]" in text_of(leaderboard(race, {}))


def test_the_blend_leads_with_the_honest_score_and_its_interval() -> None:
    text = text_of(blend_view(made_blend()))
    assert "nested log_loss" in text
    assert "95 % interval" in text
    ensemble = " ".join(line_with(text, "ensemble "))
    assert ensemble == "ensemble 0.3000 0.2800 to 0.3200 0.3010 (0.2910 to 0.3110)"
    assert (
        "ensemble minus best single: -0.1000 (-0.1200 to -0.0800, more than chance explains)"
        in text
    )
    assert "in-sample 0.2900; 120 rows, 3 folds" in text
    assert "weights by greedy (nested log_loss: greedy 0.3000)" in text


def test_where_nothing_was_selected_there_is_no_score_without_a_probe_fold() -> None:
    text = text_of(blend_view(replace(made_blend(), probe_fold=-1)))
    assert "probe" not in text
    assert " ".join(line_with(text, "ensemble ")) == "ensemble 0.3000 0.2800 to 0.3200"


def test_members_are_explained_by_what_they_add() -> None:
    blend = made_blend()
    stable = Stability(mean=0.4, low=0.25, high=0.55, used=0.9, refits=20)
    first = replace(blend.members[0], stability=stable, without=0.35, only_right=0.012)
    text = text_of(members_view(replace(blend, members=(first, *blend.members[1:]))))
    assert " ".join(line_with(text, "c0 ")) == (
        "c0 0.4000 1.00 0.500 0.250 to 0.550 90 % 0.3500 1.20 %"
    )
    assert " ".join(line_with(text, "c1 ")) == "c1 0.4000 1.00 0.500 - - - -"
    assert "without it" not in text_of(members_view(blend, explain=False))


def test_the_way_of_the_blend_is_told_in_lines() -> None:
    blend = replace(
        made_blend(),
        metric="accuracy",
        choice="equal: as good as greedy, and simpler",
        stages=(Stage("weights", 0.9), Stage("rules", 0.95)),
        rules=AppliedRules("words.csv", 12, 0.75),
        metrics={"blend": {"log_loss": 0.7}, "best_single": {"log_loss": 0.5}},
    )
    text = " ".join(text_of(blend_view(blend)).split())
    assert "weights by equal: as good as greedy, and simpler" in text
    assert "as it is built: weights 0.9000, rules 0.9500" in text
    assert "rules touch 12 labelled rows and earned a trust of 0.75" in text
    assert "chosen for accuracy: its log loss is 0.7000, the best single member's 0.5000" in text


def test_without_resamples_there_are_scores_and_no_intervals() -> None:
    text = text_of(blend_view(made_blend(intervals=False)))
    assert " ".join(line_with(text, "ensemble ")) == "ensemble 0.3000 - 0.3010"
    assert "ensemble minus best single: -0.1000\n" in text
    assert "chance" not in text


def test_a_number_has_four_digits_and_nothing_is_a_dash() -> None:
    assert number(0.123456) == "0.1235"
    assert number(None) == number(float("nan")) == "-"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.2, "0 s"),
        (42.4, "42 s"),
        (59.6, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800.0, "2 h 10 min"),
        (360_000.0, "100 h 00 min"),
    ],
)
def test_a_duration_is_told_in_two_units_at_most(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_a_backbone_s_name_loses_hub_and_tag() -> None:
    assert short("convnext_tiny.fb_in22k_ft_in1k") == "convnext_tiny"
    assert short("hf_hub:timm/resnet18.a1_in1k") == "resnet18"
    assert short("local-dir:/models/mine/") == "mine"


def test_two_weights_of_one_model_can_be_told_apart() -> None:
    names = ("vit.dino", "vit.mae", "resnet18.a1_in1k", "hf_hub:a/x", "hf_hub:b/x")
    assert short_names(names) == {
        "vit.dino": "vit.dino",
        "vit.mae": "vit.mae",
        "resnet18.a1_in1k": "resnet18",
        "hf_hub:a/x": "hf_hub:a/x",
        "hf_hub:b/x": "hf_hub:b/x",
    }


def test_problems_are_shown_with_paths_as_they_are() -> None:
    text = text_of(problems_view([("empty image", "/data/[a]/b.jpg", "has 0 bytes")]))
    assert line_with(text, "problem") == ["problem", "where", "detail"]
    assert "/data/[a]/b.jpg" in text
    assert "has 0 bytes" in text
