from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ensemble.blend import BlendSettings, fit_blend, read_blend
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.metrics import LOG_LOSS
from ensemble.predictions import Predictions
from ensemble.run import blend_run, needs_only_true_class, read_fold_table, read_nested
from ensemble.store import OofStore, read_predictions, write_predictions
from tests.ensemble.made import made_members, metadata
from tests.ensemble.made_library import made_library, overrides

SETTINGS = BlendSettings(bootstrap=20, greedy_steps=5, refits=2)
TRUE_CLASS = replace(SETTINGS, calibrate=False, calibrate_blend="none", methods=("convex",))
CLASSES = ("cat", "dog", "élan")


def write_folds(run: Location, member: Predictions, group: list[str | None] | None = None) -> None:
    table = pd.DataFrame(
        {
            "id": member.ids,
            "path": [f"images/{name}" for name in member.ids],
            "label": member.labels,
            "group": pd.Series(group or [None] * member.n_rows, dtype="string"),
            "fold": member.folds,
        }
    )
    (run / "folds.parquet").write_bytes(table.to_parquet(index=False))


def store_fold(run: Location, name: str, member: Predictions, fold: int, **about: str) -> None:
    rows = member.take(member.folds == fold)
    where = OofStore(run).fold_location("oof", name, fold)
    write_predictions(where, rows, metadata(name, **about))  # type: ignore[arg-type]


def filled(run: Location) -> dict[str, Predictions]:
    members = made_members()
    write_folds(run, members["c0"])
    for name, member in members.items():
        for fold in range(3):
            store_fold(run, name, member, fold)
    return members


@pytest.fixture
def run(tmp_path: Path) -> Location:
    return Location.of(tmp_path / "run")


def test_the_blend_of_a_run_is_that_of_its_members_and_is_written(run: Location) -> None:
    members = filled(run)
    said: list[str] = []
    fitted = blend_run(run, SETTINGS, n_folds=3, progress=said.append)
    direct = fit_blend(members, CLASSES, SETTINGS)
    assert fitted.blend.data_fingerprint == "f00d"
    assert fitted.blend.to_dict() == direct.to_dict() | {"data_fingerprint": "f00d"}
    assert read_blend(run / "blend.json") == fitted.blend
    assert "reading member 1 of 4: c0" in said


def test_the_nested_predictions_are_written_as_a_member_of_the_store_would_be(
    run: Location,
) -> None:
    members = filled(run)
    fitted = blend_run(run, SETTINGS, n_folds=3)
    stored, about = read_predictions(run / "blend_oof.parquet")
    assert (about.classes, about.config_id, about.data_fingerprint) == (CLASSES, "blend", "f00d")
    assert about.metrics == dict(fitted.blend.metrics["blend"])
    assert stored.ids.tolist() == members["c0"].ids.tolist()
    assert stored.labels.tolist() == members["c0"].labels.tolist()
    assert stored.folds.tolist() == members["c0"].folds.tolist()
    np.testing.assert_array_equal(stored.proba, fitted.nested.proba)
    np.testing.assert_allclose(
        LOG_LOSS(stored.labels, stored.proba), fitted.blend.score.value, atol=1e-6
    )
    other = pq.read_table((run / "blend_oof.parquet").local_path)  # by any other program
    assert {"id", "label", "fold", "p_true", "proba"} <= set(other.column_names)


def test_a_blend_without_nested_predictions_takes_away_those_of_the_last_one(
    run: Location,
) -> None:
    filled(run)
    first = blend_run(run, SETTINGS, n_folds=3).blend
    assert read_nested(run, first) is not None
    assert (run / "analysis" / "reliability_before.parquet").exists()
    second = blend_run(run, TRUE_CLASS, n_folds=3).blend
    assert not (run / "blend_oof.parquet").exists()
    assert not (run / "analysis").exists()
    assert read_nested(run, second) is None


