"""What the README and the pages beside it claim, run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ensemble.methods import METHODS
from search_spaces.compose import compose_tree
from search_spaces.config import Configuration, RunConfig
from search_spaces.space import Study, load_study
from search_spaces.tree import TREE, members
from tests.command import Command
from tests.conftest import MakeTinyImages
from tests.ensemble.made import member_probabilities
from tuner.pruning import PruningRule

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPE = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
TINY = (
    *("--in-process", "backbone=test_resnet", "train.image_size=32", "train.epochs=1"),
    *("folds.k=2", "search.budget.configurations=1", "search.promotion.members=1"),
)
OF_CONFIGURATION = ("show", "search", "preview", "submit")


def commands(start: str, page: str = README) -> list[list[str]]:
    """The commands of a page's blocks that begin so, as the shell would split them."""
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


def inline(start: str, page: str) -> list[list[str]]:
    """Those inside the text."""
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    return [shlex.split(code) for code in re.findall(r"`([^`]+)`", text) if code.startswith(start)]


def composing() -> list[list[str]]:
    """Every whole command that reads a configuration; "RUN" and "…" stand for something else."""
    found = [
        command
        for page in (README, RECIPE)
        for word in OF_CONFIGURATION
        for start in (f"foldblend {word} ",)
        for command in (*commands(start, page), *inline(start, page))
    ]
    whole = [one for one in found if "--resume" not in one and "…" not in " ".join(one)]
    return [one for place, one in enumerate(whole) if one not in whole[:place]]


def composed(command: list[str], folder: Path) -> Study:
    """What a command searches. Its --config-dir is made in `folder` of what the page shows."""
    words, config_dir = command[2:], None
    for option in ("--config-dir", "-o"):
        if option in words:
            place = words.index(option)
            name = words[place + 1]
            del words[place : place + 2]
            if option == "--config-dir":
                config_dir = folder / name
    if config_dir is not None:
        shown = re.findall(r"`(\w+)/(experiment/\w+\.yaml)`.*?```yaml\n(.*?)```", README, re.DOTALL)
        for name, path, content in shown:
            file = folder / name / path
            file.parent.mkdir(parents=True)
            file.write_text(content)
    return load_study(words, config_dir)


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert links
    assert not missing


def test_the_pages_have_commands_of_every_kind() -> None:
    for word in OF_CONFIGURATION:
        assert any(command[1] == word for command in composing()), word
    assert len(inline("foldblend show ", README)) == len(inline("foldblend show ", RECIPE)) == 1


@pytest.mark.parametrize("command", composing(), ids=" ".join)
def test_every_command_composes(command: list[str], tmp_path: Path) -> None:
    assert composed(command, tmp_path).space.backbones()


def test_overrides_inside_the_text_compose() -> None:
    """Those of the questions, added to a search: as many at once as do not set the same key."""
    questions = README.split("## Questions")[1].split("\n## ")[0]
    found = re.findall(r"`('?[a-z_.]+=[^` ]+(?: [a-z_.]+=[^` ]+)*)`", questions)
    batches: list[dict[str, str]] = [{}]
    for override in (one for code in found for one in shlex.split(code)):
        key = override.partition("=")[0]
        if key in batches[-1]:
            batches.append({})
        batches[-1][key] = override
    assert sum(map(len, batches)) > 8
    for batch in batches:
        assert load_study(
            ["data.path=train.csv", *({"experiment": "experiment=csv"} | batch).values()]
        )


@pytest.mark.parametrize("page", [README, RECIPE], ids=["README.md", "recipe.md"])
def test_every_key_of_the_tables_exists(page: str) -> None:
    """`.name` stands for a key beside the one before it; a value may follow."""
    tree = compose_tree(["experiment=csv", "data.path=train.csv"])
    tables = re.findall(r"^\| key \|.*?\n\|-.*?\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    cells = [row.split("|")[1] for table in tables for row in table.splitlines()]
    keys = [re.findall(r"`([a-z_.*]+)[=`]", cell) for cell in cells]
    assert len(keys) > 5
    for names in keys:
        group = ""
        for name in names:
            whole = group + name if name.startswith(".") else name
            group = whole.rpartition(".")[0]
            assert _is_key(tree, whole), whole


def _is_key(tree: Mapping[str, Any], whole: str) -> bool:
    """Whether a key is in the tree, or has a default that the files leave to the types."""
    group, _, name = whole.rpartition(".")
    if not group:
        return name in tree
    kinds: dict[str, Any] = {**RunConfig.model_fields, **Configuration.model_fields}
    for part in group.split("."):
        kinds = kinds[part].annotation.model_fields
    return name in ("*", *kinds)


def test_the_budget_of_the_questions_is_that_of_the_experiment() -> None:
    study = load_study(["experiment=csv", "data.path=train.csv"])
    (epochs,) = study.space.reachable("train.epochs")
    budget, promotion = study.run.search.budget, study.run.search.promotion
    first, rest = budget.configurations or 0, study.run.folds.k - 1
    total = first * epochs + promotion.members * rest * epochs
    formula = f"{first} * {epochs} + {promotion.members} * {rest} * {epochs} = {total}"
    assert f"`{formula}`" in README


def test_the_rungs_of_the_questions_are_those_of_the_experiment() -> None:
    study = load_study(["experiment=csv", "data.path=train.csv"])
    (epochs,) = study.space.reachable("train.epochs")
    rule = PruningRule(**study.run.search.pruning.model_dump())
    rungs = [str(epoch) for epoch in range(1, epochs + 1) if rule.is_rung(epoch, epochs)]
    assert f"({', '.join(rungs)} of {epochs})" in README
    assert rule.reduction_factor == 2.0  # "the better half"


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [*commands("make "), *inline("make ", README)]
    assert targets
    for _, target in targets:
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


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", page) if "://" not in link]
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


def test_the_blending_page_knows_every_method() -> None:
    page = (ROOT / "docs" / "blending.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page.split("## Methods")[1], re.MULTILINE)[
        : len(METHODS)
    ] == list(METHODS)


def test_the_recipe_page_knows_every_member() -> None:
    for group in ("loss", "optimizer", "schedule", "preprocess", "tta"):
        for member in members(group):
            assert f"`{member}`" in RECIPE, f"{group}={member}"


def test_the_recipe_page_names_every_backbone_that_is_not_for_commercial_use() -> None:
    """By timm's own word, so that a new member cannot be forgotten."""
    from timm.models import get_pretrained_cfg

    section = RECIPE.split("### Licences of the weights")[1].split("\n### ")[0]
    for member in members("backbone"):
        name = yaml.safe_load((TREE / "backbone" / f"{member}.yaml").read_text())["name"]
        licence = getattr(get_pretrained_cfg(name), "license", None) or ""
        assert (f"`{member}`" in section) == ("nc" in licence.split("-")), member
