from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.files import Location
from ensemble.predictions import Predictions
from ensemble.store import OofStore, StoreMetadata, write_predictions
from search_spaces.config import BackboneConfig, Configuration, LossConfig
from tests.trainables.made_models import made_state, write_model_folder
from trainables.backbone import (
    BackboneError,
    build_backbone,
    check_backbone,
    check_earlier_runs,
    optimism_of_earlier_runs,
)
from trainables.earlier_run import check_same_folds, earlier_fold, split_folder
from trainables.errors import DataError
from trainables.folds import FoldTable, write_folds
from trainables.manifest import Manifest
from trainables.recipe import Recipe, WeightsNotHereError
from trainables.run_paths import RunPaths
from trainables.task import FoldTask
from trainables.weights import save_weights

FOLDS = (0, 1, 2, 0, 1, 2)
IDS = tuple(f"i{number}" for number in range(6))
KEY = "backbone.from_run"
ARCFACE = LossConfig(name="arcface", scale=16.0)
OTHER = "test_resnet"


def table(folds: Sequence[int] = FOLDS, ids: Sequence[str] = IDS) -> FoldTable:
    return FoldTable(
        ids=tuple(ids),
        paths=tuple(ids),
        labels=np.array([number % 2 for number in range(len(ids))], np.int32),
        groups=None,
        folds=np.array(folds, np.int16),
        classes=("a", "b"),
    )


def write_run(root: Path, ours: FoldTable | None = None) -> Location:
    """The folds of a run, as its preparation leaves them."""
    ours = ours or table()
    manifest = Manifest(
        ids=ours.ids,
        paths=ours.paths,
        labels=ours.labels,
        groups=None,
        classes=ours.classes,
        label_values=ours.classes,
    )
    run = Location.of(root)
    write_folds(RunPaths(run).folds, manifest, ours.folds)
    return run


def write_fold(
    run: Location, fold: int, model: torch.nn.Module, recipe: Recipe, config_id: str = "c1"
) -> str:
    """Weights as a fold run leaves them; returns what `from_run` is told."""
    configuration = Configuration.model_construct(backbone=BackboneConfig(name="x"))
    task = FoldTask(str(run), config_id, configuration, fold)
    save_weights(RunPaths(run).weights(config_id, fold), model, recipe, task)
    return f"{run}/weights/{config_id}"


def filled(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator))
    return model


def assert_same(model: torch.nn.Module, state: dict[str, torch.Tensor], *but: str) -> None:
    own = model.state_dict()
    different = {key for key in own if key not in state or not own[key].equal(state[key])}
    assert {key for key in different if not key.startswith(but or ("-",))} == set()


# --- whose rows these weights know -----------------------------------------------------------


def test_a_run_of_the_same_folds_passes_even_with_more_rows_in_another_order(
    tmp_path: Path,
) -> None:
    check_same_folds(table(), write_run(tmp_path / "same"))
    more = table((2, *reversed(FOLDS)), ("extra", *reversed(IDS)))
    check_same_folds(table(), write_run(tmp_path / "more", more))


@pytest.mark.parametrize(
    ("folds", "ids", "said"),
    [
        ((0, 1, 2, 0, 2, 2), IDS, "1 of 6 rows differ, first i4: in fold 1 here, was in fold 2"),
        ((0, 1, 2), IDS[:3], "3 of 6 rows differ, first i3: in fold 0 here, is not in it"),
        (FOLDS, [f"x{id_}" for id_ in IDS], "6 of 6 rows differ"),
    ],
)
def test_weights_that_saw_a_rows_label_are_refused_in_one_line(
    tmp_path: Path, folds: Sequence[int], ids: Sequence[str], said: str
) -> None:
    run = write_run(tmp_path / "run", table(folds, ids))
    with pytest.raises(DataError, match=said) as caught:
        check_same_folds(table(), run)
    assert "\n" not in str(caught.value)
    config = BackboneConfig(name=OTHER, from_run=f"{run}/weights/c1")
    for refused in (
        lambda: check_earlier_runs(config, table()),
        lambda: build_backbone(config, 2, 32, folds=table()),
    ):
        with pytest.raises(BackboneError, match=f"backbone.from_run=.*{said}"):
            refused()


