from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.command import Command
from tests.conftest import MakeTinyImages
from tuner import cli


@pytest.fixture
def foldblend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search over three configurations of two backbones, without Ray."""
    from rich.console import Console

    from tests.conftest import _write_images
    from tuner.study import search

    root = tmp_path_factory.mktemp("cli")
    images = _write_images(root / "images", 3, 8, 32, 0)
    test = _write_images(root / "test", 3, 2, 32, 1)
    search(
        [
            *("experiment=scratch", f"storage={root}", "name=run", "data=csv"),
            *(f"data.path={images.csv}", f"data.images={images.images}"),
            *(f"data.test_images={test.images}", "folds.k=2", "train.image_size=32"),
            *("backbone=choice(test_resnet,test_efficientnet)", "augment=none", "train.epochs=2"),
            *("search.budget.configurations=3", "search.promotion.members=2"),
        ],
        console=Console(quiet=True),
        in_process=True,
    )
    return root / "run"


def test_help_names_every_command(foldblend: Command) -> None:
    answer = foldblend("--help")
    assert answer.code == 0
    for name in ("search", "show", "status", "blend", "report", "export", "predict"):
        assert name in answer.out


def test_the_search_s_help_teaches_by_examples(foldblend: Command) -> None:
    answer = foldblend("search", "--help")
    assert "foldblend search experiment=digits" in answer.out
    assert "--resume" in answer.out


def test_show_prints_the_configuration_and_the_space_without_training(foldblend: Command) -> None:
    answer = foldblend("show", "experiment=digits")
    assert answer.code == 0
    assert "optimizer.lr" in answer.out
    assert "backbone=test_byobnet" in answer.out


def test_status_shows_the_leaderboard_the_blend_and_the_files(
    foldblend: Command, run: Path
) -> None:
    out = foldblend("status", run).out
    assert "configurations 3 of 3" in out
    assert "member" in out
    assert "best single" in out
    assert "fold_runs.parquet" in out


def test_status_can_list_every_decision_with_its_reason(foldblend: Command, run: Path) -> None:
    out = foldblend("status", run, "--decisions").out
    assert "promoted: rank 1 of" in out


def test_blend_takes_another_metric_and_methods(foldblend: Command, run: Path) -> None:
    answer = foldblend("blend", run, "--metric", "accuracy", "--method", "greedy")
    assert answer.code == 0, answer.err
    assert "nested accuracy" in answer.out
    assert "weights by greedy" in answer.out


def test_blend_names_an_unknown_metric_and_what_is_allowed(foldblend: Command, run: Path) -> None:
    message = foldblend("blend", run, "--metric", "f1").one_line_error()
    assert "f1" in message
    assert "macro_f1" in message


def test_blend_explains_what_each_member_adds(foldblend: Command, run: Path) -> None:
    answer = foldblend("blend", run, "--explain", "--method", "equal")
    assert answer.code == 0, answer.err
    assert "what each member adds" in answer.out
    assert "log_loss without it" in answer.out


def test_blend_copies_the_submission_to_where_it_is_wanted(
    foldblend: Command, run: Path, tmp_path: Path
) -> None:
    answer = foldblend("blend", run, "--method", "equal", "-o", tmp_path / "here.csv")
    assert answer.code == 0, answer.err
    assert (tmp_path / "here.csv").read_bytes() == (run / "submission.csv").read_bytes()


def test_rules_of_a_run_are_judged_and_applied(
    foldblend: Command, run: Path, tmp_path: Path
) -> None:
    test_ids = pd.read_parquet(run / "test.parquet")["id"].tolist()
    name = "class_00"
    pd.DataFrame({"id": test_ids[:1], "class": [name], "strength": [1.0]}).to_csv(
        tmp_path / "words.csv", index=False
    )
    answer = foldblend("blend", run, "--method", "equal", "--rules", tmp_path / "words.csv")
    assert answer.code == 0, answer.err
    assert "rules touch 1 labelled rows" in answer.out  # train and test share their names here
    written = pd.read_csv(run / "submission.csv", dtype=str).set_index("id")
    assert written.loc[test_ids[0]].iloc[0] == name


def test_report_writes_the_page(foldblend: Command, run: Path) -> None:
    (run / "report.html").unlink()
    answer = foldblend("report", run)
    assert answer.code == 0, answer.err
    assert str(run / "report.html") in answer.out.replace("\n", "")
    assert (run / "report.html").exists()


def test_report_of_no_run_is_one_line(foldblend: Command, tmp_path: Path) -> None:
    assert "not a run directory" in foldblend("report", tmp_path).one_line_error()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no such file or folder"),
        (("--method", "gready"), "did you mean greedy"),
        (("--metric", "sklearn:f1_wighted"), "did you mean sklearn:f1_weighted"),
        (("--calibrate", "temp"), "must be one of none, temperature, vector"),
        (("--group", "class_00,class_99"), "no class 'class_99'"),
        (("--rules", "words.csv"), "no such file of rules"),
    ],
)
def test_what_blend_cannot_do_is_one_line(
    foldblend: Command, run: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = arguments if arguments == ("nothing",) else (run, *arguments)
    assert message in foldblend("blend", *given).one_line_error()


def test_an_exported_bundle_predicts_what_the_run_stored(
    foldblend: Command, run: Path, tmp_path: Path
) -> None:
    assert foldblend("blend", run).code == 0
    bundle = tmp_path / "bundle"
    assert foldblend("export", run, "-o", bundle).code == 0
    images = run.parent / "test" / "images"
    answer = foldblend(
        "predict", bundle, images, "-o", tmp_path / "out.csv", "-p", tmp_path / "p.parquet"
    )
    assert answer.code == 0, answer.err
    assert "6 images" in answer.out
    predicted = pd.read_csv(tmp_path / "out.csv")
    pd.testing.assert_frame_equal(predicted, pd.read_csv(run / "submission.csv"))
    assert len(pd.read_parquet(tmp_path / "p.parquet")) == 6


def test_export_refuses_a_folder_that_exists(foldblend: Command, run: Path, tmp_path: Path) -> None:
    assert "exists already" in foldblend("export", run, "-o", tmp_path).one_line_error()


def test_resume_takes_no_overrides(foldblend: Command, run: Path) -> None:
    message = foldblend("search", "--resume", run, "train.epochs=3").one_line_error()
    assert "takes no overrides (got train.epochs=3)" in message


def test_resuming_a_finished_run_trains_nothing_and_ends_well(
    foldblend: Command, run: Path
) -> None:
    files = {path: path.stat().st_mtime_ns for path in run.glob("oof/*/*.parquet")}
    assert foldblend("search", "--resume", run, "--in-process").code == 0
    assert {path: path.stat().st_mtime_ns for path in run.glob("oof/*/*.parquet")} == files


def test_a_second_search_of_the_same_name_is_refused(foldblend: Command, run: Path) -> None:
    answer = foldblend(
        "search", "experiment=digits", f"storage={run.parent}", f"name={run.name}", "--in-process"
    )
    assert "a run of this name exists" in answer.one_line_error()


def test_a_search_without_arguments_says_how_to_begin(foldblend: Command) -> None:
    assert "experiment=digits" in foldblend("search").one_line_error()


def test_our_own_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_off_a_terminal_nothing_is_drawn_over_and_over(
    tiny_images: MakeTinyImages, tmp_path: Path
) -> None:
    images = tiny_images(classes=2, per_class=4)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tuner.cli", "search", "--in-process", "experiment=scratch"),
            *(f"storage={tmp_path}", "name=quiet", "data=csv", f"data.path={images.csv}"),
            *(f"data.images={images.images}", "folds.k=2", "train.image_size=32"),
            *("backbone=test_resnet", "augment=none", "train.epochs=1"),
            *("search.budget.configurations=1", "search.promotion.members=1"),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        check=True,
    )
    assert ended.stdout.count("fold-epochs") == 1
    assert "\x1b" not in ended.stdout
    assert ended.stderr == ""


def test_scores_of_members_that_kept_their_best_epoch_are_called_optimistic(
    foldblend: Command, tiny_images: MakeTinyImages, tmp_path: Path
) -> None:
    images = tiny_images(classes=2, per_class=4)
    answer = foldblend(
        *("search", "--in-process", "experiment=scratch", f"storage={tmp_path}", "name=best"),
        *("data=csv", f"data.path={images.csv}", f"data.images={images.images}", "folds.k=2"),
        *("train.keep=best", "train.image_size=32", "train.epochs=2", "augment=none"),
        *("backbone=test_resnet", "search.budget.configurations=1", "search.promotion.members=1"),
    )
    assert "1 of 1 members kept the epoch that was best on their validation fold" in answer.out
    assert "these scores are optimistic" in answer.out
