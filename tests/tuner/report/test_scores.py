from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ensemble.blend_value import Blend, JudgedScore, Score
from tests.tuner.report.made_report import judged, report_blend, report_data
from tuner.report.blocks import Cards, Figure, Paragraph, Section, Table
from tuner.report.data import ReportData
from tuner.report.scores import headline, is_sure, words


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("scores") / "run")


def with_blend(data: ReportData, **changes: object) -> Section:
    return headline(replace(data, blend=report_blend(members(data), **changes)))


def members(data: ReportData) -> list[str]:
    assert data.blend is not None
    return [one.config_id for one in data.blend.members]


def texts(section: Section) -> str:
    return " ".join(str(one.text) for one in section.blocks if isinstance(one, Paragraph))


def nested(difference: JudgedScore) -> object:
    return replace(report_blend().nested, difference=difference)


def test_the_first_number_is_the_nested_one_and_the_in_sample_one_is_quiet(
    data: ReportData,
) -> None:
    cards = headline(data).blocks[0]
    assert isinstance(cards, Cards)
    assert [(card.value, card.quiet) for card in cards.cards] == [
        ("0.3123", False),
        ("0.4017", False),
        ("−0.0894", False),
        ("0.2987", True),
    ]
    assert "without the probe fold 0.3301" in cards.cards[0].below
    assert "not to be quoted" in cards.cards[3].below


def test_the_score_without_the_probe_fold_is_to_be_believed(data: ReportData) -> None:
    text = texts(headline(data))
    assert "<b>Believe 0.3301</b>" in text
    assert "with that fold the score looks 0.0178 better" in text
    assert "fewer rows." in text


def test_a_probe_fold_that_does_not_flatter_is_not_accused(data: ReportData) -> None:
    blend = report_blend(members(data))
    kinder = replace(blend.nested, blend=judged(0.35, 0.33))
    text = texts(headline(replace(data, blend=replace(blend, nested=kinder))))
    assert "<b>Believe 0.3300</b>" in text
    assert "do not make the score look better" in text


def test_for_accuracy_the_larger_score_flatters(data: ReportData) -> None:
    blend = replace(report_blend(members(data)), metric="accuracy")
    scores = replace(blend.nested, blend=judged(0.95, 0.93), difference=judged(0.05, 0.03))
    section = headline(replace(data, blend=replace(blend, nested=scores)))
    assert "looks 0.0200 better" in texts(section)
    assert "0.0500 better (more than chance explains)" in texts(section)
    figure = next(one for one in section.blocks if isinstance(one, Figure))
    assert str(figure.reading).startswith("Right is better")


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (judged(-0.0894, -0.08), "0.0894 better (more than chance explains)"),
        (judged(0.001, 0.08), "0.0010 worse (chance could explain it)"),
        (judged(0.0, 0.08), "<b>equal</b>"),
        (JudgedScore(-0.5, None, None, Score(-0.5, None, None)), "<b>0.5000 better</b>"),
    ],
)
def test_the_verdict_says_whether_chance_explains_it(
    data: ReportData, difference: JudgedScore, text: str
) -> None:
    assert text in texts(with_blend(data, nested=nested(difference)))


def test_an_interval_is_sure_when_it_leaves_out_nothing() -> None:
    assert is_sure(Score(0.5, 0.1, 0.9))
    assert not is_sure(Score(0.5, -0.1, 0.9))
    assert not is_sure(Score(0.5, None, None))


def test_members_that_chose_their_epoch_on_the_fold_are_a_warning(data: ReportData) -> None:
    first = members(data)[0]
    rows = tuple(replace(row, optimistic=row.config_id == first) for row in data.rows)
    section = headline(replace(data, rows=rows))
    assert "1 member of 2 kept the epoch" in texts(section)
    assert "optimistic" not in texts(headline(data))


def test_folds_stand_side_by_side_with_the_best_single(data: ReportData) -> None:
    table = [one for one in headline(data).blocks if isinstance(one, Table)][-1]
    assert [row[0] for row in table.rows] == ["0 (probe)", "1", "2"]


def test_before_a_blend_the_best_score_so_far_is_called_flattered(data: ReportData) -> None:
    section = headline(replace(data, blend=None))
    cards = section.blocks[0]
    assert isinstance(cards, Cards)
    assert cards.cards[0].quiet
    best = min(row.probe for row in data.rows if row.probe is not None)
    assert cards.cards[0].value == f"{best:.4f}"


def test_metrics_are_words() -> None:
    assert [words(one) for one in ("log_loss", "macro_f1", "auc")] == [
        "log loss",
        "macro F1",
        "AUC",
    ]


def test_a_blend_without_intervals_has_a_headline(data: ReportData, tmp_path: Path) -> None:
    def bare(value: float) -> JudgedScore:
        return JudgedScore(value, None, None, Score(value, None, None))

    blend: Blend = report_blend(members(data), bootstrap=0)
    scores = replace(blend.nested, blend=bare(0.3), difference=bare(-0.1))
    section = headline(replace(data, blend=replace(blend, nested=scores)))
    cards = section.blocks[0]
    assert isinstance(cards, Cards)
    assert "no interval" in cards.cards[0].below