def test_the_fold_table_is_needed() -> None:
    config = BackboneConfig(name=OTHER, from_run="/run/weights/c1")
    with pytest.raises(ValueError, match=r"backbone\.from_run: the run's fold table is needed"):
        build_backbone(config, 2, 32)


# --- where it lies ---------------------------------------------------------------------------


def test_a_folder_is_split_into_run_and_configuration(tmp_path: Path) -> None:
    assert split_folder(f"{tmp_path}/r/weights/c1/", KEY) == (Location.of(tmp_path / "r"), "c1")
    uri = "s3://bucket/r/weights/c1?endpoint_override=host:1"
    expected = Location("s3://bucket/r?endpoint_override=host:1")
    assert split_folder(uri, KEY) == (expected, "c1")


@pytest.mark.parametrize("folder", ["/run", "/run/weights", "/run/c1", "/run/weights/c1/fold=0"])
def test_another_folder_is_told_what_was_expected(folder: str) -> None:
    config = BackboneConfig(name=OTHER, from_run=folder)
    with pytest.raises(BackboneError, match=r"from_run=.*: expected RUN/weights/CONFIG_ID"):
        check_backbone(config)


def test_what_is_missing_or_damaged_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotHereError, match=r"from_run=.*folds\.parquet: no such file"):
        earlier_fold(f"{tmp_path}/no/weights/c1", 0, table(), KEY)
    run = write_run(tmp_path / "run")
    folder = f"{run}/weights/c1"
    with pytest.raises(WeightsNotHereError, match=r"fold=1/model\.safetensors is missing"):
        earlier_fold(folder, 1, table(), KEY)
    RunPaths(run).weights("c1", 1).write_bytes(b"words")
    with pytest.raises(BackboneError, match="does not say which model it is for") as caught:
        earlier_fold(folder, 1, table(), KEY)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, WeightsNotHereError)  # nothing will come


# --- what is taken from it -------------------------------------------------------------------


def test_each_fold_starts_from_its_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    states = []
    for fold in range(3):
        built = build_backbone(BackboneConfig(name=OTHER), 2, 32)
        states.append(filled(built.model, fold).state_dict())
        folder = write_fold(run, fold, built.model, built.recipe)
    config = BackboneConfig(name=OTHER, from_run=folder, pretrained=True)  # the hub is not asked
    check_backbone(config)
    check_earlier_runs(config, table())
    for fold, state in enumerate(states):
        again = build_backbone(config, 2, 32, fold=fold, folds=table())
        assert_same(again.model, state)
    assert_same(build_backbone(config, 5, 32, folds=table()).model, states[0], "fc.")


@pytest.mark.parametrize(
    ("train", "expected"),
    [({}, False), ({"keep": "last", "patience": 0}, False), ({"keep": "best"}, True),
     ({"keep": "last", "patience": 3}, True)],
)  # fmt: skip
def test_an_earlier_run_that_kept_its_best_epoch_is_noted(
    tmp_path: Path, train: dict[str, object], expected: bool
) -> None:
    run = write_run(tmp_path / "run")
    proba = np.full((2, 2), 0.5, np.float32)
    rows = Predictions(
        np.array(IDS[:2], object), np.zeros(2, np.int32), np.zeros(2, np.int16), proba
    )
    metadata = StoreMetadata(("a", "b"), "c1", {"train": train}, {}, "0")
    write_predictions(OofStore(run).fold_location("oof", "c1", 0), rows, metadata)
    config = BackboneConfig(name=OTHER, from_run=f"{run}/weights/c1")
    notes = optimism_of_earlier_runs(config)
    assert len(notes) == expected
    assert all(note.startswith(f"backbone.from_run={run}/weights/c1: its epoch") for note in notes)


