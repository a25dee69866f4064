"""What `foldblend show` prints."""

from __future__ import annotations

import io

import yaml
from rich.console import Console

from search_spaces.config import RunConfig
from search_spaces.show import render, run_text
from search_spaces.space import Study, load_study


def printed(study: Study) -> str:
    console = Console(width=140, color_system=None, record=True, file=io.StringIO())
    for part in render(study):
        console.print(part)
    return console.export_text()


def test_the_run_the_space_and_the_fixed_values_are_shown(digits: Study) -> None:
    text = printed(digits)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "optimizer.lr log 0.0016..0.04 backbone=test_efficientnet" in lines
    assert "backbone test_resnet | test_efficientnet | test_byobnet always" in lines
    assert "train.epochs 4 always" in lines
    assert "configurations: 12" in lines
    assert digits.space.fingerprint() in text


def test_the_runs_text_is_yaml_that_reads_back(digits: Study) -> None:
    assert RunConfig.model_validate(yaml.safe_load(run_text(digits))) == digits.run


def test_a_study_without_a_search_says_so() -> None:
    study = load_study(["data=digits", "backbone=test_vit", "optimizer.lr=1e-3", "name=one"])
    text = printed(study)
    assert "Nothing is searched" in text
    assert "holds when" not in text
    assert "Run one" in text


def test_square_brackets_are_printed_as_they_are() -> None:
    overrides = ["backbone=test_vit", "backbone.name=choice('[red]', '[/]')"]
    assert '"[red]" | "[/]"' in printed(load_study(["data=digits", *overrides]))
