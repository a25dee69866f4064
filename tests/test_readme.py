"""What the README claims, run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.methods import METHODS
from search_spaces.space import load_study
from search_spaces.tree import members
from tests.command import Command
from tests.conftest import MakeTinyImages
from tests.ensemble.made import member_probabilities

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TINY = (
    *("--in-process", "backbone=test_resnet", "train.image_size=32", "train.epochs=1"),
    *("folds.k=2", "search.budget.configurations=1", "search.promotion.members=1"),
)


def commands(start: str) -> list[list[str]]:
    """The README's commands that begin so, as the shell would split them."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert links
    assert not missing


@pytest.mark.parametrize("command", commands("foldblend search"), ids=" ".join)
def test_every_search_command_composes(command: list[str]) -> None:
    overrides = [word for word in command[2:] if not word.startswith("--")]
    assert load_study(overrides).space.backbones()


def test_every_key_of_the_table_exists(monkeypatch, capsys) -> None:
    shown = Command(monkeypatch, capsys)("show", "experiment=digits").out
    table = README.split("| key | what it bounds or chooses |")[1].split("\n\n")[0]
    names = [name.split(".")[-1] for name in re.findall(r"`([a-z_.*]+)`", table.split("ASHA")[0])]
    assert names
    for name in names:
        assert name == "*" or f"{name}:" in shown, name


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for _, target in commands("make "):
        assert f"\n{target}:" in makefile


def test_the_command_for_an_own_csv_searches_exports_and_predicts(
    tiny_images: MakeTinyImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    images = tiny_images(classes=2, per_class=4)
    own = tmp_path / "own"
    shutil.copytree(images.images, own / "train")
    shutil.copytree(images.images, own / "test")
    values = [images.classes.index(label) for label in images.labels]
    senders = [f"s{row}" for row in range(len(images.ids))]
    pd.DataFrame({"ID": images.ids, "target": values, "sender": senders}).to_csv(
        own / "train.csv", index=False
    )
    pd.DataFrame({"target": [0, 1], "class_name": images.classes}).to_csv(
        own / "meta.csv", index=False
    )
    sample = pd.DataFrame({"ID": images.ids[::-1], "target": 0})
    sample.to_csv(own / "sample_submission.csv", index=False)
    monkeypatch.chdir(own)
    foldblend = Command(monkeypatch, capsys)

    (command,) = [one for one in commands("foldblend search") if "data.classes=meta.csv" in one]
    answer = foldblend(*command[1:], *TINY, "backbone.pretrained=false")
    assert answer.code == 0, answer.err
    written = pd.read_csv(own / "runs" / "cars" / "submission.csv")
    assert written["ID"].tolist() == sample["ID"].tolist()
    assert set(written["target"]) <= {0, 1}

    assert foldblend("export", "runs/cars", "-o", "bundle").code == 0
    assert foldblend("predict", "bundle", "test", "-o", "predicted.csv").code == 0
    predicted = pd.read_csv(own / "predicted.csv").set_index("ID").loc[written["ID"]]
    assert predicted["target"].tolist() == written["target"].tolist()


def test_the_command_for_files_of_other_programs_blends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    probs, labels, folds = member_probabilities(0, 2, 90, 3)
    ids = [f"image {row}.jpg" for row in range(90)]
    for name, proba in zip(("vit", "resnet"), probs.astype(float), strict=True):
        for folder in ("oof", "test"):
            (tmp_path / folder).mkdir(exist_ok=True)
            table = pd.DataFrame(proba / proba.sum(axis=1, keepdims=True), columns=list("abc"))
            table.insert(0, "id", ids)
            table.to_csv(tmp_path / folder / f"{name}.csv", index=False)
    pd.DataFrame({"id": ids, "label": np.array(list("abc"))[labels], "fold": folds}).to_csv(
        tmp_path / "train.csv", index=False
    )
    monkeypatch.chdir(tmp_path)
    (command,) = commands("foldblend blend")
    answer = Command(monkeypatch, capsys)(*command[1:])
    assert answer.code == 0, answer.err
    assert "what each member adds" in answer.out
    assert pd.read_csv(tmp_path / "submission.csv")["id"].tolist() == ids


@pytest.mark.parametrize("name", ["blending.md", "recipe.md"])
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    page = (ROOT / "docs" / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", page) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


def test_the_blending_page_knows_every_method() -> None:
    page = (ROOT / "docs" / "blending.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page.split("## Methods")[1], re.MULTILINE)[
        : len(METHODS)
    ] == list(METHODS)


def test_the_recipe_page_knows_every_member() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text()
    for group in ("loss", "optimizer", "schedule", "preprocess", "tta"):
        for member in members(group):
            assert f"`{member}`" in page, f"{group}={member}"
