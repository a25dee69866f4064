"""The recipes of contests run from end to end, with tiny backbones put in by override."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from ensemble.files import Location
from ensemble.store import OofStore
from tests.conftest import MakeTinyImages
from tests.trainables.tiny_run import write_sample_submission
from tuner.study import search

TINY = (
    *("folds.k=2", "search.budget.configurations=2", "search.promotion.members=2"),
    *("search.pruning.enabled=false", "blend.bootstrap=0", "blend.refits=0"),
    *("train.epochs=2", "train.batch_size=6", "train.image_size=32", "optimizer.lr=3e-3"),
    *("backbone.pretrained=false", "backbone=choice(test_resnet,test_efficientnet)"),
)
DATA = {"document": "csv", "sketch": "csv", "cars": "folder"}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_a_recipe_of_a_contest_runs_with_tiny_backbones(
    name: str, tiny_images: MakeTinyImages, tmp_path: Path
) -> None:
    images = tiny_images(classes=3, per_class=6, size=48)
    unlabelled = tiny_images(classes=3, per_class=1, size=48, seed=1, name="test")
    data = [f"data.path={images.folder}"]
    if DATA[name] == "csv":
        data = [f"data.path={images.csv}", f"data.images={images.images}"]
    sample = write_sample_submission(tmp_path / "sample.csv", list(unlabelled.ids))
    outcome = search(
        [
            *(f"experiment={name}", f"storage={tmp_path}", f"data.test_images={unlabelled.images}"),
            *(f"data.sample_submission={sample}", *data, *TINY),
        ],
        console=Console(quiet=True),
        in_process=True,
    )
    assert outcome.blend is not None
    assert outcome.blend.metric == {"document": "macro_f1", "sketch": "accuracy"}.get(
        name, "log_loss"
    )
    store = OofStore(Location.of(tmp_path / name))
    assert len(store.config_ids()) == 2
    for config_id in store.config_ids():
        assert len(store.read_member(config_id).ids) == 18
        configuration = store.metadata(config_id).configuration
        assert configuration["tta"]["name"] != "none"
    submission = pd.read_csv(tmp_path / name / "submission.csv")
    assert submission["id"].tolist() == list(unlabelled.ids)
    assert set(submission["label"]) <= set(images.classes)