def test_nested_predictions_of_another_blend_are_not_taken_for_its_own(run: Location) -> None:
    filled(run)
    first = blend_run(run, SETTINGS, n_folds=3).blend
    left = (run / "blend.json").read_bytes()
    second = blend_run(run, replace(SETTINGS, methods=("best_single",)), n_folds=3).blend
    (run / "blend.json").write_bytes(left)  # as a kill between the two files leaves them
    assert read_nested(run, read_blend(run / "blend.json")) is None
    assert read_nested(run, first) is None
    stored = read_nested(run, second)
    assert stored is not None
    assert LOG_LOSS(stored.labels, stored.proba) == pytest.approx(second.score.value, abs=1e-6)


def test_reliability_before_calibration_is_kept_for_the_page(run: Location) -> None:
    filled(run)
    fitted = blend_run(run, SETTINGS, n_folds=3)
    table = pq.read_table((run / "analysis" / "reliability_before.parquet").local_path).to_pandas()
    assert set(table["model"]) == {"blend"}
    proba = fitted.before_calibration.proba
    assert proba is not None
    assert table["rows"].sum() == len(proba)
    filled_bins = table[table["rows"] > 0]
    mean = np.average(filled_bins["confidence"], weights=filled_bins["rows"])
    assert mean == pytest.approx(proba.max(axis=1).mean(), abs=1e-6)
    right = proba.argmax(axis=1) == fitted.library.labels
    accuracy = np.average(filled_bins["accuracy"], weights=filled_bins["rows"])
    assert accuracy == pytest.approx(right.mean())


@pytest.mark.parametrize("grouped", [False, True])
def test_log_loss_without_calibration_reads_only_the_true_class(
    run: Location, grouped: bool
) -> None:
    members = filled(run)
    if grouped:
        groups: list[str | None] = [f"patient {i % 6}" if i % 5 else None for i in range(120)]
        write_folds(run, members["c0"], groups)
    settings = replace(
        SETTINGS, calibrate=False, calibrate_blend="none", methods=("equal", "convex", "greedy")
    )
    assert needs_only_true_class(settings)
    said: list[str] = []
    short = blend_run(run, settings, n_folds=3, progress=said.append)
    assert "reading the true class's probabilities of 4 members" in said
    assert short.library.probs is None
    assert (run / "blend.json").exists()
    assert not (run / "blend_oof.parquet").exists()
    table = read_fold_table(run / "folds.parquet")
    whole = fit_blend(members, CLASSES, settings, groups=table.groups if grouped else None)
    assert short.blend.method == whole.method
    assert short.blend.score.value == pytest.approx(whole.score.value, abs=1e-6)
    assert short.blend.score.low == pytest.approx(whole.score.low, abs=1e-6)
    assert short.blend.in_sample == pytest.approx(whole.in_sample, abs=1e-6)
    for a, b in zip(short.blend.members, whole.members, strict=True):
        assert (a.config_id, a.weight) == (b.config_id, pytest.approx(b.weight, abs=1e-6))
        assert a.without == pytest.approx(b.without, abs=1e-6)
    assert read_blend(run / "blend.json") == short.blend


def test_a_factor_on_the_probabilities_is_not_stored_as_the_true_class_s(run: Location) -> None:
    def score_of_scaled(by: float) -> float:
        for name, one in filled(run).items():
            proba = (one.proba * 0.9 + 0.1 / 3) * by
            other = Predictions(one.ids, one.labels, one.folds, proba)
            for fold in range(3):
                store_fold(run, name, other, fold)
        return blend_run(run, TRUE_CLASS, n_folds=3).blend.score.value

    assert score_of_scaled(1.0009) == pytest.approx(score_of_scaled(1.0), abs=1e-6)


