from __future__ import annotations

import dataclasses
import io
import shutil
import uuid
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ensemble.blend import BlendSettings
from ensemble.blend_value import read_blend
from ensemble.errors import BlendError
from ensemble.methods import METHODS
from ensemble.metrics import KNOWN_METRICS, get_metric
from ensemble.store import OofStore
from search_spaces.config import BLEND_METRICS, BlendConfig, BlendMethodName
from tests.conftest import TinyImages, _write_images
from tests.tuner.made_runs import made_run, made_study, made_world
from trainables.submission import SubmissionFormat
from tuner.errors import UserError
from tuner.finish import (
    blend_settings,
    blend_stored,
    require_members,
    save_ledger,
    write_run_submission,
)
from tuner.race import PROBE_FOLD
from tuner.replayed import StoredRun, read_run
from tuner.study import Outcome, search


def tiny_search(images: TinyImages, storage: str, *more: str) -> Outcome:
    return search(
        [
            *("experiment=scratch", f"storage='{storage}'", "name=run", "data=csv"),
            *(f"data.path={images.csv}", f"data.images={images.images}"),
            *(f"data.test_images={images.images}", "folds.k=2", "train.image_size=32"),
            *("train.epochs=1", "augment=none", "backbone=test_resnet", "blend.bootstrap=20"),
            *("optimizer.lr=interval(1e-3,4e-3)", *more),
        ],
        console=Console(quiet=True),
        in_process=True,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    return _write_images(tmp_path_factory.mktemp("finish") / "images", 3, 4, 32, 0)


@pytest.fixture(scope="module")
def finished(images: TinyImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members on two folds, and a sample submission in an order of its own."""
    sample = images.root / "sample.csv"
    order = sorted(images.ids, key=lambda name: name[::-1])[:7]
    sample.write_text("answer,image\n" + "".join(f"class_00,{name}\n" for name in order))
    root = tmp_path_factory.mktemp("runs")
    tiny_search(
        images,
        str(root),
        f"data.sample_submission={sample}",
        *("search.budget.configurations=2", "search.promotion.members=2"),
    )
    return root / "run"


@pytest.fixture
def stored(finished: Path, tmp_path: Path) -> StoredRun:
    """A copy of the finished run, to change."""
    shutil.copytree(finished, tmp_path / "run")
    return read_run(str(tmp_path / "run"))


def test_the_blend_s_settings_are_those_of_its_group() -> None:
    config = made_study().run
    settings = blend_settings(config.blend, seed=config.seed, probe_fold=PROBE_FOLD)
    for name, value in config.blend.model_dump().items():
        assert getattr(settings, name) == value
    assert settings.probe_fold == PROBE_FOLD
    chosen = BlendConfig(metric="accuracy", methods=("equal",), bootstrap=0, confidence=0.9)
    other = blend_settings(chosen, seed=config.seed, probe_fold=PROBE_FOLD)
    assert (other.metric, other.methods, other.bootstrap) == ("accuracy", ("equal",), 0)
    assert other.confidence == 0.9
    assert other.seed == settings.seed


def test_configuration_and_blend_know_the_same_names_and_defaults() -> None:
    assert get_args(BlendMethodName) == ("auto", *METHODS)
    for name in (*BLEND_METRICS, "top_3_accuracy", "sklearn:f1_weighted"):
        assert get_metric(name).name == name
        assert BlendConfig(metric=name).metric == name
    assert set(BLEND_METRICS) == {name for name in KNOWN_METRICS if name.isidentifier()}
    config, settings = BlendConfig(), BlendSettings()
    for name in BlendConfig.model_fields:
        assert getattr(config, name) == getattr(settings, name), name


def test_the_submission_follows_the_sample(stored: StoredRun, images: TinyImages) -> None:
    stored.directory.submission.delete()
    blend_stored(stored)
    written = pd.read_csv(stored.directory.submission.local_path)
    sample = pd.read_csv(images.root / "sample.csv")
    assert list(written.columns) == ["answer", "image"]
    assert written["image"].tolist() == sample["image"].tolist()
    assert set(written["answer"]) <= set(images.classes)


def test_a_submission_of_probabilities_has_a_column_for_each_class(
    stored: StoredRun, images: TinyImages
) -> None:
    columns = ("image", *reversed(images.classes))
    form = SubmissionFormat(columns, "probabilities", "image")
    changed = dataclasses.replace(
        stored, record=dataclasses.replace(stored.record, submission=form)
    )
    blend = read_blend(stored.directory.blend)
    assert write_run_submission(changed, blend)
    written = pd.read_csv(stored.directory.submission.local_path)
    assert tuple(written.columns) == columns
    np.testing.assert_allclose(written[list(images.classes)].sum(axis=1), 1.0, atol=1e-5)
    store = OofStore(stored.directory.root)
    expected = blend.predict(
        {one.config_id: store.read_test(one.config_id) for one in blend.members}
    )
    np.testing.assert_allclose(
        written[list(images.classes)],
        expected.aligned_to(written["image"].tolist()).proba,
        rtol=1e-6,
    )


def test_a_run_without_a_test_set_has_no_submission(stored: StoredRun) -> None:
    stored.directory.submission.delete()
    stored.directory.test_table.delete()
    assert write_run_submission(stored, read_blend(stored.directory.blend)) is False
    assert not stored.directory.submission.exists()


def test_while_a_search_is_running_only_complete_members_are_blended(stored: StoredRun) -> None:
    complete, partial = stored.race.members
    OofStore(stored.directory.root).fold_location("oof", partial, 1).delete()
    blend = blend_stored(stored)
    assert [member.config_id for member in blend.members] == [complete]
    assert read_blend(stored.directory.blend) == blend


def test_where_no_member_is_complete_the_blend_says_how_far_they_are(stored: StoredRun) -> None:
    store = OofStore(stored.directory.root)
    for member in stored.race.members:
        store.fold_location("oof", member, 0).delete()
    with pytest.raises(BlendError, match="1 of 2 folds"):
        blend_stored(stored)


def test_a_search_without_members_says_what_to_do(tmp_path: Path) -> None:
    world = made_world()
    next(world.steps())
    run = made_run(tmp_path, world)
    with pytest.raises(UserError, match=r"no configuration has all its folds yet.*--resume"):
        require_members(read_run(str(run.root)))


def test_members_are_told_where_there_are_some(stored: StoredRun) -> None:
    assert require_members(stored) == stored.race.members


def test_the_ledger_is_brought_up_to_the_journal(stored: StoredRun) -> None:
    stored.directory.fold_runs.delete()
    save_ledger(stored)
    table = pd.read_parquet(stored.directory.fold_runs.local_path)
    assert len(table) == len(stored.race.runs)
    assert set(table["status"]) == {"finished"}


def test_a_search_on_an_object_store_ends_with_a_submission(
    images: TinyImages, s3_endpoint: str, tmp_path: Path
) -> None:
    sample = tmp_path / "sample.csv"
    order = list(reversed(images.ids))[:5]
    rows = "".join(f"{name},0,0,0\n" for name in order)
    sample.write_text("image,class_02,class_00,class_01\n" + rows)
    outcome = tiny_search(
        images,
        f"s3://runs/{uuid.uuid4().hex}?endpoint_override={s3_endpoint}",
        f"data.sample_submission={sample}",
        *("search.budget.configurations=1", "search.promotion.members=1"),
    )
    directory = outcome.stored.directory
    assert not directory.root.is_local
    written = pd.read_csv(io.BytesIO(directory.submission.read_bytes()))
    assert list(written.columns) == ["image", "class_02", "class_00", "class_01"]
    assert written["image"].tolist() == order
    np.testing.assert_allclose(written[list(images.classes)].sum(axis=1), 1.0, atol=1e-5)
    table = pd.read_parquet(io.BytesIO(directory.fold_runs.read_bytes()))
    assert table["status"].tolist() == ["finished", "finished"]