def test_without_out_of_fold_rows_and_without_an_earlier_run_there_is_no_note(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run")
    assert not optimism_of_earlier_runs(BackboneConfig(name=OTHER, from_run=f"{run}/weights/c1"))
    assert not optimism_of_earlier_runs(BackboneConfig(name=OTHER))


def test_positions_are_resized_to_the_image(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    built = build_backbone(BackboneConfig(name="test_vit"), 2, 32)
    folder = write_fold(run, 0, filled(built.model, 0), built.recipe)
    config = BackboneConfig(name="test_vit", from_run=folder)
    model = build_backbone(config, 2, 64, folds=table()).model
    assert_same(model, built.model.state_dict(), "pos_embed")


def test_a_fusion_starts_from_two_plain_models(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    folders, states = {}, {}
    for seed, name in enumerate(("test_vit", "test_convnext")):
        built = build_backbone(BackboneConfig(name=name), 2, 32)
        states[name] = filled(built.model, seed).state_dict()
        folders[name] = write_fold(run, 0, built.model, built.recipe, config_id=f"c{seed}")
    config = BackboneConfig(
        name="test_vit",
        from_run=folders["test_vit"],
        second="test_convnext",
        second_from_run=folders["test_convnext"],
    )
    model = build_backbone(config, 2, 32, folds=table()).model
    for backbone, state in zip(model.backbones, states.values(), strict=True):  # type: ignore[call-overload]
        assert_same(backbone, state)


@pytest.mark.parametrize("loss", [None, ARCFACE])
def test_a_fusion_starts_from_a_fusion_with_its_classifier(
    tmp_path: Path, loss: LossConfig | None
) -> None:
    run = write_run(tmp_path / "run")
    config = BackboneConfig(name="test_vit", second=OTHER)
    built = build_backbone(config, 2, 32, loss=loss)
    folder = write_fold(run, 0, filled(built.model, 1), built.recipe)
    config = config.model_copy(update={"from_run": folder, "second_from_run": folder})
    model = build_backbone(config, 2, 32, loss=loss, folds=table()).model
    assert_same(model, built.model.state_dict())
    # Another number of classes, or another kind of head: a fresh classifier.
    for classes, other in ((3, loss), (2, None if loss else ARCFACE)):
        fresh = build_backbone(config, classes, 32, loss=other, folds=table()).model
        assert_same(fresh, built.model.state_dict(), "head.")
        assert not torch.equal(
            fresh.state_dict()["head.weight"][:2], built.model.state_dict()["head.weight"]
        )


def test_one_half_of_a_fusion_starts_a_plain_model(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    built = build_backbone(BackboneConfig(name="test_vit", second=OTHER), 2, 32)
    folder = write_fold(run, 0, filled(built.model, 1), built.recipe)
    config = BackboneConfig(name=OTHER, from_run=folder)
    model = build_backbone(config, 2, 32, folds=table()).model
    assert_same(model, built.model.backbones[1].state_dict(), "fc.")  # type: ignore[index]
    wrong = BackboneConfig(name="test_byobnet", from_run=folder)
    with pytest.raises(BackboneError, match="holds test_vit and test_resnet, not test_byobnet"):
        build_backbone(wrong, 2, 32, folds=table())


def test_a_model_folder_takes_the_first_model_of_the_earlier_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    built = build_backbone(BackboneConfig(name=OTHER), 2, 32)
    from_run = write_fold(run, 0, filled(built.model, 1), built.recipe)
    place = write_model_folder(tmp_path / "made", made_state(OTHER, 7), OTHER, 7)
    config = BackboneConfig(name=f"local-dir:{place}", from_run=from_run)
    assert_same(build_backbone(config, 2, 32, folds=table()).model, built.model.state_dict())