@pytest.mark.parametrize(
    "more",
    [
        {"calibrate": True},
        {"calibrate_blend": "temperature"},
        {"groups": "auto"},
        {"metric": "accuracy"},
        {"methods": ("auto",)},
    ],
)
def test_all_classes_are_read_where_something_needs_them(run: Location, more: dict) -> None:
    filled(run)
    plain = {"calibrate": False, "calibrate_blend": "none", "methods": ("equal", "convex")}
    settings = replace(SETTINGS, **(plain | more))  # type: ignore[arg-type]
    assert not needs_only_true_class(settings)
    assert blend_run(run, settings, n_folds=3).library.probs is not None


def test_rules_are_fitted_with_the_blend_and_need_all_classes(run: Location) -> None:
    members = filled(run)
    library = made_library(rows=120)  # the same ids
    labels = members["c0"].labels
    rules = overrides(replace(library, labels=labels), right=0.95)
    settings = replace(
        SETTINGS, calibrate=False, calibrate_blend="none", methods=("equal", "convex")
    )
    fitted = blend_run(run, settings, n_folds=3, rules=rules)
    assert fitted.blend.rules is not None
    assert [stage.name for stage in fitted.blend.stages] == ["weights", "rules"]
    assert fitted.blend.stages[1].nested < fitted.blend.stages[0].nested
    assert fitted.blend == replace(
        fit_blend(members, CLASSES, settings, rules=rules), data_fingerprint="f00d"
    )


def test_only_complete_members_count_while_a_search_is_running(run: Location) -> None:
    members = made_members()
    write_folds(run, members["c0"])
    for fold in range(3):
        store_fold(run, "c2", members["c2"], fold)
    store_fold(run, "c1", members["c1"], 0)
    for settings in (SETTINGS, TRUE_CLASS):
        blend = blend_run(run, settings, n_folds=3).blend
        assert [(member.config_id, member.weight) for member in blend.members] == [("c2", 1.0)]
    for fold in (1, 2):
        store_fold(run, "c1", members["c1"], fold)
    for settings in (SETTINGS, TRUE_CLASS):
        blend = blend_run(run, settings, n_folds=3).blend
        assert {member.config_id for member in blend.members} == {"c1", "c2"}


def test_no_complete_member_says_how_far_the_furthest_is(run: Location) -> None:
    with pytest.raises(BlendError, match=r"no complete member yet: .* holds no predictions"):
        blend_run(run, SETTINGS, n_folds=3)
    members = made_members()
    write_folds(run, members["c0"])
    store_fold(run, "c0", members["c0"], 0)
    for fold in (0, 2):
        store_fold(run, "c1", members["c1"], fold)
    with pytest.raises(BlendError, match=r"no complete member yet: of 2 .*c1 .* 2 of 3 folds"):
        blend_run(run, SETTINGS, n_folds=3)
    assert not (run / "blend.json").exists()


def test_members_can_be_named(run: Location) -> None:
    filled(run)
    blend = blend_run(run, SETTINGS, n_folds=3, config_ids=["c3", "c1", "c3"]).blend
    assert {member.config_id for member in blend.members} == {"c1", "c3"}
    with pytest.raises(BlendError, match="no configuration 'c33'; did you mean c3"):
        blend_run(run, SETTINGS, n_folds=3, config_ids=["c33"])
    with pytest.raises(BlendError, match=r"c1: folds \[3\] of 4 are not stored yet"):
        blend_run(run, SETTINGS, n_folds=4, config_ids=["c1"])
    with pytest.raises(BlendError, match="at least one configuration"):
        blend_run(run, SETTINGS, n_folds=3, config_ids=[])


def test_groups_of_the_run_are_resampled_together(run: Location) -> None:
    members = filled(run)
    alone = blend_run(run, SETTINGS, n_folds=3).blend.score
    groups = [f"patient {i % 6}" if i % 5 else None for i in range(120)]
    write_folds(run, members["c0"], groups)
    grouped = blend_run(run, SETTINGS, n_folds=3).blend.score
    expected = fit_blend(members, CLASSES, SETTINGS, groups=np.array(groups, dtype=object))
    assert grouped == expected.score
    assert grouped.value == alone.value
    assert (grouped.low, grouped.high) != (alone.low, alone.high)


@pytest.mark.parametrize("true_class", [False, True])
def test_rows_that_contradict_the_fold_table_are_refused(run: Location, true_class: bool) -> None:
    settings = TRUE_CLASS if true_class else SETTINGS
    members = filled(run)
    one = members["c0"]

    def refused(message: str) -> None:
        with pytest.raises(BlendError, match=message) as caught:
            blend_run(run, settings, n_folds=3)
        assert "\n" not in str(caught.value)
        assert not (run / "blend.json").exists()

    write_folds(run, one.take(slice(0, 100)))
    refused("config_id=c0.*expected .* ids.*, got .*: .*image 1")
    write_folds(run, Predictions(one.ids, (one.labels + 1) % 3, one.folds, one.proba))
    refused(r"c0.*id 'image \d+.jpg': expected label \d as in folds.parquet")
    write_folds(run, Predictions(one.ids, one.labels, (one.folds + 1) % 3, one.proba))
    refused(r"c0.*(expected fold \d as in|ids of fold \d in) folds.parquet, got \d")


@pytest.mark.parametrize("true_class", [False, True])
def test_rows_without_a_label_are_refused(run: Location, true_class: bool) -> None:
    members = made_members(members=1)
    one = members["c0"]
    unknown = Predictions(
        one.ids, np.where(np.arange(120) == 7, -1, one.labels), one.folds, one.proba
    )
    write_folds(run, unknown)
    for fold in range(3):
        store_fold(run, "c0", unknown, fold)
    with pytest.raises(BlendError, match=r"label in every row, got 1 without \(first id 'image 7"):
        blend_run(run, TRUE_CLASS if true_class else SETTINGS, n_folds=3)


def test_members_of_other_data_or_classes_are_refused(run: Location) -> None:
    members = filled(run)
    for fold in range(3):
        store_fold(run, "c3", members["c3"], fold, fingerprint="beef")
    with pytest.raises(
        BlendError, match=r"c0 and c3 were trained on different data .f00d and beef"
    ):
        blend_run(run, SETTINGS, n_folds=3)
    for fold in range(3):
        store_fold(run, "c3", members["c3"], fold, classes=("x", "y", "z"))  # type: ignore[arg-type]
    with pytest.raises(BlendError, match="c0 and c3 have different classes"):
        blend_run(run, SETTINGS, n_folds=3)


def test_a_damaged_fold_table_is_named(run: Location) -> None:
    (run / "folds.parquet").write_bytes(b"no parquet")
    with pytest.raises(BlendError, match=r"folds.parquet: not a table of folds"):
        read_fold_table(run / "folds.parquet")
    pd.DataFrame({"id": ["a"]}).to_parquet((run / "folds.parquet").local_path)
    with pytest.raises(BlendError, match=r"folds.parquet: .*label"):
        read_fold_table(run / "folds.parquet")


def test_the_fold_table_keeps_order_and_missing_groups(run: Location) -> None:
    member = made_members(rows=6)["c0"]
    write_folds(run, member, ["a", None, "b", "a", None, "b"])
    table = read_fold_table(run / "folds.parquet")
    assert table.ids.tolist() == member.ids.tolist()
    assert table.groups.tolist() == ["a", None, "b", "a", None, "b"]
    assert table.folds.tolist() == member.folds.tolist()
    assert table.labels.tolist() == member.labels.tolist()


def test_a_run_on_s3_is_blended_in_place(s3_endpoint: str) -> None:
    run = Location.of(f"s3://runs/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}")
    members = filled(run)
    blend = blend_run(run, SETTINGS, n_folds=3).blend
    assert read_blend(run / "blend.json") == blend
    assert blend.score == fit_blend(members, CLASSES, SETTINGS).score
